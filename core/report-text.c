/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Text for people. Names of VMs and agents come from outside: they are quoted. */
#include "report.h"

#include "drain.h"
#include "error.h"
#include "explain.h"
#include "page-size.h"
#include "report-files.h"
#include "report-reserved.h"
#include "report-files.h"
#include "reserve.h"

#define NAMES_MAX 3 /* of VMs in a line */

HvPoolReport hv_report_pool(const HvWorld *world, const HvPool *pool)
{
    HvPoolReport report = {0};
    guint pools_of_size = 0;
    for (guint i = 0; i < world->snapshot->pools->len; i++)
        pools_of_size +=
            g_array_index(world->snapshot->pools, HvPool, i).size_kib == pool->size_kib;
    for (guint i = 0; i < world->ledger->claims->len; i++) {
        const HvClaim *claim = g_ptr_array_index(world->ledger->claims, i);
        guint64 pages = pools_of_size == 1 ? hv_needs_pages(claim->needs, pool->size_kib)
                                           : hv_needs_bound_pages(hv_claim_places(claim),
                                                                  pool->size_kib, pool->node);
        report.claimed_pages = hv_plus(report.claimed_pages, pages);
    }
    report.reserved_pages = hv_settings_reserved_pages(
        world->settings, pool->size_kib, pool->node, hv_snapshot_default_size_kib(world->snapshot));
    report.grown_pages = hv_ledger_grown_pages(world->ledger, pool->node, pool->size_kib);
    report.available_pages = hv_room_on_node(world, pool->size_kib, pool->node);
    report.allocatable_pages = hv_forecast_allocatable_pages(world, pool);
    return report;
}

static void append_needs(GString *out, const GArray *needs)
{
    for (guint i = 0; i < needs->len; i++) {
        const HvNeed *need = &g_array_index(needs, HvNeed, i);
        g_autofree char *size = hv_format_kib(need->size_kib);
        g_autofree char *nodes = hv_node_set_format(&need->nodes);
        gboolean is_any = hv_node_set_is_any(&need->nodes);
        g_string_append_printf(out, "%s%" G_GUINT64_FORMAT " x %s on %s%s", i > 0 ? ", " : "",
                               need->pages, size, is_any ? "any node" : "node ",
                               is_any ? "" : nodes);
    }
}

static void append_files(GString *out, guint64 kib, const char *directory)
{
    g_autofree char *size = hv_format_kib(kib);
    g_autofree char *quoted = hv_quote(directory);
    if (kib > 0)
        g_string_append_printf(out, "%s in files of %s", size, quoted);
}

/* What the request had left open. */
static void append_settled(GString *out, const HvRequest *request)
{
    for (guint i = 0; i < request->chosen->len; i++) {
        const HvCellPages *pages = &g_array_index(request->chosen, HvCellPages, i);
        g_autofree char *size =
            pages->size_kib != 0 ? hv_format_kib(pages->size_kib) : g_strdup("normal");
        g_autofree char *cell = hv_cell_name(pages->cell);
        g_string_append_printf(out, "\nchosen: %s pages for %s", size, cell);
    }
    if (request->edit.bind != NULL)
        g_string_append_printf(out, "\nchosen: %s node %d",
                               request->edit.bind->is_strict ? "bound to" : "prefers",
                               request->edit.bind->node);
}

static void append_names(GString *out, const char *what, const GPtrArray *names)
{
    for (guint i = 0; i < MIN(names->len, NAMES_MAX); i++) {
        g_autofree char *name = hv_quote(g_ptr_array_index(names, i));
        g_string_append_printf(out, "%s%s %s", i == 0 ? "  " : ",", i == 0 ? what : "", name);
    }
    if (names->len > NAMES_MAX)
        g_string_append_printf(out, " and %u more", names->len - NAMES_MAX);
}

static void append_row(GString *out, const HvExplainRow *row)
{
    g_autofree char *size = hv_format_kib(row->size_kib);
    g_autofree char *node = row->node >= 0 ? g_strdup_printf("%d", row->node) : g_strdup("any");
    const guint64 columns[] = {row->wanted,    row->missing,   row->total,
                               row->free,      row->reserved,  row->claimed,
                               row->available, row->demotable, row->growth.likely_pages};
    g_string_append_printf(out, "%4s %8s", node, size);
    for (guint i = 0; i < G_N_ELEMENTS(columns); i++)
        g_string_append_printf(out, " %9" G_GUINT64_FORMAT, columns[i]);
    append_names(out, "reserved for", row->reserved_for);
    append_names(out, "claimed for", row->claimed_by);
    g_string_append_c(out, '\n');
}

