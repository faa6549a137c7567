/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "world.h"

#define OTHER "00000000-0000-0000-0000-0000000000b1"
#define THIRD "00000000-0000-0000-0000-0000000000b2"
#define SELF "00000000-0000-0000-0000-00000000000a"

static HvRoom room_of(const World *world, guint64 size_kib)
{
    HvWorld view = world_view(world);
    return hv_room_of_size(&view, size_kib);
}

static guint64 available(const World *world)
{
    return room_of(world, SIZE_2M).available;
}

static guint64 available_on(const World *world, int node)
{
    HvWorld view = world_view(world);
    return hv_room_on_node(&view, SIZE_2M, node);
}

/* One node with 100 pages, of which so many are free. */
static World *one_pool(guint64 free_pages)
{
    World *world = world_new();
    world_pool(world, 0, SIZE_2M, 100, free_pages);
    return world;
}

static void test_all_free_pages_of_an_idle_pool_are_available(void)
{
    g_autoptr(World) world = one_pool(100);
    HvRoom room = room_of(world, SIZE_2M);
    g_assert_cmpuint(room.total, ==, 100);
    g_assert_cmpuint(room.in_use, ==, 0);
    g_assert_cmpuint(room.foreign, ==, 0);
    g_assert_cmpuint(room.available, ==, 100);
    g_assert_cmpuint(available_on(world, 0), ==, 100);
}

static void test_size_without_pools_has_nothing(void)
{
    g_autoptr(World) world = one_pool(100);
    HvRoom room = room_of(world, SIZE_1G);
    HvRoom none = {0};
    g_assert_cmpmem(&room, sizeof room, &none, sizeof none);
}

static void test_sizes_do_not_mix(void)
{
    g_autoptr(World) world = one_pool(100);
    world_pool(world, 0, SIZE_1G, 8, 8);
    world_size(world, SIZE_1G)->resv_pages = 3;
    world_claim(world, OTHER, HV_CLAIM_CLAIMED, ANY, SIZE_1G, 2);
    world_reserve(world, -1, SIZE_1G, 1);
    g_assert_cmpuint(available(world), ==, 100);
    HvRoom gib = room_of(world, SIZE_1G);
    g_assert_cmpuint(gib.foreign, ==, 3);
    g_assert_cmpuint(gib.available, ==, 8 - 3 - 2); /* the reserved one is in use: foreign */
}

static void test_pages_promised_by_mmap_are_not_available(void)
{
    g_autoptr(World) world = one_pool(40);
    world_size(world, SIZE_2M)->resv_pages = 15;
    HvRoom room = room_of(world, SIZE_2M);
    g_assert_cmpuint(room.available, ==, 25);
    g_assert_cmpuint(room.foreign, ==, 60 + 15);
    world_size(world, SIZE_2M)->resv_pages = 41;
    g_assert_cmpuint(available(world), ==, 0);
}

static void test_reserved_pages_are_kept_until_their_user_takes_them(void)
{
    static const struct {
        guint64 free_pages, reserved, unused, available;
    } cases[] = {
        {100, 0, 0, 100}, {100, 30, 30, 70},  {90, 30, 20, 70},  {70, 30, 0, 70},
        {50, 30, 0, 50},  {100, 101, 101, 0}, {10, 200, 110, 0}, {0, 30, 0, 0},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        for (int node = -1; node <= 0; node++) {
            g_autoptr(World) world = one_pool(cases[i].free_pages);
            world_reserve(world, node, SIZE_2M, cases[i].reserved);
            HvRoom room = room_of(world, SIZE_2M);
            g_assert_cmpuint(room.reserved_unused, ==, cases[i].unused);
            g_assert_cmpuint(room.available, ==, cases[i].available);
        }
    }
}

static void test_promised_pages_count_as_use_of_reserved_ones(void)
{
    g_autoptr(World) world = one_pool(100);
    world_reserve(world, -1, SIZE_2M, 30);
    world_size(world, SIZE_2M)->resv_pages = 30; /* the consumer has mapped, not yet touched */
    g_assert_cmpuint(available(world), ==, 70);
}

