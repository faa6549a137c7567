/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How long a plan takes in process: 1, 8 and 64 nodes with 4 page sizes each, grown pools and 100
 * running VMs, for a VM with a need of each size that is bound to one node, to all of them, or to
 * none. And `allocatable` of all pools, which status shows. A measurement, not a test: it asserts
 * nothing. What is wanted: less than 2 ms with 64 nodes.
 */
#include "../unit/world.h"

#include "forecast.h"

#include <stdio.h>

#define RUNS 50
#define CLAIMS 100
#define POOL_PAGES 100
#define NEED_PAGES 60

static const guint64 sizes_kib[] = {64, SIZE_2M, 32768, SIZE_1G};

static World *host_of(int n_nodes)
{
    World *world = world_new();
    for (int node = 0; node < n_nodes; node++) {
        world_node(world, node, 64 * GIB_KIB);
        for (guint i = 0; i < G_N_ELEMENTS(sizes_kib); i++) {
            world_pool(world, node, sizes_kib[i], POOL_PAGES, POOL_PAGES / 2);
            world_grown(world, node, sizes_kib[i], POOL_PAGES / 5);
        }
    }
    for (guint i = 1; i < G_N_ELEMENTS(sizes_kib); i++)
        world_size(world, sizes_kib[i])->demote_size_kib = sizes_kib[i - 1];
    world_allow_growth(world);
    for (int i = 0; i < CLAIMS; i++) {
        g_autofree char *uuid = g_strdup_printf("claim-%d", i);
        g_autofree char *node = g_strdup_printf("%d", i % n_nodes);
        world_claim(world, uuid, HV_CLAIM_RUNNING, node, SIZE_2M, 1);
    }
    return world;
}

static double ms_per_plan(World *world, const char *nodes, guint64 pages)
{
    HvWorld view = world_view(world);
    g_array_set_size(world->request->needs, 0);
    for (guint i = 0; i < G_N_ELEMENTS(sizes_kib); i++)
        world_need(world, nodes, sizes_kib[i], pages);
    gint64 began_us = g_get_monotonic_time();
    for (int run = 0; run < RUNS; run++)
        hv_plan_free(hv_plan_new(&view, world->request));
    return (double)(g_get_monotonic_time() - began_us) / 1000 / RUNS;
}

static double ms_of_allocatable(World *world)
{
    HvWorld view = world_view(world);
    const GArray *pools = world->snapshot->pools;
    gint64 began_us = g_get_monotonic_time();
    for (guint i = 0; i < pools->len; i++)
        hv_forecast_allocatable_pages(&view, &g_array_index(pools, HvPool, i));
    return (double)(g_get_monotonic_time() - began_us) / 1000;
}

int main(void)
{
    static const int counts[] = {1, 8, 64};
    printf("%5s %10s %10s %10s %12s   ms\n", "nodes", "unbound", "one node", "all nodes",
           "allocatable");
    for (guint i = 0; i < G_N_ELEMENTS(counts); i++) {
        guint64 n_nodes = (guint64)counts[i];
        g_autoptr(World) world = host_of(counts[i]);
        g_autofree char *all = n_nodes > 1 ? g_strdup_printf("0-%d", counts[i] - 1) : g_strdup("0");
        printf("%5d %10.3f", counts[i], ms_per_plan(world, ANY, NEED_PAGES * n_nodes));
        printf(" %10.3f", ms_per_plan(world, "0", NEED_PAGES));
        printf(" %10.3f", ms_per_plan(world, all, NEED_PAGES * n_nodes));
        printf(" %12.3f\n", ms_of_allocatable(world));
    }
    return 0;
}
