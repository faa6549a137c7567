// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Facts about pools of several NUMA nodes.
//
// The kernel keeps reservations per page size, not per node, and its arithmetic for a node's
// nr_hugepages mixes that node's count with the totals of the others. Both shape the design: what
// is available on a node is capped by what floats, and a node is only written while no page of that
// size is surplus. Where kernels differ, the numbers are reported and not judged; what the design
// does instead is asserted.
//
// Node indices: A and B are the first two nodes with a pool, the last one is asked for too much.

#include "probe.h"

#include <string.h>

enum { A = 0, B = 1, SLOT = 0, PAGES = 4 };

static void stock_both(const struct pool *pool)
{
    require(pool_stock(pool, A, PAGES) && pool_stock_more(pool, B, PAGES),
            "%s: %d free pages on each of two nodes", pool->name, PAGES);
}

static struct user start_vm(const struct pool *pool, long pages, int index)
{
    struct user vm = user_start(pool, pages, USER_TOUCH, index);
    require(vm.outcome == OUTCOME_TOUCHED, "%s: a user of %ld pages bound to a node starts (%s)",
            pool->name, pages, outcome_name(vm.outcome));
    return vm;
}

// A VM on A whose pages are surplus, beside free persistent pages on B.
static struct user start_handed_over_beside_free(const struct pool *pool)
{
    stock_both(pool);
    struct user vm = start_vm(pool, PAGES, A);
    pool_write_node(pool, A, 0);
    return vm;
}

static void report(const struct pool *pool, const char *what)
{
    struct counts all = pool_counts(pool);
    struct counts a = pool_node_counts(pool, A);
    struct counts b = pool_node_counts(pool, B);
    characterise("%s: total %ld free %ld surplus %ld; A total %ld free %ld surplus %ld; "
                 "B total %ld free %ld surplus %ld",
                 what, all.total, all.free, all.surplus, a.total, a.free, a.surplus, b.total,
                 b.free, b.surplus);
}

static void fact_node_write(const struct pool *pool)
{
    stock_both(pool);
    pool_write_node(pool, B, PAGES + 3);
    expect_node(pool, A, COUNTS(PAGES, PAGES, 0, 0), "a write on B leaves A alone");
    expect_node(pool, B, COUNTS(PAGES + 3, PAGES + 3, 0, 0), "and adds exactly on B");
    pool_write_node(pool, A, 1);
    expect_node(pool, A, COUNTS(1, 1, 0, 0), "a write on A takes exactly from A");
    expect(pool, COUNTS(PAGES + 4, PAGES + 4, 0, 0), "and nothing elsewhere");
}

static void fact_bound_user(const struct pool *pool)
{
    stock_both(pool);
    struct user vm = start_vm(pool, PAGES, B);
    expect_node(pool, B, COUNTS(PAGES, 0, 0, 0), "a bound user takes its pages from its node");
    expect_node(pool, A, COUNTS(PAGES, PAGES, 0, 0), "and none from another");
    user_kill(&vm);

    vm = user_start(pool, PAGES + 2, USER_MAP, A);
    enum outcome mapped = vm.outcome;
    enum outcome touched = user_touch(&vm);
    ok(mapped == OUTCOME_MAPPED && touched == OUTCOME_SIGBUS,
       "%s: mmap() does not check the node: a user bound to A maps more than A has (%s, then %s)",
       pool->name, outcome_name(mapped), outcome_name(touched));
}

static void fact_reservation_is_global(const struct pool *pool)
{
    stock_both(pool);
    struct user vm = user_start(pool, PAGES, USER_MAP, A);
    expect(pool, COUNTS(2 * PAGES, 2 * PAGES, PAGES, 0), "a user bound to A has reserved");
    pool_write_node(pool, A, 0);
    expect_node(pool, A, COUNTS(0, 0, 0, 0), "a shrink of A takes the pages, as B has as many");
    enum outcome touched = user_touch(&vm);
    ok(touched == OUTCOME_SIGBUS, "%s: and the bound user dies though it had reserved (%s)",
       pool->name, outcome_name(touched));
}

