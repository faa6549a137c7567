/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Planning a start. What is given back: test-give-back.c. Random worlds: test-planner-random.c. */
#include "world.h"

#include "error.h"

#include <string.h>

#define OTHER "00000000-0000-0000-0000-0000000000b1"

/* One vector of VDSM's allocation: a VM of 4 pages; others are VMs that run. */
typedef struct {
    guint64 reserved, total, free_pages, others;
    gboolean use_preallocated;
    guint64 grown;
} VdsmVector;

static void test_growth_is_vdsms(void)
{
    static const VdsmVector vectors[] = {
        {9, 12, 12, 0, TRUE, 1},
        {4, 8, 4, 4, TRUE, 4},
        {12, 16, 4, 0, TRUE, 0},
        {0, 4, 4, 0, FALSE, 4},
    };
    for (guint i = 0; i < G_N_ELEMENTS(vectors); i++) {
        const VdsmVector *v = &vectors[i];
        g_autoptr(World) world = world_new();
        world_node(world, 0, GIB_KIB);
        world_pool(world, 0, SIZE_2M, v->total, v->free_pages);
        world_allow_growth(world);
        world->settings->use_preallocated_hugepages = v->use_preallocated;
        world_reserve(world, -1, SIZE_2M, v->reserved);
        if (v->others > 0)
            world_claim(world, OTHER, HV_CLAIM_RUNNING, ANY, SIZE_2M, v->others);
        world_need(world, ANY, SIZE_2M, 4);
        g_autoptr(HvPlan) plan = world_plan(world);
        g_test_message("vector %u", i);
        assert_allowed(plan, v->grown > 0 ? 1 : 0);
        if (v->grown > 0)
            assert_grows(plan, 0, 0, SIZE_2M, v->grown);
    }
}

static void test_another_sizes_reserve_and_vms_do_not_matter(void)
{
    g_autoptr(World) world = world_new();
    world_node(world, 0, GIB_KIB);
    world_pool(world, 0, SIZE_2M, 4, 4);
    world_pool(world, 0, SIZE_1G, 4, 0);
    world_allow_growth(world);
    world_reserve(world, -1, SIZE_1G, 4);
    world_claim(world, OTHER, HV_CLAIM_RUNNING, ANY, SIZE_1G, 4);
    world_need(world, ANY, SIZE_2M, 4);
    g_autoptr(HvPlan) plan = world_plan(world);
    assert_allowed(plan, 0);
}

static void test_vm_without_huge_pages_needs_nothing(void)
{
    g_autoptr(World) world = world_new();
    g_autoptr(HvPlan) plan = world_plan(world);
    assert_allowed(plan, 0);
}

/* One node with so many free pages and memory for so many more. */
static World *host(guint64 free_pages, guint64 growable_pages)
{
    World *world = world_new();
    world_node(world, 0, growable_pages * SIZE_2M);
    world_pool(world, 0, SIZE_2M, free_pages, free_pages);
    world_allow_growth(world);
    return world;
}

static void test_free_pages_come_before_growth(void)
{
    g_autoptr(World) world = host(6, 100);
    world_need(world, ANY, SIZE_2M, 10);
    g_autoptr(HvPlan) plan = world_plan(world);
    assert_allowed(plan, 1);
    assert_grows(plan, 0, 0, SIZE_2M, 4);
}

static void test_promised_pages_are_grown_for(void)
{
    g_autoptr(World) world = host(10, 100);
    world_size(world, SIZE_2M)->resv_pages = 7;
    world_need(world, ANY, SIZE_2M, 10);
    g_autoptr(HvPlan) plan = world_plan(world);
    assert_grows(plan, 0, 0, SIZE_2M, 7);
}

static void test_pages_of_a_starting_vm_are_grown_for(void)
{
    g_autoptr(World) world = host(10, 100);
    world_claim(world, OTHER, HV_CLAIM_LAUNCHING, ANY, SIZE_2M, 8);
    world_need(world, ANY, SIZE_2M, 10);
    g_autoptr(HvPlan) plan = world_plan(world);
    assert_grows(plan, 0, 0, SIZE_2M, 8);
}

static void test_pages_of_a_shrinking_pool_are_not_planned_onto(void)
{
    g_autoptr(World) world = host(10, 100);
    world_intent(world, 0, SIZE_2M, 10, 4);
    world_need(world, ANY, SIZE_2M, 10);
    g_autoptr(HvPlan) plan = world_plan(world);
    assert_grows(plan, 0, 0, SIZE_2M, 6);
}

