/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "reserve.h"

#include "error.h"
#include "page-size.h"
#include "residence.h"

#include <string.h>

/* --- who uses them --------------------------------------------------------------------------- */

guint64 hv_consumer_pages(const HvConsumer *consumer, guint64 size_kib, int node)
{
    guint64 pages = 0;
    for (guint i = 0; i < consumer->placed->len; i++) {
        const HvPlacedPages *placed = &g_array_index(consumer->placed, HvPlacedPages, i);
        if (placed->size_kib == size_kib && (node < 0 || placed->node == node))
            pages = hv_plus(pages, placed->pages);
    }
    return pages;
}

guint64 hv_reserve_held_pages(const HvSnapshot *snapshot, const char *process, guint64 size_kib,
                              int node)
{
    guint64 pages = 0;
    for (guint i = 0; snapshot->consumers != NULL && i < snapshot->consumers->len; i++) {
        const HvConsumer *consumer = g_ptr_array_index(snapshot->consumers, i);
        if (strcmp(consumer->process, process) == 0)
            pages = hv_plus(pages, hv_consumer_pages(consumer, size_kib, node));
    }
    return pages;
}

/* Of what the entry's process holds where the entry is for, what other entries have not got. */
static guint64 left_for(const GArray *uses, const HvReserved *entry, const HvSnapshot *snapshot)
{
    guint64 held = hv_reserve_held_pages(snapshot, entry->process, entry->size_kib, entry->node);
    for (guint i = 0; i < uses->len; i++) {
        const HvReserveUse *other = &g_array_index(uses, HvReserveUse, i);
        if ((entry->node < 0 || other->entry->node == entry->node) &&
            strcmp(other->entry->process, entry->process) == 0)
            held = hv_minus(held, other->used_pages);
    }
    return held;
}

static gboolean has_pool(const HvSnapshot *snapshot, const HvReserved *entry)
{
    return entry->node < 0 || hv_snapshot_pool(snapshot, entry->node, entry->size_kib) != NULL;
}

GArray *hv_reserve_uses(const HvSettings *settings, const HvSnapshot *snapshot, guint64 size_kib)
{
    GArray *uses = g_array_new(FALSE, TRUE, sizeof(HvReserveUse));
    for (guint i = 0; i < settings->reserved->len; i++) {
        HvReserveUse use = {&g_array_index(settings->reserved, HvReserved, i), 0};
        if (use.entry->name != NULL && use.entry->size_kib == size_kib &&
            has_pool(snapshot, use.entry))
            g_array_append_val(uses, use);
    }
    for (int is_floating = 0; is_floating <= 1; is_floating++)
        for (guint i = 0; i < uses->len; i++) {
            HvReserveUse *use = &g_array_index(uses, HvReserveUse, i);
            if ((use->entry->node < 0) == is_floating)
                use->used_pages =
                    MIN(use->entry->count_pages, left_for(uses, use->entry, snapshot));
        }
    return uses;
}

char *hv_reserve_describe(const HvReserveUse *use, const HvSnapshot *snapshot)
{
    const HvReserved *entry = use->entry;
    g_autofree char *where = entry->node >= 0 && snapshot->nodes->len > 1
                                 ? g_strdup_printf(" on node %d", entry->node)
                                 : g_strdup("");
    return g_strdup_printf("reserved for %s%s, %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT
                           " in use",
                           entry->name, where, use->used_pages, entry->count_pages);
}

/* A process that the entry means; NULL: there is none. */
static const HvConsumer *find_consumer(const HvSnapshot *snapshot, const HvReserved *entry)
{
    for (guint i = 0; i < snapshot->consumers->len; i++) {
        const HvConsumer *consumer = g_ptr_array_index(snapshot->consumers, i);
        if (strcmp(consumer->process, entry->process) == 0)
            return consumer;
    }
    return NULL;
}

static char *note_unused(const HvReserveUse *use, const HvSnapshot *snapshot)
{
    const HvReserved *entry = use->entry;
    const HvConsumer *consumer = find_consumer(snapshot, entry);
    g_autofree char *what = hv_reserve_describe(use, snapshot);
    g_autofree char *size = hv_format_kib(entry->size_kib);
    if (consumer == NULL)
        return g_strdup_printf("pages of %s %s: no program called %s runs as a user of the "
                               "system's (uid below 1000, or 60000 to 64999)",
                               size, what, entry->process);
    g_autofree char *comm = hv_quote(consumer->comm);
    return g_strdup_printf("pages of %s %s, although process %" G_GINT64_FORMAT " %s runs%s", size,
                           what, consumer->pid, comm,
                           consumer->is_readable ? "" : "; it takes root to see what it has");
}

/* What they hold beyond all that is reserved for them; told at the first of their entries. */
static char *note_excess(const GArray *uses, guint index, const HvSnapshot *snapshot)
{
    const HvReserved *entry = g_array_index(uses, HvReserveUse, index).entry;
    guint64 held = hv_reserve_held_pages(snapshot, entry->process, entry->size_kib, -1), count = 0;
    for (guint i = 0; i < uses->len; i++) {
        const HvReserveUse *other = &g_array_index(uses, HvReserveUse, i);
        if (strcmp(other->entry->process, entry->process) == 0 && i < index)
            return NULL;
        if (strcmp(other->entry->process, entry->process) == 0)
            count = hv_plus(count, other->entry->count_pages);
    }
    g_autofree char *size = hv_format_kib(entry->size_kib);
    return held <= count
               ? NULL
               : g_strdup_printf("programs called %s have %" G_GUINT64_FORMAT
                                 " pages of %s, and %" G_GUINT64_FORMAT
                                 " are reserved: VMs may take the others while they restart",
                                 entry->process, held, size, count);
}