static void test_vms_do_not_use_up_what_is_reserved_for_others(void)
{
    g_autoptr(World) world = one_pool(60);
    world_claim(world, OTHER, HV_CLAIM_RUNNING, ANY, SIZE_2M, 40);
    world_reserve(world, -1, SIZE_2M, 30);
    HvRoom room = room_of(world, SIZE_2M);
    g_assert_cmpuint(room.held, ==, 40);
    g_assert_cmpuint(room.foreign, ==, 0);
    g_assert_cmpuint(room.available, ==, 30);
}

static void test_claims_not_yet_mapped_are_exposed(void)
{
    static const HvClaimState states[] = {HV_CLAIM_CLAIMED, HV_CLAIM_LAUNCHING};
    for (guint i = 0; i < G_N_ELEMENTS(states); i++) {
        g_autoptr(World) world = one_pool(100);
        world_claim(world, OTHER, states[i], ANY, SIZE_2M, 30);
        world_claim(world, THIRD, states[i], "0", SIZE_2M, 20);
        HvRoom room = room_of(world, SIZE_2M);
        g_assert_cmpuint(room.exposed, ==, 50);
        g_assert_cmpuint(room.held, ==, 0);
        g_assert_cmpuint(room.available, ==, 50);
        g_assert_cmpuint(available_on(world, 0), ==, 50);
    }
}

/* The kernel's resv has them already: counted once, and not as use by others. */
static void test_guarded_pages_are_counted_once(void)
{
    static const HvClaimState states[] = {HV_CLAIM_GUARDED, HV_CLAIM_MOUNTED};
    for (guint i = 0; i < G_N_ELEMENTS(states); i++) {
        g_autoptr(World) world = one_pool(100);
        world_reserve(world, -1, SIZE_2M, 10);
        world_claim(world, OTHER, states[i], "0", SIZE_2M, 30);
        world_size(world, SIZE_2M)->resv_pages = 30;
        HvRoom room = room_of(world, SIZE_2M);
        g_assert_cmpuint(room.exposed, ==, 0);
        g_assert_cmpuint(room.held, ==, 30);
        g_assert_cmpuint(room.foreign, ==, 0);
        g_assert_cmpuint(room.available, ==, 60);
        g_assert_cmpuint(available_on(world, 0), ==, 60);
    }
}

/* Of one node the kernel keeps no promise: what may land there is subtracted. */
static void test_guarded_pages_are_kept_free_on_their_node(void)
{
    g_autoptr(World) world = one_pool(20);
    world_pool(world, 1, SIZE_2M, 20, 20);
    world_claim(world, OTHER, HV_CLAIM_GUARDED, "0", SIZE_2M, 15);
    world_claim(world, THIRD, HV_CLAIM_MOUNTED, ANY, SIZE_2M, 2);
    world_size(world, SIZE_2M)->resv_pages = 17;
    g_assert_cmpuint(available_on(world, 0), ==, 3);
    g_assert_cmpuint(available_on(world, 1), ==, 18);
}

static void test_pages_of_a_drained_vm_are_not_foreign(void)
{
    g_autoptr(World) world = one_pool(60);
    world_claim(world, OTHER, HV_CLAIM_DRAINING, ANY, SIZE_2M, 40);
    world_reserve(world, -1, SIZE_2M, 30);
    g_assert_cmpuint(room_of(world, SIZE_2M).foreign, ==, 0);
    g_assert_cmpuint(available(world), ==, 30);
}

static void test_own_claim_does_not_count(void)
{
    g_autoptr(World) world = one_pool(100);
    world_claim(world, SELF, HV_CLAIM_CLAIMED, ANY, SIZE_2M, 30);
    g_assert_cmpuint(available(world), ==, 100);
    HvWorld all = world_view(world);
    all.self_uuid = NULL;
    g_assert_cmpuint(hv_room_of_size(&all, SIZE_2M).available, ==, 70);
}

