/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plan-demote.h"

#include "page-size.h"

#define NO_POOL (-1)

/* By the same index as the snapshot's. */
typedef struct {
    int next;             /* the pool that its pages are split into; NO_POOL: they are not */
    HvRoom room;          /* of this size, without pages that are not there */
    guint64 left_of_size; /* that may be split yet, over all nodes */
    gboolean is_known;    /* the next one: it is worth computing for a few pools only */
    guint64 free_pages;   /* that may be split, and have not been */
    guint64 piece_pages;  /* of larger pages that were split, and given to no need yet */
} Splitting;

void hv_demotion_init(HvDemotion *demotion, const HvWorld *world, const GArray *needs,
                      const HvAttempt *attempt, GArray *steps)
{
    *demotion = (HvDemotion){.world = world, .needs = needs, .attempt = attempt, .steps = steps};
}

void hv_demotion_clear(HvDemotion *demotion)
{
    g_clear_pointer(&demotion->pools, g_array_unref);
}

static const HvPool *pool_at(const HvWorld *world, int index)
{
    return &g_array_index(world->snapshot->pools, HvPool, index);
}

static Splitting *at(const HvDemotion *demotion, int index)
{
    return &g_array_index(demotion->pools, Splitting, index);
}

static gboolean is_on(const HvPool *pool, const HvNodeSet *allowed)
{
    return hv_node_set_is_any(allowed) || hv_node_set_contains(allowed, pool->node);
}

/* What the kernel splits pages of this pool into, on its node. */
static int next_pool(const HvWorld *world, const HvPool *pool)
{
    const HvPageSize *size = hv_snapshot_size(world->snapshot, pool->size_kib);
    guint64 next_kib = size != NULL ? size->demote_size_kib : 0;
    if (next_kib == 0 || next_kib >= pool->size_kib || pool->size_kib % next_kib != 0)
        return NO_POOL;
    const HvPool *next = hv_snapshot_pool(world->snapshot, pool->node, next_kib);
    return next != NULL ? (int)(next - pool_at(world, 0)) : NO_POOL;
}

/* Pages of the pool's size that the request itself may take from its node. */
static guint64 needed_here(const GArray *needs, const HvPool *pool)
{
    guint64 pages = 0;
    for (guint i = 0; i < needs->len; i++) {
        const HvNeed *need = &g_array_index(needs, HvNeed, i);
        if (need->size_kib == pool->size_kib && is_on(pool, &need->nodes))
            pages = hv_plus(pages, need->pages);
    }
    return pages;
}

static void look_at_size(HvDemotion *demotion, guint64 size_kib)
{
    const HvWorld *world = demotion->world;
    HvRoom room = hv_plan_room_to_split(world, size_kib);
    guint64 left = hv_minus(room.available, hv_needs_pages(demotion->needs, size_kib));
    for (int i = 0; i < (int)world->snapshot->pools->len; i++) {
        const HvPool *pool = pool_at(world, i);
        gboolean is_spent =
            hv_attempt_limit_pages(demotion->attempt, HV_STEP_DEMOTE, pool) != G_MAXUINT64;
        if (pool->size_kib == size_kib)
            *at(demotion, i) = (Splitting){.next = is_spent ? NO_POOL : next_pool(world, pool),
                                           .room = room,
                                           .left_of_size = left};
    }
}

static void look(HvDemotion *demotion)
{
    const HvSnapshot *snapshot = demotion->world->snapshot;
    demotion->pools = g_array_new(FALSE, TRUE, sizeof(Splitting));
    g_array_set_size(demotion->pools, snapshot->pools->len);
    for (guint i = 0; i < snapshot->sizes->len; i++)
        look_at_size(demotion, g_array_index(snapshot->sizes, HvPageSize, i).size_kib);
}

/* Pages of the pool that can be split: free ones, and pieces of larger ones. */
static guint64 splittable(const HvDemotion *demotion, int index)
{
    Splitting *splitting = at(demotion, index);
    const HvPool *pool = pool_at(demotion->world, index);
    guint64 needed = splitting->is_known ? 0 : needed_here(demotion->needs, pool);
    if (!splitting->is_known && needed < pool->free_pages)
        splitting->free_pages = hv_minus(
            hv_plan_demotable_pages_within(demotion->world, pool, &splitting->room), needed);
    splitting->is_known = TRUE;
    return MIN(splitting->free_pages, splitting->left_of_size) + splitting->piece_pages;
}

