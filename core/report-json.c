/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The JSON contracts: keys are only ever added. Numbers are pages or KiB as their
 * names say; a node of null means "any".
 */
#include "report.h"

#include "drain.h"
#include "error.h"
#include "explain.h"
#include "json-parts.h"
#include "page-size.h"
#include "report-files.h"
#include "report-reserved.h"
#include "report-files.h"

#include <json-glib/json-glib.h>
#include <string.h>

static void add_flag(JsonBuilder *builder, const char *name, gboolean value)
{
    json_builder_set_member_name(builder, name);
    json_builder_add_boolean_value(builder, value);
}

/* One row of pages; where several nodes may serve, "nodes" lists them beside a null "node". */
static void add_need(JsonBuilder *builder, const HvNeed *need)
{
    json_builder_begin_object(builder);
    hv_json_add_node(builder, hv_node_set_single(&need->nodes));
    if (hv_node_set_count(&need->nodes) > 1) {
        g_autofree char *nodes = hv_node_set_format(&need->nodes);
        hv_json_add_text(builder, "nodes", nodes);
    }
    hv_json_add_number(builder, "size_kib", need->size_kib);
    hv_json_add_number(builder, "pages", need->pages);
    json_builder_end_object(builder);
}

static gboolean is_same_place(const HvNeed *a, const HvNeed *b)
{
    return a->size_kib == b->size_kib && memcmp(&a->nodes, &b->nodes, sizeof a->nodes) == 0;
}

/* Per node and page size: backends that share both are one row. */
static void add_needs(JsonBuilder *builder, const GArray *needs)
{
    hv_json_begin_array(builder, "need");
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
    hv_json_begin_array(builder, "steps");
    for (guint i = 0; steps != NULL && i < steps->len; i++) {
        const HvStep *step = &g_array_index(steps, HvStep, i);
        json_builder_begin_object(builder);
        hv_json_add_text(builder, "action", hv_step_action_name(step->action));
        hv_json_add_node(builder, step->node);
        hv_json_add_number(builder, "size_kib", step->size_kib);
        hv_json_add_number(builder, "pages", step->pages);
        json_builder_end_object(builder);
    }
    json_builder_end_array(builder);
}

static void add_texts(JsonBuilder *builder, const char *name, const GPtrArray *texts)
{
    hv_json_begin_array(builder, name);
    for (guint i = 0; texts != NULL && i < texts->len; i++)
        json_builder_add_string_value(builder, g_ptr_array_index(texts, i));
    json_builder_end_array(builder);
}

static void add_table(JsonBuilder *builder, const GPtrArray *table)
{
    hv_json_begin_array(builder, "table");
    for (guint i = 0; table != NULL && i < table->len; i++) {
        const HvExplainRow *row = g_ptr_array_index(table, i);
        json_builder_begin_object(builder);
        hv_json_add_node(builder, row->node);
        hv_json_add_number(builder, "size_kib", row->size_kib);
        hv_json_add_number(builder, "wanted", row->wanted);
        hv_json_add_number(builder, "short", row->missing);
        hv_json_add_number(builder, "total", row->total);
        hv_json_add_number(builder, "free", row->free);
        hv_json_add_number(builder, "reserved", row->reserved);
        add_texts(builder, "reserved_for", row->reserved_for);
        hv_json_add_number(builder, "claimed", row->claimed);
        add_texts(builder, "claimed_by", row->claimed_by);
        hv_json_add_number(builder, "available", row->available);
        hv_json_add_number(builder, "demotable", row->demotable);
        hv_json_add_number(builder, "growable", row->growth.likely_pages);
        hv_json_add_number(builder, "growable_at_once", row->growth.at_once_pages);
        hv_json_add_number(builder, "growable_by_memory", row->growth.memory_pages);
        json_builder_end_object(builder);
    }
    json_builder_end_array(builder);
}

static void add_refusal(JsonBuilder *builder, const HvRefusal *refusal)
{
    json_builder_set_member_name(builder, "refusal");
    json_builder_begin_object(builder);
    hv_json_add_text(builder, "code", hv_error_code_name(refusal->code));
    hv_json_add_text(builder, "message", refusal->message);
    hv_json_add_text(builder, "hint", refusal->hint != NULL ? refusal->hint : "");
    hv_json_add_text(builder, "agreement", refusal->agreement);
    json_builder_end_object(builder);
}

static void add_vm(JsonBuilder *builder, const char *uuid, const char *name)
{
    json_builder_set_member_name(builder, "vm");
    json_builder_begin_object(builder);
    hv_json_add_text(builder, "uuid", uuid);
    hv_json_add_text(builder, "name", name);
    json_builder_end_object(builder);
}