static void fact_surplus_stays_on_its_node(const struct pool *pool)
{
    struct user vm = start_handed_over_beside_free(pool);
    expect_node(pool, A, COUNTS(PAGES, 0, 0, PAGES), "a write of 0 on A makes A's pages surplus");
    expect_node(pool, B, COUNTS(PAGES, PAGES, 0, 0), "and leaves B's free pages alone");
    struct user other = start_vm(pool, PAGES, B);
    user_kill(&other);
    expect_node(pool, B, COUNTS(PAGES, PAGES, 0, 0), "a page freed on B does not pay for A");
    user_kill(&vm);
    expect_node(pool, A, COUNTS(0, 0, 0, 0), "a page freed on A does");
}

static void fact_dropped_reservation(const struct pool *pool)
{
    struct user vm = start_handed_over_beside_free(pool);
    int error = guard_make(pool, SLOT, PAGES);
    ok(error == 0, "%s: a guard on B's pages beside A's surplus (%s)", pool->name, strerror(error));
    guard_drop(SLOT);
    expect(pool, COUNTS(2 * PAGES, PAGES, 0, PAGES),
           "dropping it frees nothing: a node without surplus does not pay");
    user_kill(&vm);

    stock_both(pool);
    vm = start_vm(pool, PAGES, A);
    guard_make(pool, SLOT, PAGES);
    pool_write(pool, 0);
    expect(pool, COUNTS(2 * PAGES, PAGES, PAGES, 2 * PAGES),
           "a global write of 0 beside a guard makes every page surplus");
    guard_drop(SLOT);
    expect(pool, COUNTS(PAGES, 0, 0, PAGES), "dropping the guard frees B's pages");
    user_kill(&vm);
    expect(pool, COUNTS(0, 0, 0, 0), "and nothing is left when the VM is gone");
}

static void fact_global_handover(const struct pool *pool)
{
    stock_both(pool);
    struct user on_a = start_vm(pool, PAGES, A);
    struct user on_b = start_vm(pool, PAGES, B);
    pool_write(pool, 0);
    expect_node(pool, A, COUNTS(PAGES, 0, 0, PAGES), "a global write of 0 hands over on A");
    expect_node(pool, B, COUNTS(PAGES, 0, 0, PAGES), "and on B");
    user_kill(&on_b);
    expect(pool, COUNTS(PAGES, 0, 0, PAGES), "the VM on B returns its own pages");
    user_kill(&on_a);
    expect(pool, COUNTS(0, 0, 0, 0), "the VM on A as well");
}

static void fact_partial_global_handover(const struct pool *pool)
{
    stock_both(pool);
    struct user vm = start_vm(pool, PAGES, A);
    struct user database = start_vm(pool, PAGES, B);
    pool_write(pool, PAGES);
    report(pool, "a global write meant for the VM on A, beside a database on B");
    user_kill(&database);
    struct counts left = pool_counts(pool);
    characterise("of the database's %d static pages %ld are left", PAGES, left.free);
    user_kill(&vm);
    expect(pool, COUNTS(PAGES, PAGES, 0, 0), "in the end the persistent number is there");
}

static void fact_pin_then_node_write(const struct pool *pool)
{
    struct user vm = start_handed_over_beside_free(pool);
    pool_write(pool, pool_counts(pool).total);
    expect(pool, COUNTS(2 * PAGES, PAGES, 0, 0), "a global write of the total pins all nodes");
    expect_node(pool, A, COUNTS(PAGES, 0, 0, 0), "no page was moved off A");
    pool_write_node(pool, B, PAGES + 2);
    expect_node(pool, B, COUNTS(PAGES + 2, PAGES + 2, 0, 0), "after that a write on B is exact");
    user_kill(&vm);
    expect_node(pool, A, COUNTS(PAGES, PAGES, 0, 0), "and A keeps its pages");
}

