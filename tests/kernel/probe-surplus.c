// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Facts about surplus pages, on one node.
//
// Handover rests on them: lowering nr_hugepages below what is in use makes the remainder surplus,
// and the kernel frees surplus pages when their user exits, whoever else is dead by then. The facts
// here are both halves of that bargain: that the pages do come back, and that surplus is a debt of
// the pool which the kernel collects from whoever frees or unreserves first.
//
// "Persistent" is total - surplus: what a write of nr_hugepages sets, while a read of it gives the
// total. Where a fact names a VM, a database or an administrator, these are users of the probe.

#include "probe.h"

#include <string.h>

enum { SLOT = 0, VM = 8, STOCK = 16 };

static struct user start_vm(const struct pool *pool, long pages)
{
    struct user vm = user_start(pool, pages, USER_TOUCH, ANY_NODE);
    require(vm.outcome == OUTCOME_TOUCHED, "%s: a user of %ld pages starts (%s)", pool->name, pages,
            outcome_name(vm.outcome));
    return vm;
}

static void stock_on(const struct pool *pool, int index, long pages)
{
    require(pool_stock(pool, index, pages), "%s: %ld free pages to begin with", pool->name, pages);
}

static void stock(const struct pool *pool, long pages)
{
    stock_on(pool, 0, pages);
}

// A VM whose pages are all surplus.
static struct user start_handed_over(const struct pool *pool, long pages)
{
    stock(pool, pages);
    struct user vm = start_vm(pool, pages);
    pool_write(pool, 0);
    return vm;
}

static void fact_shrink(const struct pool *pool)
{
    stock(pool, STOCK);
    struct user vm = start_vm(pool, VM);
    pool_write(pool, VM + 4);
    expect(pool, COUNTS(VM + 4, 4, 0, 0), "a shrink takes free pages first");
    pool_write(pool, 2);
    expect(pool, COUNTS(VM, 0, 0, VM - 2),
           "a write below what is in use makes the remainder surplus; nr reads the total");
    user_kill(&vm);
    expect(pool, COUNTS(2, 2, 0, 0), "surplus goes when its user exits, persistent pages stay");
}

static void fact_handover(const struct pool *pool, int index, long pages)
{
    stock_on(pool, index, pages);
    struct user vm = start_vm(pool, pages);
    pool_write(pool, 0);
    expect(pool, COUNTS(pages, 0, 0, pages), "a write of 0 hands a VM's pages over to the kernel");
    user_kill(&vm);
    expect(pool, COUNTS(0, 0, 0, 0), "after SIGKILL of the VM the pool is empty without a call");
}

static void fact_shrink_spares_reserved(const struct pool *pool)
{
    stock(pool, STOCK);
    struct user vm = start_vm(pool, VM);
    int error = guard_make(pool, SLOT, 4);
    pool_write(pool, 0);
    ok(error == 0, "%s: a guard beside a running VM (%s)", pool->name, strerror(error));
    expect(pool, COUNTS(VM + 4, 4, 4, VM + 4), "a shrink to 0 leaves what is in use or reserved");
    struct user other = user_start(pool, 1, USER_MAP, ANY_NODE);
    ok(other.outcome == OUTCOME_NO_MEMORY, "%s: and what is reserved stays reserved (%s)",
       pool->name, outcome_name(other.outcome));
    user_kill(&other);
    user_kill(&vm);
}

static void fact_dropped_reservation_pays(const struct pool *pool)
{
    stock(pool, STOCK);
    struct user vm = start_vm(pool, VM);
    guard_make(pool, SLOT, 4);
    pool_write(pool, 4);
    expect(pool, COUNTS(VM + 4, 4, 4, VM), "a guard of 4 beside a VM whose pages are surplus");
    guard_drop(SLOT);
    expect(pool, COUNTS(VM, 0, 0, VM - 4),
           "dropping a reservation beside surplus frees pages, though 4 were persistent");
    struct user again = user_start(pool, 4, USER_MAP, ANY_NODE);
    ok(again.outcome == OUTCOME_NO_MEMORY, "%s: the owner of the guard cannot map them (%s)",
       pool->name, outcome_name(again.outcome));
    user_kill(&again);
    user_kill(&vm);
}

static void fact_pin_before_drop(const struct pool *pool)
{
    stock(pool, STOCK);
    struct user vm = start_vm(pool, VM);
    guard_make(pool, SLOT, 4);
    pool_write(pool, 4);
    pool_write(pool, pool_counts(pool).total);
    expect(pool, COUNTS(VM + 4, 4, 4, 0), "a global write of the total pins all surplus");
    guard_drop(SLOT);
    expect(pool, COUNTS(VM + 4, 4, 0, 0), "after that, dropping a reservation frees nothing");
    user_kill(&vm);
    expect(pool, COUNTS(VM + 4, VM + 4, 0, 0), "pinned pages stay when their user exits");
}

static void fact_write_up(const struct pool *pool)
{
    struct user vm = start_handed_over(pool, VM);
    pool_write(pool, 5);
    expect(pool, COUNTS(VM, 0, 0, VM - 5), "a write upwards turns surplus persistent first");
    pool_write(pool, VM + 3);
    expect(pool, COUNTS(VM + 3, 3, 0, 0), "and allocates only what is then missing");
    user_kill(&vm);
    expect(pool, COUNTS(VM + 3, VM + 3, 0, 0), "what a write turned persistent stays");
}

