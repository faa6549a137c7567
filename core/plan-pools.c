/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What may be done with a pool as it is, without any VM that asks for it. */
#include "planner.h"

#include "page-size.h"

guint64 hv_plan_give_back_pages(const HvWorld *world, const HvPool *pool)
{
    HvRoom room = hv_room_of_size(world, pool->size_kib);
    guint64 baseline = hv_minus(room.total, room.grown);
    guint64 due = hv_minus(baseline, room.foreign);
    guint64 spare = hv_minus(room.free, hv_plus(hv_plus(room.resv, room.exposed), due));
    return MIN(spare, hv_room_returnable(world, pool));
}

/* Every claim on pages of the size is of a running VM that keeps them; and there is one. */
static gboolean are_claims_steady(const HvWorld *world, guint64 size_kib)
{
    gboolean is_any = FALSE;
    for (guint i = 0; i < world->ledger->claims->len; i++) {
        const HvClaim *claim = g_ptr_array_index(world->ledger->claims, i);
        if (hv_needs_pages(claim->needs, size_kib) == 0)
            continue;
        if (claim->state != HV_CLAIM_RUNNING || !claim->may_hand_over || claim->qemu.pid == 0)
            return FALSE;
        is_any = TRUE;
    }
    return is_any;
}

/* Beside surplus of one node, kernels before 6.15 miscount writes to others, whoever makes them. */
gboolean hv_plan_is_kernel_sound(const HvSnapshot *snapshot, guint64 size_kib)
{
    guint pools = 0;
    for (guint i = 0; i < snapshot->pools->len; i++)
        pools += g_array_index(snapshot->pools, HvPool, i).size_kib == size_kib;
    return pools <= 1 || snapshot->kernel_version >= HV_KERNEL_VERSION(6, 15);
}

gboolean hv_plan_may_hand_over(const HvWorld *world, guint64 size_kib)
{
    const HvPageSize *size = hv_snapshot_size(world->snapshot, size_kib);
    if (!hv_plan_is_kernel_sound(world->snapshot, size_kib) ||
        !world->settings->use_dynamic_hugepages || !world->settings->handover_auto ||
        world->ledger->handover_failed || size == NULL || size->overcommit_pages > 0 ||
        size->resv_pages > 0 || !are_claims_steady(world, size_kib))
        return FALSE;
    for (guint i = 0; i < world->snapshot->pools->len; i++) {
        const HvPool *pool = &g_array_index(world->snapshot->pools, HvPool, i);
        if (pool->size_kib == size_kib &&
            (pool->free_pages > 0 || pool->surplus_pages > 0 ||
             hv_ledger_has_intent(world->ledger, pool->node, size_kib) ||
             hv_ledger_grown_pages(world->ledger, pool->node, size_kib) != pool->total_pages))
            return FALSE;
    }
    HvRoom room = hv_room_of_size(world, size_kib);
    return room.total > 0 && room.in_use == room.held;
}

/*
 * No overcommit among them: those are pages which are not there. The kernel itself keeps promised
 * pages from a split only in part (tests/kernel/FACTS.md).
 */
HvRoom hv_plan_room_to_split(const HvWorld *world, guint64 size_kib)
{
    HvRoom room = hv_room_of_size(world, size_kib);
    room.available =
        hv_minus(room.free, hv_plus(hv_plus(room.resv, room.reserved_unused), room.exposed));
    return room;
}

guint64 hv_plan_demotable_pages_within(const HvWorld *world, const HvPool *pool, const HvRoom *room)
{
    gboolean is_any = world->settings->demote == HV_DEMOTE_ANY;
    if (world->settings->demote == HV_DEMOTE_NEVER || pool->free_pages == 0 ||
        (!is_any && hv_ledger_grown_pages(world->ledger, pool->node, pool->size_kib) == 0))
        return 0;
    guint64 pages = hv_room_on_node_within(world, pool->size_kib, pool->node, room);
    return is_any ? pages : MIN(pages, hv_room_returnable(world, pool));
}

guint64 hv_plan_demotable_pages(const HvWorld *world, const HvPool *pool)
{
    HvRoom room = hv_plan_room_to_split(world, pool->size_kib);
    return hv_plan_demotable_pages_within(world, pool, &room);
}
