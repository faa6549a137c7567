/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which larger pages a plan splits. */
#include "world.h"

#define OTHER "00000000-0000-0000-0000-00000000000b"
#define SIZE_64K ((guint64)64)
#define SIZE_32M ((guint64)32768)

/* A node with 4 free pages of 1 GiB, of which hugevm added some; no memory to grow into. */
static World *gib_host(HvDemote demote, guint64 grown)
{
    World *world = world_new();
    world_pool(world, 0, SIZE_2M, 0, 0);
    world_pool(world, 0, SIZE_1G, 4, 4);
    world_size(world, SIZE_1G)->demote_size_kib = SIZE_2M;
    world_allow_growth(world);
    world->settings->demote = demote;
    if (grown > 0)
        world_grown(world, 0, SIZE_1G, grown);
    return world;
}

static void test_demote_setting_says_which_pages_may_be_split(void)
{
    static const struct {
        HvDemote demote;
        guint64 grown, pages;
    } rows[] = {
        {HV_DEMOTE_NEVER, 4, 0},
        {HV_DEMOTE_OWN, 0, 0},
        {HV_DEMOTE_OWN, 3, 3},
        {HV_DEMOTE_ANY, 0, 4},
    };
    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(World) world = gib_host(rows[i].demote, rows[i].grown);
        HvWorld view = world_view(world);
        const HvPool *pool = hv_snapshot_pool(world->snapshot, 0, SIZE_1G);
        g_assert_cmpuint(hv_plan_demotable_pages(&view, pool), ==, rows[i].pages);
    }
}

static void test_larger_page_is_split_before_memory_is_taken(void)
{
    g_autoptr(World) world = gib_host(HV_DEMOTE_OWN, 4);
    world_need(world, ANY, SIZE_2M, 513);
    g_autoptr(HvPlan) plan = world_plan(world);
    assert_allowed(plan, 1);
    assert_step(plan, 0, HV_STEP_DEMOTE, 0, SIZE_1G, 2);
    g_assert_cmpuint(g_array_index(plan->steps, HvStep, 0).to_kib, ==, SIZE_2M);
}

static void test_split_leaves_the_vms_own_larger_pages(void)
{
    g_autoptr(World) world = gib_host(HV_DEMOTE_ANY, 0);
    world_need(world, ANY, SIZE_1G, 3);
    world_need(world, ANY, SIZE_2M, 512);
    g_autoptr(HvPlan) fits = world_plan(world);
    assert_allowed(fits, 1);
    assert_step(fits, 0, HV_STEP_DEMOTE, 0, SIZE_1G, 1);
    world_need(world, ANY, SIZE_2M, 1);
    g_autoptr(HvPlan) too_much = world_plan(world);
    assert_refused(too_much);
}

static void test_reserved_and_claimed_larger_pages_are_not_split(void)
{
    g_autoptr(World) world = gib_host(HV_DEMOTE_ANY, 0);
    world_reserve(world, -1, SIZE_1G, 2);
    world_claim(world, OTHER, HV_CLAIM_CLAIMED, ANY, SIZE_1G, 1);
    world_need(world, ANY, SIZE_2M, 513);
    g_autoptr(HvPlan) plan = world_plan(world);
    assert_refused(plan);
}

static void test_nothing_is_split_where_dynamic_allocation_is_off(void)
{
    g_autoptr(World) world = gib_host(HV_DEMOTE_ANY, 4);
    world->settings->use_dynamic_hugepages = FALSE;
    world_need(world, ANY, SIZE_2M, 1);
    g_autoptr(HvPlan) plan = world_plan(world);
    assert_refused(plan);
}

static void test_bound_need_splits_on_its_own_node(void)
{
    g_autoptr(World) world = gib_host(HV_DEMOTE_ANY, 0);
    world_pool(world, 1, SIZE_2M, 0, 0);
    world_need(world, "1", SIZE_2M, 1);
    g_autoptr(HvPlan) plan = world_plan(world);
    assert_refused(plan);
}

/* What is promised by mmap looks free, and a surplus that might come is nothing to split. */
static void test_promised_larger_pages_are_not_split(void)
{
    static const struct {
        guint64 resv, overcommit, pages;
    } rows[] = {{0, 0, 4}, {1, 0, 3}, {4, 0, 0}, {4, 2, 0}, {3, 2, 1}, {0, 2, 4}};
    for (int is_own = 0; is_own <= 1; is_own++)
        for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
            g_autoptr(World) world = gib_host(is_own ? HV_DEMOTE_OWN : HV_DEMOTE_ANY, 4);
            world_size(world, SIZE_1G)->resv_pages = rows[i].resv;
            world_size(world, SIZE_1G)->overcommit_pages = rows[i].overcommit;
            HvWorld view = world_view(world);
            const HvPool *pool = hv_snapshot_pool(world->snapshot, 0, SIZE_1G);
            g_assert_cmpuint(hv_plan_demotable_pages(&view, pool), ==, rows[i].pages);
        }
}

