/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What goes back to the host, what may be split, where else to grow, what is allocatable. */
#include "world.h"

#include "forecast.h"

#define OTHER "00000000-0000-0000-0000-0000000000b1"
#define SELF "00000000-0000-0000-0000-00000000000a"

/* One pool, in which hugevm has added some pages; nobody but others uses it. */
typedef struct {
    const char *what;
    guint64 total, free_pages, grown, resv, reserved, exposed, running, give_back;
} Case;

static const Case cases[] = {
    {"all is free", 10, 10, 4, 0, 0, 0, 0, 4},
    {"nothing was added", 10, 10, 0, 0, 0, 0, 0, 0},
    {"all was added", 4, 4, 4, 0, 0, 0, 0, 4},
    {"pages that are in use stay", 4, 1, 4, 0, 0, 0, 3, 1},
    {"none is free", 4, 0, 4, 0, 0, 0, 4, 0},
    {"promised pages stay", 10, 10, 10, 3, 0, 0, 0, 7},
    {"a foreign user uses the static pages", 10, 4, 4, 0, 0, 0, 0, 4},
    {"a foreign user of static pages can come back", 10, 7, 4, 0, 0, 0, 0, 4},
    {"a foreign user takes more than the static pages", 10, 2, 4, 0, 0, 0, 0, 2},
    {"a promise to a foreign user counts as its use", 10, 10, 4, 6, 0, 0, 0, 4},
    {"grown pages are nobody's reservation", 10, 10, 10, 0, 7, 0, 0, 10},
    {"reserved pages within the static ones", 10, 10, 4, 0, 5, 0, 0, 4},
    {"a reservation does not turn added pages into reserved ones", 10, 10, 10, 0, 7, 0, 0, 10},
    {"reserved pages that are in use are there already", 10, 5, 5, 0, 5, 0, 0, 5},
    {"a claim that has not mapped keeps its pages", 10, 10, 10, 0, 0, 7, 0, 3},
    {"a starting VM beside static pages", 10, 10, 4, 0, 0, 4, 0, 0},
    {"a running VM has its pages in use", 10, 6, 4, 0, 0, 0, 4, 0},
    {"a running VM beside enough static pages", 14, 10, 4, 0, 0, 0, 0, 4},
    {"everything together", 40, 30, 20, 4, 2, 5, 0, 15},
    {"an absurd ledger gives no more than is free", 10, 3, 100, 0, 0, 0, 7, 3},
};

static void test_give_back_takes_what_nobody_needs(void)
{
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        const Case *c = &cases[i];
        g_autoptr(World) world = world_new();
        world_pool(world, 0, SIZE_2M, c->total, c->free_pages);
        world_size(world, SIZE_2M)->resv_pages = c->resv;
        world_grown(world, 0, SIZE_2M, c->grown);
        world_reserve(world, -1, SIZE_2M, c->reserved);
        if (c->exposed > 0)
            world_claim(world, OTHER, HV_CLAIM_CLAIMED, ANY, SIZE_2M, c->exposed);
        if (c->running > 0)
            world_claim(world, SELF, HV_CLAIM_RUNNING, ANY, SIZE_2M, c->running);
        HvWorld view = world_view(world);
        view.self_uuid = NULL;
        const HvPool *pool = hv_snapshot_pool(world->snapshot, 0, SIZE_2M);
        g_test_message("%s", c->what);
        g_assert_cmpuint(hv_plan_give_back_pages(&view, pool), ==, c->give_back);
    }
}

/* VDSM's release of a VM of 4 pages. VDSM guesses from the pool; hugevm gives back what it added,
 * beside pages that were there before and now stand free. */