static void fact_first_to_free_pays(const struct pool *pool)
{
    stock(pool, STOCK);
    struct user vm = start_vm(pool, VM);
    struct user database = start_vm(pool, STOCK - VM);
    pool_write(pool, STOCK - VM);
    expect(pool, COUNTS(STOCK, 0, 0, VM), "a VM is handed over beside a database's static pages");
    user_kill(&database);
    expect(pool, COUNTS(VM, 0, 0, 0), "the first to free pays: the database's pages are gone");
    database = user_start(pool, STOCK - VM, USER_MAP, ANY_NODE);
    ok(database.outcome == OUTCOME_NO_MEMORY, "%s: the database cannot restart (%s)", pool->name,
       outcome_name(database.outcome));
    user_kill(&vm);
    expect(pool, COUNTS(VM, VM, 0, 0), "and what it paid, the VM leaves behind");
}

static void fact_unmapped_reservation_pays(const struct pool *pool)
{
    stock(pool, STOCK);
    struct user vm = start_vm(pool, VM);
    struct user starting = user_start(pool, 4, USER_MAP, ANY_NODE);
    pool_write(pool, 4);
    user_kill(&starting);
    expect(pool, COUNTS(VM, 0, 0, VM - 4),
           "a mapping that ends untouched beside surplus takes free pages with it");
    user_kill(&vm);
}

static void fact_discard(const struct pool *pool)
{
    struct user vm = start_handed_over(pool, VM);
    enum outcome discarded = user_discard(&vm, 2);
    ok(discarded == OUTCOME_MAPPED, "%s: a VM discards 2 of its pages (%s)", pool->name,
       outcome_name(discarded));
    expect(pool, COUNTS(VM - 2, 0, 0, VM - 2), "a discard from surplus gives the pages away");
    enum outcome touched = user_touch(&vm);
    ok(touched == OUTCOME_SIGBUS, "%s: and the VM dies when it touches them again (%s)", pool->name,
       outcome_name(touched));
    expect(pool, COUNTS(0, 0, 0, 0), "its other pages are returned");

    stock(pool, VM);
    vm = start_vm(pool, VM);
    user_discard(&vm, 2);
    touched = user_touch(&vm);
    ok(touched == OUTCOME_TOUCHED, "%s: without surplus, a discarded page can be had again (%s)",
       pool->name, outcome_name(touched));
    user_kill(&vm);
}

static void fact_shared_backend(const struct pool *pool)
{
    struct user vm = start_handed_over(pool, VM);
    struct user other = user_start(pool, 1, USER_MAP, ANY_NODE);
    ok(other.outcome == OUTCOME_NO_MEMORY, "%s: surplus gives nothing to another VM (%s)",
       pool->name, outcome_name(other.outcome));
    int error = guard_make(pool, SLOT, 1);
    ok(error != 0, "%s: nor to a guard (%s)", pool->name, strerror(error));
    expect(pool, COUNTS(VM, 0, 0, VM), "and both refusals leave it as it was");
    user_kill(&vm);
}

static void fact_overcommit(const struct pool *pool)
{
    stock(pool, 4);
    long before = pool_overcommit(pool, 4);
    if (!ok(before == 4, "%s: nr_overcommit_hugepages takes 4", pool->name))
        return;
    int error = guard_make(pool, SLOT, 6);
    ok(error == 0, "%s: a guard may reach into overcommit (%s)", pool->name, strerror(error));
    expect(pool, COUNTS(6, 6, 6, 2), "the missing pages are surplus from the first moment");
    guard_drop(SLOT);
    expect(pool, COUNTS(4, 4, 0, 0), "and go when the guard is dropped");

    struct user vm = start_vm(pool, 4);
    struct user over = start_vm(pool, 2);
    user_kill(&vm);
    expect(pool, COUNTS(4, 2, 0, 0), "with overcommit, too, the first to free pays");
    user_kill(&over);
    pool_overcommit(pool, 0);
}

static void fact_harmless_write(const struct pool *pool)
{
    stock(pool, 2);
    pool_write(pool, 2);
    expect(pool, COUNTS(2, 2, 0, 0), "writing back an unchanged total without surplus is harmless");
}

// Boot may have allocated the only pages of 1 GiB that there will ever be: prefer their node.
// Returns the node's index, or -1.
static int stock_1g(const struct pool *pool)
{
    int index = 0;
    for (int i = 0; i < pool->node_count; i++)
        if (pool_node_counts(pool, i).free > 0)
            index = i;
    for (int tries = 0; tries < pool->node_count; tries++) {
        if (pool_stock(pool, index, 1))
            return index;
        index = (index + 1) % pool->node_count;
    }
    return -1;
}

static void facts(void)
{
    struct pool small = pool_open(SIZE_2M_KIB);
    if (pool_overcommit(&small, 0) != 0)
        require(false, "2M: overcommit can be switched off");
    fact_shrink(&small);
    fact_handover(&small, 0, VM);
    fact_shrink_spares_reserved(&small);
    fact_dropped_reservation_pays(&small);
    fact_pin_before_drop(&small);
    fact_write_up(&small);
    fact_first_to_free_pays(&small);
    fact_unmapped_reservation_pays(&small);
    fact_discard(&small);
    fact_shared_backend(&small);
    fact_overcommit(&small);
    fact_harmless_write(&small);
    stock(&small, 0);

    if (!pool_offered(SIZE_1G_KIB)) {
        skip("this kernel offers no 1 GiB pages", "1G: handover");
        return;
    }
    struct pool large = pool_open(SIZE_1G_KIB);
    int index = stock_1g(&large);
    if (index >= 0)
        fact_handover(&large, index, 1);
    else
        skip("no page of 1 GiB can be obtained at run time", "1G: handover");
}

int main(void)
{
    return probe_run(facts);
}
