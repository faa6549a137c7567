/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Memory that is free is not yet memory for a huge page: that has to lie in one piece. A plan goes
 * by memory and its floor, since only the kernel can tell what it will make of it; who places VMs,
 * or looks before he starts one, wants to know beforehand. Per node and size:
 *
 *   at once   free blocks of the size or larger. The kernel gives these without effort.
 *   likely    at once + what compaction can make up of free blocks that are too small and lie
 *             among movable pages. The fuller that memory is, the more has to be moved, and the
 *             sooner the kernel gives up: of the scattered memory that share counts which is free
 *             there. Less one huge page for each pinned small page, which may be anywhere.
 *             Unmovable and reclaimable pageblocks (kernel memory) give nothing but what is in one
 *             piece. How many file pages the kernel lets go of for huge pages is a matter of luck
 *             (none to three quarters were seen), so they count under `drop_caches` only. With
 *             `compact` off, it is what is there at once.
 *   memory    what memory above its floor allows. The other two are never more.
 *
 * At once and likely are less by 1/64: some blocks the kernel keeps for itself, some are taken by
 * others before a start comes to them.
 *
 * Pinned is what the kernel counts as such on the node, less the huge pages in use, which are
 * pinned in VMs with passed-through devices, and less the noise of a counter kept per processor.
 * Pages that are held in other ways (vmsplice) nobody counts, and they are forecast too well.
 *
 * Sizes above the largest block (1 GiB on x86) need an aligned range that holds no page which
 * cannot be moved, and where the kernel's own memory lies, no file tells. What it takes while it
 * boots, some 128 MiB of a zone, lies in one place; what it takes later, in clusters of some 8 MiB,
 * which are taken to be spread evenly over the ranges of the zone (a host of 24 GiB with 452 MiB of
 * such memory had 3 to 5 ranges without it, of 20):
 *
 *   at once   none for sure
 *   likely    ranges x (1 - 1/ranges)^places, less those that are huge pages already
 *
 * Who is not root sees no types: nothing is then counted on that would have to be moved. Measured
 * in tests/kernel/hugevm-forecast.sh.
 */
#include "forecast.h"

#include "page-size.h"
#include "zones.h"

#define FIXED_AT_BOOT_KIB (128 * 1024)
#define FIXED_CLUSTER_KIB ((guint64)8 * 1024)
#define MARGIN_SHARE 64
#define RANGES_MAX (1024 * 1024)
#define PIN_NOISE_SHARE 1024 /* of a node's pages */

/* Such that 2^order base pages make a page of the size; HV_ORDERS_MAX: there is none. */
static guint order_of(const HvSnapshot *snapshot, guint64 size_kib)
{
    guint order = 0;
    guint64 kib = snapshot->base_page_kib;
    while (order < HV_ORDERS_MAX && kib > 0 && kib < size_kib) {
        kib *= 2;
        order++;
    }
    return kib == size_kib ? order : HV_ORDERS_MAX;
}

static guint64 kib_of_blocks(const HvSnapshot *snapshot, guint64 blocks, guint order)
{
    guint64 kib = 0;
    return hv_checked_mul(blocks, snapshot->base_page_kib << order, &kib) ? kib : G_MAXUINT64;
}

static guint64 total_pages(const HvPool *pool)
{
    return pool->total_pages;
}

/* Huge pages of a node, of all sizes. */
static guint64 huge_kib(const HvSnapshot *snapshot, int node, guint64 (*pages)(const HvPool *))
{
    guint64 sum_kib = 0, kib = 0;
    for (guint i = 0; i < snapshot->pools->len; i++) {
        const HvPool *pool = &g_array_index(snapshot->pools, HvPool, i);
        if (pool->node == node && hv_checked_mul(pages(pool), pool->size_kib, &kib))
            sum_kib = hv_plus(sum_kib, kib);
    }
    return sum_kib;
}

/* Pinned pages that are no huge pages. */
static guint64 pinned_small_pages(const HvSnapshot *snapshot, const HvNode *node)
{
    guint64 in_use_kib = huge_kib(snapshot, node->id, hv_pool_in_use);
    guint64 noise = node->mem_total_kib / snapshot->base_page_kib / PIN_NOISE_SHARE;
    return hv_minus(node->pinned_pages, in_use_kib / snapshot->base_page_kib + noise);
}

/* A node's memory, as far as it matters for blocks of one order. */
typedef struct {
    guint64 whole_kib;     /* in free blocks of the order or larger */
    guint64 scattered_kib; /* in smaller ones, among movable pages */
    guint64 movable_kib;   /* all that may be moved, with the scattered memory between */
} Lie;

