/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation. Two things may be open, and both are settled by planning: nothing else
 * knows what can be had.
 *
 * Page sizes (hugepages=large|any): every guest cell begins with the largest size that divides
 * its memory. As long as the plan is short of pages, the cell that lacks most falls by one size;
 * at the end of `any` are normal pages. A memory device without a size of its own goes with its
 * cell, as libvirt has it.
 *
 * A node (bind_unbound): each node with memory is planned for. Of those that have everything:
 * near the VM's CPUs and devices, with CPUs, with the larger pages, with the least growth, and
 * then the one with the least to spare.
 */
#include "settle.h"

#include "error.h"
#include "page-size.h"

#include <string.h>

/* ---- page sizes */

static gboolean is_open(const HvNeed *need, int cell)
{
    return need->memory_kib != 0 && need->cell == cell;
}

static gboolean divides(const GArray *needs, int cell, guint64 size_kib)
{
    for (guint i = 0; i < needs->len; i++) {
        const HvNeed *need = &g_array_index(needs, HvNeed, i);
        if (is_open(need, cell) && need->memory_kib % size_kib != 0)
            return FALSE;
    }
    return TRUE;
}

/* The largest size below another that will do for a cell; 0: normal pages. FALSE: there is none. */
static gboolean next_size(const HvRequest *request, const GArray *asked, int cell,
                          guint64 below_kib, guint64 *out_kib)
{
    const HvOpen *open = &request->open;
    for (guint i = 0; i < open->sizes->len; i++) {
        guint64 size_kib = g_array_index(open->sizes, guint64, i);
        if (size_kib < below_kib && divides(asked, cell, size_kib)) {
            *out_kib = size_kib;
            return TRUE;
        }
    }
    *out_kib = 0;
    return below_kib > 0 && open->may_be_normal;
}

static HvCellPages *chosen_for(const HvRequest *request, int cell)
{
    for (guint i = 0; i < request->chosen->len; i++) {
        HvCellPages *pages = &g_array_index(request->chosen, HvCellPages, i);
        if (pages->cell == cell)
            return pages;
    }
    return NULL;
}

static char *cell_name(int cell)
{
    return cell < 0 ? g_strdup("the guest") : g_strdup_printf("guest cell %d", cell);
}

static void refuse_cell(HvRequest *request, int cell)
{
    g_autofree char *name = cell_name(cell);
    if (request->refusal == NULL)
        request->refusal = hv_refusal_new(
            HV_ERROR_XML, "give it a multiple of one of them, or set hugepages=any",
            "the memory of %s is no multiple of any huge page size of this host", name);
}

/* The largest size for each cell. */
static void choose_largest(HvRequest *request, const GArray *asked)
{
    for (guint i = 0; i < asked->len; i++) {
        const HvNeed *need = &g_array_index(asked, HvNeed, i);
        HvCellPages pages = {.cell = need->cell};
        if (need->memory_kib == 0 || chosen_for(request, need->cell) != NULL)
            continue;
        if (!next_size(request, asked, need->cell, G_MAXUINT64, &pages.size_kib))
            refuse_cell(request, need->cell);
        g_array_append_val(request->chosen, pages);
    }
}

/* The needs as they are with the sizes chosen. */
static void fill_needs(HvRequest *request, const GArray *asked)
{
    g_array_set_size(request->needs, 0);
    for (guint i = 0; i < asked->len; i++) {
        HvNeed need = g_array_index(asked, HvNeed, i);
        if (need.memory_kib != 0) {
            need.size_kib = chosen_for(request, need.cell)->size_kib;
            if (need.size_kib == 0)
                continue;
            need.pages = need.memory_kib / need.size_kib;
        }
        g_array_append_val(request->needs, need);
    }
}

/* Lets the cell that lacks most, and can, have a smaller size. FALSE: there is none. */
static gboolean fall(HvRequest *request, const GArray *asked, const HvPlan *plan)
{
    HvCellPages *worst = NULL;
    guint64 worst_kib = 0, worst_next_kib = 0;
    for (guint i = 0; i < plan->missing->len; i++) {
        const HvNeed *need = &g_array_index(request->needs, HvNeed, i);
        guint64 missing_kib, next_kib;
        if (need->memory_kib == 0)
            continue;
        missing_kib = g_array_index(plan->missing, guint64, i) * need->size_kib; /* <= memory */
        if (missing_kib > worst_kib &&
            next_size(request, asked, need->cell, need->size_kib, &next_kib)) {
            worst = chosen_for(request, need->cell);
            worst_kib = missing_kib;
            worst_next_kib = next_kib;
        }
    }
    if (worst != NULL)
        worst->size_kib = worst_next_kib;
    return worst != NULL;
}

static HvPlan *plan_request(const HvWorld *world, const HvRequest *request, GArray *spent)
{
    HvAttempt attempt = {.spent = spent};
    return hv_plan_again(world, request, spent != NULL ? &attempt : NULL);
}

/* Settles the sizes of a request whose needs are bound as they are to be. */
static HvPlan *settle_sizes(const HvWorld *world, HvRequest *request, GArray *spent)
{
    g_autoptr(GArray) asked = g_array_copy(request->needs);
    choose_largest(request, asked);
    for (;;) {
        fill_needs(request, asked);
        HvPlan *plan = plan_request(world, request, spent);
        if (plan->refusal == NULL || plan->refusal->code != HV_ERROR_SHORTAGE ||
            request->refusal != NULL || !fall(request, asked, plan))
            return plan;
        hv_plan_free(plan);
    }
}

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

/* The whole VM on the best node for it. */
static Candidate best_node(const HvWorld *world, const HvRequest *request, GArray *spent)
{
    Candidate best = {.node = -1};
    HvNodeSet near = near_of(request);
    for (guint i = 0; i < world->snapshot->nodes->len; i++) {
        const HvNode *node = &g_array_index(world->snapshot->nodes, HvNode, i);
        if (node->mem_total_kib == 0)
            continue;
        Candidate candidate = {.node = node->id, .request = hv_request_copy(request)};
        bind_needs(candidate.request, node->id, TRUE);
        candidate.request->open.may_be_normal = FALSE; /* no room on the node was looked for */
        candidate.plan = settle_sizes(world, candidate.request, spent);
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
    plan->refusal = hv_refusal_new(refusal->code,
                                   "set bind_unbound = prefer or none in /etc/hugevm/hugevm.conf, "
                                   "or use a smaller VM",
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
        best.plan = settle_sizes(world, best.request, spent);
    } else if (is_refused && best.plan->refusal->code == HV_ERROR_SHORTAGE) {
        say_single_node(best.plan);
    }
    *out_plan = best.plan;
    return best.request;
}

/* ---- what it comes to in the XML */

static void note_sizes(HvRequest *request)
{
    GArray *chosen = request->chosen;
    gboolean is_uniform = TRUE, is_huge = FALSE;
    for (guint i = 0; i < chosen->len; i++) {
        const HvCellPages *pages = &g_array_index(chosen, HvCellPages, i);
        is_uniform =
            is_uniform && pages->size_kib == g_array_index(chosen, HvCellPages, 0).size_kib;
        is_huge = is_huge || pages->size_kib != 0;
        g_autofree char *name = cell_name(pages->cell);
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
        *out_plan = settle_sizes(world, settled, spent);
    }
    note_sizes(settled);
    return settled;
}
