/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reserved pages that the host does not have. */
#include "world.h"

#include "reserve.h"

/* Two nodes with 100 pages of 2 MiB each; 2 MiB is the default. */
static World *two_pools(void)
{
    World *world = world_new();
    world_node(world, 0, GIB_KIB);
    world_node(world, 1, GIB_KIB);
    world_pool(world, 0, SIZE_2M, 100, 100);
    world_pool(world, 1, SIZE_2M, 100, 100);
    world_size(world, SIZE_2M)->is_default = TRUE;
    return world;
}

/* text NULL: nothing is wrong. */
static void assert_warns_once(const World *world, const char *text)
{
    g_autoptr(GPtrArray) warnings = hv_reserve_warnings(world->settings, world->snapshot);
    g_assert_cmpuint(warnings->len, ==, text != NULL ? 1 : 0);
    if (text != NULL)
        g_assert_cmpstr(g_ptr_array_index(warnings, 0), ==, text);
}

static void test_reserves_that_the_pools_have_are_silent(void)
{
    g_autoptr(World) world = two_pools();
    assert_warns_once(world, NULL);
    world_reserve(world, 0, SIZE_2M, 100);
    world_reserve(world, 1, SIZE_2M, 60);
    world_reserve(world, -1, SIZE_2M, 40);
    assert_warns_once(world, NULL);
    world_reserve(world, 7, SIZE_1G, 0);
    assert_warns_once(world, NULL);
}

static void test_absent_size_is_named(void)
{
    g_autoptr(World) world = two_pools();
    world_reserve(world, -1, SIZE_1G, 4);
    g_array_index(world->settings->reserved, HvReserved, 0).name = g_strdup("ovs\n");
    assert_warns_once(world, "reserved pages of 1 GiB for 'ovs\\x0a': this host offers 2 MiB");
}

static void test_absent_node_is_named(void)
{
    g_autoptr(World) world = two_pools();
    world_reserve(world, 7, SIZE_2M, 4);
    assert_warns_once(world,
                      "reserved pages of 2 MiB on node 7: there is no such pool on this host");
}

static void test_more_than_the_pool_of_a_node_is_told(void)
{
    g_autoptr(World) world = two_pools();
    world_reserve(world, 1, SIZE_2M, 60);
    world_reserve(world, 1, SIZE_2M, 41);
    assert_warns_once(world, "101 pages of 2 MiB are reserved on node 1, where there are 100: VMs "
                             "get none of them, and those they are reserved for not all");
}

static void test_more_than_all_pools_is_told(void)
{
    g_autoptr(World) world = two_pools();
    world_reserve(world, 0, SIZE_2M, 100);
    world_reserve(world, -1, SIZE_2M, 101);
    assert_warns_once(world, "201 pages of 2 MiB are reserved on all nodes, where there are 200: "
                             "VMs get none of them, and those they are reserved for not all");
}

static void test_entry_without_size_means_the_default(void)
{
    g_autoptr(World) world = two_pools();
    world_reserve(world, -1, 0, 201);
    assert_warns_once(world, "201 pages of 2 MiB are reserved on all nodes, where there are 200: "
                             "VMs get none of them, and those they are reserved for not all");
}

#define ADD(name, function) g_test_add_func("/reserve/" name, function)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("reserves-that-the-pools-have-are-silent", test_reserves_that_the_pools_have_are_silent);
    ADD("absent-size-is-named", test_absent_size_is_named);
    ADD("absent-node-is-named", test_absent_node_is_named);
    ADD("more-than-the-pool-of-a-node-is-told", test_more_than_the_pool_of_a_node_is_told);
    ADD("more-than-all-pools-is-told", test_more_than_all_pools_is_told);
    ADD("entry-without-size-means-the-default", test_entry_without_size_means_the_default);
    return g_test_run();
}
