/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is reserved by name, and who has it. */
#include "report-reserved.h"

#include "error.h"
#include "page-size.h"
#include "reserve.h"

#include <string.h>

/* Pages of the reservation's size, where it is for; FALSE: the process has nothing to do with it.
 */
static gboolean holds(const HvConsumer *consumer, const HvReserved *entry, guint64 *out_pages)
{
    *out_pages = hv_consumer_pages(consumer, entry->size_kib, entry->node);
    return strcmp(consumer->process, entry->process) == 0 &&
           (*out_pages > 0 || !consumer->is_readable);
}

static void add_holders(JsonBuilder *builder, const HvSnapshot *snapshot, const HvReserved *entry)
{
    hv_json_begin_array(builder, "holders");
    for (guint i = 0; snapshot->consumers != NULL && i < snapshot->consumers->len; i++) {
        const HvConsumer *consumer = g_ptr_array_index(snapshot->consumers, i);
        guint64 pages;
        if (!holds(consumer, entry, &pages))
            continue;
        json_builder_begin_object(builder);
        hv_json_add_number(builder, "pid", (guint64)consumer->pid);
        hv_json_add_text(builder, "comm", consumer->comm);
        json_builder_set_member_name(builder, "pages");
        if (consumer->is_readable)
            json_builder_add_int_value(builder, (gint64)MIN(pages, G_MAXINT64));
        else
            json_builder_add_null_value(builder);
        json_builder_end_object(builder);
    }
    json_builder_end_array(builder);
}

static void add_reservation(JsonBuilder *builder, const HvSnapshot *snapshot,
                            const HvReserveUse *use)
{
    const HvReserved *entry = use->entry;
    json_builder_begin_object(builder);
    hv_json_add_text(builder, "name", entry->name);
    hv_json_add_text(builder, "process", entry->process);
    hv_json_add_node(builder, entry->node);
    hv_json_add_number(builder, "size_kib", entry->size_kib);
    hv_json_add_number(builder, "count", entry->count_pages);
    hv_json_add_number(builder, "used", use->used_pages);
    hv_json_add_number(builder, "unused", entry->count_pages - use->used_pages);
    add_holders(builder, snapshot, entry);
    json_builder_end_object(builder);
}

void hv_report_add_reserved(JsonBuilder *builder, const HvWorld *world)
{
    hv_json_begin_array(builder, "reserved");
    for (guint i = 0; i < world->snapshot->sizes->len; i++) {
        guint64 size_kib = g_array_index(world->snapshot->sizes, HvPageSize, i).size_kib;
        g_autoptr(GArray) uses = hv_reserve_uses(world->settings, world->snapshot, size_kib);
        for (guint k = 0; k < uses->len; k++)
            add_reservation(builder, world->snapshot, &g_array_index(uses, HvReserveUse, k));
    }
    json_builder_end_array(builder);
}

static void append_holders(GString *out, const HvSnapshot *snapshot, const HvReserved *entry)
{
    guint n = 0;
    for (guint i = 0; snapshot->consumers != NULL && i < snapshot->consumers->len; i++) {
        const HvConsumer *consumer = g_ptr_array_index(snapshot->consumers, i);
        g_autofree char *comm = hv_quote(consumer->comm);
        guint64 pages;
        if (!holds(consumer, entry, &pages))
            continue;
        g_string_append_printf(out, "%s process %" G_GINT64_FORMAT " %s ", n++ == 0 ? ":" : ",",
                               consumer->pid, comm);
        if (consumer->is_readable)
            g_string_append_printf(out, "has %" G_GUINT64_FORMAT, pages);
        else
            g_string_append(out, "is another user's, so that what it has cannot be seen");
    }
}

void hv_report_append_reserved(GString *out, const HvWorld *world)
{
    for (guint i = 0; i < world->snapshot->sizes->len; i++) {
        guint64 size_kib = g_array_index(world->snapshot->sizes, HvPageSize, i).size_kib;
        g_autofree char *size = hv_format_kib(size_kib);
        g_autoptr(GArray) uses = hv_reserve_uses(world->settings, world->snapshot, size_kib);
        for (guint k = 0; k < uses->len; k++) {
            const HvReserveUse *use = &g_array_index(uses, HvReserveUse, k);
            g_autofree char *text = hv_reserve_describe(use, world->snapshot);
            g_string_append_printf(out, "%s: %s", size, text);
            append_holders(out, world->snapshot, use->entry);
            g_string_append_c(out, '\n');
        }
    }
}