static void test_release_answers_from_the_ledger_not_from_the_pool(void)
{
    static const struct {
        guint64 reserved, total, grown, give_back;
    } vectors[] = {
        {13, 17, 1, 1}, /* VDSM 1: the VM found 3 of 16, and 1 was added */
        {13, 17, 0, 0}, /* VDSM 1 */
        {12, 17, 0, 0}, /* VDSM 4: but 5 were free before, so nothing was added */
        {12, 17, 4, 4}, /* VDSM 4 */
        {12, 20, 0, 0}, /* VDSM 4 */
        {12, 20, 4, 4}, /* VDSM 4 */
        {0, 16, 4, 4},  /* VDSM 4: use_preallocated_hugepages = false adds the whole need */
    };
    for (guint i = 0; i < G_N_ELEMENTS(vectors); i++) {
        g_autoptr(World) world = world_new();
        world_pool(world, 0, SIZE_2M, vectors[i].total, vectors[i].total);
        world_reserve(world, -1, SIZE_2M, vectors[i].reserved);
        world_grown(world, 0, SIZE_2M, vectors[i].grown);
        g_test_message("vector %u", i);
        g_assert_cmpuint(world_give_back(world, 0, SIZE_2M), ==, vectors[i].give_back);
    }
}

static void test_give_back_stays_within_the_pool_that_grew(void)
{
    g_autoptr(World) world = world_new();
    world_pool(world, 0, SIZE_2M, 10, 10);
    world_pool(world, 1, SIZE_2M, 10, 10);
    world_grown(world, 1, SIZE_2M, 4);
    g_assert_cmpuint(world_give_back(world, 0, SIZE_2M), ==, 0);
    g_assert_cmpuint(world_give_back(world, 1, SIZE_2M), ==, 4);
}

static void test_bound_claim_elsewhere_does_not_hold_a_pool_back(void)
{
    g_autoptr(World) world = world_new();
    world_pool(world, 0, SIZE_2M, 10, 10);
    world_pool(world, 1, SIZE_2M, 10, 10);
    world_grown(world, 0, SIZE_2M, 10);
    world_claim(world, OTHER, HV_CLAIM_CLAIMED, "1", SIZE_2M, 10);
    g_assert_cmpuint(world_give_back(world, 0, SIZE_2M), ==, 0); /* 1 has static pages only */
    world_grown(world, 1, SIZE_2M, 10);
    g_assert_cmpuint(world_give_back(world, 0, SIZE_2M), ==, 10);
    g_assert_cmpuint(world_give_back(world, 1, SIZE_2M), ==, 0);
}

static void test_reserved_static_pages_stay_on_their_node(void)
{
    g_autoptr(World) world = world_new();
    world_pool(world, 0, SIZE_2M, 10, 10);
    world_pool(world, 1, SIZE_2M, 16, 16);
    world_grown(world, 0, SIZE_2M, 10);
    world_grown(world, 1, SIZE_2M, 10);
    world_reserve(world, 1, SIZE_2M, 6);
    g_assert_cmpuint(world_give_back(world, 0, SIZE_2M), ==, 10);
    g_assert_cmpuint(world_give_back(world, 1, SIZE_2M), ==, 10);
}

static void test_give_back_under_way_is_not_given_twice(void)
{
    g_autoptr(World) world = world_new();
    world_pool(world, 0, SIZE_2M, 10, 10);
    world_grown(world, 0, SIZE_2M, 10);
    world_intent(world, 0, SIZE_2M, 10, 4);
    g_assert_cmpuint(world_give_back(world, 0, SIZE_2M), ==, 4);
}

static void test_switch_of_dynamic_allocation_does_not_hold_pages_back(void)
{
    for (int is_on = 0; is_on <= 1; is_on++) {
        g_autoptr(World) world = world_new();
        world_pool(world, 0, SIZE_2M, 10, 10);
        world_grown(world, 0, SIZE_2M, 4);
        world->settings->use_dynamic_hugepages = is_on;
        g_assert_cmpuint(world_give_back(world, 0, SIZE_2M), ==, 4);
    }
}

/* Three nodes that could still grow 10, 30 and 20 pages. */
static World *uneven_host(void)
{
    static const guint64 pages[] = {10, 30, 20};
    World *world = world_new();
    for (int node = 0; node < 3; node++) {
        world_node(world, node, pages[node] * SIZE_2M);
        world_pool(world, node, SIZE_2M, 0, 0);
    }
    world_allow_growth(world);
    return world;
}

