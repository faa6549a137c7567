/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Per page size, the larger first (a 2 MiB page inside a 1 GiB range blocks it):
 * needs bound to one node, then those that several nodes may serve, then the
 * floating ones. Each takes what is available; what is missing is grown on a node
 * that may give it and has memory above the floor (which of them: choice.c), after
 * larger pages were split as far as the settings allow. What is preferred on a node,
 * or interleaved over some, is got there first, by growth too.
 *
 * A bound need leaves room on its node for the VM's own floating ones, since the
 * kernel may put those there first. That may grow a little too much; the other
 * way round the second cell of a VM fails.
 */
#include "planner.h"

#include "choice.h"
#include "file-backed.h"
#include "page-size.h"
#include "plan-demote.h"
#include "shortage.h"

#include <string.h>

#define NOT_LOOKED G_MAXUINT64

typedef struct {
    const HvWorld *world;
    const GArray *needs;
    const HvAttempt *attempt; /* NULL: none */
    GArray *steps;
    HvDemotion demotion;
    guint64 *node_kib;  /* growable, by index into snapshot->nodes */
    guint64 *grown_kib; /* planned to be grown, by the same index */
    guint64 host_kib;
    HvRoom room;       /* of the size being planned */
    guint64 available; /* in it, what no need has been given yet */
    guint64 *given;    /* of these, per node, what needs that name it have been given */
    guint64 *on_node;  /* available on each node; NOT_LOOKED: nobody has asked yet */
    GArray *missing;   /* per need: pages that cannot be grown */
} Planner;

static const HvNode *node_at(const Planner *planner, guint index)
{
    return &g_array_index(planner->world->snapshot->nodes, HvNode, index);
}

static void planner_init(Planner *planner, const HvWorld *world, GArray *steps)
{
    guint n_nodes = world->snapshot->nodes->len;
    *planner = (Planner){.world = world, .steps = steps};
    planner->node_kib = g_new0(guint64, n_nodes + 1);
    planner->given = g_new0(guint64, n_nodes + 1);
    planner->grown_kib = g_new0(guint64, n_nodes + 1);
    planner->on_node = g_new(guint64, n_nodes + 1);
    planner->host_kib = hv_room_plannable_kib(world, -1);
    for (guint i = 0; i < n_nodes; i++)
        planner->node_kib[i] = hv_room_plannable_kib(world, node_at(planner, i)->id);
}

static void planner_clear(Planner *planner)
{
    hv_demotion_clear(&planner->demotion);
    g_free(planner->node_kib);
    g_free(planner->given);
    g_free(planner->grown_kib);
    g_free(planner->on_node);
}

/* Pages of the size being planned that are available on a node: dear to find out with many VMs. */
static guint64 available_at(Planner *planner, guint index, guint64 size_kib)
{
    guint64 *pages = &planner->on_node[index];
    if (*pages == NOT_LOOKED)
        *pages = hv_room_on_node_within(planner->world, size_kib, node_at(planner, index)->id,
                                        &planner->room);
    return *pages;
}

/* Growth of a pool that is planned already. */
static guint64 planned_pages(const Planner *planner, const HvPool *pool)
{
    guint64 pages = 0;
    for (guint i = 0; i < planner->steps->len; i++) {
        const HvStep *step = &g_array_index(planner->steps, HvStep, i);
        if (step->action == HV_STEP_GROW && step->node == pool->node &&
            step->size_kib == pool->size_kib)
            pages += step->pages;
    }
    return pages;
}

static guint64 growable_pages(const Planner *planner, guint index, guint64 size_kib)
{
    const HvPool *pool =
        hv_snapshot_pool(planner->world->snapshot, node_at(planner, index)->id, size_kib);
    if (pool == NULL)
        return 0;
    guint64 limit = hv_attempt_limit_pages(planner->attempt, HV_STEP_GROW, pool);
    guint64 pages = MIN(planner->node_kib[index], planner->host_kib) / size_kib;
    return limit == G_MAXUINT64 ? pages : MIN(pages, hv_minus(limit, planned_pages(planner, pool)));
}