/* Page sizes that were open. */
static void add_chosen(JsonBuilder *builder, const HvRequest *request)
{
    hv_json_begin_array(builder, "chosen");
    for (guint i = 0; request != NULL && i < request->chosen->len; i++) {
        const HvCellPages *pages = &g_array_index(request->chosen, HvCellPages, i);
        json_builder_begin_object(builder);
        json_builder_set_member_name(builder, "cell");
        if (pages->cell >= 0)
            json_builder_add_int_value(builder, pages->cell);
        else
            json_builder_add_null_value(builder);
        hv_json_add_number(builder, "size_kib", pages->size_kib);
        json_builder_end_object(builder);
    }
    json_builder_end_array(builder);
}

static void add_binding(JsonBuilder *builder, const HvRequest *request)
{
    if (request == NULL || request->edit.bind == NULL) {
        hv_json_add_text(builder, "binding", NULL);
        return;
    }
    json_builder_set_member_name(builder, "binding");
    json_builder_begin_object(builder);
    hv_json_add_node(builder, request->edit.bind->node);
    hv_json_add_text(builder, "mode", request->edit.bind->is_strict ? "strict" : "preferred");
    json_builder_end_object(builder);
}

/* Memory in files; null where there is none. */
static void add_files(JsonBuilder *builder, guint64 kib, const char *directory)
{
    if (kib == 0) {
        hv_json_add_text(builder, "file_backed", NULL);
        return;
    }
    json_builder_set_member_name(builder, "file_backed");
    json_builder_begin_object(builder);
    hv_json_add_number(builder, "kib", kib);
    hv_json_add_text(builder, "directory", directory);
    json_builder_end_object(builder);
}

char *hv_report_plan_json(const HvOutcome *outcome)
{
    const HvRequest *request = outcome->request;
    const HvPlan *plan = outcome->plan;
    g_autoptr(JsonBuilder) builder = hv_json_begin();
    add_vm(builder, outcome->uuid, outcome->name);
    add_needs(builder, request != NULL ? request->needs : NULL);
    add_chosen(builder, request);
    add_binding(builder, request);
    add_files(builder, request != NULL ? request->file_kib : 0,
              request != NULL ? request->file_dir : NULL);
    add_flag(builder, "shared", request != NULL && request->shared);
    add_flag(builder, "hugetlbfs", request != NULL && request->needs_mount);
    add_steps(builder, plan != NULL ? plan->steps : NULL);
    add_table(builder, outcome->table);
    if (plan != NULL && plan->refusal != NULL)
        add_refusal(builder, plan->refusal);
    else
        hv_json_add_text(builder, "refusal", NULL);
    add_texts(builder, "warnings", outcome->warnings);
    return hv_json_end(builder);
}

char *hv_report_plan_error_json(const GError *error)
{
    g_autofree char *message = hv_error_message(error);
    g_autofree char *hint = g_strdup(hv_error_hint(error));
    const HvRefusal refusal = {.code = error->domain == HV_ERROR ? (HvErrorCode)error->code
                                                                 : HV_ERROR_SYSTEM,
                               .message = message,
                               .hint = hint};
    g_autoptr(JsonBuilder) builder = hv_json_begin();
    add_vm(builder, NULL, NULL);
    add_needs(builder, NULL);
    add_chosen(builder, NULL);
    add_binding(builder, NULL);
    add_files(builder, 0, NULL);
    add_flag(builder, "shared", FALSE);
    add_flag(builder, "hugetlbfs", FALSE);
    add_steps(builder, NULL);
    add_table(builder, NULL);
    add_refusal(builder, &refusal);
    add_texts(builder, "warnings", NULL);
    return hv_json_end(builder);
}

static void add_pool(JsonBuilder *builder, const HvWorld *world, const HvPool *pool)
{
    HvPoolReport report = hv_report_pool(world, pool);
    json_builder_begin_object(builder);
    hv_json_add_node(builder, pool->node);
    hv_json_add_number(builder, "size_kib", pool->size_kib);
    hv_json_add_number(builder, "total", pool->total_pages);
    hv_json_add_number(builder, "free", pool->free_pages);
    hv_json_add_number(builder, "surplus", pool->surplus_pages);
    hv_json_add_number(builder, "reserved", report.reserved_pages);
    hv_json_add_number(builder, "grown", report.grown_pages);
    hv_json_add_number(builder, "claimed", report.claimed_pages);
    hv_json_add_number(builder, "available", report.available_pages);
    hv_json_add_number(builder, "allocatable", report.allocatable_pages);
    json_builder_end_object(builder);
}

static void add_size(JsonBuilder *builder, const HvWorld *world, const HvPageSize *size)
{
    HvRoom room = hv_room_of_size(world, size->size_kib);
    json_builder_begin_object(builder);
    hv_json_add_number(builder, "size_kib", size->size_kib);
    hv_json_add_number(builder, "total", room.total);
    hv_json_add_number(builder, "free", room.free);
    hv_json_add_number(builder, "resv", size->resv_pages);
    hv_json_add_number(builder, "reserved", room.reserved);
    hv_json_add_number(builder, "reserved_floating",
                       hv_settings_reserved_pages(world->settings, size->size_kib, -1,
                                                  hv_snapshot_default_size_kib(world->snapshot)));
    hv_json_add_number(builder, "claimed", room.held + room.exposed);
    hv_json_add_number(builder, "exposed", room.exposed);
    hv_json_add_number(builder, "available", room.available);
    hv_json_add_number(builder, "allocatable",
                       hv_forecast_allocatable_of_size(world, size->size_kib));
    add_flag(builder, "default", size->is_default);
    json_builder_end_object(builder);
}

