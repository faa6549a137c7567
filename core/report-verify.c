/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where a VM's memory is. Names of VMs come from outside: they are quoted. */
#include "verify.h"

#include "error.h"
#include "json-parts.h"
#include "page-size.h"

#include <string.h>

/* --- text ------------------------------------------------------------------------------------ */

static char *format_node(int node)
{
    return node >= 0 ? g_strdup_printf("node %d", node) : g_strdup("an unknown node");
}

static char *format_nodes(const HvNodeSet *nodes)
{
    if (hv_node_set_is_any(nodes))
        return g_strdup("any node");
    g_autofree char *list = hv_node_set_format(nodes);
    return g_strdup_printf("node%s %s", hv_node_set_count(nodes) > 1 ? "s" : "", list);
}

static void append_separator(GString *out, gboolean *is_first)
{
    g_string_append(out, *is_first ? "; " : ", ");
    *is_first = FALSE;
}

static void append_elsewhere(GString *out, const HvVerifyRow *row, gboolean *is_first)
{
    for (guint i = 0; i < row->elsewhere->len; i++) {
        const HvPlacedPages *placed = &g_array_index(row->elsewhere, HvPlacedPages, i);
        g_autofree char *node = format_node(placed->node);
        append_separator(out, is_first);
        if (placed->pages == row->planned)
            g_string_append_printf(out, "they are on %s", node);
        else
            g_string_append_printf(out, "%" G_GUINT64_FORMAT " %s on %s", placed->pages,
                                   placed->pages == 1 ? "is" : "are", node);
    }
}

char *hv_verify_row_text(const HvVerifyRow *row)
{
    g_autofree char *nodes = format_nodes(&row->nodes);
    g_autofree char *size = hv_format_kib(row->size_kib);
    gboolean is_first = TRUE;
    if (row->present == row->planned)
        return g_strdup_printf("%s: %" G_GUINT64_FORMAT " x %s, as planned", nodes, row->present,
                               size);
    GString *out = g_string_new(NULL);
    g_string_append_printf(out, "%s: %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT " x %s planned",
                           nodes, row->present, row->planned, size);
    append_elsewhere(out, row, &is_first);
    if (row->untouched > 0) {
        append_separator(out, &is_first);
        g_string_append_printf(out, "%" G_GUINT64_FORMAT " not touched yet", row->untouched);
    }
    if (row->missing > 0) {
        append_separator(out, &is_first);
        g_string_append_printf(out, "%" G_GUINT64_FORMAT " missing", row->missing);
    }
    return g_string_free(out, FALSE);
}

/* "VM 'web' UUID (running), process 12", or "process 12, no VM with a claim" */
static char *format_subject(const HvVerifyView *view)
{
    const HvClaim *claim = view->claim;
    gint64 pid = view->process.pid;
    if (claim == NULL)
        return g_strdup_printf("process %" G_GINT64_FORMAT ", no VM with a claim", pid);
    g_autofree char *name = hv_quote(claim->name);
    return g_strdup_printf("VM %s %s (%s), process %" G_GINT64_FORMAT, name, claim->uuid,
                           hv_claim_state_name(claim->state), pid);
}

static void append_pages(GString *out, const GArray *placed)
{
    for (guint i = 0; i < placed->len; i++) {
        const HvPlacedPages *one = &g_array_index(placed, HvPlacedPages, i);
        g_autofree char *size = hv_format_kib(one->size_kib);
        g_autofree char *node = format_node(one->node);
        g_string_append_printf(out, "  %" G_GUINT64_FORMAT " x %s on %s\n", one->pages, size, node);
    }
}

static void append_untouched(GString *out, const HvResidence *residence)
{
    for (guint i = 0; i < residence->mapped->len; i++) {
        const HvPlacedPages *mapped = &g_array_index(residence->mapped, HvPlacedPages, i);
        g_autofree char *size = hv_format_kib(mapped->size_kib);
        guint64 pages =
            hv_minus(mapped->pages, hv_placed_pages(residence->placed, mapped->size_kib));
        if (pages > 0)
            g_string_append_printf(out, "  %" G_GUINT64_FORMAT " x %s not touched yet\n", pages,
                                   size);
    }
}

