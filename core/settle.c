/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation. Two things may be open, and both are settled by planning: nothing else
 * knows what can be had.
 *
 * Page sizes (hugepages=large|any): settle-sizes.c.
 *
 * A node (bind_unbound): each node with memory is planned for. Of those that have everything:
 * near the VM's CPUs and devices, with CPUs, with the larger pages, with the least growth, and
 * then the one with the least to spare.
 */
#include "settle.h"

#include "page-size.h"
#include "settle-sizes.h"

/* ---- a node */

/* A node, and what the VM would be on it. The smaller the costs, the first of them first, the
 * better. */
enum {
    COST_REFUSED,
    COST_MISSING,
    COST_DISTANCE,
    COST_CPULESS,
    COST_PAGES,
    COST_GROWTH,
    COST_SPARE,
    N_COSTS
};

typedef struct {
    int node;
    HvRequest *request;
    HvPlan *plan;
    guint64 costs[N_COSTS];
} Candidate;

static void candidate_clear(Candidate *candidate)
{
    hv_request_free(candidate->request);
    hv_plan_free(candidate->plan);
    candidate->request = NULL;
    candidate->plan = NULL;
}

static void bind_needs(HvRequest *request, int node, gboolean is_strict)
{
    HvNodeSet nodes = {0};
    hv_node_set_add(&nodes, node);
    for (guint i = 0; i < request->needs->len; i++) {
        HvNeed *need = &g_array_index(request->needs, HvNeed, i);
        need->nodes = is_strict ? nodes : (HvNodeSet){0};
        need->near = is_strict ? (HvNodeSet){0} : nodes;
        need->policy = is_strict ? HV_POLICY_NONE : HV_POLICY_PREFERRED;
    }
    request->binding = (HvBinding){.node = node, .is_strict = is_strict};
    request->edit.bind = &request->binding;
}

static guint64 sum_kib(const GArray *pages_of_needs, const GArray *needs)
{
    guint64 sum = 0, kib;
    for (guint i = 0; i < pages_of_needs->len; i++)
        if (hv_checked_mul(g_array_index(pages_of_needs, guint64, i),
                           g_array_index(needs, HvNeed, i).size_kib, &kib))
            sum = hv_plus(sum, kib);
    return sum;
}

static void count_costs(const HvWorld *world, const HvNodeSet *near, Candidate *candidate)
{
    const HvPlan *plan = candidate->plan;
    const GArray *needs = candidate->request->needs;
    guint64 *costs = candidate->costs;
    costs[COST_REFUSED] = plan->refusal != NULL;
    costs[COST_MISSING] = sum_kib(plan->missing, needs);
    costs[COST_DISTANCE] = hv_snapshot_distance(world->snapshot, candidate->node, near);
    costs[COST_CPULESS] = hv_snapshot_node(world->snapshot, candidate->node)->is_cpuless;
    for (guint i = 0; i < needs->len; i++)
        costs[COST_PAGES] = hv_plus(costs[COST_PAGES], g_array_index(needs, HvNeed, i).pages);
    for (guint i = 0; i < plan->steps->len; i++)
        costs[COST_GROWTH] =
            hv_plus(costs[COST_GROWTH], g_array_index(plan->steps, HvStep, i).pages *
                                            g_array_index(plan->steps, HvStep, i).size_kib);
    costs[COST_SPARE] = hv_minus(hv_room_growable_on_node_kib(world, candidate->node),
                                 hv_room_promised_growth_kib(world, candidate->node));
}

static gboolean is_better(const Candidate *a, const Candidate *b)
{
    guint i = 0;
    while (i + 1 < N_COSTS && a->costs[i] == b->costs[i])
        i++;
    return b->request == NULL || a->costs[i] < b->costs[i];
}

/* Where the VM is wanted, by its pins and devices. */
static HvNodeSet near_of(const HvRequest *request)
{
    HvNodeSet near = {0};
    for (guint i = 0; i < request->needs->len; i++)
        hv_node_set_unite(&near, &g_array_index(request->needs, HvNeed, i).near);
    return near;
}

/* The most that a VM could have on a node, roughly: what is free there in pages, and to be grown.
 */
static guint64 capacity_kib(const HvWorld *world, int node)
{
    guint64 kib = world->settings->use_dynamic_hugepages ? hv_room_plannable_kib(world, node) : 0;
    for (guint i = 0; i < world->snapshot->pools->len; i++) {
        const HvPool *pool = &g_array_index(world->snapshot->pools, HvPool, i);
        guint64 free_kib;
        if (pool->node == node && hv_checked_mul(pool->free_pages, pool->size_kib, &free_kib))
            kib = hv_plus(kib, free_kib);
    }
    return kib;
}

static guint64 memory_kib(const HvRequest *request)
{
    guint64 sum = 0;
    for (guint i = 0; i < request->needs->len; i++) {
        const HvNeed *need = &g_array_index(request->needs, HvNeed, i);
        guint64 kib = need->memory_kib;
        if (kib == 0 && !hv_checked_mul(need->pages, need->size_kib, &kib))
            kib = G_MAXUINT64;
        sum = hv_plus(sum, kib);
    }
    return sum;
}

