/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Rows take the pages that are there in the order of how little choice they have: one
 * node, several, any. What lies elsewhere is then counted against the rows that lack
 * pages, and what is mapped without being touched against what they still lack.
 */
#include "verify.h"

#include "page-size.h"

#include <string.h>

typedef enum { RANK_ONE_NODE, RANK_SEVERAL, RANK_ANY } Rank;

static void row_free(gpointer data)
{
    HvVerifyRow *row = data;
    g_array_unref(row->elsewhere);
    g_free(row);
}

void hv_verdict_free(HvVerdict *verdict)
{
    if (verdict == NULL)
        return;
    g_ptr_array_unref(verdict->rows);
    g_array_unref(verdict->unplanned);
    g_free(verdict);
}

/* --- what was planned ------------------------------------------------------------------------ */

static Rank rank_of(const HvVerifyRow *row)
{
    if (hv_node_set_is_any(&row->nodes))
        return RANK_ANY;
    return hv_node_set_count(&row->nodes) == 1 ? RANK_ONE_NODE : RANK_SEVERAL;
}

/* Two sets that share a node can trade pages: only of both together can it be said what is due. */
static gboolean belong_together(const HvVerifyRow *a, const HvVerifyRow *b)
{
    return a->size_kib == b->size_kib && rank_of(a) == rank_of(b) &&
           hv_node_set_overlaps(&a->nodes, &b->nodes);
}

static void absorb(HvVerifyRow *row, const HvVerifyRow *other)
{
    hv_node_set_unite(&row->nodes, &other->nodes);
    row->planned = hv_plus(row->planned, other->planned);
}

static void add_need(GPtrArray *rows, const HvNeed *need, gboolean knows_nodes)
{
    HvVerifyRow *row = g_new0(HvVerifyRow, 1);
    row->elsewhere = g_array_new(FALSE, TRUE, sizeof(HvPlacedPages));
    row->size_kib = need->size_kib;
    row->planned = need->pages;
    if (knows_nodes)
        row->nodes = need->nodes;
    for (guint i = 0; i < rows->len;) {
        const HvVerifyRow *other = g_ptr_array_index(rows, i);
        if (!belong_together(row, other)) {
            i++;
            continue;
        }
        absorb(row, other);
        g_ptr_array_remove_index(rows, i);
        i = 0; /* with its nodes it may share some with those that were looked at */
    }
    g_ptr_array_add(rows, row);
}

static int first_node(const HvVerifyRow *row)
{
    int node = 0;
    while (node < HV_MAX_NODES && !hv_node_set_contains(&row->nodes, node))
        node++;
    return node;
}

static gint compare_rows(gconstpointer a, gconstpointer b)
{
    const HvVerifyRow *first = *(HvVerifyRow *const *)a, *second = *(HvVerifyRow *const *)b;
    if (rank_of(first) != rank_of(second))
        return rank_of(first) < rank_of(second) ? -1 : 1;
    if (first_node(first) != first_node(second))
        return first_node(first) - first_node(second);
    return (first->size_kib > second->size_kib) - (first->size_kib < second->size_kib);
}

/* --- what is there --------------------------------------------------------------------------- */

static guint64 lacking(const HvVerifyRow *row)
{
    guint64 elsewhere = hv_placed_pages(row->elsewhere, row->size_kib);
    return hv_minus(row->planned, hv_plus(hv_plus(row->present, elsewhere), row->untouched));
}

static void take_in_place(HvVerifyRow *row, GArray *rest)
{
    gboolean is_any = hv_node_set_is_any(&row->nodes);
    for (guint i = 0; i < rest->len; i++) {
        HvPlacedPages *placed = &g_array_index(rest, HvPlacedPages, i);
        if (placed->size_kib != row->size_kib ||
            !(is_any || hv_node_set_contains(&row->nodes, placed->node)))
            continue;
        guint64 taken = MIN(lacking(row), placed->pages);
        row->present += taken;
        placed->pages -= taken;
    }
}

static void take_elsewhere(HvVerifyRow *row, GArray *rest)
{
    for (guint i = 0; i < rest->len; i++) {
        HvPlacedPages *placed = &g_array_index(rest, HvPlacedPages, i);
        guint64 taken = MIN(lacking(row), placed->pages);
        if (placed->size_kib != row->size_kib)
            continue;
        hv_placed_add(row->elsewhere, placed->node, placed->size_kib, taken);
        placed->pages -= taken;
    }
}

/* Which node an untouched page will come from is not known: any row may wait for it. */
static void take_untouched(HvVerifyRow *row, GArray *untouched)
{
    for (guint i = 0; i < untouched->len; i++) {
        HvPlacedPages *pages = &g_array_index(untouched, HvPlacedPages, i);
        if (pages->size_kib != row->size_kib)
            continue;
        guint64 taken = MIN(lacking(row), pages->pages);
        row->untouched += taken;
        pages->pages -= taken;
    }
}

static GArray *untouched_of(const HvResidence *residence)
{
    GArray *untouched = g_array_copy(residence->mapped);
    for (guint i = 0; i < untouched->len; i++) {
        HvPlacedPages *pages = &g_array_index(untouched, HvPlacedPages, i);
        pages->pages = hv_minus(pages->pages, hv_placed_pages(residence->placed, pages->size_kib));
    }
    return untouched;
}

HvVerdict *hv_verify(const GArray *needs, const HvResidence *residence)
{
    HvVerdict *verdict = g_new0(HvVerdict, 1);
    g_autoptr(GArray) rest = g_array_copy(residence->placed);
    g_autoptr(GArray) untouched = untouched_of(residence);
    verdict->is_as_planned = TRUE;
    verdict->unplanned = g_array_new(FALSE, TRUE, sizeof(HvPlacedPages));
    verdict->rows = g_ptr_array_new_with_free_func(row_free);
    for (guint i = 0; i < needs->len; i++)
        add_need(verdict->rows, &g_array_index(needs, HvNeed, i), residence->knows_nodes);
    g_ptr_array_sort(verdict->rows, compare_rows);
    for (guint i = 0; i < verdict->rows->len; i++)
        take_in_place(g_ptr_array_index(verdict->rows, i), rest);
    for (guint i = 0; i < verdict->rows->len; i++) {
        HvVerifyRow *row = g_ptr_array_index(verdict->rows, i);
        take_elsewhere(row, rest);
        take_untouched(row, untouched);
        row->missing = lacking(row);
        if (row->missing > 0 || row->elsewhere->len > 0)
            verdict->is_as_planned = FALSE;
    }
    for (guint i = 0; i < rest->len; i++) {
        const HvPlacedPages *placed = &g_array_index(rest, HvPlacedPages, i);
        hv_placed_add(verdict->unplanned, placed->node, placed->size_kib, placed->pages);
    }
    return verdict;
}
