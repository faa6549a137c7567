/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is likely to be had, by how free memory lies. */
#include "world.h"

#include "forecast.h"
#include "zones.h"

#include <string.h>

#define ORDER_2M 9
#define N_ORDERS 11

/* One node of 4 GiB, all free as far as its counters tell; how it lies is for each test to say. */
static World *host(void)
{
    World *world = world_new();
    world->snapshot->base_page_kib = 4;
    world->snapshot->zones = g_array_new(FALSE, TRUE, sizeof(HvZone));
    world->settings->compact = TRUE;
    world_node(world, 0, 4 * GIB_KIB);
    world_pool(world, 0, SIZE_2M, 0, 0);
    world_allow_growth(world);
    return world;
}

static HvZone *add_zone(World *world, int node)
{
    HvZone zone = {.node = node, .n_orders = N_ORDERS, .has_types = TRUE};
    g_array_append_val(world->snapshot->zones, zone);
    return &g_array_index(world->snapshot->zones, HvZone, world->snapshot->zones->len - 1);
}

/* Free memory in blocks of an order, among movable pages; so much of that is free. */
static void add_movable(HvZone *zone, guint order, guint64 memory_kib)
{
    guint64 blocks = memory_kib / (G_GUINT64_CONSTANT(4) << order);
    zone->movable_kib += memory_kib;
    zone->free_blocks[order] += blocks;
    zone->movable_free_blocks[order] += blocks;
}

static HvGrowth growth(const World *world, guint64 size_kib)
{
    HvWorld view = world_view(world);
    return hv_forecast_growth(&view, size_kib, 0);
}

/* Less the margin, which memory that binds has not. */
static void assert_growth(const World *world, guint64 size_kib, guint64 at_once, guint64 likely)
{
    HvGrowth seen = growth(world, size_kib);
    g_assert_cmpuint(seen.at_once_pages, ==, MIN(seen.memory_pages, at_once - at_once / 64));
    g_assert_cmpuint(seen.likely_pages, ==, MIN(seen.memory_pages, likely - likely / 64));
}

static void test_memory_alone_counts_where_no_more_is_known(void)
{
    g_autoptr(World) world = host();
    g_clear_pointer(&world->snapshot->zones, g_array_unref);
    HvGrowth seen = growth(world, SIZE_2M);
    g_assert_cmpuint(seen.at_once_pages, ==, 2048);
    g_assert_cmpuint(seen.likely_pages, ==, 2048);
    g_assert_cmpuint(seen.memory_pages, ==, 2048);
}

static void test_blocks_of_the_size_and_larger_are_had_at_once(void)
{
    g_autoptr(World) world = host();
    HvZone *zone = add_zone(world, 0);
    zone->free_blocks[ORDER_2M] = 3;
    zone->free_blocks[ORDER_2M + 1] = 5;
    assert_growth(world, SIZE_2M, 13, 13);
}

static void test_zones_of_a_node_add_up_and_other_nodes_do_not_count(void)
{
    g_autoptr(World) world = host();
    add_zone(world, 0)->free_blocks[ORDER_2M] = 3;
    add_zone(world, 0)->free_blocks[ORDER_2M] = 4;
    add_zone(world, 1)->free_blocks[ORDER_2M] = 900;
    assert_growth(world, SIZE_2M, 7, 7);
}

/* The emptier the memory is in which it lies, the more of it compaction makes up. */
static void test_scattered_memory_is_made_up_by_the_share_that_is_free(void)
{
    g_autoptr(World) world = host();
    HvZone *zone = add_zone(world, 0);
    zone->free_blocks[ORDER_2M] = 10;
    add_movable(zone, 0, GIB_KIB / 2);
    add_movable(zone, ORDER_2M - 1, GIB_KIB / 2);
    assert_growth(world, SIZE_2M, 10, 10 + 512);
    zone->movable_kib += GIB_KIB; /* in use */
    assert_growth(world, SIZE_2M, 10, 10 + 256);
    add_movable(zone, ORDER_2M, GIB_KIB); /* in one piece: that is no matter of compaction */
    assert_growth(world, SIZE_2M, 10 + 512, 10 + 512 + 256);
    world->settings->compact = FALSE;
    assert_growth(world, SIZE_2M, 10 + 512, 10 + 512);
}

