// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Facts about the vault: a mount namespace with nobody in it, kept by its file, in which a
// hugetlbfs mount with min_size= waits for its VM.
//
// A guard holds pages that QEMU cannot use, and has to go before a launch mount can be made;
// between the two a thief may come. A mount that is there from the decision on would need no
// exchange, but libvirt and DPDK adopt every hugetlbfs they see. In a namespace of its own nobody
// sees it, and open_tree() and move_mount() bring it to the VM's directory without its reservation
// ever ending.
//
// All of it is made in a mount namespace of the probe's own, over /tmp, and vanishes with it. Which
// namespaces may be kept where is the business of probe-namespace.

#include "vault-visit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef MAP_HUGE_SHIFT
#define MAP_HUGE_SHIFT 26
#endif
#ifndef MADV_POPULATE_WRITE // Linux 5.14: an error where a store would be a SIGBUS
#define MADV_POPULATE_WRITE 23
#endif

enum { ROUND_TRIPS = 50 };

static const char *const after_step[STEPS] = {
    "a visitor in the vault",
    "cloned by open_tree()",
    "back on the host, the clone attached nowhere",
    "attached by move_mount()",
};

// ---- what is to be seen

static int mounts_seen(const char *path)
{
    int count = 0;
    char line[4096];
    FILE *mounts = fopen(path, "re");
    if (mounts == NULL)
        return -1;
    while (fgets(line, sizeof line, mounts) != NULL)
        if (strstr(line, " - hugetlbfs " SOURCE " ") != NULL)
            count++;
    fclose(mounts);
    return count;
}

static int mounts_seen_by(const struct mover *mover)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/mountinfo", (int)mover->pid);
    return mounts_seen(path);
}

static int processes_in_vault(void)
{
    struct stat vault, other;
    DIR *proc = opendir("/proc");
    if (proc == NULL || stat(KEPT, &vault) != 0)
        return -1;
    int count = 0;
    for (const struct dirent *entry; (entry = readdir(proc)) != NULL;) {
        char path[300];
        snprintf(path, sizeof path, "/proc/%s/ns/mnt", entry->d_name);
        if (stat(path, &other) == 0 && other.st_ino == vault.st_ino && other.st_dev == vault.st_dev)
            count++;
    }
    closedir(proc);
    return count;
}

// What is given back late shall not be missed.
static bool still(const struct pool *pool, struct counts want, const char *fact)
{
    struct timespec pause = {.tv_nsec = 100 * 1000000};
    nanosleep(&pause, NULL);
    return expect(pool, want, "%s", fact);
}

// Two points: the reservation is whole, and nobody else gets a page of it.
static void expect_held(const struct pool *pool, const char *when)
{
    char fact[160];
    snprintf(fact, sizeof fact, "%s: all reserved", when);
    still(pool, COUNTS(PAGES, PAGES, PAGES, 0), fact);
    struct user mapper = user_start(pool, 1, USER_MAP, ANY_NODE);
    struct user thief = user_start(pool, 1, USER_TOUCH | USER_NORESERVE, ANY_NODE);
    ok(mapper.outcome == OUTCOME_NO_MEMORY && thief.outcome == OUTCOME_SIGBUS,
       "%s: %s: others get nothing (%s, without reservation %s)", pool->name, when,
       outcome_name(mapper.outcome), outcome_name(thief.outcome));
    user_kill(&mapper);
    user_kill(&thief);
}

// ---- facts

static void begin(struct pool *pool)
{
    require(pool_stock(pool, 0, PAGES), "%s: %d free pages to begin with", pool->name, PAGES);
    int error = in_child(put, pool);
    require(error == 0, "%s: a mount of %d pages in the vault (%s)", pool->name, PAGES,
            strerror(error));
}

static void fact_kept(struct pool *pool, int processor)
{
    struct making making = {pool, processor};
    require(pool_stock(pool, 0, PAGES), "%s: %d free pages to begin with", pool->name, PAGES);
    int status = in_child(make_vault_and_die, &making);
    ok(status == 128 + SIGKILL, "%s: a namespace is kept by its file on a private mount",
       pool->name);
    diag("  its maker's status is %d (%d: killed after keeping it)", status, 128 + SIGKILL);
    int processes = processes_in_vault();
    ok(processes == 0, "%s: its maker was killed, nobody is in it (%d)", pool->name, processes);
    expect_held(pool, "a mount in a namespace without processes");
    ok(mounts_seen("/proc/self/mountinfo") == 0 && mounts_seen("/proc/1/mountinfo") == 0,
       "%s: other namespaces do not see the mount", pool->name);
    struct mover visitor = mover_start();
    int error = mover_step(&visitor, ENTER);
    int count = mounts_seen_by(&visitor);
    ok(error == 0 && count == 1, "%s: a visitor of the vault does (%d, %s)", pool->name, count,
       strerror(error));
    mover_kill(&visitor);
    error = in_child(drop, NULL);
    ok(error == 0, "%s: it is detached in the vault (%s)", pool->name, strerror(error));
    expect(pool, COUNTS(PAGES, PAGES, 0, 0), "and its reservation is returned");
}

