/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The JSON contracts: keys are only ever added. Numbers are pages or KiB as their
 * names say; a node of null means "any".
 */
#include "report.h"

#include "error.h"
#include "explain.h"
#include "json-parts.h"
#include "page-size.h"

#include <json-glib/json-glib.h>
#include <string.h>

static void add_number(JsonBuilder *builder, const char *name, guint64 value)
{
    json_builder_set_member_name(builder, name);
    json_builder_add_int_value(builder, (gint64)MIN(value, (guint64)G_MAXINT64));
}

static void add_text(JsonBuilder *builder, const char *name, const char *value)
{
    json_builder_set_member_name(builder, name);
    if (value != NULL)
        json_builder_add_string_value(builder, value);
    else
        json_builder_add_null_value(builder);
}

static void add_flag(JsonBuilder *builder, const char *name, gboolean value)
{
    json_builder_set_member_name(builder, name);
    json_builder_add_boolean_value(builder, value);
}

static void begin_array(JsonBuilder *builder, const char *name)
{
    json_builder_set_member_name(builder, name);
    json_builder_begin_array(builder);
}

static JsonBuilder *begin_document(void)
{
    JsonBuilder *builder = json_builder_new();
    json_builder_begin_object(builder);
    add_number(builder, "version", 1);
    return builder;
}

static char *end_document(JsonBuilder *builder)
{
    return hv_json_end(builder);
}

static void add_node(JsonBuilder *builder, int node)
{
    json_builder_set_member_name(builder, "node");
    if (node >= 0)
        json_builder_add_int_value(builder, node);
    else
        json_builder_add_null_value(builder);
}

/* One row of pages; where several nodes may serve, "nodes" lists them beside a null "node". */
static void add_need(JsonBuilder *builder, const HvNeed *need)
{
    json_builder_begin_object(builder);
    add_node(builder, hv_node_set_single(&need->nodes));
    if (hv_node_set_count(&need->nodes) > 1) {
        g_autofree char *nodes = hv_node_set_format(&need->nodes);
        add_text(builder, "nodes", nodes);
    }
    add_number(builder, "size_kib", need->size_kib);
    add_number(builder, "pages", need->pages);
    json_builder_end_object(builder);
}

static gboolean is_same_place(const HvNeed *a, const HvNeed *b)
{
    return a->size_kib == b->size_kib && memcmp(&a->nodes, &b->nodes, sizeof a->nodes) == 0;
}

/* Per node and page size: backends that share both are one row. */
static void add_needs(JsonBuilder *builder, const GArray *needs)
{
    begin_array(builder, "need");
    for (guint i = 0; needs != NULL && i < needs->len; i++) {
        HvNeed row = g_array_index(needs, HvNeed, i);
        gboolean is_first = TRUE;
        for (guint j = 0; j < needs->len && is_first; j++) {
            const HvNeed *other = &g_array_index(needs, HvNeed, j);
            if (j < i && is_same_place(other, &row))
                is_first = FALSE;
            if (j > i && is_same_place(other, &row))
                row.pages = hv_plus(row.pages, other->pages);
        }
        if (is_first)
            add_need(builder, &row);
    }
    json_builder_end_array(builder);
}

static void add_steps(JsonBuilder *builder, const GArray *steps)
{
    begin_array(builder, "steps");
    for (guint i = 0; steps != NULL && i < steps->len; i++) {
        const HvStep *step = &g_array_index(steps, HvStep, i);
        json_builder_begin_object(builder);
        add_text(builder, "action", hv_step_action_name(step->action));
        add_node(builder, step->node);
        add_number(builder, "size_kib", step->size_kib);
        add_number(builder, "pages", step->pages);
        json_builder_end_object(builder);
    }
    json_builder_end_array(builder);
}

static void add_texts(JsonBuilder *builder, const char *name, const GPtrArray *texts)
{
    begin_array(builder, name);
    for (guint i = 0; texts != NULL && i < texts->len; i++)
        json_builder_add_string_value(builder, g_ptr_array_index(texts, i));
    json_builder_end_array(builder);
}