/* "short" goes by memory, as the plan does: what of it is not likely to become pages? */
static void append_scattered(GString *out, const HvExplainRow *row)
{
    guint64 pages = hv_minus(row->growth.memory_pages, row->growth.likely_pages);
    if (row->node < 0 || row->missing == 0 || pages == 0)
        return;
    g_autofree char *size = hv_format_kib(row->size_kib);
    g_string_append_printf(out,
                           "node %d: memory for %" G_GUINT64_FORMAT
                           " more pages of %s is there, but lies in pieces\n",
                           row->node, pages, size);
}

static void append_table(GString *out, const GPtrArray *table)
{
    static const char *const titles[] = {"wanted",  "short",     "total",     "free",    "reserved",
                                         "claimed", "available", "splitting", "growable"};
    g_string_append_printf(out, "%4s %8s", "node", "size");
    for (guint i = 0; i < G_N_ELEMENTS(titles); i++)
        g_string_append_printf(out, " %9s", titles[i]);
    g_string_append_c(out, '\n');
    for (guint i = 0; i < table->len; i++)
        append_row(out, g_ptr_array_index(table, i));
    for (guint i = 0; i < table->len; i++)
        append_scattered(out, g_ptr_array_index(table, i));
}

static void append_steps(GString *out, const HvPlan *plan)
{
    if (plan->steps->len == 0 && plan->refusal == NULL && plan->missing->len > 0)
        g_string_append(out, "step: none, free pages are enough\n");
    for (guint i = 0; i < plan->steps->len; i++) {
        const HvStep *step = &g_array_index(plan->steps, HvStep, i);
        g_autofree char *size = hv_format_kib(step->size_kib);
        g_string_append_printf(out, "step: %s %" G_GUINT64_FORMAT " x %s on node %d\n",
                               hv_step_action_name(step->action), step->pages, size, step->node);
    }
}

char *hv_report_plan_text(const HvOutcome *outcome)
{
    GString *out = g_string_new(NULL);
    g_autofree char *name = hv_quote(outcome->name);
    g_string_append_printf(out, "VM: %s %s\n", name,
                           outcome->uuid != NULL ? outcome->uuid : "(no UUID)");
    if (outcome->request == NULL) {
        g_string_append(out, "need: no huge pages\n");
        return g_string_free(out, FALSE);
    }
    g_string_append(out, "need: ");
    append_needs(out, outcome->request->needs);
    append_files(out, outcome->request->file_kib, outcome->request->file_dir);
    if (!hv_request_takes_anything(outcome->request))
        g_string_append(out, "no huge pages");
    append_settled(out, outcome->request);
    g_string_append_printf(out, "\nmemory: %s\n", outcome->request->shared ? "shared" : "private");
    append_steps(out, outcome->plan);
    if (outcome->plan->refusal == NULL)
        g_string_append(out, "start: would be allowed\n");
    else if (outcome->table != NULL && outcome->table->len > 0)
        append_table(out, outcome->table);
    return g_string_free(out, FALSE);
}

GPtrArray *hv_report_status_warnings(const HvWorld *world)
{
    GPtrArray *warnings = hv_reserve_warnings(world->settings, world->snapshot);
    for (guint i = 0; i < world->settings->warnings->len; i++)
        g_ptr_array_insert(warnings, (gint)i,
                           g_strdup(g_ptr_array_index(world->settings->warnings, i)));
    if (world->snapshot->zones_fault != NULL)
        g_ptr_array_add(warnings, g_strdup(world->snapshot->zones_fault));
    return warnings;
}

char *hv_report_status_text(const HvWorld *world)
{
    const HvSnapshot *snapshot = world->snapshot;
    GString *out = g_string_new(NULL);
    hv_text_append_file_room(out, world);
    if (snapshot->sizes->len == 0) {
        g_string_append(out, "this kernel offers no huge pages\n");
        return g_string_free(out, FALSE);
    }
    g_string_append_printf(out, "%4s %8s %8s %8s %8s %8s %8s %8s %11s\n", "node", "size", "total",
                           "free", "surplus", "reserved", "grown", "claimed", "allocatable");
    for (guint i = 0; i < snapshot->pools->len; i++) {
        const HvPool *pool = &g_array_index(snapshot->pools, HvPool, i);
        HvPoolReport report = hv_report_pool(world, pool);
        g_autofree char *size = hv_format_kib(pool->size_kib);
        g_string_append_printf(out,
                               "%4d %8s %8" G_GUINT64_FORMAT " %8" G_GUINT64_FORMAT
                               " %8" G_GUINT64_FORMAT " %8" G_GUINT64_FORMAT " %8" G_GUINT64_FORMAT
                               " %8" G_GUINT64_FORMAT " %11" G_GUINT64_FORMAT "\n",
                               pool->node, size, pool->total_pages, pool->free_pages,
                               pool->surplus_pages, report.reserved_pages, report.grown_pages,
                               report.claimed_pages, report.allocatable_pages);
    }
    for (guint i = 0; i < snapshot->sizes->len; i++) {
        const HvPageSize *size = &g_array_index(snapshot->sizes, HvPageSize, i);
        HvRoom room = hv_room_of_size(world, size->size_kib);
        g_autofree char *text = hv_format_kib(size->size_kib);
        g_string_append_printf(out,
                               "%s%s: %" G_GUINT64_FORMAT " promised (resv), %" G_GUINT64_FORMAT
                               " reserved by configuration, %" G_GUINT64_FORMAT " available now\n",
                               text, size->is_default ? " (default)" : "", room.resv, room.reserved,
                               room.available);
    }
    hv_report_append_reserved(out, world);
    return g_string_free(out, FALSE);
}