static void test_overcommit_spares_growth(void)
{
    g_autoptr(World) world = host(6, 100);
    world_size(world, SIZE_2M)->overcommit_pages = 4;
    world_need(world, ANY, SIZE_2M, 10);
    g_autoptr(HvPlan) plan = world_plan(world);
    assert_allowed(plan, 0);
}

static void test_whole_need_is_grown_without_preallocated_pages(void)
{
    g_autoptr(World) world = host(50, 100);
    world->settings->use_preallocated_hugepages = FALSE;
    world_need(world, ANY, SIZE_2M, 10);
    g_autoptr(HvPlan) plan = world_plan(world);
    assert_grows(plan, 0, 0, SIZE_2M, 10);
}

static void test_free_pages_are_used_where_both_keys_are_off(void)
{
    g_autoptr(World) world = host(10, 100);
    world->settings->use_dynamic_hugepages = FALSE;
    world->settings->use_preallocated_hugepages = FALSE;
    world_need(world, ANY, SIZE_2M, 10);
    g_autoptr(HvPlan) plan = world_plan(world);
    assert_allowed(plan, 0);
}

static void test_nothing_is_grown_where_dynamic_allocation_is_off(void)
{
    g_autoptr(World) world = host(9, 100);
    world->settings->use_dynamic_hugepages = FALSE;
    world_need(world, ANY, SIZE_2M, 10);
    g_autoptr(HvPlan) plan = world_plan(world);
    assert_refused(plan);
}

static void assert_contains(const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        g_error("'%s' does not say '%s'", text, part);
}

static void test_refusal_says_what_lacks_and_what_to_do(void)
{
    g_autoptr(World) world = host(9, 100);
    world->settings->use_dynamic_hugepages = FALSE;
    world_reserve(world, -1, SIZE_2M, 2);
    world_claim(world, OTHER, HV_CLAIM_CLAIMED, ANY, SIZE_2M, 3);
    world_need(world, ANY, SIZE_2M, 10);
    g_autoptr(HvPlan) plan = world_plan(world);
    assert_refused(plan);
    static const char *const parts[] = {"'vm'",
                                        "wants 10 pages",
                                        "2 MiB",
                                        "on any node",
                                        "4 available",
                                        "pool of 9",
                                        "9 free",
                                        "3 claimed by VMs that are starting",
                                        "2 reserved",
                                        "6 short",
                                        "dynamic allocation is off"};
    for (guint i = 0; i < G_N_ELEMENTS(parts); i++)
        assert_contains(plan->refusal->message, parts[i]);
    assert_contains(plan->refusal->hint, "use_dynamic_hugepages = true");
    assert_contains(plan->refusal->hint, "add 6 pages");
    assert_contains(plan->refusal->hint, "hugepages-2048kB/nr_hugepages");
}

static void test_refusal_names_the_node_of_a_bound_need(void)
{
    g_autoptr(World) world = host(0, 0);
    world->settings->floor_node_percent = 5;
    world_need(world, "0", SIZE_2M, 1);
    g_autoptr(HvPlan) plan = world_plan(world);
    assert_refused(plan);
    assert_contains(plan->refusal->message, "on node 0");
    assert_contains(plan->refusal->message, "no room to add them");
    assert_contains(plan->refusal->hint, "host_memory_floor");
}

static void test_refusal_quotes_the_vms_name(void)
{
    g_autoptr(World) world = host(0, 0);
    g_free(world->request->name);
    world->request->name = g_strdup("a\nb\x1b[31m");
    world_need(world, ANY, SIZE_2M, 1);
    g_autoptr(HvPlan) plan = world_plan(world);
    assert_contains(plan->refusal->message, "'a\\x0ab\\x1b[31m'");
}

static void test_request_that_is_refused_already_takes_nothing(void)
{
    g_autoptr(World) world = host(0, 100);
    world_need(world, ANY, SIZE_2M, 1);
    world->request->refusal = hv_refusal_new(HV_ERROR_XML, "hint", "100%% no");
    g_autoptr(HvPlan) plan = world_plan(world);
    g_assert_cmpint(plan->refusal->code, ==, HV_ERROR_XML);
    g_assert_cmpstr(plan->refusal->message, ==, "100% no");
    g_assert_cmpstr(plan->refusal->hint, ==, "hint");
    g_assert_cmpuint(plan->steps->len, ==, 0);
}

static void test_growth_ends_at_the_host_floor(void)
{
    g_autoptr(World) world = host(0, 100);
    world->settings->floor_host_kib = 91 * SIZE_2M;
    world_need(world, ANY, SIZE_2M, 9);
    g_autoptr(HvPlan) fits = world_plan(world);
    assert_allowed(fits, 1);
    world_need(world, ANY, SIZE_2M, 1);
    g_autoptr(HvPlan) too_much = world_plan(world);
    assert_refused(too_much);
}

