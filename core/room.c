/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 *   exposed   = need of claims whose pages nothing keeps for them yet
 *   foreign   = in use + resv - need of all other claims
 *   reserved_unused = sum of (count - what its consumer holds) of the named reservations
 *                     + (the others' count - the rest of foreign)
 *   available = max(0, free - resv - reserved_unused) + overcommit left - exposed
 *
 * where free is less what a give-back under way has announced.
 *
 * resv exists only per size, and a floating VM may land on any node. So a bound
 * need must leave every floating promise room on its own node, and never counts
 * on more than the whole size has available.
 */
#include "room.h"

#include "page-size.h"
#include "reserve.h"

#include <string.h>

static gboolean is_self(const HvWorld *world, const HvClaim *claim)
{
    return world->self_uuid != NULL && claim->state != HV_CLAIM_DRAINING &&
           strcmp(world->self_uuid, claim->uuid) == 0;
}

#define FLOATING (-1) /* needs that several nodes may serve */
#define ALL_NEEDS (-2)

/*
 * Which claims count. Over all nodes: exposed ones, whose pages look free, and held
 * ones, whose pages the kernel counts as in use or promised. On one node, where the
 * kernel knows of no promise: mapped and unmapped ones.
 */
typedef enum { EXPOSED, HELD, MAPPED, UNMAPPED } Which;

static gboolean is_counted(const HvClaim *claim, Which which)
{
    switch (which) {
    case EXPOSED:
        return hv_claim_is_exposed(claim);
    case HELD:
        return !hv_claim_is_exposed(claim);
    case MAPPED:
        return hv_claim_is_mapped(claim);
    case UNMAPPED:
        return !hv_claim_is_mapped(claim);
    }
    return FALSE;
}

/* Pages of claims; node: one node's bound needs, FLOATING or ALL_NEEDS. */
static guint64 claimed_pages(const HvWorld *world, guint64 size_kib, Which which, int node)
{
    guint64 pages = 0;
    for (guint i = 0; i < world->ledger->claims->len; i++) {
        const HvClaim *claim = g_ptr_array_index(world->ledger->claims, i);
        if (is_self(world, claim) || !is_counted(claim, which))
            continue;
        pages = hv_plus(pages, node == ALL_NEEDS
                                   ? hv_needs_pages(claim->needs, size_kib)
                                   : hv_needs_bound_pages(hv_claim_places(claim), size_kib, node));
    }
    return pages;
}

guint64 hv_room_unmapped_pages(const HvWorld *world, guint64 size_kib)
{
    return claimed_pages(world, size_kib, UNMAPPED, ALL_NEEDS);
}

/* Unmapped pages that only this node or a few others may give. All of them may come from here. */
static guint64 confined_pages(const HvWorld *world, const HvPool *pool)
{
    guint64 pages = 0;
    for (guint i = 0; i < world->ledger->claims->len; i++) {
        const HvClaim *claim = g_ptr_array_index(world->ledger->claims, i);
        for (guint k = 0; !hv_claim_is_mapped(claim) && k < claim->needs->len; k++) {
            const HvNeed *need = &g_array_index(claim->needs, HvNeed, k);
            if (need->size_kib == pool->size_kib && !is_self(world, claim) &&
                hv_node_set_contains(&need->nodes, pool->node))
                pages = hv_plus(pages, need->pages);
        }
    }
    return pages;
}

/* Pages that a give-back has announced in the ledger, but not yet taken from the pool. */
static guint64 shrinking_pages(const HvWorld *world, const HvPool *pool)
{
    guint64 pages = 0;
    for (guint i = 0; i < world->ledger->intents->len; i++) {
        const HvIntent *intent = &g_array_index(world->ledger->intents, HvIntent, i);
        if (intent->node == pool->node && intent->size_kib == pool->size_kib &&
            intent->target_pages < intent->before_pages)
            pages += hv_minus(hv_pool_persistent(pool), intent->target_pages);
    }
    return pages;
}

static guint64 usable_free(const HvWorld *world, const HvPool *pool)
{
    return hv_minus(pool->free_pages, shrinking_pages(world, pool));
}

static guint64 reserved_on(const HvWorld *world, guint64 size_kib, int node)
{
    return hv_settings_reserved_pages(world->settings, size_kib, node,
                                      hv_snapshot_default_size_kib(world->snapshot));
}

static void add_pools(const HvWorld *world, guint64 size_kib, HvRoom *room, guint64 *out_surplus)
{
    for (guint i = 0; i < world->snapshot->pools->len; i++) {
        const HvPool *pool = &g_array_index(world->snapshot->pools, HvPool, i);
        if (pool->size_kib != size_kib)
            continue;
        room->total = hv_plus(room->total, pool->total_pages);
        room->free = hv_plus(room->free, usable_free(world, pool));
        room->in_use = hv_plus(room->in_use, hv_pool_in_use(pool));
        room->grown =
            hv_plus(room->grown, hv_ledger_grown_pages(world->ledger, pool->node, size_kib));
        room->reserved = hv_plus(room->reserved, reserved_on(world, size_kib, pool->node));
        *out_surplus = hv_plus(*out_surplus, pool->surplus_pages);
    }
}

/* Of named reservations: pages, those that their consumers have, and all that these have. */
typedef struct {
    guint64 count;
    guint64 used;
    guint64 taken;
} Named;

static gboolean is_first_of_process(const GArray *uses, guint index)
{
    const char *process = g_array_index(uses, HvReserveUse, index).entry->process;
    for (guint i = 0; i < index; i++)
        if (strcmp(g_array_index(uses, HvReserveUse, i).entry->process, process) == 0)
            return FALSE;
    return TRUE;
}

/* node -1: over all of them. At most in_use_pages can be used by others at all, whatever /proc
 * says a moment later. */
static Named named_reservations(const HvWorld *world, guint64 size_kib, int node,
                                guint64 in_use_pages)
{
    Named named = {0};
    g_autoptr(GArray) uses = hv_reserve_uses(world->settings, world->snapshot, size_kib);
    for (guint i = 0; i < uses->len; i++) {
        const HvReserveUse *use = &g_array_index(uses, HvReserveUse, i);
        if (is_first_of_process(uses, i))
            named.taken =
                hv_plus(named.taken, hv_reserve_held_pages(world->snapshot, use->entry->process,
                                                           size_kib, node));
        if (node >= 0 && use->entry->node != node)
            continue;
        named.count = hv_plus(named.count, use->entry->count_pages);
        named.used = hv_plus(named.used, use->used_pages);
    }
    named.used = MIN(named.used, in_use_pages);
    return named;
}

/* The consumer of a named reservation takes pages out of it, and nobody else; anybody out of one
 * without name. */
static guint64 unused_of(guint64 reserved, const Named *named, guint64 others)
{
    return hv_plus(named->count - named->used, hv_minus(hv_minus(reserved, named->count), others));
}

HvRoom hv_room_of_size(const HvWorld *world, guint64 size_kib)
{
    HvRoom room = {0};
    guint64 surplus = 0;
    const HvPageSize *size = hv_snapshot_size(world->snapshot, size_kib);
    if (size == NULL)
        return room;
    add_pools(world, size_kib, &room, &surplus);
    room.resv = size->resv_pages;
    room.reserved = hv_plus(room.reserved, reserved_on(world, size_kib, -1));
    room.held = claimed_pages(world, size_kib, HELD, ALL_NEEDS);
    room.exposed = claimed_pages(world, size_kib, EXPOSED, ALL_NEEDS);
    room.floating_mapped = claimed_pages(world, size_kib, MAPPED, FLOATING);
    room.floating_unmapped = claimed_pages(world, size_kib, UNMAPPED, FLOATING);
    room.foreign = hv_minus(hv_plus(room.in_use, room.resv), room.held);
    Named named = named_reservations(world, size_kib, -1, room.foreign);
    room.reserved_unused = unused_of(room.reserved, &named, hv_minus(room.foreign, named.taken));
    room.overcommit_left = hv_minus(size->overcommit_pages, surplus);
    guint64 unpromised = hv_minus(room.free, hv_plus(room.resv, room.reserved_unused));
    room.available = hv_minus(hv_plus(unpromised, room.overcommit_left), room.exposed);
    return room;
}

/* Use of a node by others. A floating VM may have its pages anywhere: counted against foreign use,
 * so that more rather than less is kept for the others. */
static guint64 foreign_on_node(const HvWorld *world, const HvPool *pool, guint64 floating)
{
    guint64 held = hv_plus(claimed_pages(world, pool->size_kib, MAPPED, pool->node), floating);
    return hv_minus(hv_pool_in_use(pool), held);
}

guint64 hv_room_on_node(const HvWorld *world, guint64 size_kib, int node)
{
    HvRoom room = hv_room_of_size(world, size_kib);
    return hv_room_on_node_within(world, size_kib, node, &room);
}

guint64 hv_room_on_node_within(const HvWorld *world, guint64 size_kib, int node, const HvRoom *room)
{
    const HvPool *pool = hv_snapshot_pool(world->snapshot, node, size_kib);
    if (pool == NULL)
        return 0;
    guint64 foreign = foreign_on_node(world, pool, room->floating_mapped);
    Named named = named_reservations(world, size_kib, node, foreign_on_node(world, pool, 0));
    guint64 reserved_unused =
        unused_of(reserved_on(world, size_kib, node), &named, hv_minus(foreign, named.taken));
    guint64 promised =
        hv_plus(claimed_pages(world, size_kib, UNMAPPED, node), room->floating_unmapped);
    guint64 on_node = hv_minus(usable_free(world, pool), hv_plus(reserved_unused, promised));
    return MIN(on_node, room->available);
}

guint64 hv_room_growable_on_node_kib(const HvWorld *world, int node)
{
    const HvNode *n = hv_snapshot_node(world->snapshot, node);
    if (n == NULL)
        return 0;
    guint64 floor_kib = n->mem_total_kib / 100 * world->settings->floor_node_percent;
    return hv_minus(n->mem_free_kib + n->reclaimable_kib, n->low_watermark_kib + floor_kib);
}

guint64 hv_room_growable_on_host_kib(const HvWorld *world)
{
    return hv_minus(world->snapshot->mem_available_kib, world->settings->floor_host_kib);
}

guint64 hv_room_promised_growth_kib(const HvWorld *world, int node)
{
    guint64 kib = 0;
    for (guint i = 0; i < world->snapshot->sizes->len; i++) {
        guint64 size_kib = g_array_index(world->snapshot->sizes, HvPageSize, i).size_kib;
        const HvPool *pool = hv_snapshot_pool(world->snapshot, node, size_kib);
        guint64 pages = 0, growth_kib = 0;
        if (node < 0) {
            HvRoom room = hv_room_of_size(world, size_kib);
            pages = hv_minus(room.exposed, hv_minus(room.free, room.resv));
        } else if (pool != NULL) {
            pages =
                hv_minus(claimed_pages(world, size_kib, UNMAPPED, node), usable_free(world, pool));
        }
        if (!hv_checked_mul(pages, size_kib, &growth_kib))
            return G_MAXUINT64;
        kib = hv_plus(kib, growth_kib);
    }
    return kib;
}

guint64 hv_room_plannable_kib(const HvWorld *world, int node)
{
    guint64 growable_kib =
        node < 0 ? hv_room_growable_on_host_kib(world) : hv_room_growable_on_node_kib(world, node);
    return hv_minus(growable_kib, hv_room_promised_growth_kib(world, node));
}

/*
 * Pages of the administrator that their user has let go of for the moment must
 * stay free: a database that restarts finds them again. Reserved pages are among
 * them, since grown pages are never counted into a reservation.
 */
guint64 hv_room_returnable(const HvWorld *world, const HvPool *pool)
{
    guint64 size_kib = pool->size_kib;
    guint64 grown = hv_ledger_grown_pages(world->ledger, pool->node, size_kib);
    guint64 baseline = hv_minus(hv_pool_persistent(pool), grown);
    guint64 floating = claimed_pages(world, size_kib, MAPPED, FLOATING);
    guint64 foreign = foreign_on_node(world, pool, floating);
    guint64 keep = hv_plus(confined_pages(world, pool), hv_minus(baseline, foreign));
    return MIN(grown, hv_minus(usable_free(world, pool), keep));
}