static void add_step(Planner *planner, guint index, guint64 size_kib, guint64 pages)
{
    int node = node_at(planner, index)->id;
    planner->node_kib[index] -= pages * size_kib;
    planner->grown_kib[index] += pages * size_kib;
    planner->host_kib -= pages * size_kib;
    for (guint i = 0; i < planner->steps->len; i++) {
        HvStep *step = &g_array_index(planner->steps, HvStep, i);
        if (step->action == HV_STEP_GROW && step->node == node && step->size_kib == size_kib) {
            step->pages += pages;
            return;
        }
    }
    HvStep step = {.action = HV_STEP_GROW, .node = node, .size_kib = size_kib, .pages = pages};
    g_array_append_val(planner->steps, step);
}

/* The allowed node that is best for growth, by index; -1: none can grow at all. */
static int choose_node(Planner *planner, const HvNodeSet *allowed, const HvNodeSet *near,
                       guint64 size_kib, guint64 pages)
{
    const HvSnapshot *snapshot = planner->world->snapshot;
    HvPlace best = {0};
    int best_index = -1;
    for (guint i = 0; i < snapshot->nodes->len; i++) {
        int node = node_at(planner, i)->id;
        if (!hv_node_set_is_any(allowed) && !hv_node_set_contains(allowed, node))
            continue;
        HvPlace place = {.growable_pages = growable_pages(planner, i, size_kib)};
        if (place.growable_pages == 0)
            continue;
        place.joined_pages =
            hv_plus(planner->grown_kib[i] / size_kib, available_at(planner, i, size_kib));
        place.distance = hv_snapshot_distance(snapshot, node, near);
        place.is_cpuless = node_at(planner, i)->is_cpuless;
        if (best_index < 0 || hv_place_is_better(&place, &best, pages)) {
            best = place;
            best_index = (int)i;
        }
    }
    return best_index;
}

/* Few nodes rather than many: the best gives all it can, then the next. Returns what is left. */
static guint64 grow(Planner *planner, const HvNodeSet *allowed, const HvNodeSet *near,
                    guint64 size_kib, guint64 pages)
{
    while (pages > 0) {
        int index = choose_node(planner, allowed, near, size_kib, pages);
        if (index < 0)
            break;
        guint64 take = MIN(pages, growable_pages(planner, (guint)index, size_kib));
        add_step(planner, (guint)index, size_kib, take);
        pages -= take;
    }
    return pages;
}

/* What is available to a need that only some nodes may serve. */
static guint64 available_on(Planner *planner, const HvNodeSet *allowed, guint64 size_kib)
{
    guint64 pages = 0;
    for (guint i = 0; i < planner->world->snapshot->nodes->len; i++)
        if (hv_node_set_contains(allowed, node_at(planner, i)->id))
            pages += available_at(planner, i, size_kib);
    return pages;
}

/* 0: one node; 1: several; 2: any. The less choice a need has, the earlier it is served. */
static int choice_rank(const HvNeed *need)
{
    int count = hv_node_set_count(&need->nodes);
    return count == 1 ? 0 : count > 1 ? 1 : 2;
}

/* A node of the need's policy, by index. The kernel leaves out those without memory. */
static gboolean is_near(const Planner *planner, const HvNeed *need, guint index)
{
    const HvNode *node = node_at(planner, index);
    const HvPool *pool = hv_snapshot_pool(planner->world->snapshot, node->id, need->size_kib);
    return hv_node_set_contains(&need->near, node->id) &&
           (node->mem_total_kib > 0 || (pool != NULL && pool->total_pages > 0));
}