static void test_more_exposed_than_free_leaves_nothing(void)
{
    g_autoptr(World) world = one_pool(20);
    world_claim(world, OTHER, HV_CLAIM_CLAIMED, ANY, SIZE_2M, 30);
    g_assert_cmpuint(available(world), ==, 0);
    g_assert_cmpuint(available_on(world, 0), ==, 0);
}

static void test_overcommit_adds_what_the_kernel_would_add(void)
{
    static const struct {
        guint64 overcommit, surplus, free_pages, available;
    } cases[] = {
        {0, 0, 10, 10}, {5, 0, 10, 15}, {5, 3, 10, 12},
        {5, 5, 10, 10}, {5, 9, 10, 10}, {7, 0, 0, 7},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(World) world = one_pool(cases[i].free_pages);
        world_size(world, SIZE_2M)->overcommit_pages = cases[i].overcommit;
        g_array_index(world->snapshot->pools, HvPool, 0).surplus_pages = cases[i].surplus;
        g_assert_cmpuint(available(world), ==, cases[i].available);
    }
}

static void test_unlimited_overcommit_does_not_wrap(void)
{
    g_autoptr(World) world = one_pool(10);
    world_size(world, SIZE_2M)->overcommit_pages = G_MAXUINT64; /* the kernel takes that */
    g_assert_cmpuint(available(world), >=, 10);
}

static void test_overcommit_is_no_promise_for_one_node(void)
{
    g_autoptr(World) world = one_pool(10);
    world_size(world, SIZE_2M)->overcommit_pages = 50;
    g_assert_cmpuint(available_on(world, 0), ==, 10);
}

static void test_pages_about_to_be_given_back_are_not_free(void)
{
    g_autoptr(World) world = one_pool(100);
    world_intent(world, 0, SIZE_2M, 100, 70);
    g_assert_cmpuint(room_of(world, SIZE_2M).free, ==, 70);
    g_assert_cmpuint(available(world), ==, 70);
    g_assert_cmpuint(available_on(world, 0), ==, 70);
}

static void test_shrink_that_is_done_in_part_takes_only_the_rest(void)
{
    g_autoptr(World) world = world_new();
    world_pool(world, 0, SIZE_2M, 80, 80); /* 100 when it was announced */
    world_intent(world, 0, SIZE_2M, 100, 70);
    g_assert_cmpuint(available(world), ==, 70);
}

static void test_growth_under_way_takes_nothing(void)
{
    g_autoptr(World) world = one_pool(100);
    world_intent(world, 0, SIZE_2M, 100, 130);
    g_assert_cmpuint(available(world), ==, 100);
}

static void test_node_has_no_more_than_the_size_has(void)
{
    g_autoptr(World) world = one_pool(100);
    world_pool(world, 1, SIZE_2M, 50, 50);
    world_size(world, SIZE_2M)->resv_pages = 80; /* on which node, nobody knows */
    g_assert_cmpuint(available(world), ==, 70);
    g_assert_cmpuint(available_on(world, 0), ==, 70);
    g_assert_cmpuint(available_on(world, 1), ==, 50);
}

static void test_node_without_pool_has_nothing(void)
{
    g_autoptr(World) world = one_pool(100);
    world_node(world, 1, GIB_KIB);
    g_assert_cmpuint(available_on(world, 1), ==, 0);
    g_assert_cmpuint(available_on(world, 7), ==, 0);
}

static void test_bound_claims_burden_their_own_node_only(void)
{
    g_autoptr(World) world = one_pool(100);
    world_pool(world, 1, SIZE_2M, 100, 100);
    world_claim(world, OTHER, HV_CLAIM_CLAIMED, "1", SIZE_2M, 40);
    g_assert_cmpuint(available_on(world, 0), ==, 100);
    g_assert_cmpuint(available_on(world, 1), ==, 60);
}