static void attempt_clear(HvAttempt *attempt)
{
    g_array_unref(attempt->left);
    g_array_unref(attempt->spent);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(HvAttempt, attempt_clear)

static void attempt_init(HvAttempt *attempt)
{
    attempt->left = g_array_new(FALSE, TRUE, sizeof(HvStep));
    attempt->spent = g_array_new(FALSE, TRUE, sizeof(HvStep));
}

/* A step fell short, and so many of its pages are still missing. */
static void attempt_fell_short(HvAttempt *attempt, HvStep step, guint64 left)
{
    g_array_append_val(attempt->spent, step);
    step.pages = left;
    g_array_append_val(attempt->left, step);
}

static HvPlan *plan_again(const World *world, const HvAttempt *attempt)
{
    HvWorld view = world_view(world);
    return hv_plan_again(&view, world->request, attempt);
}

static HvStep grow_on(int node, guint64 pages)
{
    return (HvStep){.action = HV_STEP_GROW, .node = node, .size_kib = SIZE_2M, .pages = pages};
}

/* Node 1 should have grown 25 pages, and gave the first 5 of them. */
static World *short_host(void)
{
    World *world = uneven_host();
    HvPool *pool = &g_array_index(world->snapshot->pools, HvPool, 1);
    pool->total_pages = pool->free_pages = 5;
    world_grown(world, 1, SIZE_2M, 5);
    return world;
}

static void test_new_plan_grows_where_it_has_not_failed(void)
{
    g_auto(HvAttempt) attempt;
    attempt_init(&attempt);
    g_autoptr(World) world = short_host();
    world_need(world, ANY, SIZE_2M, 30);
    attempt_fell_short(&attempt, grow_on(1, 25), 20);
    g_autoptr(HvPlan) plan = plan_again(world, &attempt);
    assert_allowed(plan, 2);
    assert_grows(plan, 0, 2, SIZE_2M, 20);
    assert_grows(plan, 1, 0, SIZE_2M, 5);
}

static void test_new_plan_stays_on_the_nodes_of_the_need(void)
{
    g_auto(HvAttempt) attempt;
    attempt_init(&attempt);
    g_autoptr(World) world = short_host();
    world_need(world, "0-1", SIZE_2M, 15);
    attempt_fell_short(&attempt, grow_on(1, 15), 10);
    g_autoptr(HvPlan) plan = plan_again(world, &attempt);
    assert_allowed(plan, 1);
    assert_grows(plan, 0, 0, SIZE_2M, 10);
    world_need(world, "1", SIZE_2M, 6); /* 5 are there, and node 1 is not asked again */
    g_autoptr(HvPlan) bound = plan_again(world, &attempt);
    assert_refused(bound);
}

static void test_new_plan_is_refused_where_all_have_failed(void)
{
    g_auto(HvAttempt) attempt;
    attempt_init(&attempt);
    g_autoptr(World) world = short_host();
    world_need(world, ANY, SIZE_2M, 6);
    for (int node = 0; node < 3; node++)
        attempt_fell_short(&attempt, grow_on(node, 1), 1);
    g_autoptr(HvPlan) plan = plan_again(world, &attempt);
    assert_refused(plan);
}

/* Of 9 free pages on node 1, 4 were there before the VM. */
static void test_new_plan_counts_pages_that_were_got_as_the_vms(void)
{
    g_auto(HvAttempt) attempt;
    attempt_init(&attempt);
    g_autoptr(World) world = short_host();
    HvPool *pool = &g_array_index(world->snapshot->pools, HvPool, 1);
    pool->total_pages = pool->free_pages = 9;
    world->settings->use_preallocated_hugepages = FALSE;
    world_claim(world, world->request->uuid, HV_CLAIM_CLAIMED, ANY, SIZE_2M, 12);
    world_need(world, ANY, SIZE_2M, 12);
    attempt_fell_short(&attempt, grow_on(1, 12), 7);
    g_autoptr(HvPlan) plan = plan_again(world, &attempt);
    assert_allowed(plan, 1);
    assert_grows(plan, 0, 0, SIZE_2M, 7);
}

static guint64 allocatable(const World *world, int node)
{
    HvWorld view = world_view(world);
    return hv_forecast_allocatable_pages(&view, hv_snapshot_pool(world->snapshot, node, SIZE_2M));
}

static void test_allocatable_is_what_a_bound_vm_could_have(void)
{
    g_autoptr(World) world = uneven_host();
    HvPool *pool = &g_array_index(world->snapshot->pools, HvPool, 1);
    pool->total_pages = pool->free_pages = 7;
    g_assert_cmpuint(allocatable(world, 1), ==, 37);
    world_reserve(world, 1, SIZE_2M, 5);
    g_assert_cmpuint(allocatable(world, 1), ==, 32);
    world->settings->floor_host_kib = 40 * SIZE_2M; /* of 60 */
    g_assert_cmpuint(allocatable(world, 1), ==, 22);
    world->settings->use_dynamic_hugepages = FALSE;
    g_assert_cmpuint(allocatable(world, 1), ==, 2);
}

/* use_preallocated_hugepages = false leaves them to others. */
static void test_free_pages_are_not_allocatable_where_all_is_grown(void)
{
    g_autoptr(World) world = uneven_host();
    HvWorld view = world_view(world);
    HvPool *pool = &g_array_index(world->snapshot->pools, HvPool, 1);
    guint64 grown = hv_forecast_allocatable_of_size(&view, SIZE_2M);
    pool->total_pages = pool->free_pages = 7;
    g_assert_cmpuint(hv_forecast_allocatable_of_size(&view, SIZE_2M), ==, grown + 7);
    world->settings->use_preallocated_hugepages = FALSE;
    g_assert_cmpuint(allocatable(world, 1), ==, 30);
    g_assert_cmpuint(hv_forecast_allocatable_of_size(&view, SIZE_2M), ==, grown);
    world->settings->use_dynamic_hugepages = FALSE;
    g_assert_cmpuint(hv_forecast_allocatable_of_size(&view, SIZE_2M), ==, 7);
}

/* What is called allocatable can be had, and not one page more. */
static void test_allocatable_is_exact(void)
{
    g_autoptr(World) world = uneven_host();
    HvPool *pool = &g_array_index(world->snapshot->pools, HvPool, 2);
    pool->total_pages = pool->free_pages = 7;
    world_claim(world, OTHER, HV_CLAIM_CLAIMED, ANY, SIZE_2M, 3);
    guint64 pages = allocatable(world, 2);
    world_need(world, "2", SIZE_2M, pages);
    g_autoptr(HvPlan) fits = world_plan(world);
    assert_allowed(fits, 1);
    world_need(world, "2", SIZE_2M, 1);
    g_autoptr(HvPlan) too_much = world_plan(world);
    assert_refused(too_much);
}

#define ADD(name, function) g_test_add_func("/give-back/" name, function)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("takes-what-nobody-needs", test_give_back_takes_what_nobody_needs);
    ADD("release-answers-from-the-ledger-not-from-the-pool",
        test_release_answers_from_the_ledger_not_from_the_pool);
    ADD("stays-within-the-pool-that-grew", test_give_back_stays_within_the_pool_that_grew);
    ADD("bound-claim-elsewhere-does-not-hold-a-pool-back",
        test_bound_claim_elsewhere_does_not_hold_a_pool_back);
    ADD("reserved-static-pages-stay-on-their-node", test_reserved_static_pages_stay_on_their_node);
    ADD("under-way-is-not-given-twice", test_give_back_under_way_is_not_given_twice);
    ADD("switch-of-dynamic-allocation-does-not-hold-pages-back",
        test_switch_of_dynamic_allocation_does_not_hold_pages_back);
    ADD("new-plan-grows-where-it-has-not-failed", test_new_plan_grows_where_it_has_not_failed);
    ADD("new-plan-stays-on-the-nodes-of-the-need", test_new_plan_stays_on_the_nodes_of_the_need);
    ADD("new-plan-is-refused-where-all-have-failed",
        test_new_plan_is_refused_where_all_have_failed);
    ADD("new-plan-counts-pages-that-were-got-as-the-vms",
        test_new_plan_counts_pages_that_were_got_as_the_vms);
    ADD("allocatable-is-what-a-bound-vm-could-have",
        test_allocatable_is_what_a_bound_vm_could_have);
    ADD("free-pages-are-not-allocatable-where-all-is-grown",
        test_free_pages_are_not_allocatable_where_all_is_grown);
    ADD("allocatable-is-exact", test_allocatable_is_exact);
    return g_test_run();
}