static guint count_near(const Planner *planner, const HvNeed *need)
{
    guint n = 0;
    for (guint i = 0; i < planner->world->snapshot->nodes->len; i++)
        n += is_near(planner, need, i);
    return n;
}

/* What the policy wants on the nth of its n nodes, where rest is wanted on none of those before. */
static guint64 share_of(const HvNeed *need, guint64 rest, guint n, guint nth)
{
    return need->policy == HV_POLICY_PREFERRED ? rest : need->pages / n + (nth < need->pages % n);
}

/* Pages of another need that may come to sit on these nodes. */
static guint64 pages_to_come(Planner *planner, const HvNeed *other, const HvNodeSet *nodes)
{
    if (other->policy == HV_POLICY_NONE)
        return other->pages;
    guint n_near = count_near(planner, other), nth = 0;
    guint64 rest = other->pages, here = 0;
    for (guint i = 0; i < planner->world->snapshot->nodes->len; i++) {
        if (!is_near(planner, other, i))
            continue;
        guint64 share = share_of(other, rest, n_near, nth++);
        guint64 room = available_at(planner, i, other->size_kib);
        if (planner->world->settings->use_dynamic_hugepages)
            room = hv_plus(room, growable_pages(planner, i, other->size_kib));
        guint64 got = MIN(share, room);
        if (hv_node_set_contains(nodes, node_at(planner, i)->id))
            here += got;
        rest -= got;
    }
    return here + rest;
}

/* Pages of this request that may sit on the same nodes: needs served earlier, and floating ones. */
static guint64 own_rivals(Planner *planner, const GArray *needs, guint index)
{
    const HvNeed *self = &g_array_index(needs, HvNeed, index);
    guint64 pages = 0;
    for (guint i = 0; i < needs->len; i++) {
        const HvNeed *other = &g_array_index(needs, HvNeed, i);
        int difference = choice_rank(other) - choice_rank(self);
        gboolean is_earlier = difference < 0 || (difference == 0 && i < index);
        gboolean is_rival = is_earlier || hv_node_set_is_any(&other->nodes);
        if (i != index && other->size_kib == self->size_kib && is_rival &&
            hv_node_set_overlaps(&other->nodes, &self->nodes))
            pages = hv_plus(pages, pages_to_come(planner, other, &self->nodes));
    }
    return pages;
}

static void note_given(Planner *planner, const HvNodeSet *nodes, guint64 pages)
{
    planner->available -= pages;
    for (guint i = 0; i < planner->world->snapshot->nodes->len; i++)
        if (hv_node_set_contains(nodes, node_at(planner, i)->id))
            planner->given[i] = hv_plus(planner->given[i], pages);
}

/* New pages on nodes; of those allowed, near ones first. Returns what is left. */
static guint64 add(Planner *planner, const HvNeed *need, const HvNodeSet *allowed, guint64 pages)
{
    if (pages == 0 || !planner->world->settings->use_dynamic_hugepages)
        return pages;
    pages = hv_demotion_get(&planner->demotion, allowed, need->size_kib, pages);
    return grow(planner, allowed, &need->near, need->size_kib, pages);
}

/* A share of a need on a node where it is wanted, free or new. Returns what is left of it. */
static guint64 plan_share(Planner *planner, const HvNeed *need, guint index, guint64 pages)
{
    HvNodeSet here = {0};
    int node = node_at(planner, index)->id;
    hv_node_set_add(&here, node);
    guint64 free_pages = available_at(planner, index, need->size_kib);
    guint64 use = MIN(hv_minus(free_pages, planner->given[index]), planner->available);
    use = MIN(use, pages);
    note_given(planner, &here, use);
    return add(planner, need, &here, pages - use);
}

/*
 * What numatune's preferred and interleave ask for, as far as it can be had: the kernel does the
 * same when QEMU touches the memory, and takes what a node lacks from any other. Returns the rest.
 */
