/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Writing; ledger-parse.c reads. */
#include "ledger-json.h"

#include "ledger-unknown.h"

#include <json-glib/json-glib.h>

static void add_u64(JsonBuilder *builder, const char *name, guint64 value)
{
    json_builder_set_member_name(builder, name);
    /* JSON's numbers end here; a count that large is as good as without end */
    json_builder_add_int_value(builder, (gint64)MIN(value, (guint64)G_MAXINT64));
}

static void add_text(JsonBuilder *builder, const char *name, const char *value)
{
    json_builder_set_member_name(builder, name);
    if (value == NULL) {
        json_builder_add_null_value(builder);
        return;
    }
    /* an agent's name may be any bytes, JSON takes UTF-8 only */
    g_autofree char *text = g_utf8_make_valid(value, -1);
    json_builder_add_string_value(builder, text);
}

static void add_boolean(JsonBuilder *builder, const char *name, gboolean value)
{
    json_builder_set_member_name(builder, name);
    json_builder_add_boolean_value(builder, value);
}

static void add_process(JsonBuilder *builder, const char *name, const HvProcess *process)
{
    json_builder_set_member_name(builder, name);
    json_builder_begin_object(builder);
    add_u64(builder, "pid", (guint64)process->pid);
    add_u64(builder, "start_ticks", process->start_ticks);
    json_builder_end_object(builder);
}

static void add_needs(JsonBuilder *builder, const char *name, const GArray *needs)
{
    json_builder_set_member_name(builder, name);
    json_builder_begin_array(builder);
    for (guint i = 0; i < needs->len; i++) {
        const HvNeed *need = &g_array_index(needs, HvNeed, i);
        g_autofree char *nodes = hv_node_set_format(&need->nodes);
        json_builder_begin_object(builder);
        add_text(builder, "nodes", nodes);
        add_u64(builder, "size_kib", need->size_kib);
        add_u64(builder, "pages", need->pages);
        if (need->is_elastic)
            add_boolean(builder, "elastic", TRUE);
        json_builder_end_object(builder);
    }
    json_builder_end_array(builder);
}

static void add_cells(JsonBuilder *builder, const GArray *cells)
{
    json_builder_set_member_name(builder, "cells");
    json_builder_begin_array(builder);
    for (guint i = 0; i < cells->len; i++) {
        const HvCellRule *rule = &g_array_index(cells, HvCellRule, i);
        g_autofree char *nodes = hv_node_set_format(&rule->nodes);
        json_builder_begin_object(builder);
        add_u64(builder, "cell", (guint64)rule->cell);
        add_u64(builder, "page_kib", rule->page_kib);
        add_text(builder, "nodes", nodes);
        json_builder_end_object(builder);
    }
    json_builder_end_array(builder);
}

static void add_files(JsonBuilder *builder, const GArray *files)
{
    json_builder_set_member_name(builder, "files");
    json_builder_begin_array(builder);
    for (guint i = 0; i < files->len; i++) {
        const HvFileId *file = &g_array_index(files, HvFileId, i);
        json_builder_begin_object(builder);
        add_u64(builder, "major", file->major);
        add_u64(builder, "minor", file->minor);
        add_u64(builder, "inode", file->inode);
        json_builder_end_object(builder);
    }
    json_builder_end_array(builder);
}

static void add_claim(JsonBuilder *builder, const HvClaim *claim)
{
    json_builder_begin_object(builder);
    add_text(builder, "uuid", claim->uuid);
    add_text(builder, "name", claim->name);
    add_u64(builder, "generation", claim->generation);
    add_text(builder, "state", hv_claim_state_name(claim->state));
    add_text(builder, "owner_name", claim->owner_name);
    add_process(builder, "owner", &claim->owner);
    add_process(builder, "qemu", &claim->qemu);
    add_needs(builder, "needs", claim->needs);
    if (claim->placed->len > 0)
        add_needs(builder, "placed", claim->placed);
    if (claim->cells->len > 0)
        add_cells(builder, claim->cells);
    if (claim->device_of != NULL) {
        add_text(builder, "device_of", claim->device_of);
        add_u64(builder, "since_s", claim->since_s);
    }
    if (claim->file_kib > 0) {
        add_u64(builder, "file_kib", claim->file_kib);
        add_text(builder, "file_dir", claim->file_dir);
    }
    add_boolean(builder, "shared", claim->shared);
    add_boolean(builder, "from_hugetlbfs", claim->from_hugetlbfs);
    add_boolean(builder, "may_hand_over", claim->may_hand_over);
    add_boolean(builder, "is_handed_over", claim->is_handed_over);
    add_files(builder, claim->files);
    json_builder_end_object(builder);
}

static void add_pools(JsonBuilder *builder, const HvLedger *ledger)
{
    json_builder_set_member_name(builder, "grown");
    json_builder_begin_array(builder);
    for (guint i = 0; i < ledger->grown->len; i++) {
        const HvGrown *grown = &g_array_index(ledger->grown, HvGrown, i);
        json_builder_begin_object(builder);
        add_u64(builder, "node", (guint64)grown->node);
        add_u64(builder, "size_kib", grown->size_kib);
        add_u64(builder, "grown_pages", grown->grown_pages);
        add_u64(builder, "persistent_pages", grown->persistent_pages);
        add_u64(builder, "handed_pages", grown->handed_pages);
        add_u64(builder, "regained_pages", grown->regained_pages);
        json_builder_end_object(builder);
    }
    json_builder_end_array(builder);

    json_builder_set_member_name(builder, "intents");
    json_builder_begin_array(builder);
    for (guint i = 0; i < ledger->intents->len; i++) {
        const HvIntent *intent = &g_array_index(ledger->intents, HvIntent, i);
        json_builder_begin_object(builder);
        add_u64(builder, "node", (guint64)intent->node);
        add_u64(builder, "size_kib", intent->size_kib);
        add_u64(builder, "before_pages", intent->before_pages);
        add_u64(builder, "target_pages", intent->target_pages);
        add_u64(builder, "others_pages", intent->others_pages);
        add_boolean(builder, "is_handover", intent->is_handover);
        json_builder_end_object(builder);
    }
    json_builder_end_array(builder);
}

char *hv_ledger_to_json(const HvLedger *ledger, const char *boot_id)
{
    g_autoptr(JsonBuilder) builder = json_builder_new();
    json_builder_begin_object(builder);
    add_u64(builder, "format", MAX(ledger->format, HV_LEDGER_FORMAT));
    add_u64(builder, "min_reader_format", MAX(ledger->min_reader_format, HV_LEDGER_MIN_READER));
    add_text(builder, "boot_id", boot_id);
    add_u64(builder, "last_generation", ledger->last_generation);
    add_boolean(builder, "handover_failed", ledger->handover_failed);
    add_pools(builder, ledger);
    json_builder_set_member_name(builder, "claims");
    json_builder_begin_array(builder);
    for (guint i = 0; i < ledger->claims->len; i++)
        add_claim(builder, g_ptr_array_index(ledger->claims, i));
    json_builder_end_array(builder);
    json_builder_end_object(builder);

    g_autoptr(JsonNode) node = json_builder_get_root(builder);
    if (ledger->as_read != NULL)
        hv_ledger_add_unknown(json_node_get_object(node), ledger->as_read);
    return json_to_string(node, TRUE);
}