static void test_floating_claims_burden_every_node(void)
{
    g_autoptr(World) world = one_pool(100);
    world_pool(world, 1, SIZE_2M, 100, 100);
    world_claim(world, OTHER, HV_CLAIM_CLAIMED, ANY, SIZE_2M, 40);
    world_claim(world, OTHER, HV_CLAIM_CLAIMED, "0-1", SIZE_2M, 10);
    g_assert_cmpuint(available(world), ==, 150);
    g_assert_cmpuint(available_on(world, 0), ==, 50);
    g_assert_cmpuint(available_on(world, 1), ==, 50);
}

static void test_reserved_on_one_node_is_kept_there(void)
{
    g_autoptr(World) world = one_pool(100);
    world_pool(world, 1, SIZE_2M, 100, 100);
    world_reserve(world, 1, SIZE_2M, 30);
    g_assert_cmpuint(available(world), ==, 170);
    g_assert_cmpuint(available_on(world, 0), ==, 100);
    g_assert_cmpuint(available_on(world, 1), ==, 70);
}

static void test_foreign_use_elsewhere_does_not_free_a_nodes_reserve(void)
{
    g_autoptr(World) world = one_pool(40); /* 60 used by others, on node 0 */
    world_pool(world, 1, SIZE_2M, 100, 100);
    world_reserve(world, 1, SIZE_2M, 30);
    g_assert_cmpuint(available_on(world, 1), ==, 70);
}

static void test_running_vm_on_a_node_is_no_foreign_user_there(void)
{
    g_autoptr(World) world = one_pool(60);
    world_claim(world, OTHER, HV_CLAIM_RUNNING, "0", SIZE_2M, 40);
    world_reserve(world, 0, SIZE_2M, 30);
    g_assert_cmpuint(available_on(world, 0), ==, 30);
}

static void test_growable_memory_keeps_the_nodes_floor(void)
{
    static const struct {
        guint64 total, free_kib, reclaimable, low;
        guint percent;
        guint64 growable;
    } cases[] = {
        {1000, 600, 0, 0, 0, 600}, {1000, 600, 0, 0, 5, 550},  {1000, 600, 100, 50, 5, 600},
        {1000, 40, 0, 0, 5, 0},    {1000, 100, 0, 100, 0, 0},  {1000, 600, 0, 0, 100, 0},
        {0, 0, 0, 0, 5, 0},        {1000, 1000, 0, 0, 100, 0},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(World) world = world_new();
        HvNode *node = world_node(world, 0, cases[i].free_kib);
        node->mem_total_kib = cases[i].total;
        node->reclaimable_kib = cases[i].reclaimable;
        node->low_watermark_kib = cases[i].low;
        world->settings->floor_node_percent = cases[i].percent;
        HvWorld view = world_view(world);
        g_assert_cmpuint(hv_room_growable_on_node_kib(&view, 0), ==, cases[i].growable);
    }
}

static void test_growable_memory_keeps_the_hosts_floor(void)
{
    g_autoptr(World) world = world_new();
    world_node(world, 0, 3 * GIB_KIB);
    world->settings->floor_host_kib = 2 * GIB_KIB;
    HvWorld view = world_view(world);
    g_assert_cmpuint(hv_room_growable_on_host_kib(&view), ==, GIB_KIB);
    world->snapshot->mem_available_kib = GIB_KIB;
    g_assert_cmpuint(hv_room_growable_on_host_kib(&view), ==, 0);
}

static void test_absent_node_can_give_no_memory(void)
{
    g_autoptr(World) world = world_new();
    HvWorld view = world_view(world);
    g_assert_cmpuint(hv_room_growable_on_node_kib(&view, 3), ==, 0);
}