/* What nodes must be able to hold to be tried: the VM, or as much as the largest of them can. */
static guint64 capacity_to_try_kib(const HvWorld *world, const HvRequest *request)
{
    guint64 largest_kib = 0;
    for (guint i = 0; i < world->snapshot->nodes->len; i++)
        largest_kib = MAX(largest_kib,
                          capacity_kib(world, g_array_index(world->snapshot->nodes, HvNode, i).id));
    return MIN(largest_kib, memory_kib(request));
}

/* The whole VM on the best node for it. */
static Candidate best_node(const HvWorld *world, const HvRequest *request, GArray *spent)
{
    Candidate best = {.node = -1};
    HvNodeSet near = near_of(request);
    guint64 least_kib = capacity_to_try_kib(world, request);
    for (guint i = 0; i < world->snapshot->nodes->len; i++) {
        const HvNode *node = &g_array_index(world->snapshot->nodes, HvNode, i);
        if (node->mem_total_kib == 0 || capacity_kib(world, node->id) < least_kib)
            continue;
        Candidate candidate = {.node = node->id, .request = hv_request_copy(request)};
        bind_needs(candidate.request, node->id, TRUE);
        candidate.request->open.may_be_normal = FALSE; /* no room on the node was looked for */
        candidate.plan = hv_settle_sizes(world, candidate.request, spent);
        count_costs(world, &near, &candidate);
        gboolean is_first = is_better(&candidate, &best);
        candidate_clear(is_first ? &best : &candidate);
        if (is_first)
            best = candidate;
    }
    return best;
}

static void say_single_node(HvPlan *plan)
{
    HvRefusal *refusal = plan->refusal;
    g_autofree char *hint = g_strdup_printf("set bind_unbound = prefer or none in "
                                            "/etc/hugevm/hugevm.conf, or %s",
                                            refusal->hint);
    plan->refusal = hv_refusal_new(refusal->code, hint,
                                   "no node has room for all of it, as bind_unbound = single-node "
                                   "wants; the best: %s",
                                   refusal->message);
    hv_refusal_free(refusal);
}

/* NULL: the node is not to be settled, or cannot be. */
static HvRequest *settle_node(const HvWorld *world, const HvRequest *request, GArray *spent,
                              HvPlan **out_plan)
{
    if (request->open.bind == HV_BIND_NONE || request->refusal != NULL)
        return NULL;
    Candidate best = best_node(world, request, spent);
    gboolean is_refused = best.plan == NULL || best.plan->refusal != NULL;
    gboolean is_preferred = request->open.bind == HV_BIND_PREFER;
    if (best.plan == NULL || (is_refused && request->open.may_be_normal)) {
        candidate_clear(&best);
        return NULL;
    }
    if (is_preferred) {
        candidate_clear(&best);
        best.request = hv_request_copy(request);
        bind_needs(best.request, best.node, FALSE);
        best.plan = hv_settle_sizes(world, best.request, spent);
    } else if (is_refused && best.plan->refusal->code == HV_ERROR_SHORTAGE) {
        say_single_node(best.plan);
    }
    *out_plan = best.plan;
    return best.request;
}

/* ---- what it comes to in the XML */

/* A refused request says nothing about what was tried last. */
static void forget_choice(HvRequest *request)
{
    g_array_set_size(request->chosen, 0);
    request->edit.bind = NULL;
}

static void note_choice(HvRequest *request)
{
    GArray *chosen = request->chosen;
    gboolean is_uniform = TRUE, is_huge = FALSE;
    for (guint i = 0; i < chosen->len; i++) {
        const HvCellPages *pages = &g_array_index(chosen, HvCellPages, i);
        is_uniform =
            is_uniform && pages->size_kib == g_array_index(chosen, HvCellPages, 0).size_kib;
        is_huge = is_huge || pages->size_kib != 0;
        g_autofree char *name = hv_cell_name(pages->cell);
        if (pages->size_kib == 0)
            g_ptr_array_add(request->warnings,
                            g_strdup_printf("%s gets normal pages: hugepages=any, and no huge "
                                            "pages for it can be had",
                                            name));
    }
    if (is_huge && is_uniform)
        request->edit.add_hugepages_kib = g_array_index(chosen, HvCellPages, 0).size_kib;
    else if (is_huge)
        request->edit.cell_pages = chosen;
    request->needs_mount = request->needs_mount && request->needs->len > 0;
}

HvRequest *hv_settle(const HvWorld *world, const HvRequest *request, GArray *spent,
                     HvPlan **out_plan)
{
    HvRequest *settled = settle_node(world, request, spent, out_plan);
    if (settled == NULL) {
        settled = hv_request_copy(request);
        *out_plan = hv_settle_sizes(world, settled, spent);
        if (request->open.bind != HV_BIND_NONE && (*out_plan)->refusal == NULL)
            g_ptr_array_add(settled->warnings,
                            g_strdup("no node has room for all of it in huge pages: with "
                                     "hugepages=any it is not bound to one"));
    }
    if ((*out_plan)->refusal == NULL)
        note_choice(settled);
    else
        forget_choice(settled);
    return settled;
}