static guint64 plan_by_policy(Planner *planner, const HvNeed *need)
{
    guint n_near = count_near(planner, need), nth = 0;
    guint64 rest = need->pages;
    for (guint i = 0; i < planner->world->snapshot->nodes->len; i++) {
        if (!is_near(planner, need, i))
            continue;
        guint64 share = share_of(need, rest, n_near, nth++);
        rest -= share - plan_share(planner, need, i, share);
    }
    return rest;
}

static void plan_need(Planner *planner, const GArray *needs, guint index)
{
    const HvNeed *need = &g_array_index(needs, HvNeed, index);
    guint64 left = need->policy == HV_POLICY_NONE ? need->pages : plan_by_policy(planner, need);
    guint64 have = planner->available;
    if (!hv_node_set_is_any(&need->nodes)) {
        guint64 here = available_on(planner, &need->nodes, need->size_kib);
        have = MIN(have, hv_minus(here, own_rivals(planner, needs, index)));
    }
    guint64 use = MIN(have, left);
    note_given(planner, &need->nodes, use);
    g_array_index(planner->missing, guint64, index) = add(planner, need, &need->nodes, left - use);
}

/* Pages of a size that the steps would bring. */
static guint64 brought_by(const GArray *steps, guint64 size_kib)
{
    guint64 pages = 0;
    for (guint i = 0; i < steps->len; i++) {
        const HvStep *step = &g_array_index(steps, HvStep, i);
        if (step->action == HV_STEP_GROW && step->size_kib == size_kib)
            pages = hv_plus(pages, step->pages);
        else if (step->action == HV_STEP_DEMOTE && step->to_kib == size_kib)
            pages = hv_plus(pages, step->pages * (step->size_kib / size_kib));
    }
    return pages;
}

/* Pages that an earlier plan for this very start may have added already. */
static guint64 got_before(const Planner *planner, guint64 size_kib)
{
    const HvWorld *world = planner->world;
    if (planner->attempt != NULL && planner->attempt->left != NULL)
        return hv_minus(hv_needs_pages(planner->needs, size_kib),
                        brought_by(planner->attempt->left, size_kib));
    const HvClaim *own =
        world->self_uuid != NULL ? hv_ledger_claim(world->ledger, world->self_uuid) : NULL;
    return own != NULL ? hv_needs_pages(own->needs, size_kib) : 0;
}

static void plan_size(Planner *planner, const HvRequest *request, guint64 size_kib)
{
    const HvSettings *settings = planner->world->settings;
    gboolean use_free = settings->use_preallocated_hugepages || !settings->use_dynamic_hugepages;
    planner->room = hv_room_of_size(planner->world, size_kib);
    for (guint i = 0; i < planner->world->snapshot->nodes->len; i++) {
        planner->given[i] = 0;
        planner->on_node[i] = NOT_LOOKED;
    }
    planner->available = use_free ? planner->room.available
                                  : MIN(planner->room.available, got_before(planner, size_kib));
    for (int rank = 0; rank <= 2; rank++)
        for (guint i = 0; i < request->needs->len; i++) {
            const HvNeed *need = &g_array_index(request->needs, HvNeed, i);
            if (need->size_kib == size_kib && choice_rank(need) == rank)
                plan_need(planner, request->needs, i);
        }
}

static HvShortage shortage_at(Planner *planner, guint64 size_kib, const HvNodeSet *nodes)
{
    HvShortage shortage = {.size_kib = size_kib, .nodes = *nodes};
    for (guint i = 0; i < planner->needs->len; i++) {
        const HvNeed *need = &g_array_index(planner->needs, HvNeed, i);
        if (need->size_kib != size_kib)
            continue;
        guint64 missing = g_array_index(planner->missing, guint64, i);
        shortage.missing_of_size = hv_plus(shortage.missing_of_size, missing);
        if (memcmp(&need->nodes, nodes, sizeof *nodes) != 0)
            continue;
        shortage.wanted = hv_plus(shortage.wanted, need->pages);
        shortage.missing = hv_plus(shortage.missing, missing);
    }
    shortage.available = planner->room.available;
    if (!hv_node_set_is_any(nodes))
        shortage.available = MIN(shortage.available, available_on(planner, nodes, size_kib));
    return shortage;
}