static void test_huge_pages_are_not_in_the_way(void)
{
    g_autoptr(World) world = host();
    HvZone *zone = add_zone(world, 0);
    add_movable(zone, 0, GIB_KIB);
    zone->movable_kib += GIB_KIB;
    g_array_index(world->snapshot->pools, HvPool, 0).total_pages = 512;
    assert_growth(world, SIZE_2M, 0, 512);
}

static void test_scattered_kernel_memory_stays_so(void)
{
    g_autoptr(World) world = host();
    HvZone *zone = add_zone(world, 0);
    zone->free_blocks[0] = 100000; /* and none of it among movable pages */
    assert_growth(world, SIZE_2M, 0, 0);
}

static void test_who_sees_no_types_counts_on_nothing_scattered(void)
{
    g_autoptr(World) world = host();
    HvZone *zone = add_zone(world, 0);
    zone->free_blocks[0] = 100000;
    zone->free_blocks[ORDER_2M] = 6;
    zone->has_types = FALSE;
    g_array_index(world->snapshot->nodes, HvNode, 0).file_kib = GIB_KIB;
    world->settings->drop_caches = TRUE;
    assert_growth(world, SIZE_2M, 6, 6);
}

static void test_file_pages_count_where_caches_may_be_dropped(void)
{
    g_autoptr(World) world = host();
    HvZone *zone = add_zone(world, 0);
    g_array_index(world->snapshot->nodes, HvNode, 0).file_kib = GIB_KIB;
    zone->movable_kib = 2 * GIB_KIB;
    assert_growth(world, SIZE_2M, 0, 0);
    world->settings->drop_caches = TRUE;
    assert_growth(world, SIZE_2M, 0, 256);
}

/* A pinned page may be anywhere; what is in one piece already cannot be spoiled by it. */
static void test_each_pinned_page_may_spoil_a_huge_page(void)
{
    g_autoptr(World) world = host();
    HvZone *zone = add_zone(world, 0);
    HvNode *node = &g_array_index(world->snapshot->nodes, HvNode, 0);
    guint64 noise = 4 * GIB_KIB / 4 / 1024;
    zone->free_blocks[ORDER_2M] = 10;
    add_movable(zone, 0, GIB_KIB);
    const guint64 likely = 10 + 512;
    node->pinned_pages = noise;
    assert_growth(world, SIZE_2M, 10, likely);
    node->pinned_pages = noise + 100;
    assert_growth(world, SIZE_2M, 10, likely - 100);
    node->pinned_pages = G_MAXUINT64;
    assert_growth(world, SIZE_2M, 10, 10);
}

/* A VM with a passed-through device pins its huge pages, and those only. */
static void test_pinned_huge_pages_spoil_nothing(void)
{
    g_autoptr(World) world = host();
    HvZone *zone = add_zone(world, 0);
    add_movable(zone, 0, GIB_KIB);
    zone->movable_kib += 100 * SIZE_2M;
    g_array_index(world->snapshot->pools, HvPool, 0).total_pages = 100;
    g_array_index(world->snapshot->nodes, HvNode, 0).pinned_pages = 100 * 512;
    assert_growth(world, SIZE_2M, 0, 512);
}