static void fact_moved(struct pool *pool)
{
    begin(pool);
    struct mover mover = mover_start();
    for (enum step step = ENTER; step < STEPS; step++) {
        int error = mover_step(&mover, step);
        ok(error == 0, "%s: %s (%s)", pool->name, after_step[step], strerror(error));
        expect_held(pool, after_step[step]);
        int seen = mounts_seen("/proc/self/mountinfo");
        ok(seen == (step == ATTACH), "%s: %s: the host sees %d of it", pool->name, after_step[step],
           seen);
    }
    mover_kill(&mover);
    struct stat st = {0};
    ok(stat(VM, &st) == 0 && st.st_uid == OWNER && (st.st_mode & 07777) == MODE,
       "%s: owner and mode, set while it was attached nowhere, are there", pool->name);
    diag("  owner %u mode %o", st.st_uid, st.st_mode & 07777);
    in_child(drop, NULL);
    expect_held(pool, "gone from the vault");
    struct user vm = user_start_in(pool, VM, PAGES, USER_TOUCH);
    ok(vm.outcome == OUTCOME_TOUCHED, "%s: a file in the VM's directory has the pages (%s)",
       pool->name, outcome_name(vm.outcome));
    expect(pool, COUNTS(PAGES, 0, 0, 0), "all of them, and nothing else");
    user_kill(&vm);
    still(pool, COUNTS(PAGES, PAGES, PAGES, 0), "they are the mount's again when the VM is gone");
    int error = umount2(VM, MNT_DETACH) == 0 ? 0 : errno;
    ok(error == 0, "%s: the mount is detached (%s)", pool->name, strerror(error));
    expect(pool, COUNTS(PAGES, PAGES, 0, 0), "and its reservation is returned");
}

static void fact_two_places(struct pool *pool)
{
    begin(pool);
    int error = move();
    ok(error == 0 && mounts_seen("/proc/self/mountinfo") == 1,
       "%s: one file system in the vault and on the VM's directory (%s)", pool->name,
       strerror(error));
    struct user vm = user_start_in(pool, VM, PAGES, USER_TOUCH);
    ok(vm.outcome == OUTCOME_TOUCHED, "%s: the VM uses it (%s)", pool->name,
       outcome_name(vm.outcome));
    expect(pool, COUNTS(PAGES, 0, 0, 0), "it reserves its pages once, not once for each place");
    umount2(VM, MNT_DETACH);
    user_kill(&vm);
    expect_held(pool, "the VM and its directory's mount gone, the vault's left");
    error = move();
    ok(error == 0, "%s: it can be moved out once more (%s)", pool->name, strerror(error));
    in_child(drop, NULL);
    expect_held(pool, "the vault's gone, the directory's left");
    umount2(VM, MNT_DETACH);
    expect(pool, COUNTS(PAGES, PAGES, 0, 0), "both gone: the reservation is returned");
}

static void fact_mover_killed(struct pool *pool)
{
    begin(pool);
    for (enum step step = ENTER; step < ATTACH; step++) {
        struct mover mover = mover_start();
        int error = mover_steps(&mover, step);
        mover_kill(&mover);
        ok(error == 0 && mounts_seen("/proc/self/mountinfo") == 0,
           "%s: killed there leaves nothing on the host: %s (%s)", pool->name, after_step[step],
           strerror(error));
        still(pool, COUNTS(PAGES, PAGES, PAGES, 0), "and the reservation is the vault's");
    }
    in_child(drop, NULL);
    expect(pool, COUNTS(PAGES, PAGES, 0, 0), "it goes with the vault's mount: nothing has leaked");

    begin(pool);
    struct mover mover = mover_start();
    int error = mover_steps(&mover, CLONE);
    in_child(drop, NULL);
    ok(error == 0, "%s: the vault's mount goes under a clone (%s)", pool->name, strerror(error));
    still(pool, COUNTS(PAGES, PAGES, PAGES, 0), "the clone alone keeps the reservation");
    mover_kill(&mover);
    expect(pool, COUNTS(PAGES, PAGES, 0, 0), "and returns it when its holder is killed");
}