/* The largest one of a size as a refusal; NULL: nothing of this size is missing. */
static HvRefusal *refuse(Planner *planner, const HvRequest *request, guint64 size_kib)
{
    HvShortage worst = {.missing = 0};
    for (guint i = 0; i < planner->needs->len; i++) {
        const HvNeed *need = &g_array_index(planner->needs, HvNeed, i);
        if (need->size_kib != size_kib || g_array_index(planner->missing, guint64, i) == 0)
            continue;
        HvShortage shortage = shortage_at(planner, size_kib, &need->nodes);
        if (shortage.missing > worst.missing)
            worst = shortage;
    }
    return worst.missing > 0 ? hv_shortage_refusal(planner->world, request, &worst) : NULL;
}

/* The next smaller size among the needs, starting above all; 0: no more. */
static guint64 next_size_kib(const GArray *needs, guint64 below_kib)
{
    guint64 next = 0;
    for (guint i = 0; i < needs->len; i++) {
        guint64 size_kib = g_array_index(needs, HvNeed, i).size_kib;
        if (size_kib < below_kib && size_kib > next)
            next = size_kib;
    }
    return next;
}

HvPlan *hv_plan_new(const HvWorld *world, const HvRequest *request)
{
    return hv_plan_again(world, request, NULL);
}

HvPlan *hv_plan_again(const HvWorld *world, const HvRequest *request, const HvAttempt *attempt)
{
    HvPlan *plan = g_new0(HvPlan, 1);
    plan->steps = g_array_new(FALSE, TRUE, sizeof(HvStep));
    plan->missing = g_array_new(FALSE, TRUE, sizeof(guint64));
    g_array_set_size(plan->missing, request->needs->len);
    if (request->refusal != NULL) {
        plan->refusal = hv_refusal_copy(request->refusal);
        return plan;
    }
    if (request->file_kib > 0) {
        plan->refusal = hv_file_refusal(world, request);
        return plan;
    }
    Planner planner;
    planner_init(&planner, world, plan->steps);
    planner.needs = request->needs;
    planner.attempt = attempt;
    planner.missing = plan->missing;
    hv_demotion_init(&planner.demotion, world, request->needs, attempt, plan->steps);
    guint64 size_kib = next_size_kib(request->needs, G_MAXUINT64);
    for (; size_kib != 0; size_kib = next_size_kib(request->needs, size_kib)) {
        plan_size(&planner, request, size_kib);
        if (plan->refusal == NULL)
            plan->refusal = refuse(&planner, request, size_kib);
    }
    if (plan->refusal != NULL)
        g_array_set_size(plan->steps, 0);
    planner_clear(&planner);
    return plan;
}

void hv_plan_free(HvPlan *plan)
{
    if (plan == NULL)
        return;
    g_array_unref(plan->steps);
    g_array_unref(plan->missing);
    hv_refusal_free(plan->refusal);
    g_free(plan);
}

const char *hv_step_action_name(HvStepAction action)
{
    return action == HV_STEP_DEMOTE ? "demote" : "grow";
}

guint64 hv_attempt_limit_pages(const HvAttempt *attempt, HvStepAction action, const HvPool *pool)
{
    guint64 limit = G_MAXUINT64;
    for (guint i = 0; attempt != NULL && i < attempt->spent->len; i++) {
        const HvStep *step = &g_array_index(attempt->spent, HvStep, i);
        if (step->action == action && step->node == pool->node && step->size_kib == pool->size_kib)
            limit = attempt->left != NULL ? 0 : MIN(limit, step->pages);
    }
    return limit;
}
