/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * hugepages=large|any: every guest cell begins with the largest size that divides its memory. As
 * long as the plan is short of pages, cells that lack some fall by one size; at the end of `any`
 * are normal pages. A memory device without a size of its own goes with its cell, as libvirt has
 * it.
 */
#include "settle-sizes.h"

#include "page-size.h"

#define MAX_SINGLE_FALLS 8

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

static void refuse_cell(HvRequest *request, int cell)
{
    g_autofree char *name = hv_cell_name(cell);
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
    for (guint i = 0; i < request->cells->len; i++) {
        HvCellRule *rule = &g_array_index(request->cells, HvCellRule, i);
        const HvCellPages *chosen = chosen_for(request, rule->cell);
        if (chosen != NULL)
            rule->page_kib = chosen->size_kib;
    }
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

/* Lets a cell have its next smaller size; FALSE: it has none. */
static gboolean lower(HvRequest *request, const GArray *asked, int cell)
{
    guint64 next_kib;
    HvCellPages *pages = chosen_for(request, cell);
    if (!next_size(request, asked, cell, pages->size_kib, &next_kib))
        return FALSE;
    pages->size_kib = next_kib;
    return TRUE;
}

/* The open need that lacks the largest part of its pages, but not all; NULL: there is none. */
static const HvNeed *half_served(const HvRequest *request, const HvPlan *plan)
{
    const HvNeed *worst = NULL;
    guint64 worst_kib = 0;
    for (guint i = 0; i < plan->missing->len; i++) {
        const HvNeed *need = &g_array_index(request->needs, HvNeed, i);
        guint64 missing = g_array_index(plan->missing, guint64, i);
        if (need->memory_kib == 0 || missing == 0 || missing == need->pages)
            continue;
        guint64 missing_kib = missing * need->size_kib; /* less than its memory */
        if (missing_kib > worst_kib) {
            worst = need;
            worst_kib = missing_kib;
        }
    }
    return worst;
}

/* All open needs that lack pages; else, where needs whose size is not open do, those of that size.
 */
static gboolean lower_all(HvRequest *request, const GArray *asked, const HvPlan *plan,
                          gboolean is_for_others)
{
    gboolean has_lowered = FALSE;
    g_autoptr(GHashTable) done = g_hash_table_new(NULL, NULL);
    for (guint i = 0; i < plan->missing->len; i++) {
        const HvNeed *lacking = &g_array_index(request->needs, HvNeed, i);
        if (g_array_index(plan->missing, guint64, i) == 0 ||
            is_for_others != (lacking->memory_kib == 0))
            continue;
        for (guint k = is_for_others ? 0 : i; k < (is_for_others ? request->needs->len : i + 1);
             k++) {
            const HvNeed *need = &g_array_index(request->needs, HvNeed, k);
            if (need->memory_kib != 0 && need->size_kib == lacking->size_kib &&
                g_hash_table_add(done, GINT_TO_POINTER(need->cell)))
                has_lowered = lower(request, asked, need->cell) || has_lowered;
        }
    }
    return has_lowered;
}

/*
 * Smaller sizes for cells, after a plan that is short of pages. A cell that has part of its pages
 * falls by itself at first, since what it leaves may serve another; after some rounds, and where
 * cells lack all of theirs, they fall together: there may be hundreds. FALSE: none can fall.
 */
static gboolean fall(HvRequest *request, const GArray *asked, const HvPlan *plan, guint round)
{
    const HvNeed *half = round < MAX_SINGLE_FALLS ? half_served(request, plan) : NULL;
    if (half != NULL && lower(request, asked, half->cell))
        return TRUE;
    return lower_all(request, asked, plan, FALSE) || lower_all(request, asked, plan, TRUE);
}

static HvPlan *plan_request(const HvWorld *world, const HvRequest *request, GArray *spent)
{
    HvAttempt attempt = {.spent = spent};
    return spent != NULL ? hv_plan_again(world, request, &attempt) : hv_plan_new(world, request);
}

HvPlan *hv_settle_sizes(const HvWorld *world, HvRequest *request, GArray *spent)
{
    g_autoptr(GArray) asked = g_array_copy(request->needs);
    choose_largest(request, asked);
    for (guint round = 0;; round++) {
        fill_needs(request, asked);
        HvPlan *plan = plan_request(world, request, spent);
        if (plan->refusal == NULL || plan->refusal->code != HV_ERROR_SHORTAGE ||
            request->refusal != NULL || !fall(request, asked, plan, round))
            return plan;
        hv_plan_free(plan);
    }
}
