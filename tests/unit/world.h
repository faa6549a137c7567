/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Worlds for room and planner: snapshot, settings, ledger and request, built in code. */
#pragma once

#include "consumers.h"
#include "planner.h"

#include "page-size.h"
#include "residence.h"

#define GIB_KIB ((guint64)1024 * 1024)
#define SIZE_2M ((guint64)2048)
#define SIZE_1G GIB_KIB
#define ANY NULL /* instead of a node list */

typedef struct {
    HvSnapshot *snapshot;
    HvSettings *settings;
    HvLedger *ledger;
    HvRequest *request;
} World;

/* No nodes, no pools, no memory floor; dynamic allocation is off and free pages are used. */
static inline World *world_new(void)
{
    World *world = g_new0(World, 1);
    world->snapshot = hv_snapshot_new();
    world->settings = hv_settings_new();
    world->settings->floor_host_kib = 0;
    world->settings->floor_node_percent = 0;
    world->ledger = hv_ledger_new();
    world->request = g_new0(HvRequest, 1);
    world->request->uuid = g_strdup("00000000-0000-0000-0000-00000000000a");
    world->request->name = g_strdup("vm");
    world->request->needs = g_array_new(FALSE, TRUE, sizeof(HvNeed));
    world->request->warnings = g_ptr_array_new_with_free_func(g_free);
    world->request->open.sizes = g_array_new(FALSE, TRUE, sizeof(guint64));
    world->request->chosen = g_array_new(FALSE, TRUE, sizeof(HvCellPages));
    return world;
}

