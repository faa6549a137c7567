// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Facts about the launch mount: a hugetlbfs with min_size= on the VM's own directory.
//
// While libvirt starts QEMU, the guard has to go, because QEMU's mmap() could not use its
// reservation. A hugetlbfs mounted with min_size= reserves pages for whatever files are made on it:
// the guard is exchanged for such a mount, QEMU maps from it, and it is detached once QEMU runs.
// Between guard and mount lies a moment without either; what the facts say about it is that no
// order of the two avoids it.
//
// The mounts are made in a mount namespace of the probe's own, over /tmp, and vanish with it.

#include "probe.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>

#define DIRECTORY "/tmp"

enum { SLOT = 0, PAGES = 8, HALF = PAGES / 2 };

// Returns 0 or errno.
static int mount_launch(const struct pool *pool, long pages)
{
    char options[96];
    snprintf(options, sizeof options, "pagesize=%uK,min_size=%zu", pool->size_kib,
             (size_t)pages * pool_page_bytes(pool));
    return mount("none", DIRECTORY, "hugetlbfs", 0, options) == 0 ? 0 : errno;
}

static int detach(void)
{
    return umount2(DIRECTORY, MNT_DETACH) == 0 ? 0 : errno;
}

static void stock(const struct pool *pool, long pages)
{
    require(pool_stock(pool, 0, pages), "%s: %ld free pages to begin with", pool->name, pages);
}

static void stock_and_mount(const struct pool *pool)
{
    stock(pool, PAGES);
    int error = mount_launch(pool, PAGES);
    require(error == 0, "%s: a launch mount of %d pages (%s)", pool->name, PAGES, strerror(error));
}

static enum outcome try_to_steal(const struct pool *pool)
{
    struct user thief = user_start(pool, 1, USER_TOUCH | USER_NORESERVE, ANY_NODE);
    enum outcome outcome = thief.outcome;
    user_kill(&thief);
    return outcome;
}

static void fact_exchange(const struct pool *pool)
{
    stock(pool, PAGES);
    guard_make(pool, SLOT, PAGES);
    int error = mount_launch(pool, PAGES);
    ok(error != 0, "%s: no launch mount while the guard holds the pages (%s)", pool->name,
       strerror(error));
    expect(pool, COUNTS(PAGES, PAGES, PAGES, 0), "a refused launch mount takes nothing");
    guard_drop(SLOT);
    error = mount_launch(pool, PAGES);
    ok(error == 0, "%s: after IPC_RMID it can be mounted (%s)", pool->name, strerror(error));
    expect(pool, COUNTS(PAGES, PAGES, PAGES, 0), "the mount reserves what the guard did");
    error = detach();
    ok(error == 0, "%s: an unused launch mount is detached (%s)", pool->name, strerror(error));
    expect(pool, COUNTS(PAGES, PAGES, 0, 0), "and its reservation is returned");
}

static void fact_two_cells(const struct pool *pool)
{
    stock_and_mount(pool);
    struct user other = user_start(pool, 1, USER_MAP, ANY_NODE);
    ok(other.outcome == OUTCOME_NO_MEMORY, "%s: mmap() beside a launch mount (%s)", pool->name,
       outcome_name(other.outcome));
    struct user first = user_start_in(pool, DIRECTORY, HALF, USER_TOUCH);
    ok(first.outcome == OUTCOME_TOUCHED, "%s: the VM's first cell uses the reservation (%s)",
       pool->name, outcome_name(first.outcome));
    expect(pool, COUNTS(PAGES, HALF, HALF, 0), "the second cell stays reserved meanwhile");
    enum outcome stolen = try_to_steal(pool);
    ok(stolen == OUTCOME_SIGBUS, "%s: and cannot be stolen (%s)", pool->name, outcome_name(stolen));
    struct user second = user_start_in(pool, DIRECTORY, HALF, USER_TOUCH | USER_PRIVATE);
    ok(second.outcome == OUTCOME_TOUCHED, "%s: a second, private cell uses the rest (%s)",
       pool->name, outcome_name(second.outcome));
    expect(pool, COUNTS(PAGES, 0, 0, 0), "the VM has all its pages");

    int error = detach();
    ok(error == 0, "%s: the mount is detached while the VM runs (%s)", pool->name, strerror(error));
    expect(pool, COUNTS(PAGES, 0, 0, 0), "the VM keeps its pages");
    user_kill(&first);
    user_kill(&second);
    expect(pool, COUNTS(PAGES, PAGES, 0, 0), "and they are free when it is gone");
}