/* "  not on huge pages: 300 of 512 MiB in large mappings, 298 MiB of it transparent huge pages" */
static void append_normal(GString *out, const HvResidence *residence)
{
    guint64 present_kib = hv_placed_kib(residence->normal);
    if (residence->normal_mapped_kib == 0)
        return;
    g_string_append_printf(out,
                           "  not on huge pages: %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT
                           " MiB in large mappings, %" G_GUINT64_FORMAT
                           " MiB of it transparent huge pages",
                           present_kib / 1024, residence->normal_mapped_kib / 1024,
                           residence->normal_transparent_kib / 1024);
    for (guint i = 0; i < residence->normal->len; i++) {
        const HvPlacedPages *one = &g_array_index(residence->normal, HvPlacedPages, i);
        g_autoptr(GArray) alone = g_array_new(FALSE, TRUE, sizeof(HvPlacedPages));
        g_array_append_val(alone, *one);
        g_autofree char *node = format_node(one->node);
        g_string_append_printf(out, "%s %" G_GUINT64_FORMAT " MiB on %s", i == 0 ? ";" : ",",
                               hv_placed_kib(alone) / 1024, node);
    }
    g_string_append_c(out, '\n');
}

static void append_verdict(GString *out, const HvVerdict *verdict)
{
    for (guint i = 0; i < verdict->rows->len; i++) {
        g_autofree char *text = hv_verify_row_text(g_ptr_array_index(verdict->rows, i));
        g_string_append_printf(out, "%s\n", text);
    }
    for (guint i = 0; i < verdict->unplanned->len; i++) {
        const HvPlacedPages *one = &g_array_index(verdict->unplanned, HvPlacedPages, i);
        g_autofree char *size = hv_format_kib(one->size_kib);
        g_autofree char *node = format_node(one->node);
        g_string_append_printf(out, "%s: %" G_GUINT64_FORMAT " x %s more than planned\n", node,
                               one->pages, size);
    }
}

char *hv_report_verify_text(const HvVerifyView *view)
{
    GString *out = g_string_new(NULL);
    g_autofree char *subject = format_subject(view);
    g_string_append_printf(out, "%s:\n", subject);
    append_pages(out, view->residence->placed);
    if (view->residence->mapped->len == 0)
        g_string_append(out, "  no huge pages\n");
    append_untouched(out, view->residence);
    append_normal(out, view->residence);
    if (view->verdict != NULL)
        append_verdict(out, view->verdict);
    return g_string_free(out, FALSE);
}

/* What is missing may be among the normal pages: where a host starts a VM as if it had none. */
static const char *hint_of(const HvVerifyView *view, gboolean is_elsewhere)
{
    if (view->claim->state != HV_CLAIM_RUNNING)
        return "look again when it has started: until then it may have mapped only a part";
    if (is_elsewhere)
        return "a VM that runs keeps its pages: start it again when the nodes that it is bound to "
               "have them (hugevmctl plan)";
    if (hv_placed_kib(view->residence->normal) > 0)
        return "see that whoever starts this VM uses the domain XML that hugevm has given back";
    return "see whether the VM has given memory back itself: a balloon, free page reporting";
}

gboolean hv_verify_check(const HvVerifyView *view, GError **error)
{
    gboolean is_elsewhere = FALSE;
    if (view->verdict == NULL || view->verdict->is_as_planned)
        return TRUE;
    g_autofree char *name = hv_quote(view->claim->name);
    g_autoptr(GString) rows = g_string_new(NULL);
    for (guint i = 0; i < view->verdict->rows->len; i++) {
        const HvVerifyRow *row = g_ptr_array_index(view->verdict->rows, i);
        g_autofree char *text = hv_verify_row_text(row);
        is_elsewhere |= row->elsewhere->len > 0;
        if (row->missing > 0 || row->elsewhere->len > 0)
            g_string_append_printf(rows, ". %s", text);
    }
    hv_set_error(error, HV_ERROR_CONFLICT, hint_of(view, is_elsewhere),
                 "memory of VM %s %s is not where it was planned%s", name, view->claim->uuid,
                 rows->str);
    return FALSE;
}

/* --- JSON ------------------------------------------------------------------------------------ */

