/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a host agent asks of the host, any time, from any thread, and perhaps without
 * root. The figures themselves are those of `status` (report-json.c).
 */
#include "report.h"

#include "consumers.h"
#include "error.h"
#include "file-look.h"
#include "report-files.h"
#include "store.h"
#include "zones.h"

HvHostView *hv_host_view_read(const HvAgent *agent, gboolean knows_consumers, GError **error)
{
    g_autoptr(HvHostView) view = g_new0(HvHostView, 1);
    view->settings = hv_settings_load(agent->root, (const char *const *)agent->conf_files, error);
    if (view->settings == NULL)
        return NULL;
    view->ledger = hv_ledger_read(agent->root, error);
    if (view->ledger == NULL)
        return NULL;
    view->snapshot = hv_snapshot_read(agent->root, error);
    if (view->snapshot == NULL)
        return NULL;
    if (knows_consumers)
        hv_consumers_read(agent->root, view->settings, view->ledger, view->snapshot);
    view->snapshot->memory_dir = hv_files_look(agent->root, view->settings, view->ledger);
    hv_zones_read(agent->root, view->snapshot);
    if (view->snapshot->zones == NULL)
        view->snapshot->zones = g_array_new(FALSE, FALSE, sizeof(HvZone));
    return g_steal_pointer(&view);
}

void hv_host_view_free(HvHostView *view)
{
    if (view == NULL)
        return;
    hv_settings_free(view->settings);
    hv_ledger_free(view->ledger);
    hv_snapshot_free(view->snapshot);
    g_free(view);
}

static void add_sizes(JsonBuilder *builder, const HvSnapshot *snapshot)
{
    hv_json_begin_array(builder, "sizes");
    for (guint i = 0; i < snapshot->sizes->len; i++) {
        const HvPageSize *size = &g_array_index(snapshot->sizes, HvPageSize, i);
        json_builder_begin_object(builder);
        hv_json_add_number(builder, "size_kib", size->size_kib);
        hv_json_add_number(builder, "demote_size_kib", size->demote_size_kib);
        json_builder_end_object(builder);
    }
    json_builder_end_array(builder);
}

static void add_nodes(JsonBuilder *builder, const HvSnapshot *snapshot)
{
    hv_json_begin_array(builder, "nodes");
    for (guint i = 0; i < snapshot->nodes->len; i++)
        json_builder_add_int_value(builder, g_array_index(snapshot->nodes, HvNode, i).id);
    json_builder_end_array(builder);
}

/* The kernel's counts of now: agents that cache theirs do not see a pool grow. */
static void add_pools(JsonBuilder *builder, const HvSnapshot *snapshot)
{
    hv_json_begin_array(builder, "pools");
    for (guint i = 0; i < snapshot->pools->len; i++) {
        const HvPool *pool = &g_array_index(snapshot->pools, HvPool, i);
        json_builder_begin_object(builder);
        hv_json_add_node(builder, pool->node);
        hv_json_add_number(builder, "size_kib", pool->size_kib);
        hv_json_add_number(builder, "total", pool->total_pages);
        json_builder_end_object(builder);
    }
    json_builder_end_array(builder);
}

/* By the names of their settings. */
static void add_features(JsonBuilder *builder, const HvSettings *settings)
{
    const struct {
        const char *name;
        gboolean is_on;
    } features[] = {
        {"use_dynamic_hugepages", settings->use_dynamic_hugepages},
        {"use_preallocated_hugepages", settings->use_preallocated_hugepages},
        {"strict_page_size", settings->strict_page_size},
        {"shared_memory", settings->shared_memory_auto},
        {"compact", settings->compact},
        {"drop_caches", settings->drop_caches},
        {"demote", settings->demote != HV_DEMOTE_NEVER},
        {"bind_unbound", settings->bind_unbound != HV_BIND_NONE},
        {"handover", settings->handover_auto},
        {"file_backed_memory", settings->file_backed_kib > 0},
    };
    hv_json_begin_array(builder, "features");
    for (guint i = 0; i < G_N_ELEMENTS(features); i++)
        if (features[i].is_on)
            json_builder_add_string_value(builder, features[i].name);
    json_builder_end_array(builder);
}

char *hv_report_caps_json(const HvWorld *world)
{
    const HvSnapshot *snapshot = world->snapshot;
    g_autoptr(JsonBuilder) builder = hv_json_begin();
    hv_json_add_text(builder, "hugevm", HUGEVM_VERSION);
    json_builder_set_member_name(builder, "enabled");
    json_builder_add_boolean_value(builder, world->settings->enabled);
    hv_json_add_text(builder, "architecture", snapshot->arch);
    hv_json_add_number(builder, "base_page_kib", snapshot->base_page_kib);
    hv_json_add_number(builder, "default_size_kib", hv_snapshot_default_size_kib(snapshot));
    add_features(builder, world->settings);
    add_sizes(builder, snapshot);
    add_nodes(builder, snapshot);
    add_pools(builder, snapshot);
    hv_json_add_file_room(builder, world);
    return hv_json_end(builder);
}
