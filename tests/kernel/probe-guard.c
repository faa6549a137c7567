// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Facts about the guard: a SysV SHM_HUGETLB segment that nobody ever attaches.
//
// Between the decision to start a VM and QEMU's mmap(), the VM's pages must not be stolen, by
// whatever means, and must come back whatever is killed. The design holds them with a segment:
// the kernel reserves its pages when it is made, the reservation stays with the segment and not
// with a process or a mount, and a key is enough to find it after a crash.
//
// What the guard does not survive is stated as facts too: kernel.shm_rmid_forced, and it is
// invisible from another IPC namespace (while it still holds its pages there).

#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/shm.h>
#include <unistd.h>

enum { SLOT = 0, OTHER_SLOT = 1, PAGES_2M = 8 };

struct request {
    const struct pool *pool;
    long pages;
};

// ---- bodies of child processes

static int make_without_mounts_and_die(void *data)
{
    const struct request *request = data;
    if (leave_hugetlbfs_mounts() != 0)
        return 1;
    if (guard_make(request->pool, SLOT, request->pages) != 0)
        return 2;
    return raise(SIGKILL);
}

static int mount_hugetlbfs_over_tmp(const struct pool *pool)
{
    char options[64];
    snprintf(options, sizeof options, "pagesize=%uK", pool->size_kib);
    if (leave_hugetlbfs_mounts() != 0)
        return -1;
    return mount("none", "/tmp", "hugetlbfs", 0, options);
}