/* arm64 with base pages of 4 KiB: nodes with so many free pages of 2 MiB, 32 MiB and 1 GiB. */
typedef struct {
    guint64 free_2m, free_32m, free_1g;
} ArmNode;

static World *arm_host(const ArmNode *nodes, int n_nodes)
{
    World *world = world_new();
    for (int node = 0; node < n_nodes; node++) {
        world_pool(world, node, SIZE_64K, 0, 0);
        world_pool(world, node, SIZE_2M, nodes[node].free_2m, nodes[node].free_2m);
        world_pool(world, node, SIZE_32M, nodes[node].free_32m, nodes[node].free_32m);
        world_pool(world, node, SIZE_1G, nodes[node].free_1g, nodes[node].free_1g);
    }
    world_size(world, SIZE_2M)->demote_size_kib = SIZE_64K;
    world_size(world, SIZE_32M)->demote_size_kib = SIZE_2M;
    world_size(world, SIZE_1G)->demote_size_kib = SIZE_32M;
    world_allow_growth(world);
    world->settings->demote = HV_DEMOTE_ANY;
    return world;
}

static void assert_demotes(const HvPlan *plan, guint index, int node, guint64 size_kib,
                           guint64 pages)
{
    assert_step(plan, index, HV_STEP_DEMOTE, node, size_kib, pages);
    g_assert_cmpuint(g_array_index(plan->steps, HvStep, index).to_kib, <, size_kib);
}

static void test_smallest_larger_pages_are_split_first(void)
{
    static const ArmNode nodes[] = {{.free_32m = 2, .free_1g = 2}, {.free_2m = 2, .free_1g = 1}};
    g_autoptr(World) world = arm_host(nodes, 2);
    world_need(world, ANY, SIZE_64K, 64 + 1); /* three pages of 2 MiB */
    g_autoptr(HvPlan) plan = world_plan(world);
    assert_allowed(plan, 3);
    assert_demotes(plan, 0, 1, SIZE_2M, 2);
    assert_demotes(plan, 1, 0, SIZE_32M, 1);
    assert_demotes(plan, 2, 0, SIZE_2M, 1);
}

static void test_split_over_several_sizes_takes_no_more_than_is_needed(void)
{
    static const ArmNode nodes[] = {{.free_1g = 3}};
    g_autoptr(World) world = arm_host(nodes, 1);
    world_need(world, ANY, SIZE_64K, 33);
    g_autoptr(HvPlan) plan = world_plan(world);
    assert_allowed(plan, 3); /* the larger first: what comes of it is split next */
    assert_demotes(plan, 0, 0, SIZE_1G, 1);
    assert_demotes(plan, 1, 0, SIZE_32M, 1);
    assert_demotes(plan, 2, 0, SIZE_2M, 2);
}

/* Of one page of 1 GiB: 31 of 32 MiB for the first need, the rest for the second. */
static void test_pieces_of_one_split_serve_the_next_need(void)
{
    static const ArmNode nodes[] = {{.free_1g = 1}};
    g_autoptr(World) world = arm_host(nodes, 1);
    world_need(world, ANY, SIZE_32M, 31);
    world_need(world, ANY, SIZE_2M, 9);
    world_need(world, ANY, SIZE_2M, 7);
    g_autoptr(HvPlan) plan = world_plan(world);
    assert_allowed(plan, 2);
    assert_demotes(plan, 0, 0, SIZE_1G, 1);
    assert_demotes(plan, 1, 0, SIZE_32M, 1);
    world_need(world, ANY, SIZE_2M, 1); /* there is nothing left of it */
    g_autoptr(HvPlan) too_much = world_plan(world);
    assert_refused(too_much);
}

static void test_only_own_pages_are_split_over_several_sizes(void)
{
    static const ArmNode nodes[] = {{.free_2m = 1, .free_32m = 1, .free_1g = 1}};
    g_autoptr(World) world = arm_host(nodes, 1);
    world->settings->demote = HV_DEMOTE_OWN;
    world_need(world, ANY, SIZE_64K, 1);
    g_autoptr(HvPlan) none = world_plan(world);
    assert_refused(none);
    world_grown(world, 0, SIZE_1G, 1);
    g_autoptr(HvPlan) plan = world_plan(world);
    assert_allowed(plan, 3);
    assert_demotes(plan, 0, 0, SIZE_1G, 1);
}

static void test_bound_need_splits_down_on_its_own_node(void)
{
    static const ArmNode nodes[] = {{.free_2m = 9, .free_1g = 1}, {.free_1g = 1}};
    g_autoptr(World) world = arm_host(nodes, 2);
    world_need(world, "1", SIZE_2M, 1);
    g_autoptr(HvPlan) plan = world_plan(world);
    assert_allowed(plan, 2);
    assert_demotes(plan, 0, 1, SIZE_1G, 1);
    assert_demotes(plan, 1, 1, SIZE_32M, 1);
}