static void test_never_more_than_memory_and_floor_allow(void)
{
    g_autoptr(World) world = host();
    HvZone *zone = add_zone(world, 0);
    zone->free_blocks[ORDER_2M + 1] = G_MAXUINT64;
    zone->managed_pages = G_MAXUINT64;
    world_pool(world, 0, SIZE_1G, 0, 0);
    g_assert_cmpuint(growth(world, SIZE_2M).likely_pages, ==, 2048);
    g_assert_cmpuint(growth(world, SIZE_1G).likely_pages, ==, 4);
    world->settings->floor_host_kib = 3 * GIB_KIB;
    g_assert_cmpuint(growth(world, SIZE_2M).likely_pages, ==, 512);
    g_assert_cmpuint(growth(world, SIZE_1G).likely_pages, ==, 1);
}

/* Growth that is planned for a claim takes of the same blocks. */
static void test_what_is_promised_is_taken_off(void)
{
    g_autoptr(World) world = host();
    add_zone(world, 0)->free_blocks[ORDER_2M] = 100;
    world_claim(world, "00000000-0000-0000-0000-0000000000b1", HV_CLAIM_CLAIMED, "0", SIZE_2M, 30);
    assert_growth(world, SIZE_2M, 70, 70);
}

/* 1 GiB is larger than any free block: a range without memory that cannot be moved. */
static void test_ranges_without_kernel_memory_are_likely(void)
{
    g_autoptr(World) world = host();
    HvZone *zone = add_zone(world, 0);
    zone->managed_pages = 4 * GIB_KIB / 4;
    world_pool(world, 0, SIZE_1G, 0, 0);
    assert_growth(world, SIZE_1G, 0, 4);
    zone->fixed_kib = 2048; /* one of four is spoiled by it */
    assert_growth(world, SIZE_1G, 0, 3);
    zone->fixed_kib = 512 * 1024;
    assert_growth(world, SIZE_1G, 0, 0);
    zone->fixed_kib = 2048;
    zone->has_types = FALSE;
    assert_growth(world, SIZE_1G, 0, 0);
}

static void test_ranges_that_are_huge_pages_already_are_not_had_again(void)
{
    g_autoptr(World) world = host();
    HvZone *zone = add_zone(world, 0);
    zone->managed_pages = 4 * GIB_KIB / 4;
    world_pool(world, 0, SIZE_1G, 2, 0);
    assert_growth(world, SIZE_1G, 0, 2);
    g_array_index(world->snapshot->pools, HvPool, 0).total_pages = 1; /* of 2 MiB: in a third */
    assert_growth(world, SIZE_1G, 0, 1);
}

/* 512 MiB pages of 64 KiB base pages are free blocks of order 13. */
static void test_the_order_follows_from_the_base_page(void)
{
    g_autoptr(World) world = host();
    HvZone *zone = add_zone(world, 0);
    world->snapshot->base_page_kib = 64;
    world_pool(world, 0, 512 * 1024, 0, 0);
    zone->n_orders = 14;
    zone->free_blocks[13] = 3;
    assert_growth(world, 512 * 1024, 3, 3);
    assert_growth(world, SIZE_2M, 3 * 256, 3 * 256);
}

static GPtrArray *warnings_of(const World *world)
{
    HvWorld view = world_view(world);
    g_autoptr(HvPlan) plan = hv_plan_new(&view, world->request);
    g_assert_null(plan->refusal);
    GPtrArray *warnings = g_ptr_array_new_with_free_func(g_free);
    hv_forecast_warn(&view, world->request, plan, warnings);
    return warnings;
}

static void test_growth_that_is_not_likely_is_warned_of(void)
{
    g_autoptr(World) world = host();
    add_zone(world, 0)->free_blocks[ORDER_2M] = 12;
    world_need(world, "0", SIZE_2M, 12);
    g_autoptr(GPtrArray) none = warnings_of(world);
    g_assert_cmpuint(none->len, ==, 0);
    world_need(world, "0", SIZE_2M, 82);
    g_autoptr(GPtrArray) warnings = warnings_of(world);
    g_assert_cmpuint(warnings->len, ==, 1);
    const char *text = g_ptr_array_index(warnings, 0);
    g_assert_nonnull(strstr(text, "node 0 is likely to give only about 12 of the 94 pages"));
}