static void fact_namespace_dropped(struct pool *pool)
{
    begin(pool);
    int error = umount2(KEPT, MNT_DETACH) == 0 ? 0 : errno;
    ok(error == 0, "%s: the namespace's file is unmounted (%s)", pool->name, strerror(error));
    expect(pool, COUNTS(PAGES, PAGES, 0, 0), "the vault goes, with its mounts and reservations");
}

// ---- beside a thief that never pauses

struct loot {
    bool stop;
    long attempts, pages, least_resv, most_resv;
};

static bool steal(const struct pool *pool, int reserve_flag)
{
    size_t bytes = pool_page_bytes(pool);
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | reserve_flag |
                (__builtin_ctzll(bytes) << MAP_HUGE_SHIFT);
    void *page = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (page == MAP_FAILED)
        return false;
    bool stolen = madvise(page, bytes, MADV_POPULATE_WRITE) == 0;
    munmap(page, bytes);
    return stolen;
}

static _Noreturn void thief_body(const struct pool *pool, struct loot *loot)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (!__atomic_load_n(&loot->stop, __ATOMIC_RELAXED)) {
        for (int i = 0; i < 16; i++, loot->attempts++)
            loot->pages += steal(pool, i % 2 == 0 ? 0 : MAP_NORESERVE);
        long resv = pool_counts(pool).resv;
        loot->least_resv = resv < loot->least_resv ? resv : loot->least_resv;
        loot->most_resv = resv > loot->most_resv ? resv : loot->most_resv;
    }
    _exit(0);
}

// From the vault and into it again; 0, or the errno of what failed.
static int round_trip(void)
{
    int error = move();
    if (error == 0)
        error = in_child(drop, NULL);
    int tree = clone_of(VM);
    if (error == 0)
        error = tree < 0 ? errno : in_child(put_tree, &tree);
    close(tree);
    umount2(VM, MNT_DETACH);
    return error;
}

static void fact_beside_thief(struct pool *pool)
{
    begin(pool);
    struct loot *loot =
        mmap(NULL, sizeof *loot, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    require(loot != MAP_FAILED, "a page to share with the thief");
    loot->least_resv = loot->most_resv = PAGES;
    pid_t thief = fork();
    if (thief == 0)
        thief_body(pool, loot);
    int error = 0, trips = 0;
    for (; trips < ROUND_TRIPS && error == 0; trips++)
        error = round_trip();
    __atomic_store_n(&loot->stop, true, __ATOMIC_RELAXED);
    waitpid(thief, NULL, 0);
    ok(error == 0 && loot->pages == 0 && loot->attempts > 0,
       "%s: out of the vault and in again beside a thief: it gets %ld pages (%s)", pool->name,
       loot->pages, strerror(error));
    ok(loot->least_resv == PAGES && loot->most_resv == PAGES,
       "%s: the reservation was %ld pages at the least and %ld at the most", pool->name,
       loot->least_resv, loot->most_resv);
    diag("  %d round trips, %ld attempts", trips, loot->attempts);
    expect_held(pool, "after the round trips");
    in_child(drop, NULL);
    expect(pool, COUNTS(PAGES, PAGES, 0, 0), "and the reservation is returned");
    ok(steal(pool, 0) && steal(pool, MAP_NORESERVE), "%s: from then on the thief has its way",
       pool->name);
}

// ---- the probe

static bool make_place(void)
{
    if (mount("none", "/tmp", "tmpfs", 0, NULL) != 0 || mkdir(PLACE, 0700) != 0 ||
        mkdir(VM, 0700) != 0 || mount(PLACE, PLACE, NULL, MS_BIND, NULL) != 0 ||
        mount(NULL, PLACE, NULL, MS_PRIVATE, NULL) != 0)
        return false;
    int fd = open(KEPT, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    return fd >= 0 && close(fd) == 0;
}

static void facts(void)
{
    cpu_set_t allowed;
    int processor = sched_getcpu();
    sched_getaffinity(0, sizeof allowed, &allowed);
    stay_on_processor(processor);
    require(leave_hugetlbfs_mounts() == 0, "a mount namespace of the probe's own");
    sched_setaffinity(0, sizeof allowed, &allowed);
    require(make_place(), "a private mount for the vault");

    struct pool small = pool_open(SIZE_2M_KIB);
    fact_kept(&small, processor);
    fact_moved(&small);
    fact_two_places(&small);
    fact_mover_killed(&small);
    fact_beside_thief(&small);
    fact_namespace_dropped(&small);
}

int main(void)
{
    return probe_run(facts);
}