static gboolean leads_to(const HvDemotion *demotion, int index, guint64 size_kib)
{
    do
        index = at(demotion, index)->next;
    while (index != NO_POOL && pool_at(demotion->world, index)->size_kib > size_kib);
    return index != NO_POOL && pool_at(demotion->world, index)->size_kib == size_kib;
}

/* What is promised is promised for the size, not for a pool: all of them have less to split now. */
static void take_of_size(HvDemotion *demotion, guint64 size_kib, guint64 pages)
{
    for (int i = 0; i < (int)demotion->pools->len; i++)
        if (pool_at(demotion->world, i)->size_kib == size_kib)
            at(demotion, i)->left_of_size -= pages;
}

/* Splits pages of one pool into pieces of the next size. */
static void add_step(HvDemotion *demotion, int index, guint64 pages)
{
    Splitting *splitting = at(demotion, index);
    const HvPool *pool = pool_at(demotion->world, index);
    HvStep step = {.action = HV_STEP_DEMOTE,
                   .node = pool->node,
                   .size_kib = pool->size_kib,
                   .pages = pages,
                   .to_kib = pool_at(demotion->world, splitting->next)->size_kib};
    guint64 pieces = MIN(pages, splitting->piece_pages);
    splitting->piece_pages -= pieces;
    splitting->free_pages -= pages - pieces;
    take_of_size(demotion, pool->size_kib, pages - pieces);
    at(demotion, splitting->next)->piece_pages += pages * (step.size_kib / step.to_kib);
    g_array_append_val(demotion->steps, step);
}

/* From this pool down to the size that is wanted, to which it leads. FALSE: nothing to split. */
static gboolean split_down(HvDemotion *demotion, int index, guint64 size_kib, guint64 pages)
{
    guint64 large_kib;
    for (; (large_kib = pool_at(demotion->world, index)->size_kib) > size_kib;
         index = at(demotion, index)->next) {
        guint64 ratio = large_kib / size_kib;
        guint64 split = MIN(pages / ratio + (pages % ratio != 0), splittable(demotion, index));
        if (split == 0)
            return FALSE;
        add_step(demotion, index, split);
    }
    return TRUE;
}

/* Gives a need pieces that lie ready. Returns what is left. */
static guint64 take_pieces(HvDemotion *demotion, const HvNodeSet *allowed, guint64 size_kib,
                           guint64 pages)
{
    for (int i = 0; i < (int)demotion->pools->len && pages > 0; i++) {
        const HvPool *pool = pool_at(demotion->world, i);
        if (pool->size_kib != size_kib || !is_on(pool, allowed))
            continue;
        guint64 pieces = MIN(pages, at(demotion, i)->piece_pages);
        at(demotion, i)->piece_pages -= pieces;
        pages -= pieces;
    }
    return pages;
}

guint64 hv_demotion_get(HvDemotion *demotion, const HvNodeSet *allowed, guint64 size_kib,
                        guint64 pages)
{
    const HvSnapshot *snapshot = demotion->world->snapshot;
    if (demotion->pools == NULL)
        look(demotion);
    pages = take_pieces(demotion, allowed, size_kib, pages);
    for (guint s = 0; s < snapshot->sizes->len; s++) {
        guint64 large_kib = g_array_index(snapshot->sizes, HvPageSize, s).size_kib;
        for (int i = 0; i < (int)snapshot->pools->len && large_kib > size_kib; i++) {
            const HvPool *pool = pool_at(demotion->world, i);
            if (pages == 0 || pool->size_kib != large_kib || !is_on(pool, allowed) ||
                !leads_to(demotion, i, size_kib))
                continue;
            if (split_down(demotion, i, size_kib, pages))
                pages = take_pieces(demotion, allowed, size_kib, pages);
        }
    }
    return pages;
}

guint64 hv_plan_demotable_into_pages(const HvWorld *world, guint64 size_kib, int node)
{
    guint64 pages = 0;
    HvDemotion demotion;
    g_autoptr(GArray) none = g_array_new(FALSE, FALSE, sizeof(HvNeed));
    hv_demotion_init(&demotion, world, none, NULL, NULL);
    look(&demotion);
    for (int i = 0; i < (int)demotion.pools->len; i++) {
        const HvPool *pool = pool_at(world, i);
        if (pool->size_kib > size_kib && (node < 0 || pool->node == node) &&
            leads_to(&demotion, i, size_kib))
            pages = hv_plus(pages, splittable(&demotion, i) * (pool->size_kib / size_kib));
    }
    hv_demotion_clear(&demotion);
    return pages;
}
