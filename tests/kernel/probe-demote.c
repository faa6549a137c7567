// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Facts about splitting a page of 1 GiB into pages of 2 MiB, by its pool's file "demote".
//
// What the kernel does with pages that are promised (mapped, not yet touched) when somebody asks it
// to split them differs from kernel to kernel, so it is reported. A split that takes no promised
// page is what hugevm asks for, having looked itself: that is asserted. Two nodes tell more, since
// the kernel keeps promises per size and not per node.

#include "probe.h"

enum { A = 0, B = 1, PIECES = SIZE_1G_KIB / SIZE_2M_KIB, ALL = 100 };

static struct pool small, large;

// Free pages of 1 GiB, and no piece left of what was split before.
static bool stock(long on_a, long on_b)
{
    users_kill_all();
    for (int i = 0; i < small.node_count; i++)
        pool_write_node(&small, i, 0);
    return pool_stock(&large, A, on_a) && (on_b == 0 || pool_stock_more(&large, B, on_b));
}

static void promise(long pages)
{
    struct user user = user_start(&large, pages, USER_MAP, ANY_NODE);
    require(user.outcome == OUTCOME_MAPPED && pool_counts(&large).resv == pages,
            "1G: %ld pages are promised (%s)", pages, outcome_name(user.outcome));
}

static void fact_split(void)
{
    require(stock(2, 0), "1G: two free pages on one node");
    pool_demote_node(&large, A, 1);
    expect_node(&large, A, COUNTS(1, 1, 0, 0), "a split of one page takes one");
    expect_node(&small, A, COUNTS(PIECES, PIECES, 0, 0), "and its pieces are free, on its node");
    pool_demote_node(&large, A, ALL);
    expect(&large, COUNTS(0, 0, 0, 0), "a split of more than there is takes what is there");
    pool_write_node(&small, A, 0);
    expect(&small, COUNTS(0, 0, 0, 0), "pieces go back to the kernel as any pages of their size");
    require(stock(2, 0), "1G: where there were pieces, there can be whole pages again");
    promise(1);
    pool_demote_node(&large, A, 1);
    expect_node(&large, A, COUNTS(1, 1, 0, 0), "beside a promised page, one that is not is split");
    expect(&large, COUNTS(1, 1, 1, 0), "and the promise stands");
}

// Asks for all on A, with so many promised over all nodes.
static void show(long on_a, long on_b, long promised)
{
    struct user user;
    if (!stock(on_a, on_b)) {
        diag("1G: cannot have %ld and %ld pages", on_a, on_b);
        return;
    }
    user = user_start(&large, promised, USER_MAP, ANY_NODE);
    require(user.outcome == OUTCOME_MAPPED, "1G: %ld pages are promised", promised);
    pool_demote_node(&large, A, ALL);
    struct counts after = pool_counts(&large);
    long lost = after.free < promised ? promised - after.free : 0;
    characterise("free %ld on A, %ld on B, promised %ld, all of A asked to be split: %ld split, "
                 "%ld of them promised; the one who was promised them gets %s",
                 on_a, on_b, promised, on_a + on_b - after.total, lost,
                 outcome_name(user_touch(&user)));
    user_kill(&user);
}

static void facts(void)
{
    if (!pool_offered(SIZE_1G_KIB)) {
        skip("this kernel offers no 1 GiB pages", "1G: split");
        return;
    }
    small = pool_open(SIZE_2M_KIB);
    large = pool_open(SIZE_1G_KIB);
    if (!stock(2, 0)) {
        stock(0, 0);
        skip("no two pages of 1 GiB can be obtained on the first node", "1G: split");
        return;
    }
    fact_split();
    show(2, 0, 1);
    show(2, 0, 2);
    if (large.node_count > 1) {
        show(1, 1, 1);
        show(1, 2, 1);
        show(1, 2, 2);
        show(1, 2, 3);
        show(2, 1, 2);
    }
    stock(0, 0);
}

int main(void)
{
    return probe_run(facts);
}