/* An administrator may have set demote_size to any smaller size. */
static void test_split_follows_the_kernels_demote_size(void)
{
    static const struct {
        guint64 of_1g_kib;
        guint n_steps; /* 0: there is no way */
    } rows[] = {{SIZE_2M, 1}, {SIZE_32M, 2},    {SIZE_64K, 0},   {0, 0},
                {SIZE_1G, 0}, {2 * SIZE_1G, 0}, {SIZE_2M - 1, 0}};
    static const ArmNode nodes[] = {{.free_1g = 1}};
    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(World) world = arm_host(nodes, 1);
        world_size(world, SIZE_1G)->demote_size_kib = rows[i].of_1g_kib;
        world_need(world, ANY, SIZE_2M, 1);
        g_autoptr(HvPlan) plan = world_plan(world);
        if (rows[i].n_steps > 0)
            assert_allowed(plan, rows[i].n_steps);
        else
            assert_refused(plan);
    }
}

/* Pages of 32 MiB would not split: so a larger page is not split to get more of them. */
static void test_new_plan_does_not_split_through_a_size_that_failed(void)
{
    static const ArmNode nodes[] = {{.free_32m = 4, .free_1g = 1}, {.free_32m = 1}};
    g_autoptr(World) world = arm_host(nodes, 2);
    world_need(world, ANY, SIZE_2M, 20);
    HvStep failed = {HV_STEP_DEMOTE, 0, SIZE_32M, 2, SIZE_2M};
    HvAttempt attempt = {.left = g_array_new(FALSE, TRUE, sizeof(HvStep)),
                         .spent = g_array_new(FALSE, TRUE, sizeof(HvStep))};
    g_array_append_val(attempt.spent, failed);
    g_array_append_val(attempt.left, failed);
    HvWorld view = world_view(world);
    g_autoptr(HvPlan) none = hv_plan_again(&view, world->request, &attempt);
    assert_refused(none);
    g_array_index(world->request->needs, HvNeed, 0).pages = 16;
    g_autoptr(HvPlan) plan = hv_plan_again(&view, world->request, &attempt);
    assert_allowed(plan, 1);
    assert_demotes(plan, 0, 1, SIZE_32M, 1);
    g_array_unref(attempt.left);
    g_array_unref(attempt.spent);
}

static void test_demotable_pages_count_over_all_sizes(void)
{
    static const ArmNode nodes[] = {{.free_2m = 7, .free_32m = 3, .free_1g = 2}, {.free_32m = 1}};
    g_autoptr(World) world = arm_host(nodes, 2);
    HvWorld view = world_view(world);
    g_assert_cmpuint(hv_plan_demotable_into_pages(&view, SIZE_2M, 0), ==, 3 * 16 + 2 * 512);
    g_assert_cmpuint(hv_plan_demotable_into_pages(&view, SIZE_2M, -1), ==, 4 * 16 + 2 * 512);
    g_assert_cmpuint(hv_plan_demotable_into_pages(&view, SIZE_1G, -1), ==, 0);
}

#define ADD(name, function) g_test_add_func("/demote/" name, function)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("demote-setting-says-which-pages-may-be-split",
        test_demote_setting_says_which_pages_may_be_split);
    ADD("larger-page-is-split-before-memory-is-taken",
        test_larger_page_is_split_before_memory_is_taken);
    ADD("split-leaves-the-vms-own-larger-pages", test_split_leaves_the_vms_own_larger_pages);
    ADD("reserved-and-claimed-larger-pages-are-not-split",
        test_reserved_and_claimed_larger_pages_are_not_split);
    ADD("nothing-is-split-where-dynamic-allocation-is-off",
        test_nothing_is_split_where_dynamic_allocation_is_off);
    ADD("bound-need-splits-on-its-own-node", test_bound_need_splits_on_its_own_node);
    ADD("promised-larger-pages-are-not-split", test_promised_larger_pages_are_not_split);
    ADD("smallest-larger-pages-are-split-first", test_smallest_larger_pages_are_split_first);
    ADD("split-over-several-sizes-takes-no-more-than-is-needed",
        test_split_over_several_sizes_takes_no_more_than_is_needed);
    ADD("pieces-of-one-split-serve-the-next-need", test_pieces_of_one_split_serve_the_next_need);
    ADD("only-own-pages-are-split-over-several-sizes",
        test_only_own_pages_are_split_over_several_sizes);
    ADD("bound-need-splits-down-on-its-own-node", test_bound_need_splits_down_on_its_own_node);
    ADD("split-follows-the-kernels-demote-size", test_split_follows_the_kernels_demote_size);
    ADD("new-plan-does-not-split-through-a-size-that-failed",
        test_new_plan_does_not_split_through_a_size_that_failed);
    ADD("demotable-pages-count-over-all-sizes", test_demotable_pages_count_over_all_sizes);
    return g_test_run();
}