static inline void world_free(World *world)
{
    hv_snapshot_free(world->snapshot);
    hv_settings_free(world->settings);
    hv_ledger_free(world->ledger);
    hv_request_free(world->request);
    g_free(world);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(World, world_free)

/* The world as the planner sees it; the claim of the VM that is planned does not count. */
static inline HvWorld world_view(const World *world)
{
    return (HvWorld){world->snapshot, world->settings, world->ledger, world->request->uuid};
}

/* Adds a node with so much memory to grow into; the host has it as well. */
static inline HvNode *world_node(World *world, int id, guint64 memory_kib)
{
    HvNode node = {.id = id, .mem_total_kib = memory_kib, .mem_free_kib = memory_kib};
    g_array_append_val(world->snapshot->nodes, node);
    world->snapshot->mem_available_kib += memory_kib;
    return &g_array_index(world->snapshot->nodes, HvNode, world->snapshot->nodes->len - 1);
}

static inline HvPageSize *world_size(World *world, guint64 size_kib)
{
    GArray *sizes = world->snapshot->sizes;
    for (guint i = 0; i < sizes->len; i++)
        if (g_array_index(sizes, HvPageSize, i).size_kib == size_kib)
            return &g_array_index(sizes, HvPageSize, i);
    HvPageSize size = {.size_kib = size_kib, .is_default = sizes->len == 0};
    g_array_append_val(sizes, size);
    return &g_array_index(sizes, HvPageSize, sizes->len - 1);
}

/* Adds a pool, and its node (without memory to grow into) and size where they are new. */
static inline HvPool *world_pool(World *world, int node, guint64 size_kib, guint64 total,
                                 guint64 free_pages)
{
    if (hv_snapshot_node(world->snapshot, node) == NULL)
        world_node(world, node, 0);
    world_size(world, size_kib);
    HvPool pool = {
        .node = node, .size_kib = size_kib, .total_pages = total, .free_pages = free_pages};
    g_array_append_val(world->snapshot->pools, pool);
    return &g_array_index(world->snapshot->pools, HvPool, world->snapshot->pools->len - 1);
}

static inline void world_allow_growth(World *world)
{
    world->settings->use_dynamic_hugepages = TRUE;
}

/* node -1: floating */
static inline void world_reserve(World *world, int node, guint64 size_kib, guint64 pages)
{
    HvReserved reserved = {.size_kib = size_kib, .count_pages = pages, .node = node};
    g_array_append_val(world->settings->reserved, reserved);
}

/* The same for the process of that name. */
static inline void world_reserve_for(World *world, const char *name, int node, guint64 size_kib,
                                     guint64 pages)
{
    world_reserve(world, node, size_kib, pages);
    GArray *reserved = world->settings->reserved;
    HvReserved *entry = &g_array_index(reserved, HvReserved, reserved->len - 1);
    entry->name = g_strdup(name);
    entry->process = g_strdup(name);
}

/* Such a process, with so many pages of those that are in use. */
static inline void world_consumer(World *world, const char *name, int node, guint64 size_kib,
                                  guint64 pages)
{
    HvSnapshot *snapshot = world->snapshot;
    if (snapshot->consumers == NULL)
        snapshot->consumers = g_ptr_array_new_with_free_func(hv_consumer_free);
    HvConsumer *consumer = hv_consumer_new(100 + snapshot->consumers->len, name, name);
    hv_placed_add(consumer->placed, node, size_kib, pages);
    g_ptr_array_add(snapshot->consumers, consumer);
}

static inline HvNeed world_make_need(const char *nodes, guint64 size_kib, guint64 pages)
{
    HvNeed need = {.size_kib = size_kib, .pages = pages};
    if (nodes != ANY)
        g_assert_true(hv_node_set_parse(nodes, &need.nodes));
    return need;
}

static inline void world_need(World *world, const char *nodes, guint64 size_kib, guint64 pages)
{
    HvNeed need = world_make_need(nodes, size_kib, pages);
    g_array_append_val(world->request->needs, need);
}

/* Adds a claim of that name, or one more need to it. */
static inline HvClaim *world_claim(World *world, const char *uuid, HvClaimState state,
                                   const char *nodes, guint64 size_kib, guint64 pages)
{
    HvNeed need = world_make_need(nodes, size_kib, pages);
    HvClaim *claim = hv_ledger_claim(world->ledger, uuid);
    if (claim == NULL) {
        g_autoptr(GArray) none = g_array_new(FALSE, TRUE, sizeof(HvNeed));
        HvRequest request = {.uuid = (char *)uuid, .name = (char *)"other", .needs = none};
        HvProcess owner = {4711, 815};
        claim = hv_ledger_add_claim(world->ledger, &request, "agent", &owner);
        claim->state = state;
    }
    g_array_append_val(claim->needs, need);
    return claim;
}

/* Pages that hugevm has added, as the pool shows them now. */
static inline void world_grown(World *world, int node, guint64 size_kib, guint64 pages)
{
    const HvPool *pool = hv_snapshot_pool(world->snapshot, node, size_kib);
    HvGrown grown = {node, size_kib, pages, hv_pool_persistent(pool)};
    g_array_append_val(world->ledger->grown, grown);
}

static inline void world_intent(World *world, int node, guint64 size_kib, guint64 before,
                                guint64 target)
{
    HvIntent intent = {node, size_kib, before, target};
    hv_ledger_begin_write(world->ledger, &intent);
}

static inline HvPlan *world_plan(const World *world)
{
    HvWorld view = world_view(world);
    return hv_plan_new(&view, world->request);
}

static inline guint64 world_give_back(const World *world, int node, guint64 size_kib)
{
    HvWorld view = world_view(world);
    const HvPool *pool = hv_snapshot_pool(world->snapshot, node, size_kib);
    g_assert_nonnull(pool);
    return hv_plan_give_back_pages(&view, pool);
}

static inline void assert_allowed(const HvPlan *plan, guint n_steps)
{
    g_assert_cmpstr(plan->refusal != NULL ? plan->refusal->message : NULL, ==, NULL);
    g_assert_cmpuint(plan->steps->len, ==, n_steps);
}

static inline void assert_refused(const HvPlan *plan)
{
    g_assert_nonnull(plan->refusal);
    g_assert_cmpint(plan->refusal->code, ==, HV_ERROR_SHORTAGE);
    g_assert_cmpuint(plan->steps->len, ==, 0);
}

static inline void assert_step(const HvPlan *plan, guint index, HvStepAction action, int node,
                               guint64 size_kib, guint64 pages)
{
    g_assert_cmpuint(index, <, plan->steps->len);
    const HvStep *step = &g_array_index(plan->steps, HvStep, index);
    g_assert_cmpint(step->action, ==, action);
    g_assert_cmpint(step->node, ==, node);
    g_assert_cmpuint(step->size_kib, ==, size_kib);
    g_assert_cmpuint(step->pages, ==, pages);
}

static inline void assert_grows(const HvPlan *plan, guint index, int node, guint64 size_kib,
                                guint64 pages)
{
    assert_step(plan, index, HV_STEP_GROW, node, size_kib, pages);
}