/* A VM that may have its pages anywhere has them from another node, if that is likely to give. */
static void test_no_warning_where_another_node_gives(void)
{
    g_autoptr(World) world = host();
    world_node(world, 1, GIB_KIB);
    world_pool(world, 1, SIZE_2M, 0, 0);
    add_zone(world, 0)->free_blocks[ORDER_2M] = 12;
    add_zone(world, 1)->free_blocks[ORDER_2M] = 90;
    world_need(world, ANY, SIZE_2M, 94);
    g_autoptr(GPtrArray) none = warnings_of(world);
    g_assert_cmpuint(none->len, ==, 0);
    world_need(world, ANY, SIZE_2M, 20);
    g_autoptr(GPtrArray) warnings = warnings_of(world);
    g_assert_cmpuint(warnings->len, ==, 1);
}

/* Pages of both sizes come out of the same memory. */
static void test_larger_pages_leave_less_for_smaller_ones(void)
{
    g_autoptr(World) world = host();
    HvZone *zone = add_zone(world, 0);
    zone->free_blocks[ORDER_2M + 1] = 512; /* 2 GiB */
    zone->managed_pages = 4 * GIB_KIB / 4;
    world_pool(world, 0, SIZE_1G, 0, 0);
    world_need(world, "0", SIZE_1G, 1);
    world_need(world, "0", SIZE_2M, 1024 - 1024 / 64 - 512);
    g_autoptr(GPtrArray) none = warnings_of(world);
    g_assert_cmpuint(none->len, ==, 0);
    world_need(world, "0", SIZE_2M, 1);
    g_autoptr(GPtrArray) warnings = warnings_of(world);
    g_assert_cmpuint(warnings->len, ==, 1);
}

#define ADD(name, function) g_test_add_func("/forecast/" name, function)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("memory-alone-counts-where-no-more-is-known",
        test_memory_alone_counts_where_no_more_is_known);
    ADD("blocks-of-the-size-and-larger-are-had-at-once",
        test_blocks_of_the_size_and_larger_are_had_at_once);
    ADD("zones-of-a-node-add-up-and-other-nodes-do-not-count",
        test_zones_of_a_node_add_up_and_other_nodes_do_not_count);
    ADD("scattered-memory-is-made-up-by-the-share-that-is-free",
        test_scattered_memory_is_made_up_by_the_share_that_is_free);
    ADD("huge-pages-are-not-in-the-way", test_huge_pages_are_not_in_the_way);
    ADD("scattered-kernel-memory-stays-so", test_scattered_kernel_memory_stays_so);
    ADD("who-sees-no-types-counts-on-nothing-scattered",
        test_who_sees_no_types_counts_on_nothing_scattered);
    ADD("file-pages-count-where-caches-may-be-dropped",
        test_file_pages_count_where_caches_may_be_dropped);
    ADD("each-pinned-page-may-spoil-a-huge-page", test_each_pinned_page_may_spoil_a_huge_page);
    ADD("pinned-huge-pages-spoil-nothing", test_pinned_huge_pages_spoil_nothing);
    ADD("never-more-than-memory-and-floor-allow", test_never_more_than_memory_and_floor_allow);
    ADD("what-is-promised-is-taken-off", test_what_is_promised_is_taken_off);
    ADD("ranges-without-kernel-memory-are-likely", test_ranges_without_kernel_memory_are_likely);
    ADD("ranges-that-are-huge-pages-already-are-not-had-again",
        test_ranges_that_are_huge_pages_already_are_not_had_again);
    ADD("the-order-follows-from-the-base-page", test_the_order_follows_from_the_base_page);
    ADD("growth-that-is-not-likely-is-warned-of", test_growth_that_is_not_likely_is_warned_of);
    ADD("no-warning-where-another-node-gives", test_no_warning_where_another_node_gives);
    ADD("larger-pages-leave-less-for-smaller-ones", test_larger_pages_leave_less_for_smaller_ones);
    return g_test_run();
}