static void add_table(JsonBuilder *builder, const GPtrArray *table)
{
    begin_array(builder, "table");
    for (guint i = 0; table != NULL && i < table->len; i++) {
        const HvExplainRow *row = g_ptr_array_index(table, i);
        json_builder_begin_object(builder);
        add_node(builder, row->node);
        add_number(builder, "size_kib", row->size_kib);
        add_number(builder, "wanted", row->wanted);
        add_number(builder, "short", row->missing);
        add_number(builder, "total", row->total);
        add_number(builder, "free", row->free);
        add_number(builder, "reserved", row->reserved);
        add_number(builder, "claimed", row->claimed);
        add_texts(builder, "claimed_by", row->claimed_by);
        add_number(builder, "available", row->available);
        add_number(builder, "demotable", row->demotable);
        add_number(builder, "growable", row->growth.likely_pages);
        add_number(builder, "growable_at_once", row->growth.at_once_pages);
        add_number(builder, "growable_by_memory", row->growth.memory_pages);
        json_builder_end_object(builder);
    }
    json_builder_end_array(builder);
}

static void add_refusal(JsonBuilder *builder, HvErrorCode code, const char *message,
                        const char *hint)
{
    json_builder_set_member_name(builder, "refusal");
    json_builder_begin_object(builder);
    add_text(builder, "code", hv_error_code_name(code));
    add_text(builder, "message", message);
    add_text(builder, "hint", hint != NULL ? hint : "");
    json_builder_end_object(builder);
}

static void add_vm(JsonBuilder *builder, const char *uuid, const char *name)
{
    json_builder_set_member_name(builder, "vm");
    json_builder_begin_object(builder);
    add_text(builder, "uuid", uuid);
    add_text(builder, "name", name);
    json_builder_end_object(builder);
}

/* Page sizes that were open. */
static void add_chosen(JsonBuilder *builder, const HvRequest *request)
{
    begin_array(builder, "chosen");
    for (guint i = 0; request != NULL && i < request->chosen->len; i++) {
        const HvCellPages *pages = &g_array_index(request->chosen, HvCellPages, i);
        json_builder_begin_object(builder);
        json_builder_set_member_name(builder, "cell");
        if (pages->cell >= 0)
            json_builder_add_int_value(builder, pages->cell);
        else
            json_builder_add_null_value(builder);
        add_number(builder, "size_kib", pages->size_kib);
        json_builder_end_object(builder);
    }
    json_builder_end_array(builder);
}

static void add_binding(JsonBuilder *builder, const HvRequest *request)
{
    if (request == NULL || request->edit.bind == NULL) {
        add_text(builder, "binding", NULL);
        return;
    }
    json_builder_set_member_name(builder, "binding");
    json_builder_begin_object(builder);
    add_node(builder, request->edit.bind->node);
    add_text(builder, "mode", request->edit.bind->is_strict ? "strict" : "preferred");
    json_builder_end_object(builder);
}

char *hv_report_plan_json(const HvOutcome *outcome)
{
    const HvRequest *request = outcome->request;
    const HvPlan *plan = outcome->plan;
    g_autoptr(JsonBuilder) builder = begin_document();
    add_vm(builder, outcome->uuid, outcome->name);
    add_needs(builder, request != NULL ? request->needs : NULL);
    add_chosen(builder, request);
    add_binding(builder, request);
    add_flag(builder, "shared", request != NULL && request->shared);
    add_flag(builder, "hugetlbfs", request != NULL && request->needs_mount);
    add_steps(builder, plan != NULL ? plan->steps : NULL);
    add_table(builder, outcome->table);
    if (plan != NULL && plan->refusal != NULL)
        add_refusal(builder, plan->refusal->code, plan->refusal->message, plan->refusal->hint);
    else
        add_text(builder, "refusal", NULL);
    add_texts(builder, "warnings", outcome->warnings);
    return end_document(builder);
}

char *hv_report_plan_error_json(const GError *error)
{
    g_autofree char *message = hv_error_message(error);
    HvErrorCode code = error->domain == HV_ERROR ? (HvErrorCode)error->code : HV_ERROR_SYSTEM;
    g_autoptr(JsonBuilder) builder = begin_document();
    add_vm(builder, NULL, NULL);
    add_needs(builder, NULL);
    add_chosen(builder, NULL);
    add_binding(builder, NULL);
    add_flag(builder, "shared", FALSE);
    add_flag(builder, "hugetlbfs", FALSE);
    add_steps(builder, NULL);
    add_table(builder, NULL);
    add_refusal(builder, code, message, hv_error_hint(error));
    add_texts(builder, "warnings", NULL);
    return end_document(builder);
}

