/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "explain.h"

#include "page-size.h"

#include <string.h>

static void row_free(gpointer data)
{
    HvExplainRow *row = data;
    g_ptr_array_unref(row->claimed_by);
    g_ptr_array_unref(row->reserved_for);
    g_free(row);
}

/* Pages of needs for the node alone, or for -1 of those that several may serve. */
static guint64 pages_for(const GArray *needs, guint64 size_kib, int node)
{
    return node >= 0 ? hv_needs_bound_pages(needs, size_kib, node)
                     : hv_needs_floating_pages(needs, size_kib);
}

static void add_wanted(HvExplainRow *row, const HvRequest *request, const HvPlan *plan)
{
    row->wanted = pages_for(request->needs, row->size_kib, row->node);
    for (guint i = 0; i < plan->missing->len; i++) {
        const HvNeed *need = &g_array_index(request->needs, HvNeed, i);
        if (need->size_kib == row->size_kib && hv_node_set_single(&need->nodes) == row->node)
            row->missing = hv_plus(row->missing, g_array_index(plan->missing, guint64, i));
    }
}

static gboolean is_other(const HvWorld *world, const HvClaim *claim)
{
    return world->self_uuid == NULL || strcmp(world->self_uuid, claim->uuid) != 0;
}

static void add_claims(HvExplainRow *row, const HvWorld *world)
{
    row->claimed_by = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; i < world->ledger->claims->len; i++) {
        const HvClaim *claim = g_ptr_array_index(world->ledger->claims, i);
        guint64 pages = pages_for(hv_claim_places(claim), row->size_kib, row->node);
        if (pages == 0 || !is_other(world, claim))
            continue;
        row->claimed = hv_plus(row->claimed, pages);
        g_ptr_array_add(row->claimed_by, g_strdup(claim->name != NULL ? claim->name : claim->uuid));
    }
}

static void add_reserved(HvExplainRow *row, const HvWorld *world)
{
    row->reserved = hv_settings_reserved_pages(world->settings, row->size_kib, row->node,
                                               hv_snapshot_default_size_kib(world->snapshot));
    row->reserved_for = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; i < world->settings->reserved->len; i++) {
        const HvReserved *entry = &g_array_index(world->settings->reserved, HvReserved, i);
        if (entry->name != NULL && entry->count_pages > 0 && entry->size_kib == row->size_kib &&
            entry->node == row->node)
            g_ptr_array_add(row->reserved_for, g_strdup(entry->name));
    }
}

static HvExplainRow *row_new(const HvWorld *world, guint64 size_kib, int node)
{
    HvExplainRow *row = g_new0(HvExplainRow, 1);
    row->node = node;
    row->size_kib = size_kib;
    add_reserved(row, world);
    row->demotable = hv_plan_demotable_into_pages(world, size_kib, node);
    row->growth = hv_forecast_growth(world, size_kib, node);
    add_claims(row, world);
    return row;
}

static void add_pool_row(GPtrArray *rows, const HvWorld *world, const HvPool *pool)
{
    HvExplainRow *row = row_new(world, pool->size_kib, pool->node);
    row->total = pool->total_pages;
    row->free = pool->free_pages;
    row->available = hv_room_on_node(world, pool->size_kib, pool->node);
    g_ptr_array_add(rows, row);
}

static void add_sum_row(GPtrArray *rows, const HvWorld *world, guint64 size_kib)
{
    HvRoom room = hv_room_of_size(world, size_kib);
    HvExplainRow *row = row_new(world, size_kib, -1);
    row->total = room.total;
    row->free = room.free;
    row->available = room.available;
    g_ptr_array_add(rows, row);
}

/* They have pages that no node's row can name. */
static gboolean has_floating_claims(const HvWorld *world, guint64 size_kib)
{
    for (guint i = 0; i < world->ledger->claims->len; i++) {
        const HvClaim *claim = g_ptr_array_index(world->ledger->claims, i);
        if (is_other(world, claim) && hv_needs_floating_pages(hv_claim_places(claim), size_kib) > 0)
            return TRUE;
    }
    return FALSE;
}

/*
 * A bound need that leaves its pages to the VM's own floating ones lacks what those lack: it is
 * shown there, not on a node that has enough.
 */
static void move_to_sum(const GPtrArray *rows, HvExplainRow *row)
{
    guint64 own = hv_minus(row->wanted, row->available);
    for (guint i = 0; row->node >= 0 && row->missing > own && i < rows->len; i++) {
        HvExplainRow *sum = g_ptr_array_index(rows, i);
        if (sum->node >= 0 || sum->size_kib != row->size_kib)
            continue;
        sum->missing = MIN(sum->wanted, sum->missing + row->missing - own);
        row->missing = own;
    }
}

GPtrArray *hv_explain(const HvWorld *world, const HvRequest *request, const HvPlan *plan)
{
    GPtrArray *rows = g_ptr_array_new_with_free_func(row_free);
    for (guint i = world->snapshot->sizes->len; i > 0; i--) {
        guint64 size_kib = g_array_index(world->snapshot->sizes, HvPageSize, i - 1).size_kib;
        if (hv_needs_pages(request->needs, size_kib) == 0)
            continue;
        for (guint k = 0; k < world->snapshot->pools->len; k++) {
            const HvPool *pool = &g_array_index(world->snapshot->pools, HvPool, k);
            if (pool->size_kib == size_kib)
                add_pool_row(rows, world, pool);
        }
        if (hv_needs_floating_pages(request->needs, size_kib) > 0 ||
            has_floating_claims(world, size_kib))
            add_sum_row(rows, world, size_kib);
    }
    for (guint i = 0; i < rows->len; i++)
        add_wanted(g_ptr_array_index(rows, i), request, plan);
    for (guint i = 0; i < rows->len; i++)
        move_to_sum(rows, g_ptr_array_index(rows, i));
    return rows;
}