// Returns errno of mapping one page of a file, on a mount the maker of the guard cannot see.
static int map_in_other_namespace(void *data)
{
    const struct request *request = data;
    if (mount_hugetlbfs_over_tmp(request->pool) != 0)
        return 255;
    int fd = open("/tmp/page", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    size_t bytes = pool_page_bytes(request->pool);
    void *start = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return fd < 0 ? 255 : start == MAP_FAILED ? errno : 0;
}

// fallocate() allocates without any reservation.
static int fallocate_in_other_namespace(void *data)
{
    const struct request *request = data;
    if (mount_hugetlbfs_over_tmp(request->pool) != 0)
        return 255;
    int fd = open("/tmp/page", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return 255;
    return fallocate(fd, 0, 0, (off_t)pool_page_bytes(request->pool)) == 0 ? 0 : errno;
}

static bool set_rmid_forced(void)
{
    int fd = open("/proc/sys/kernel/shm_rmid_forced", O_WRONLY | O_CLOEXEC);
    bool done = fd >= 0 && write(fd, "1", 1) == 1;
    if (fd >= 0)
        close(fd);
    return done;
}

static int make_and_exit(void *data)
{
    const struct request *request = data;
    return guard_make(request->pool, OTHER_SLOT, request->pages);
}

// In an IPC namespace of its own, so that neither setting nor segment touches the machine's.
// Returns 1 when the guard outlived its maker, 0 when it did not.
static int outlives_maker_with_rmid_forced(void *data)
{
    if (unshare(CLONE_NEWIPC) != 0 || !set_rmid_forced())
        return 255;
    if (in_child(make_and_exit, data) != 0)
        return 254;
    return guard_find(OTHER_SLOT) >= 0;
}

static int finds_guard_in_other_ipc_namespace(void *data)
{
    (void)data;
    return unshare(CLONE_NEWIPC) != 0 ? 255 : guard_find(SLOT) >= 0;
}

// ---- facts

static void fact_made(const struct pool *pool, long pages)
{
    struct request request = {pool, pages};
    int status = in_child(make_without_mounts_and_die, &request);
    ok(status == 128 + SIGKILL, "%s: a guard can be made where no hugetlbfs is mounted",
       pool->name);
    diag("  its maker's status is %d (%d: killed after making it)", status, 128 + SIGKILL);
    expect(pool, COUNTS(pages, pages, pages, 0),
           "a guard reserves its pages without attaching, and outlives its maker's SIGKILL");
}

static void fact_found_by_key(const struct pool *pool, long pages)
{
    struct shmid_ds segment = {0};
    int id = guard_find(SLOT);
    bool described = id >= 0 && shmctl(id, IPC_STAT, &segment) == 0;
    ok(described && segment.shm_segsz == (size_t)pages * pool_page_bytes(pool) &&
           segment.shm_nattch == 0 && (segment.shm_perm.mode & 0777) == 0600,
       "%s: the guard is found by its key alone, with its bytes", pool->name);
    diag("  id %d bytes %zu attached %ld mode %o", id, segment.shm_segsz, (long)segment.shm_nattch,
         segment.shm_perm.mode);
    int error = guard_make(pool, SLOT, pages);
    ok(error == EEXIST, "%s: a second guard with the same key is refused (%s)", pool->name,
       strerror(error));
}

static void fact_not_mapped(const struct pool *pool, long pages)
{
    const int kinds[] = {USER_MAP, USER_PRIVATE};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        struct user user = user_start(pool, 1, kinds[i], ANY_NODE);
        ok(user.outcome == OUTCOME_NO_MEMORY, "%s: mmap() of one guarded page, %s: %s", pool->name,
           kinds[i] == USER_PRIVATE ? "private" : "shared", outcome_name(user.outcome));
        user_kill(&user);
    }
    struct user thief = user_start(pool, 1, USER_TOUCH | USER_NORESERVE, ANY_NODE);
    ok(thief.outcome == OUTCOME_SIGBUS, "%s: a MAP_NORESERVE user of one guarded page: %s",
       pool->name, outcome_name(thief.outcome));
    user_kill(&thief);
    expect(pool, COUNTS(pages, pages, pages, 0), "the guard lost nothing to them");
}

static void fact_not_stolen_from_elsewhere(const struct pool *pool, long pages)
{
    struct request request = {pool, 1};
    int error = in_child(map_in_other_namespace, &request);
    ok(error == ENOMEM, "%s: a file on hugetlbfs in another mount namespace: mmap() %s", pool->name,
       strerror(error));
    error = in_child(fallocate_in_other_namespace, &request);
    ok(error == ENOSPC, "%s: a file on hugetlbfs in another mount namespace: fallocate() %s",
       pool->name, strerror(error));
    int found = in_child(finds_guard_in_other_ipc_namespace, NULL);
    ok(found == 0, "%s: another IPC namespace does not see the guard", pool->name);
    expect(pool, COUNTS(pages, pages, pages, 0), "the guard holds against other namespaces");
}

static void fact_refused_when_short(const struct pool *pool, long pages)
{
    int error = guard_make(pool, OTHER_SLOT, 1);
    ok(error == ENOMEM, "%s: a guard of one page more than there are: %s", pool->name,
       strerror(error));
    expect(pool, COUNTS(pages, pages, pages, 0), "a refused guard takes nothing");
    ok(guard_find(OTHER_SLOT) < 0, "%s: a refused guard leaves no segment", pool->name);
}

static void fact_returned(const struct pool *pool, long pages)
{
    guard_drop(SLOT);
    expect(pool, COUNTS(pages, pages, 0, 0), "IPC_RMID returns the reservation");
    struct user user = user_start(pool, pages, USER_TOUCH, ANY_NODE);
    ok(user.outcome == OUTCOME_TOUCHED, "%s: and the VM can map the pages: %s", pool->name,
       outcome_name(user.outcome));
    expect(pool, COUNTS(pages, 0, 0, 0), "the VM has the pages that were guarded");
    user_kill(&user);
    expect(pool, COUNTS(pages, pages, 0, 0), "a page that was guarded once is a page like any");
}

static void fact_partial_guard(const struct pool *pool, long pages)
{
    int error = guard_make(pool, SLOT, pages - 1);
    struct user other = user_start(pool, 1, USER_TOUCH, ANY_NODE);
    struct user late = user_start(pool, 1, USER_MAP, ANY_NODE);
    ok(error == 0 && other.outcome == OUTCOME_TOUCHED && late.outcome == OUTCOME_NO_MEMORY,
       "%s: a guard of all pages but one leaves exactly one to others (%s, then %s)", pool->name,
       outcome_name(other.outcome), outcome_name(late.outcome));
    expect(pool, COUNTS(pages, pages - 1, pages - 1, 0), "free covers exactly what is guarded");
    user_kill(&other);
    user_kill(&late);
    guard_drop(SLOT);
}

static void fact_rmid_forced(const struct pool *pool, long pages)
{
    struct request request = {pool, 1};
    int outlived = in_child(outlives_maker_with_rmid_forced, &request);
    ok(outlived == 0, "%s: with kernel.shm_rmid_forced=1 the guard dies with its maker",
       pool->name);
    diag("  child said %d (1: the guard outlived its maker)", outlived);
    expect(pool, COUNTS(pages, pages, 0, 0), "and its reservation is returned");
}

static void guard_facts(const struct pool *pool, long pages)
{
    fact_made(pool, pages);
    fact_found_by_key(pool, pages);
    fact_not_mapped(pool, pages);
    fact_not_stolen_from_elsewhere(pool, pages);
    fact_refused_when_short(pool, pages);
    fact_returned(pool, pages);
    if (pages > 1)
        fact_partial_guard(pool, pages);
    fact_rmid_forced(pool, pages);
}

// Pages of 1 GiB that boot allocated are used as they are: there may be no others to be had.
static long stock_1g(const struct pool *pool)
{
    long pages = pool_counts(pool).free;
    for (int i = 0; pages == 0 && i < pool->node_count; i++)
        if (pool_stock(pool, i, 1))
            pages = 1;
    return pages;
}

static void show_limits(void)
{
    struct shminfo limits = {0};
    if (shmctl(0, IPC_INFO, (struct shmid_ds *)(void *)&limits) >= 0)
        diag("SysV limits: shmmax %lu shmall %lu pages shmmni %lu", limits.shmmax, limits.shmall,
             limits.shmmni);
}

static void facts(void)
{
    show_limits();
    struct pool small = pool_open(SIZE_2M_KIB);
    require(pool_stock(&small, 0, PAGES_2M), "2M: %d free pages to begin with", PAGES_2M);
    guard_facts(&small, PAGES_2M);

    if (!pool_offered(SIZE_1G_KIB)) {
        skip("this kernel offers no 1 GiB pages", "1G: guard");
        return;
    }
    struct pool large = pool_open(SIZE_1G_KIB);
    long pages = stock_1g(&large);
    if (pages == 0)
        skip("no page of 1 GiB can be obtained", "1G: guard");
    else
        guard_facts(&large, pages);
}

int main(void)
{
    return probe_run(facts);
}