static void add_pool(JsonBuilder *builder, const HvWorld *world, const HvPool *pool)
{
    HvPoolReport report = hv_report_pool(world, pool);
    json_builder_begin_object(builder);
    add_node(builder, pool->node);
    add_number(builder, "size_kib", pool->size_kib);
    add_number(builder, "total", pool->total_pages);
    add_number(builder, "free", pool->free_pages);
    add_number(builder, "surplus", pool->surplus_pages);
    add_number(builder, "reserved", report.reserved_pages);
    add_number(builder, "grown", report.grown_pages);
    add_number(builder, "claimed", report.claimed_pages);
    add_number(builder, "allocatable", report.allocatable_pages);
    json_builder_end_object(builder);
}

static void add_size(JsonBuilder *builder, const HvWorld *world, const HvPageSize *size)
{
    HvRoom room = hv_room_of_size(world, size->size_kib);
    json_builder_begin_object(builder);
    add_number(builder, "size_kib", size->size_kib);
    add_number(builder, "resv", size->resv_pages);
    add_number(builder, "reserved_floating",
               hv_settings_reserved_pages(world->settings, size->size_kib, -1,
                                          hv_snapshot_default_size_kib(world->snapshot)));
    add_number(builder, "claimed", room.held + room.exposed);
    add_number(builder, "exposed", room.exposed);
    add_number(builder, "available", room.available);
    add_flag(builder, "default", size->is_default);
    json_builder_end_object(builder);
}

char *hv_report_status_json(const HvWorld *world)
{
    const HvSnapshot *snapshot = world->snapshot;
    g_autoptr(JsonBuilder) builder = begin_document();
    begin_array(builder, "pools");
    for (guint i = 0; i < snapshot->pools->len; i++)
        add_pool(builder, world, &g_array_index(snapshot->pools, HvPool, i));
    json_builder_end_array(builder);
    begin_array(builder, "sizes");
    for (guint i = 0; i < snapshot->sizes->len; i++)
        add_size(builder, world, &g_array_index(snapshot->sizes, HvPageSize, i));
    json_builder_end_array(builder);
    g_autoptr(GPtrArray) warnings = hv_report_status_warnings(world);
    add_texts(builder, "warnings", warnings);
    return end_document(builder);
}

static void add_claim(JsonBuilder *builder, const HvClaim *claim)
{
    json_builder_begin_object(builder);
    add_text(builder, "uuid", claim->uuid);
    add_text(builder, "name", claim->name);
    add_number(builder, "generation", claim->generation);
    add_text(builder, "state", hv_claim_state_name(claim->state));
    add_text(builder, "owner", claim->owner_name);
    add_number(builder, "owner_pid", (guint64)claim->owner.pid);
    add_number(builder, "qemu_pid", (guint64)claim->qemu.pid);
    add_flag(builder, "shared", claim->shared);
    add_needs(builder, claim->needs);
    json_builder_end_object(builder);
}

char *hv_report_claims_json(const HvLedger *ledger)
{
    g_autoptr(JsonBuilder) builder = begin_document();
    begin_array(builder, "claims");
    for (guint i = 0; i < ledger->claims->len; i++)
        add_claim(builder, g_ptr_array_index(ledger->claims, i));
    json_builder_end_array(builder);
    return end_document(builder);
}

char *hv_report_config_json(const HvSettings *settings)
{
    g_autoptr(JsonBuilder) builder = begin_document();
    begin_array(builder, "settings");
    for (guint i = 0; i < settings->origins->len; i++) {
        const HvSettingOrigin *origin = g_ptr_array_index(settings->origins, i);
        json_builder_begin_object(builder);
        add_text(builder, "section", origin->section);
        add_text(builder, "key", origin->key);
        add_text(builder, "value", origin->value);
        add_text(builder, "file", origin->file);
        add_number(builder, "line", origin->line);
        json_builder_end_object(builder);
    }
    json_builder_end_array(builder);
    add_texts(builder, "warnings", settings->warnings);
    return end_document(builder);
}
