/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Pages that are reserved for a consumer by name: nobody else uses them up. */
#include "world.h"

#include "reserve.h"

#define VM "00000000-0000-0000-0000-0000000000b1"

static HvRoom room_of(const World *world)
{
    HvWorld view = world_view(world);
    return hv_room_of_size(&view, SIZE_2M);
}

static void assert_available(const World *world, guint64 pages)
{
    HvWorld view = world_view(world);
    g_assert_cmpuint(room_of(world).available, ==, pages);
    g_assert_cmpuint(hv_room_on_node(&view, SIZE_2M, 0), ==, pages);
}

/* One node with 1000 pages, of which so many are free. */
static World *one_pool(guint64 free_pages)
{
    World *world = world_new();
    world_pool(world, 0, SIZE_2M, 1000, free_pages);
    return world;
}

static void test_database_does_not_use_up_what_is_reserved_for_ovs(void)
{
    for (int node = -1; node <= 0; node++) {
        g_autoptr(World) world = one_pool(400); /* the database has the rest */
        world_reserve_for(world, "ovs", node, SIZE_2M, 300);
        g_assert_cmpuint(room_of(world).reserved_unused, ==, 300);
        g_assert_cmpuint(room_of(world).available, ==, 100);
    }
}

static void test_pages_of_a_consumer_are_kept_once(void)
{
    static const struct {
        guint64 held, unused;
    } cases[] = {{0, 300}, {1, 299}, {299, 1}, {300, 0}, {500, 0}};
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        for (int node = -1; node <= 0; node++) {
            g_autoptr(World) world = one_pool(400);
            world_reserve_for(world, "ovs", node, SIZE_2M, 300);
            world_consumer(world, "ovs", 0, SIZE_2M, cases[i].held);
            g_assert_cmpuint(room_of(world).reserved_unused, ==, cases[i].unused);
            g_assert_cmpuint(room_of(world).available, ==, 400 - cases[i].unused);
        }
    }
}

static void test_consumer_that_restarts_finds_its_pages(void)
{
    g_autoptr(World) world = one_pool(400);
    world_reserve_for(world, "ovs", 0, SIZE_2M, 300);
    world_consumer(world, "ovs", 0, SIZE_2M, 300);
    assert_available(world, 400);
    HvPool *pool = &g_array_index(world->snapshot->pools, HvPool, 0);
    pool->free_pages += 300; /* it has ended: what VMs may have is what they might before */
    g_ptr_array_set_size(world->snapshot->consumers, 0);
    assert_available(world, 400);
    g_assert_cmpuint(room_of(world).reserved_unused, ==, 300);
}

/* Whoever was seen to hold pages that the pools did not show as used yet. */
static void test_consumer_that_starts_meanwhile_has_nothing_yet(void)
{
    g_autoptr(World) world = one_pool(1000);
    world_reserve_for(world, "ovs", 0, SIZE_2M, 300);
    world_consumer(world, "ovs", 0, SIZE_2M, 300);
    assert_available(world, 700);
}

static void test_several_processes_use_one_reservation(void)
{
    g_autoptr(World) world = one_pool(400);
    world_reserve_for(world, "spdk", 0, SIZE_2M, 300);
    world_consumer(world, "spdk", 0, SIZE_2M, 100);
    world_consumer(world, "spdk", 0, SIZE_2M, 150);
    assert_available(world, 400 - 50);
}

static void test_consumers_do_not_use_each_others_reservations(void)
{
    g_autoptr(World) world = one_pool(400);
    world_reserve_for(world, "ovs", 0, SIZE_2M, 100);
    world_reserve_for(world, "spdk", -1, SIZE_2M, 100);
    world_consumer(world, "ovs", 0, SIZE_2M, 500);
    g_assert_cmpuint(room_of(world).reserved_unused, ==, 100);
    assert_available(world, 300);
}