/* Two VMs that start at once must not both be planned onto the same memory. */
static void test_growth_under_way_for_another_vm_takes_its_memory(void)
{
    static const char *const nodes[] = {ANY, "0"};
    for (guint i = 0; i < G_N_ELEMENTS(nodes); i++) {
        g_autoptr(World) world = host(0, 100);
        world->settings->floor_host_kib = 0;
        world_claim(world, OTHER, HV_CLAIM_CLAIMED, nodes[i], SIZE_2M, 60);
        world_need(world, nodes[i], SIZE_2M, 41);
        g_autoptr(HvPlan) too_much = world_plan(world);
        assert_refused(too_much);
        g_autoptr(World) smaller = host(0, 100);
        smaller->settings->floor_host_kib = 0;
        world_claim(smaller, OTHER, HV_CLAIM_CLAIMED, nodes[i], SIZE_2M, 60);
        world_need(smaller, nodes[i], SIZE_2M, 40);
        g_autoptr(HvPlan) fits = world_plan(smaller);
        assert_allowed(fits, 1);
    }
}

static void test_growth_ends_at_the_node_floor(void)
{
    g_autoptr(World) world = host(0, 100);
    world->settings->floor_node_percent = 10;
    world_need(world, ANY, SIZE_2M, 90);
    g_autoptr(HvPlan) fits = world_plan(world);
    assert_allowed(fits, 1);
    world_need(world, ANY, SIZE_2M, 1);
    g_autoptr(HvPlan) too_much = world_plan(world);
    assert_refused(too_much);
}

static void test_host_floor_counts_growth_on_all_nodes(void)
{
    g_autoptr(World) world = host(0, 100);
    world_node(world, 1, 100 * SIZE_2M);
    world_pool(world, 1, SIZE_2M, 0, 0);
    world->settings->floor_host_kib = 150 * SIZE_2M; /* of 200: 50 may go */
    world_need(world, "0", SIZE_2M, 30);
    world_need(world, "1", SIZE_2M, 21);
    g_autoptr(HvPlan) plan = world_plan(world);
    assert_refused(plan);
    assert_contains(plan->refusal->message, "1 short");
}

/* Three nodes that could grow 10, 30 and 20 pages. */
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

static void test_unbound_growth_goes_to_the_roomiest_node(void)
{
    g_autoptr(World) world = uneven_host();
    world_need(world, ANY, SIZE_2M, 30);
    g_autoptr(HvPlan) plan = world_plan(world);
    assert_allowed(plan, 1);
    assert_grows(plan, 0, 1, SIZE_2M, 30);
}

static void test_unbound_growth_uses_few_nodes(void)
{
    g_autoptr(World) world = uneven_host();
    world_need(world, ANY, SIZE_2M, 45);
    g_autoptr(HvPlan) plan = world_plan(world);
    assert_allowed(plan, 2);
    assert_grows(plan, 0, 1, SIZE_2M, 30);
    assert_grows(plan, 1, 2, SIZE_2M, 15);
}

static void test_bound_need_grows_on_its_own_node(void)
{
    g_autoptr(World) world = uneven_host();
    world_need(world, "0", SIZE_2M, 10);
    g_autoptr(HvPlan) plan = world_plan(world);
    assert_allowed(plan, 1);
    assert_grows(plan, 0, 0, SIZE_2M, 10);
    world_need(world, "0", SIZE_2M, 1);
    g_autoptr(HvPlan) too_much = world_plan(world);
    assert_refused(too_much);
}

static void test_free_pages_elsewhere_do_not_serve_a_bound_need(void)
{
    g_autoptr(World) world = host(0, 0);
    world_pool(world, 1, SIZE_2M, 50, 50);
    world_need(world, "0", SIZE_2M, 1);
    g_autoptr(HvPlan) plan = world_plan(world);
    assert_refused(plan);
}

static void test_bound_need_leaves_room_for_the_floating_one(void)
{
    g_autoptr(World) world = host(10, 100);
    world_pool(world, 1, SIZE_2M, 10, 10);
    world_need(world, ANY, SIZE_2M, 8);
    world_need(world, "0", SIZE_2M, 10);
    g_autoptr(HvPlan) plan = world_plan(world);
    assert_allowed(plan, 1);
    assert_grows(plan, 0, 0, SIZE_2M, 8); /* the floating 8 may all land on node 0 */
}