char *hv_report_status_json(const HvWorld *world)
{
    const HvSnapshot *snapshot = world->snapshot;
    g_autoptr(JsonBuilder) builder = hv_json_begin();
    add_flag(builder, "enabled", world->settings->enabled);
    add_flag(builder, "dynamic", world->settings->use_dynamic_hugepages);
    hv_json_begin_array(builder, "pools");
    for (guint i = 0; i < snapshot->pools->len; i++)
        add_pool(builder, world, &g_array_index(snapshot->pools, HvPool, i));
    json_builder_end_array(builder);
    hv_json_begin_array(builder, "sizes");
    for (guint i = 0; i < snapshot->sizes->len; i++)
        add_size(builder, world, &g_array_index(snapshot->sizes, HvPageSize, i));
    json_builder_end_array(builder);
    hv_report_add_reserved(builder, world);
    hv_json_add_file_room(builder, world);
    g_autoptr(GPtrArray) warnings = hv_report_status_warnings(world);
    add_texts(builder, "warnings", warnings);
    return hv_json_end(builder);
}

static void add_claim(JsonBuilder *builder, const HvClaim *claim)
{
    json_builder_begin_object(builder);
    hv_json_add_text(builder, "uuid", claim->uuid);
    hv_json_add_text(builder, "name", claim->name);
    hv_json_add_text(builder, "device_of", claim->device_of);
    hv_json_add_number(builder, "generation", claim->generation);
    hv_json_add_text(builder, "state", hv_claim_state_name(claim->state));
    hv_json_add_text(builder, "owner", claim->owner_name);
    hv_json_add_number(builder, "owner_pid", (guint64)claim->owner.pid);
    hv_json_add_number(builder, "qemu_pid", (guint64)claim->qemu.pid);
    add_flag(builder, "shared", claim->shared);
    add_needs(builder, claim->needs);
    add_files(builder, claim->file_kib, claim->file_dir);
    json_builder_end_object(builder);
}

char *hv_report_claims_json(const HvLedger *ledger)
{
    g_autoptr(JsonBuilder) builder = hv_json_begin();
    hv_json_begin_array(builder, "claims");
    for (guint i = 0; i < ledger->claims->len; i++)
        add_claim(builder, g_ptr_array_index(ledger->claims, i));
    json_builder_end_array(builder);
    return hv_json_end(builder);
}

static void add_remaining_pool(JsonBuilder *builder, const HvGrown *grown)
{
    json_builder_begin_object(builder);
    hv_json_add_node(builder, grown->node);
    hv_json_add_number(builder, "size_kib", grown->size_kib);
    hv_json_add_number(builder, "pages", hv_remaining_pages(grown));
    json_builder_end_object(builder);
}

char *hv_report_drain_json(const HvRemains *remains)
{
    const HvLedger *ledger = remains->ledger;
    g_autoptr(JsonBuilder) builder = hv_json_begin();
    add_flag(builder, "empty", hv_remains_is_empty(remains));
    hv_json_begin_array(builder, "claims");
    for (guint i = 0; i < ledger->claims->len; i++)
        add_claim(builder, g_ptr_array_index(ledger->claims, i));
    json_builder_end_array(builder);
    hv_json_begin_array(builder, "grown");
    for (guint i = 0; i < ledger->grown->len; i++) {
        const HvGrown *grown = &g_array_index(ledger->grown, HvGrown, i);
        if (hv_remaining_pages(grown) > 0)
            add_remaining_pool(builder, grown);
    }
    json_builder_end_array(builder);
    hv_json_add_number(builder, "open_writes", ledger->intents->len);
    hv_json_add_number(builder, "guards", remains->n_guards);
    return hv_json_end(builder);
}

char *hv_report_config_json(const HvSettings *settings)
{
    g_autoptr(JsonBuilder) builder = hv_json_begin();
    hv_json_begin_array(builder, "settings");
    for (guint i = 0; i < settings->origins->len; i++) {
        const HvSettingOrigin *origin = g_ptr_array_index(settings->origins, i);
        json_builder_begin_object(builder);
        hv_json_add_text(builder, "section", origin->section);
        hv_json_add_text(builder, "key", origin->key);
        hv_json_add_text(builder, "value", origin->value);
        hv_json_add_text(builder, "file", origin->file);
        hv_json_add_number(builder, "line", origin->line);
        json_builder_end_object(builder);
    }
    json_builder_end_array(builder);
    add_texts(builder, "warnings", settings->warnings);
    return hv_json_end(builder);
}