static void add_zone(const HvSnapshot *snapshot, const HvZone *zone, guint order, Lie *lie)
{
    guint64 movable_whole_kib = 0;
    for (guint i = 0; i < zone->n_orders; i++) {
        guint64 movable_kib = kib_of_blocks(snapshot, zone->movable_free_blocks[i], i);
        if (i < order) {
            lie->scattered_kib = hv_plus(lie->scattered_kib, zone->has_types ? movable_kib : 0);
            continue;
        }
        lie->whole_kib = hv_plus(lie->whole_kib, kib_of_blocks(snapshot, zone->free_blocks[i], i));
        movable_whole_kib = hv_plus(movable_whole_kib, movable_kib);
    }
    lie->movable_kib = hv_plus(lie->movable_kib, hv_minus(zone->movable_kib, movable_whole_kib));
}

/* What compaction is likely to make up of scattered memory. */
static guint64 compacted_kib(const HvWorld *world, const HvNode *node, const Lie *lie)
{
    guint64 huge = huge_kib(world->snapshot, node->id, total_pages);
    guint64 room_kib =
        hv_minus(lie->movable_kib, huge); /* these are neither moved nor in the way */
    guint64 free_kib = lie->scattered_kib;
    if (world->settings->drop_caches)
        free_kib = hv_plus(free_kib, node->file_kib);
    if (lie->movable_kib == 0) /* or none that is known */
        return 0;
    if (free_kib >= room_kib)
        return free_kib;
    return (guint64)((double)free_kib * ((double)free_kib / (double)room_kib));
}

/* Sizes that the kernel keeps free blocks of. */
static HvGrowth growth_by_blocks(const HvWorld *world, const HvNode *node, guint order)
{
    const HvSnapshot *snapshot = world->snapshot;
    guint64 size_kib = snapshot->base_page_kib << order;
    guint64 promised_kib = hv_room_promised_growth_kib(world, node->id);
    Lie lie = {0};
    for (guint i = 0; i < snapshot->zones->len; i++) {
        const HvZone *zone = &g_array_index(snapshot->zones, HvZone, i);
        if (zone->node == node->id)
            add_zone(snapshot, zone, order, &lie);
    }
    HvGrowth growth = {.at_once_pages = hv_minus(lie.whole_kib, promised_kib) / size_kib};
    growth.likely_pages = growth.at_once_pages;
    if (!world->settings->compact)
        return growth;
    guint64 likely_kib = hv_plus(lie.whole_kib, compacted_kib(world, node, &lie));
    guint64 likely_pages = hv_minus(likely_kib, promised_kib) / size_kib;
    growth.likely_pages =
        MAX(growth.at_once_pages, hv_minus(likely_pages, pinned_small_pages(snapshot, node)));
    return growth;
}

/* Of so many ranges, those that are hit by none of so many places. */
static guint64 spared(guint64 ranges, guint64 places)
{
    double left = (double)ranges;
    for (guint64 i = 0; i < places && left >= 1; i++)
        left *= 1 - 1 / (double)ranges;
    return (guint64)left;
}

/* Ranges of a zone that may be free of memory which cannot be moved. */
static guint64 spared_ranges(const HvSnapshot *snapshot, const HvZone *zone, guint64 size_kib)
{
    guint64 ranges = MIN(kib_of_blocks(snapshot, zone->managed_pages, 0) / size_kib, RANGES_MAX);
    guint64 places = 1 + hv_minus(zone->fixed_kib, FIXED_AT_BOOT_KIB) /
                             MAX(FIXED_CLUSTER_KIB, zone->pageblock_kib);
    return zone->fixed_kib == 0 ? ranges : spared(ranges, places);
}

/* Sizes that are larger than any free block. Huge pages are taken to lie together. */
static HvGrowth growth_by_ranges(const HvWorld *world, const HvNode *node, guint64 size_kib)
{
    const HvSnapshot *snapshot = world->snapshot;
    guint64 ranges = 0;
    for (guint i = 0; i < snapshot->zones->len; i++) {
        const HvZone *zone = &g_array_index(snapshot->zones, HvZone, i);
        if (zone->node == node->id && zone->has_types)
            ranges += spared_ranges(snapshot, zone, size_kib);
    }
    guint64 taken = hv_pages_for_kib(huge_kib(snapshot, node->id, total_pages), size_kib);
    guint64 spoiled = hv_plus(taken, pinned_small_pages(snapshot, node));
    return (HvGrowth){.likely_pages = hv_minus(ranges, spoiled)};
}

static guint64 with_margin(guint64 pages)
{
    return pages - pages / MARGIN_SHARE;
}

static HvGrowth growth_on_node(const HvWorld *world, guint64 size_kib, const HvNode *node)
{
    const HvSnapshot *snapshot = world->snapshot;
    HvGrowth growth = {0};
    if (hv_snapshot_pool(snapshot, node->id, size_kib) == NULL)
        return growth;
    guint64 memory_pages = hv_room_plannable_kib(world, node->id) / size_kib;
    growth = (HvGrowth){memory_pages, memory_pages, memory_pages};
    if (snapshot->zones == NULL)
        return growth;
    guint order = order_of(snapshot, size_kib);
    guint n_orders =
        snapshot->zones->len > 0 ? g_array_index(snapshot->zones, HvZone, 0).n_orders : 0;
    HvGrowth found = order < n_orders ? growth_by_blocks(world, node, order)
                                      : growth_by_ranges(world, node, size_kib);
    growth.at_once_pages = MIN(memory_pages, with_margin(found.at_once_pages));
    growth.likely_pages = MIN(memory_pages, with_margin(found.likely_pages));
    return growth;
}