char *hv_report_claims_text(const HvLedger *ledger)
{
    GString *out = g_string_new(NULL);
    for (guint i = 0; i < ledger->claims->len; i++) {
        const HvClaim *claim = g_ptr_array_index(ledger->claims, i);
        g_autofree char *name = hv_quote(claim->name);
        g_autofree char *owner = hv_quote(claim->owner_name);
        g_string_append_printf(out, "%s %s %s ", claim->uuid, name,
                               hv_claim_state_name(claim->state));
        if (claim->device_of != NULL)
            g_string_append_printf(out, "(memory device of %s) ", claim->device_of);
        append_needs(out, claim->needs);
        append_files(out, claim->file_kib, claim->file_dir);
        g_string_append_printf(out, "%s; by %s, process %" G_GINT64_FORMAT,
                               claim->shared ? ", shared" : "", owner, claim->owner.pid);
        if (claim->qemu.pid != 0)
            g_string_append_printf(out, "; QEMU is process %" G_GINT64_FORMAT, claim->qemu.pid);
        g_string_append_c(out, '\n');
    }
    return g_string_free(out, FALSE);
}

static void append_remaining_claim(GString *out, const HvClaim *claim)
{
    g_autofree char *name = hv_quote(claim->name);
    g_string_append_printf(out, "VM %s (%s, %s) has ", name, claim->uuid,
                           hv_claim_state_name(claim->state));
    append_needs(out, claim->needs);
    append_files(out, claim->file_kib, claim->file_dir);
    if (claim->qemu.pid != 0)
        g_string_append_printf(out, "; QEMU is process %" G_GINT64_FORMAT, claim->qemu.pid);
    g_string_append_c(out, '\n');
}

static void append_remaining_pools(GString *out, const HvLedger *ledger)
{
    for (guint i = 0; i < ledger->grown->len; i++) {
        const HvGrown *grown = &g_array_index(ledger->grown, HvGrown, i);
        g_autofree char *size = hv_format_kib(grown->size_kib);
        if (hv_remaining_pages(grown) > 0)
            g_string_append_printf(out,
                                   "%" G_GUINT64_FORMAT " x %s on node %d are left of what "
                                   "hugevm added\n",
                                   hv_remaining_pages(grown), size, grown->node);
    }
    for (guint i = 0; i < ledger->intents->len; i++) {
        const HvIntent *intent = &g_array_index(ledger->intents, HvIntent, i);
        g_autofree char *size = hv_format_kib(intent->size_kib);
        g_string_append_printf(out, "pages of %s on node %d are being resized\n", size,
                               intent->node);
    }
}

char *hv_report_drain_text(const HvRemains *remains)
{
    GString *out = g_string_new(NULL);
    const HvLedger *ledger = remains->ledger;
    for (guint i = 0; i < ledger->claims->len; i++)
        append_remaining_claim(out, g_ptr_array_index(ledger->claims, i));
    append_remaining_pools(out, ledger);
    if (ledger->claims->len > 0)
        g_string_append(out, "what to do: end these VMs or migrate them away, then drain again\n");
    else if (!hv_remains_is_empty(remains))
        g_string_append(out, "what to do: hugevmctl audit says who has them; drain again when "
                             "that has ended\n");
    return g_string_free(out, FALSE);
}

/* A value of several lines (reserved) stays readable: one line, separated by ';'. */
static char *one_line(const char *value)
{
    g_auto(GStrv) lines = g_strsplit(value, "\n", -1);
    for (guint i = 0; lines[i] != NULL; i++)
        g_strstrip(lines[i]);
    return g_strjoinv("; ", lines);
}

char *hv_report_config_text(const HvSettings *settings)
{
    GString *out = g_string_new(NULL);
    for (guint i = 0; i < settings->origins->len; i++) {
        const HvSettingOrigin *origin = g_ptr_array_index(settings->origins, i);
        g_autofree char *value = one_line(origin->value);
        g_autofree char *place = origin->file != NULL
                                     ? g_strdup_printf("%s:%u", origin->file, origin->line)
                                     : g_strdup("built in");
        g_string_append_printf(out, "[%s] %s = %s  (%s)\n", origin->section, origin->key, value,
                               place);
    }
    return g_string_free(out, FALSE);
}