static void fact_early_detach(const struct pool *pool)
{
    stock_and_mount(pool);
    struct user vm = user_start_in(pool, DIRECTORY, PAGES, USER_MAP);
    detach();
    expect(pool, COUNTS(PAGES, PAGES, PAGES, 0),
           "detached before they are touched: still reserved");
    enum outcome stolen = try_to_steal(pool);
    enum outcome touched = user_touch(&vm);
    ok(stolen == OUTCOME_SIGBUS && touched == OUTCOME_TOUCHED,
       "%s: a thief gets none of them (%s), the VM all (%s)", pool->name, outcome_name(stolen),
       outcome_name(touched));
    user_kill(&vm);
}

static void fact_unused_remainder(const struct pool *pool)
{
    stock_and_mount(pool);
    struct user vm = user_start_in(pool, DIRECTORY, PAGES - 2, USER_TOUCH);
    expect(pool, COUNTS(PAGES, 2, 2, 0), "what the VM does not use stays reserved");
    detach();
    characterise("%s: 2 unused pages of a detached launch mount, VM running: resv %ld", pool->name,
                 pool_counts(pool).resv);
    user_kill(&vm);
    expect(pool, COUNTS(PAGES, PAGES, 0, 0), "and is returned at the latest when the VM is gone");
}

static void fact_beyond_min_size(const struct pool *pool)
{
    stock(pool, PAGES);
    int error = mount_launch(pool, HALF);
    struct user vm = user_start_in(pool, DIRECTORY, PAGES, USER_TOUCH);
    ok(error == 0 && vm.outcome == OUTCOME_TOUCHED,
       "%s: a VM larger than its launch mount takes the rest from the pool (%s)", pool->name,
       outcome_name(vm.outcome));
    detach();
    user_kill(&vm);

    error = mount_launch(pool, HALF);
    struct user other = user_start(pool, HALF, USER_TOUCH, ANY_NODE);
    vm = user_start_in(pool, DIRECTORY, PAGES, USER_MAP);
    ok(error == 0 && other.outcome == OUTCOME_TOUCHED && vm.outcome == OUTCOME_NO_MEMORY,
       "%s: and is refused when the pool lacks it (%s)", pool->name, outcome_name(vm.outcome));
    expect(pool, COUNTS(PAGES, HALF, HALF, 0), "the mount keeps its own after that refusal");
    user_kill(&other);
    detach();
    expect(pool, COUNTS(PAGES, PAGES, 0, 0), "and returns it when it is detached");
}

// Memory that the guest has let go of: of virtio-mem, or a DIMM's.
static void fact_left_beyond_min_size(const struct pool *pool)
{
    stock(pool, PAGES);
    int error = mount_launch(pool, HALF);
    struct user vm = user_start_in(pool, DIRECTORY, HALF, USER_TOUCH);
    struct user device = user_start_in(pool, DIRECTORY, HALF, USER_TOUCH);
    require(error == 0 && device.outcome == OUTCOME_TOUCHED, "%s: a VM twice its launch mount",
            pool->name);
    detach();
    user_kill(&device);
    expect(pool, COUNTS(PAGES, HALF, HALF, 0),
           "with what a VM leaves, min_size is filled again, although all of it is in use");
    user_kill(&vm);
    expect(pool, COUNTS(PAGES, PAGES, 0, 0), "and nothing is kept when the VM is gone");
}

static void fact_handover_after_launch(const struct pool *pool)
{
    stock_and_mount(pool);
    struct user vm = user_start_in(pool, DIRECTORY, PAGES, USER_TOUCH);
    pool_write(pool, 0);
    expect(pool, COUNTS(PAGES, 0, 0, PAGES), "a VM on a launch mount can be handed over");
    int error = detach();
    ok(error == 0, "%s: detached after the handover (%s)", pool->name, strerror(error));
    expect(pool, COUNTS(PAGES, 0, 0, PAGES), "a fully used mount has nothing to collect");
    user_kill(&vm);
    expect(pool, COUNTS(0, 0, 0, 0), "the pool is empty when the VM is gone");
}

static void facts(void)
{
    require(leave_hugetlbfs_mounts() == 0, "a mount namespace of the probe's own");
    struct pool small = pool_open(SIZE_2M_KIB);
    fact_exchange(&small);
    fact_two_cells(&small);
    fact_early_detach(&small);
    fact_unused_remainder(&small);
    fact_beyond_min_size(&small);
    fact_left_beyond_min_size(&small);
    fact_handover_after_launch(&small);
}

int main(void)
{
    return probe_run(facts);
}