// What the design avoids, and why.
static void show_node_write_beside_surplus(const struct pool *pool)
{
    struct user vm = start_handed_over_beside_free(pool);
    pool_write_node(pool, B, PAGES + 2);
    long got = pool_node_counts(pool, B).total;
    report(pool, "node write beside surplus, B 4 -> 6 asked");
    characterise("node write upwards beside surplus is %s",
                 got == PAGES + 2 ? "exact" : "NOT exact");
    user_kill(&vm);

    vm = start_handed_over_beside_free(pool);
    pool_write_node(pool, B, 1);
    got = pool_node_counts(pool, B).total;
    report(pool, "node write beside surplus, B 4 -> 1 asked");
    characterise("node write downwards beside surplus is %s", got == 1 ? "exact" : "NOT exact");
    user_kill(&vm);
}

static void show_second_node_handover(const struct pool *pool)
{
    stock_both(pool);
    struct user on_a = start_vm(pool, PAGES, A);
    struct user on_b = start_vm(pool, PAGES, B);
    pool_write_node(pool, A, 0);
    pool_write_node(pool, B, 0);
    long surplus = pool_node_counts(pool, B).surplus;
    report(pool, "handover node by node, 0 asked on A, then on B");
    characterise("handover node by node is %s", surplus == PAGES ? "exact" : "NOT exact");
    user_kill(&on_a);
    user_kill(&on_b);
}

static void show_global_shrink_beside_surplus(const struct pool *pool)
{
    struct user vm = start_handed_over_beside_free(pool);
    pool_write(pool, 2);
    report(pool, "global write beside surplus, persistent 4 -> 2 asked");
    characterise("global shrink beside surplus %s", pool_counts(pool).free == 2
                                                        ? "frees free pages"
                                                        : "turns free pages into free surplus");
    user_kill(&vm);
    report(pool, "and when the VM is gone");
}

static void show_spread(const struct pool *pool)
{
    pool_stock(pool, A, 0);
    pool_write(pool, 2L * pool->node_count);
    for (int i = 0; i < pool->node_count; i++)
        characterise("global write of %d: node %d has %ld", 2 * pool->node_count, pool->nodes[i],
                     pool_node_counts(pool, i).total);
    pool_stock(pool, A, 0);
}

// Only where nobody else needs the memory of that node.
static void fact_short_grant(const struct pool *pool)
{
    const char *fact = "a write of more than the node has is taken, and grants fewer";
    if (!probe_in_throwaway_vm()) {
        skip("only in a throwaway VM", "%s: %s", pool->name, fact);
        return;
    }
    enum { ASKED = 100000 };
    int last = pool->node_count - 1;
    pool_stock(pool, A, 0);
    pool_write_node(pool, last, ASKED);
    struct counts got = pool_node_counts(pool, last);
    ok(got.total > 0 && got.total < ASKED, "%s: %s", pool->name, fact);
    diag("  node %d: asked %d, got %ld", pool->nodes[last], ASKED, got.total);
    ok(pool_counts(pool).total == got.total, "%s: other nodes do not stand in", pool->name);
    pool_write_node(pool, last, 0);
    expect(pool, COUNTS(0, 0, 0, 0), "and all of it can be given back");
}

static void facts(void)
{
    struct pool small = pool_open(SIZE_2M_KIB);
    if (small.node_count < 2) {
        skip("this machine has one node", "2M: several nodes");
        return;
    }
    diag("A is node %d, B is node %d", small.nodes[A], small.nodes[B]);
    require(pool_overcommit(&small, 0) == 0, "2M: overcommit can be switched off");
    fact_node_write(&small);
    fact_bound_user(&small);
    fact_reservation_is_global(&small);
    fact_surplus_stays_on_its_node(&small);
    fact_dropped_reservation(&small);
    fact_global_handover(&small);
    fact_partial_global_handover(&small);
    fact_pin_then_node_write(&small);
    show_node_write_beside_surplus(&small);
    show_second_node_handover(&small);
    show_global_shrink_beside_surplus(&small);
    show_spread(&small);
    fact_short_grant(&small);
}

int main(void)
{
    return probe_run(facts);
}