/* A ledger that claims more than there can be must not look like one that claims nothing. */
static void test_sums_of_claims_do_not_wrap(void)
{
    g_autoptr(World) world = one_pool(100);
    world_claim(world, OTHER, HV_CLAIM_CLAIMED, ANY, SIZE_2M, (guint64)1 << 63);
    world_claim(world, THIRD, HV_CLAIM_CLAIMED, ANY, SIZE_2M, (guint64)1 << 63);
    g_assert_cmpuint(available(world), ==, 0);
    g_assert_cmpuint(available_on(world, 0), ==, 0);
}

#define ADD(name, function) g_test_add_func("/room/" name, function)

static void add_tests_of_nodes(void)
{
    ADD("overcommit-is-no-promise-for-one-node", test_overcommit_is_no_promise_for_one_node);
    ADD("node-has-no-more-than-the-size-has", test_node_has_no_more_than_the_size_has);
    ADD("node-without-pool-has-nothing", test_node_without_pool_has_nothing);
    ADD("bound-claims-burden-their-own-node-only", test_bound_claims_burden_their_own_node_only);
    ADD("floating-claims-burden-every-node", test_floating_claims_burden_every_node);
    ADD("reserved-on-one-node-is-kept-there", test_reserved_on_one_node_is_kept_there);
    ADD("foreign-use-elsewhere-does-not-free-a-nodes-reserve",
        test_foreign_use_elsewhere_does_not_free_a_nodes_reserve);
    ADD("running-vm-on-a-node-is-no-foreign-user-there",
        test_running_vm_on_a_node_is_no_foreign_user_there);
    ADD("growable-memory-keeps-the-nodes-floor", test_growable_memory_keeps_the_nodes_floor);
    ADD("growable-memory-keeps-the-hosts-floor", test_growable_memory_keeps_the_hosts_floor);
    ADD("absent-node-can-give-no-memory", test_absent_node_can_give_no_memory);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("all-free-pages-of-an-idle-pool-are-available",
        test_all_free_pages_of_an_idle_pool_are_available);
    ADD("size-without-pools-has-nothing", test_size_without_pools_has_nothing);
    ADD("sizes-do-not-mix", test_sizes_do_not_mix);
    ADD("pages-promised-by-mmap-are-not-available", test_pages_promised_by_mmap_are_not_available);
    ADD("reserved-pages-are-kept-until-their-user-takes-them",
        test_reserved_pages_are_kept_until_their_user_takes_them);
    ADD("promised-pages-count-as-use-of-reserved-ones",
        test_promised_pages_count_as_use_of_reserved_ones);
    ADD("vms-do-not-use-up-what-is-reserved-for-others",
        test_vms_do_not_use_up_what_is_reserved_for_others);
    ADD("claims-not-yet-mapped-are-exposed", test_claims_not_yet_mapped_are_exposed);
    ADD("guarded-pages-are-counted-once", test_guarded_pages_are_counted_once);
    ADD("guarded-pages-are-kept-free-on-their-node",
        test_guarded_pages_are_kept_free_on_their_node);
    ADD("pages-of-a-drained-vm-are-not-foreign", test_pages_of_a_drained_vm_are_not_foreign);
    ADD("own-claim-does-not-count", test_own_claim_does_not_count);
    ADD("more-exposed-than-free-leaves-nothing", test_more_exposed_than_free_leaves_nothing);
    ADD("overcommit-adds-what-the-kernel-would-add",
        test_overcommit_adds_what_the_kernel_would_add);
    ADD("pages-about-to-be-given-back-are-not-free",
        test_pages_about_to_be_given_back_are_not_free);
    ADD("shrink-that-is-done-in-part-takes-only-the-rest",
        test_shrink_that_is_done_in_part_takes_only_the_rest);
    ADD("growth-under-way-takes-nothing", test_growth_under_way_takes_nothing);
    add_tests_of_nodes();
    ADD("unlimited-overcommit-does-not-wrap", test_unlimited_overcommit_does_not_wrap);
    ADD("sums-of-claims-do-not-wrap", test_sums_of_claims_do_not_wrap);
    return g_test_run();
}