GPtrArray *hv_reserve_notes(const HvSettings *settings, const HvSnapshot *snapshot)
{
    GPtrArray *notes = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; snapshot->consumers != NULL && i < snapshot->sizes->len; i++) {
        guint64 size_kib = g_array_index(snapshot->sizes, HvPageSize, i).size_kib;
        g_autoptr(GArray) uses = hv_reserve_uses(settings, snapshot, size_kib);
        for (guint k = 0; k < uses->len; k++) {
            const HvReserveUse *use = &g_array_index(uses, HvReserveUse, k);
            char *excess = note_excess(uses, k, snapshot);
            if (use->used_pages == 0 && use->entry->count_pages > 0)
                g_ptr_array_add(notes, note_unused(use, snapshot));
            if (excess != NULL)
                g_ptr_array_add(notes, excess);
        }
    }
    return notes;
}

/* --- what is not there ----------------------------------------------------------------------- */

/* "reserved pages of 2 MiB for 'ovs' on node 1" */
static char *describe(const HvReserved *entry, guint64 size_kib)
{
    GString *out = g_string_new("reserved pages");
    g_autofree char *size = hv_format_kib(size_kib);
    g_autofree char *name = entry->name != NULL ? hv_quote(entry->name) : NULL;
    g_string_append_printf(out, " of %s", size);
    if (name != NULL)
        g_string_append_printf(out, " for %s", name);
    if (entry->node >= 0)
        g_string_append_printf(out, " on node %d", entry->node);
    return g_string_free(out, FALSE);
}

/* NULL: the entry is about something that this host has. */
static char *absence(const HvReserved *entry, guint64 size_kib, const HvSnapshot *snapshot)
{
    g_autofree char *what = describe(entry, size_kib);
    if (hv_snapshot_size(snapshot, size_kib) == NULL) {
        g_autofree char *offered = hv_snapshot_format_sizes(snapshot);
        return g_strdup_printf("%s: this host offers %s", what, offered);
    }
    if (entry->node >= 0 && hv_snapshot_pool(snapshot, entry->node, size_kib) == NULL)
        return g_strdup_printf("%s: there is no such pool on this host", what);
    return NULL;
}

static void add_absences(GPtrArray *warnings, const HvSettings *settings,
                         const HvSnapshot *snapshot)
{
    guint64 default_kib = hv_snapshot_default_size_kib(snapshot);
    for (guint i = 0; snapshot->sizes->len > 0 && i < settings->reserved->len; i++) {
        const HvReserved *entry = &g_array_index(settings->reserved, HvReserved, i);
        guint64 size_kib = entry->size_kib != 0 ? entry->size_kib : default_kib;
        char *warning = entry->count_pages > 0 ? absence(entry, size_kib, snapshot) : NULL;
        if (warning != NULL)
            g_ptr_array_add(warnings, warning);
    }
}

static void add_excess(GPtrArray *warnings, guint64 size_kib, int node, guint64 reserved_pages,
                       guint64 pool_pages)
{
    g_autofree char *size = hv_format_kib(size_kib);
    g_autofree char *where =
        node >= 0 ? g_strdup_printf("on node %d", node) : g_strdup("on all nodes");
    if (reserved_pages > pool_pages)
        g_ptr_array_add(warnings,
                        g_strdup_printf("%" G_GUINT64_FORMAT " pages of %s are reserved %s, where "
                                        "there are %" G_GUINT64_FORMAT ": VMs get none of them, "
                                        "and those they are reserved for not all",
                                        reserved_pages, size, where, pool_pages));
}

static void add_excesses(GPtrArray *warnings, const HvSettings *settings,
                         const HvSnapshot *snapshot, guint64 size_kib)
{
    guint64 default_kib = hv_snapshot_default_size_kib(snapshot);
    guint64 floating = hv_settings_reserved_pages(settings, size_kib, -1, default_kib);
    guint64 reserved = floating, total = 0;
    for (guint i = 0; i < snapshot->pools->len; i++) {
        const HvPool *pool = &g_array_index(snapshot->pools, HvPool, i);
        if (pool->size_kib != size_kib)
            continue;
        guint64 bound = hv_settings_reserved_pages(settings, size_kib, pool->node, default_kib);
        add_excess(warnings, size_kib, pool->node, bound, pool->total_pages);
        reserved = hv_plus(reserved, MIN(bound, pool->total_pages));
        total = hv_plus(total, pool->total_pages);
    }
    if (floating > 0)
        add_excess(warnings, size_kib, -1, reserved, total);
}

GPtrArray *hv_reserve_warnings(const HvSettings *settings, const HvSnapshot *snapshot)
{
    GPtrArray *warnings = g_ptr_array_new_with_free_func(g_free);
    add_absences(warnings, settings, snapshot);
    for (guint i = 0; i < snapshot->sizes->len; i++)
        add_excesses(warnings, settings, snapshot,
                     g_array_index(snapshot->sizes, HvPageSize, i).size_kib);
    return warnings;
}