static void test_two_needs_of_one_node_share_its_pages(void)
{
    g_autoptr(World) world = host(10, 100);
    world_need(world, "0", SIZE_2M, 6);
    world_need(world, "0", SIZE_2M, 6);
    g_autoptr(HvPlan) plan = world_plan(world);
    assert_allowed(plan, 1);
    assert_grows(plan, 0, 0, SIZE_2M, 2);
}

static void test_needs_of_two_nodes_are_served_apart(void)
{
    g_autoptr(World) world = uneven_host();
    g_array_index(world->snapshot->pools, HvPool, 1).free_pages = 5;
    world_need(world, "0", SIZE_2M, 3);
    world_need(world, "1", SIZE_2M, 7);
    g_autoptr(HvPlan) plan = world_plan(world);
    assert_allowed(plan, 2);
    assert_grows(plan, 0, 0, SIZE_2M, 3);
    assert_grows(plan, 1, 1, SIZE_2M, 2);
}

static void test_node_set_grows_on_its_roomiest_member(void)
{
    g_autoptr(World) world = uneven_host();
    world_need(world, "0,2", SIZE_2M, 25);
    g_autoptr(HvPlan) plan = world_plan(world);
    assert_allowed(plan, 2);
    assert_grows(plan, 0, 2, SIZE_2M, 20);
    assert_grows(plan, 1, 0, SIZE_2M, 5);
    world_need(world, "0,2", SIZE_2M, 6);
    g_autoptr(HvPlan) too_much = world_plan(world);
    assert_refused(too_much);
    assert_contains(too_much->refusal->message, "on nodes 0,2");
}

static void test_node_set_uses_free_pages_of_all_members(void)
{
    g_autoptr(World) world = uneven_host();
    for (guint i = 0; i < 3; i++) {
        HvPool *pool = &g_array_index(world->snapshot->pools, HvPool, i);
        pool->free_pages = pool->total_pages = 4;
    }
    world_need(world, "0,2", SIZE_2M, 8);
    g_autoptr(HvPlan) plan = world_plan(world);
    assert_allowed(plan, 0);
}

static void test_larger_pages_are_grown_first(void)
{
    g_autoptr(World) world = world_new();
    world_node(world, 0, 10 * GIB_KIB);
    world_pool(world, 0, SIZE_2M, 0, 0);
    world_pool(world, 0, SIZE_1G, 0, 0);
    world_allow_growth(world);
    world_need(world, "0", SIZE_2M, 512);
    world_need(world, ANY, SIZE_1G, 2);
    g_autoptr(HvPlan) plan = world_plan(world);
    assert_allowed(plan, 2);
    assert_grows(plan, 0, 0, SIZE_1G, 2);
    assert_grows(plan, 1, 0, SIZE_2M, 512);
}

static void test_sizes_share_the_memory_they_grow_from(void)
{
    g_autoptr(World) world = world_new();
    world_node(world, 0, 3 * GIB_KIB);
    world_pool(world, 0, SIZE_2M, 0, 0);
    world_pool(world, 0, SIZE_1G, 0, 0);
    world_allow_growth(world);
    world_need(world, ANY, SIZE_1G, 2);
    world_need(world, ANY, SIZE_2M, 513);
    g_autoptr(HvPlan) plan = world_plan(world);
    assert_refused(plan);
    assert_contains(plan->refusal->message, "1 short");
}

static void test_shortage_of_one_size_takes_nothing_of_the_other(void)
{
    g_autoptr(World) world = host(0, 1000);
    world_pool(world, 0, SIZE_1G, 0, 0);
    world_need(world, ANY, SIZE_1G, 1);
    world_need(world, ANY, SIZE_2M, 900);
    g_autoptr(HvPlan) plan = world_plan(world);
    assert_refused(plan);
}

static void test_size_that_the_host_lacks_is_refused(void)
{
    g_autoptr(World) world = host(10, 100);
    world_need(world, ANY, 64, 1);
    g_autoptr(HvPlan) plan = world_plan(world);
    assert_refused(plan);
    assert_contains(plan->refusal->message, "64 KiB");
}

static void test_node_without_memory_gives_nothing(void)
{
    g_autoptr(World) world = host(0, 100);
    HvNode empty = {.id = 1};
    g_array_append_val(world->snapshot->nodes, empty);
    world_need(world, "1", SIZE_2M, 1);
    g_autoptr(HvPlan) bound = world_plan(world);
    assert_refused(bound);
    g_array_set_size(world->request->needs, 0);
    world_need(world, "0-1", SIZE_2M, 10);
    g_autoptr(HvPlan) either = world_plan(world);
    assert_grows(either, 0, 0, SIZE_2M, 10);
}