/* A reservation without a name is for anybody; a consumer with one is provided for. */
static void test_unnamed_reservations_are_used_by_the_others(void)
{
    static const struct {
        guint64 ovs, unused;
    } cases[] = {{0, 300 + 0}, {100, 200 + 0}, {600, 0 + 200}, {550, 0 + 150}};
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(World) world = one_pool(400);
        world_reserve_for(world, "ovs", 0, SIZE_2M, 300);
        world_reserve(world, 0, SIZE_2M, 200);
        world_consumer(world, "ovs", 0, SIZE_2M, cases[i].ovs);
        g_assert_cmpuint(room_of(world).reserved_unused, ==, cases[i].unused);
        assert_available(world, 400 - cases[i].unused);
    }
}

static World *two_pools(void)
{
    World *world = world_new();
    world_pool(world, 0, SIZE_2M, 500, 300);
    world_pool(world, 1, SIZE_2M, 500, 500);
    return world;
}

static void test_pages_on_another_node_are_not_those_reserved_here(void)
{
    g_autoptr(World) world = two_pools();
    HvWorld view = world_view(world);
    world_reserve_for(world, "ovs", 0, SIZE_2M, 200);
    world_reserve_for(world, "ovs", 1, SIZE_2M, 200);
    world_consumer(world, "ovs", 0, SIZE_2M, 200);
    g_assert_cmpuint(room_of(world).reserved_unused, ==, 200);
    g_assert_cmpuint(hv_room_on_node(&view, SIZE_2M, 0), ==, 300);
    g_assert_cmpuint(hv_room_on_node(&view, SIZE_2M, 1), ==, 300);
}

/* Beside a VM whose pages may be anywhere, use of a node can be told by the consumer alone. */
static void test_use_on_a_node_is_known_beside_floating_vms(void)
{
    g_autoptr(World) world = two_pools();
    HvWorld view = world_view(world);
    world_claim(world, VM, HV_CLAIM_RUNNING, ANY, SIZE_2M, 100);
    world_reserve_for(world, "ovs", 0, SIZE_2M, 100);
    g_assert_cmpuint(hv_room_on_node(&view, SIZE_2M, 0), ==, 200);
    world_consumer(world, "ovs", 0, SIZE_2M, 100);
    g_assert_cmpuint(hv_room_on_node(&view, SIZE_2M, 0), ==, 300);
}

static void test_reservations_for_a_node_are_filled_before_floating_ones(void)
{
    g_autoptr(World) world = two_pools();
    world_reserve_for(world, "ovs", -1, SIZE_2M, 100);
    world_reserve_for(world, "ovs", 0, SIZE_2M, 80);
    world_reserve_for(world, "ovs", 0, SIZE_1G, 7);
    world_consumer(world, "ovs", 0, SIZE_2M, 90);
    world_consumer(world, "ovs", 1, SIZE_2M, 20);
    g_autoptr(GArray) uses = hv_reserve_uses(world->settings, world->snapshot, SIZE_2M);
    g_assert_cmpuint(uses->len, ==, 2);
    g_assert_cmpuint(g_array_index(uses, HvReserveUse, 0).used_pages, ==, 10 + 20);
    g_assert_cmpuint(g_array_index(uses, HvReserveUse, 1).used_pages, ==, 80);
    g_assert_cmpuint(room_of(world).reserved_unused, ==, 70);
}

static void test_pages_of_another_size_are_not_those_reserved(void)
{
    g_autoptr(World) world = one_pool(400);
    world_pool(world, 0, SIZE_1G, 8, 4);
    world_reserve_for(world, "ovs", 0, SIZE_2M, 300);
    world_consumer(world, "ovs", 0, SIZE_1G, 4);
    g_assert_cmpuint(room_of(world).reserved_unused, ==, 300);
}

static void test_plan_beside_a_database_and_ovs(void)
{
    static const struct {
        guint64 held, wanted;
        gboolean is_allowed;
    } cases[] = {{0, 100, TRUE}, {0, 101, FALSE}, {256, 356, TRUE}, {256, 357, FALSE}};
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(World) world = one_pool(400);
        world_reserve_for(world, "ovs", 0, SIZE_2M, 300);
        world_consumer(world, "ovs", 0, SIZE_2M, cases[i].held);
        world_need(world, i % 2 == 0 ? ANY : "0", SIZE_2M, cases[i].wanted);
        g_autoptr(HvPlan) plan = world_plan(world);
        if (cases[i].is_allowed)
            assert_allowed(plan, 0);
        else
            assert_refused(plan);
    }
}