HvGrowth hv_forecast_growth(const HvWorld *world, guint64 size_kib, int node)
{
    guint64 host_pages = hv_room_plannable_kib(world, -1) / size_kib;
    HvGrowth sum = {0};
    for (guint i = 0; i < world->snapshot->nodes->len; i++) {
        const HvNode *here = &g_array_index(world->snapshot->nodes, HvNode, i);
        if (node >= 0 && here->id != node)
            continue;
        HvGrowth growth = growth_on_node(world, size_kib, here);
        sum.at_once_pages = hv_plus(sum.at_once_pages, growth.at_once_pages);
        sum.likely_pages = hv_plus(sum.likely_pages, growth.likely_pages);
        sum.memory_pages = hv_plus(sum.memory_pages, growth.memory_pages);
    }
    return (HvGrowth){MIN(host_pages, sum.at_once_pages), MIN(host_pages, sum.likely_pages),
                      MIN(host_pages, sum.memory_pages)};
}

/* Pages that any node may give. */
static guint64 movable_pages(const HvRequest *request, guint64 size_kib)
{
    guint64 pages = 0;
    for (guint i = 0; i < request->needs->len; i++) {
        const HvNeed *need = &g_array_index(request->needs, HvNeed, i);
        if (need->size_kib == size_kib && hv_node_set_is_any(&need->nodes))
            pages = hv_plus(pages, need->pages);
    }
    return pages;
}

/* Of a plan's growth in one size: what other nodes are likely to give instead. */
static gboolean is_had_elsewhere(const HvWorld *world, const HvRequest *request, const HvPlan *plan,
                                 const HvStep *step, guint64 missing)
{
    guint64 pages = 0;
    for (guint i = 0; i < plan->steps->len; i++) {
        const HvStep *other = &g_array_index(plan->steps, HvStep, i);
        if (other->action == HV_STEP_GROW && other->size_kib == step->size_kib)
            pages = hv_plus(pages, other->pages);
    }
    return missing <= movable_pages(request, step->size_kib) &&
           pages <= hv_forecast_growth(world, step->size_kib, -1).likely_pages;
}

/* Memory that steps before this one take from its node. */
static guint64 taken_before_kib(const HvPlan *plan, guint index)
{
    const HvStep *step = &g_array_index(plan->steps, HvStep, index);
    guint64 kib = 0;
    for (guint i = 0; i < index; i++) {
        const HvStep *other = &g_array_index(plan->steps, HvStep, i);
        if (other->action == HV_STEP_GROW && other->node == step->node)
            kib = hv_plus(kib, other->pages * other->size_kib);
    }
    return kib;
}

void hv_forecast_warn(const HvWorld *world, const HvRequest *request, const HvPlan *plan,
                      GPtrArray *warnings)
{
    for (guint i = 0; i < plan->steps->len; i++) {
        const HvStep *step = &g_array_index(plan->steps, HvStep, i);
        if (step->action != HV_STEP_GROW)
            continue;
        HvGrowth growth = hv_forecast_growth(world, step->size_kib, step->node);
        guint64 taken_pages = hv_pages_for_kib(taken_before_kib(plan, i), step->size_kib);
        guint64 likely_pages = hv_minus(growth.likely_pages, taken_pages);
        if (likely_pages >= step->pages ||
            is_had_elsewhere(world, request, plan, step, step->pages - likely_pages))
            continue;
        g_autofree char *size = hv_format_kib(step->size_kib);
        g_ptr_array_add(warnings,
                        g_strdup_printf("node %d is likely to give only about %" G_GUINT64_FORMAT
                                        " of the %" G_GUINT64_FORMAT
                                        " pages of %s to be grown there: its free "
                                        "memory lies in pieces (in one piece: %" G_GUINT64_FORMAT
                                        "); a start tries all the same",
                                        step->node, likely_pages, step->pages, size,
                                        hv_minus(growth.at_once_pages, taken_pages)));
    }
}

/* With use_preallocated_hugepages off, the whole of a VM is grown, and free pages are left alone.
 */
static guint64 allocatable(const HvWorld *world, guint64 size_kib, int node, guint64 available)
{
    const HvSettings *settings = world->settings;
    if (!settings->use_dynamic_hugepages)
        return available;
    return hv_plus(settings->use_preallocated_hugepages ? available : 0,
                   hv_forecast_growth(world, size_kib, node).likely_pages);
}

guint64 hv_forecast_allocatable_pages(const HvWorld *world, const HvPool *pool)
{
    return allocatable(world, pool->size_kib, pool->node,
                       hv_room_on_node(world, pool->size_kib, pool->node));
}

guint64 hv_forecast_allocatable_of_size(const HvWorld *world, guint64 size_kib)
{
    return allocatable(world, size_kib, -1, hv_room_of_size(world, size_kib).available);
}