static void test_node_with_memory_but_no_pool_is_not_grown(void)
{
    g_autoptr(World) world = host(0, 5);
    world_node(world, 1, 100 * SIZE_2M);
    world_need(world, ANY, SIZE_2M, 6);
    g_autoptr(HvPlan) plan = world_plan(world);
    assert_refused(plan);
}

static void test_node_that_does_not_exist_is_refused(void)
{
    g_autoptr(World) world = host(10, 100);
    world_need(world, "9", SIZE_2M, 1);
    g_autoptr(HvPlan) plan = world_plan(world);
    assert_refused(plan);
}

#define ADD(name, function) g_test_add_func("/planner/" name, function)

static void add_tests_of_nodes(void)
{
    ADD("host-floor-counts-growth-on-all-nodes", test_host_floor_counts_growth_on_all_nodes);
    ADD("unbound-growth-goes-to-the-roomiest-node", test_unbound_growth_goes_to_the_roomiest_node);
    ADD("unbound-growth-uses-few-nodes", test_unbound_growth_uses_few_nodes);
    ADD("bound-need-grows-on-its-own-node", test_bound_need_grows_on_its_own_node);
    ADD("free-pages-elsewhere-do-not-serve-a-bound-need",
        test_free_pages_elsewhere_do_not_serve_a_bound_need);
    ADD("bound-need-leaves-room-for-the-floating-one",
        test_bound_need_leaves_room_for_the_floating_one);
    ADD("two-needs-of-one-node-share-its-pages", test_two_needs_of_one_node_share_its_pages);
    ADD("needs-of-two-nodes-are-served-apart", test_needs_of_two_nodes_are_served_apart);
    ADD("node-set-grows-on-its-roomiest-member", test_node_set_grows_on_its_roomiest_member);
    ADD("node-set-uses-free-pages-of-all-members", test_node_set_uses_free_pages_of_all_members);
    ADD("node-without-memory-gives-nothing", test_node_without_memory_gives_nothing);
    ADD("node-with-memory-but-no-pool-is-not-grown",
        test_node_with_memory_but_no_pool_is_not_grown);
    ADD("node-that-does-not-exist-is-refused", test_node_that_does_not_exist_is_refused);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("growth-is-vdsms", test_growth_is_vdsms);
    ADD("another-sizes-reserve-and-vms-do-not-matter",
        test_another_sizes_reserve_and_vms_do_not_matter);
    ADD("vm-without-huge-pages-needs-nothing", test_vm_without_huge_pages_needs_nothing);
    ADD("free-pages-come-before-growth", test_free_pages_come_before_growth);
    ADD("promised-pages-are-grown-for", test_promised_pages_are_grown_for);
    ADD("pages-of-a-starting-vm-are-grown-for", test_pages_of_a_starting_vm_are_grown_for);
    ADD("pages-of-a-shrinking-pool-are-not-planned-onto",
        test_pages_of_a_shrinking_pool_are_not_planned_onto);
    ADD("overcommit-spares-growth", test_overcommit_spares_growth);
    ADD("whole-need-is-grown-without-preallocated-pages",
        test_whole_need_is_grown_without_preallocated_pages);
    ADD("free-pages-are-used-where-both-keys-are-off",
        test_free_pages_are_used_where_both_keys_are_off);
    ADD("nothing-is-grown-where-dynamic-allocation-is-off",
        test_nothing_is_grown_where_dynamic_allocation_is_off);
    ADD("refusal-says-what-lacks-and-what-to-do", test_refusal_says_what_lacks_and_what_to_do);
    ADD("refusal-names-the-node-of-a-bound-need", test_refusal_names_the_node_of_a_bound_need);
    ADD("refusal-quotes-the-vms-name", test_refusal_quotes_the_vms_name);
    ADD("request-that-is-refused-already-takes-nothing",
        test_request_that_is_refused_already_takes_nothing);
    ADD("growth-ends-at-the-host-floor", test_growth_ends_at_the_host_floor);
    ADD("growth-under-way-for-another-vm-takes-its-memory",
        test_growth_under_way_for_another_vm_takes_its_memory);
    ADD("growth-ends-at-the-node-floor", test_growth_ends_at_the_node_floor);
    ADD("larger-pages-are-grown-first", test_larger_pages_are_grown_first);
    ADD("sizes-share-the-memory-they-grow-from", test_sizes_share_the_memory_they_grow_from);
    ADD("shortage-of-one-size-takes-nothing-of-the-other",
        test_shortage_of_one_size_takes_nothing_of_the_other);
    ADD("size-that-the-host-lacks-is-refused", test_size_that_the_host_lacks_is_refused);
    add_tests_of_nodes();
    return g_test_run();
}