static void add_placed(JsonBuilder *builder, const char *name, const GArray *placed)
{
    hv_json_begin_array(builder, name);
    for (guint i = 0; i < placed->len; i++) {
        const HvPlacedPages *one = &g_array_index(placed, HvPlacedPages, i);
        json_builder_begin_object(builder);
        hv_json_add_node(builder, one->node);
        hv_json_add_number(builder, "size_kib", one->size_kib);
        hv_json_add_number(builder, "pages", one->pages);
        json_builder_end_object(builder);
    }
    json_builder_end_array(builder);
}

static void add_mapped(JsonBuilder *builder, const HvResidence *residence)
{
    hv_json_begin_array(builder, "mapped");
    for (guint i = 0; i < residence->mapped->len; i++) {
        const HvPlacedPages *one = &g_array_index(residence->mapped, HvPlacedPages, i);
        guint64 touched = hv_placed_pages(residence->placed, one->size_kib);
        json_builder_begin_object(builder);
        hv_json_add_number(builder, "size_kib", one->size_kib);
        hv_json_add_number(builder, "pages", one->pages);
        hv_json_add_number(builder, "untouched", hv_minus(one->pages, touched));
        json_builder_end_object(builder);
    }
    json_builder_end_array(builder);
}

static void add_normal(JsonBuilder *builder, const HvResidence *residence)
{
    json_builder_set_member_name(builder, "normal");
    json_builder_begin_object(builder);
    hv_json_add_number(builder, "mapped_kib", residence->normal_mapped_kib);
    hv_json_add_number(builder, "present_kib", hv_placed_kib(residence->normal));
    hv_json_add_number(builder, "transparent_kib", residence->normal_transparent_kib);
    add_placed(builder, "pages", residence->normal);
    json_builder_end_object(builder);
}

static void add_row(JsonBuilder *builder, const HvVerifyRow *row)
{
    g_autofree char *text = hv_verify_row_text(row);
    json_builder_begin_object(builder);
    hv_json_add_node(builder, hv_node_set_single(&row->nodes));
    if (hv_node_set_count(&row->nodes) > 1) {
        g_autofree char *nodes = hv_node_set_format(&row->nodes);
        hv_json_add_text(builder, "nodes", nodes);
    }
    hv_json_add_number(builder, "size_kib", row->size_kib);
    hv_json_add_number(builder, "planned", row->planned);
    hv_json_add_number(builder, "present", row->present);
    add_placed(builder, "elsewhere", row->elsewhere);
    hv_json_add_number(builder, "untouched", row->untouched);
    hv_json_add_number(builder, "missing", row->missing);
    hv_json_add_text(builder, "text", text);
    json_builder_end_object(builder);
}

static void add_verdict(JsonBuilder *builder, const HvVerdict *verdict)
{
    json_builder_set_member_name(builder, "as_planned");
    if (verdict != NULL)
        json_builder_add_boolean_value(builder, verdict->is_as_planned);
    else
        json_builder_add_null_value(builder);
    hv_json_begin_array(builder, "plan");
    for (guint i = 0; verdict != NULL && i < verdict->rows->len; i++)
        add_row(builder, g_ptr_array_index(verdict->rows, i));
    json_builder_end_array(builder);
    g_autoptr(GArray) none = g_array_new(FALSE, TRUE, sizeof(HvPlacedPages));
    add_placed(builder, "unplanned", verdict != NULL ? verdict->unplanned : none);
}

char *hv_report_verify_json(const HvVerifyView *view)
{
    g_autoptr(JsonBuilder) builder = hv_json_begin();
    json_builder_set_member_name(builder, "vm");
    json_builder_begin_object(builder);
    hv_json_add_text(builder, "uuid", view->claim != NULL ? view->claim->uuid : NULL);
    hv_json_add_text(builder, "name", view->claim != NULL ? view->claim->name : NULL);
    json_builder_end_object(builder);
    hv_json_add_number(builder, "pid", (guint64)view->process.pid);
    add_placed(builder, "pages", view->residence->placed);
    add_mapped(builder, view->residence);
    add_normal(builder, view->residence);
    add_verdict(builder, view->verdict);
    return hv_json_end(builder);
}