/* In all of them what is kept is at least what it was when anybody used up anything. */
static void test_names_never_keep_less(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(20240501);
    static const char *const names[] = {"a", "b"};
    for (guint round = 0; round < 20000; round++) {
        g_autoptr(World) world = world_new();
        for (int node = 0; node <= 1; node++) {
            int total = g_rand_int_range(rand, 0, 20);
            world_pool(world, node, SIZE_2M, (guint64)total,
                       (guint64)g_rand_int_range(rand, 0, total + 1));
        }
        for (int n = g_rand_int_range(rand, 1, 5); n > 0; n--) {
            int node = g_rand_int_range(rand, -1, 3);
            guint64 pages = (guint64)g_rand_int_range(rand, 0, 10);
            if (g_rand_boolean(rand))
                world_reserve(world, node, SIZE_2M, pages);
            else
                world_reserve_for(world, names[g_rand_int_range(rand, 0, 2)], node, SIZE_2M, pages);
        }
        for (int n = g_rand_int_range(rand, 0, 4); n > 0; n--)
            world_consumer(world, names[g_rand_int_range(rand, 0, 2)], g_rand_int_range(rand, 0, 2),
                           SIZE_2M, (guint64)g_rand_int_range(rand, 0, 12));
        HvRoom room = room_of(world);
        g_assert_cmpuint(room.reserved_unused, >=, hv_minus(room.reserved, room.foreign));
        g_assert_cmpuint(room.reserved_unused, <=, room.reserved);
        g_assert_cmpuint(room.available, ==, hv_minus(room.free, room.reserved_unused));
    }
}

static void test_counts_at_the_edge_of_64_bits_do_not_wrap(void)
{
    g_autoptr(World) world = one_pool(400);
    world_reserve_for(world, "ovs", 0, SIZE_2M, G_MAXUINT64);
    world_reserve_for(world, "ovs", -1, SIZE_2M, G_MAXUINT64);
    world_reserve(world, 0, SIZE_2M, G_MAXUINT64);
    world_consumer(world, "ovs", 0, SIZE_2M, G_MAXUINT64);
    world_consumer(world, "ovs", 0, SIZE_2M, 600);
    assert_available(world, 0);
}

#define ADD(name, test) g_test_add_func("/reserve-use/" name, test)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("database-does-not-use-up-what-is-reserved-for-ovs",
        test_database_does_not_use_up_what_is_reserved_for_ovs);
    ADD("pages-of-a-consumer-are-kept-once", test_pages_of_a_consumer_are_kept_once);
    ADD("consumer-that-restarts-finds-its-pages", test_consumer_that_restarts_finds_its_pages);
    ADD("consumer-that-starts-meanwhile-has-nothing-yet",
        test_consumer_that_starts_meanwhile_has_nothing_yet);
    ADD("several-processes-use-one-reservation", test_several_processes_use_one_reservation);
    ADD("consumers-do-not-use-each-others-reservations",
        test_consumers_do_not_use_each_others_reservations);
    ADD("unnamed-reservations-are-used-by-the-others",
        test_unnamed_reservations_are_used_by_the_others);
    ADD("pages-on-another-node-are-not-those-reserved-here",
        test_pages_on_another_node_are_not_those_reserved_here);
    ADD("use-on-a-node-is-known-beside-floating-vms",
        test_use_on_a_node_is_known_beside_floating_vms);
    ADD("reservations-for-a-node-are-filled-before-floating-ones",
        test_reservations_for_a_node_are_filled_before_floating_ones);
    ADD("pages-of-another-size-are-not-those-reserved",
        test_pages_of_another_size_are_not_those_reserved);
    ADD("plan-beside-a-database-and-ovs", test_plan_beside_a_database_and_ovs);
    ADD("names-never-keep-less", test_names_never_keep_less);
    ADD("counts-at-the-edge-of-64-bits-do-not-wrap",
        test_counts_at_the_edge_of_64_bits_do_not_wrap);
    return g_test_run();
}
