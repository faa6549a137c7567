/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Files read, all below the injected root:
 *   /proc/buddyinfo       free blocks by order: Node 0, zone   Normal   1 353 1126 ...
 *   /proc/pagetypeinfo    root only, absent on some kernels; two tables of each node:
 *       Page block order: 9
 *       Node    0, zone   Normal, type      Movable   1 353 145 ...       (free blocks by order;
 *                                                                          ">100000": or more)
 *       Number of blocks type     Unmovable      Movable  Reclaimable ...
 *       Node 0, zone   Normal          151        10526           75      (pageblocks)
 *   /proc/zoneinfo        "managed" of each zone
 *   nodeN/vmstat, /proc/vmstat on a kernel without nodes: nr_foll_pin_acquired, _released
 *
 * Other lines are skipped. A line of a known table with a part missing is malformed, as it is
 * where a file ends in the middle.
 */
#include "zones.h"

#include "error.h"
#include "node-set.h"
#include "page-size.h"

#include <string.h>

#define BUDDYINFO_MAX_BYTES (2 * 1024 * 1024)
#define PAGETYPEINFO_MAX_BYTES (8 * 1024 * 1024)
#define ZONEINFO_MAX_BYTES (16 * 1024 * 1024)
#define VMSTAT_MAX_BYTES (64 * 1024)
#define ZONES_MAX 4096
#define WORDS_MAX 64
#define TYPES_MAX 16
#define FIRST_COLUMN 4 /* after "Node", its number, "zone" and the zone's name */

/* A line's words; commas are spaces. Cuts the line up. */
typedef struct {
    char *words[WORDS_MAX];
    guint n;
} Line;

static Line split_line(char *text)
{
    Line line = {.n = 0};
    char *rest = NULL;
    for (char *word = strtok_r(text, " ,\t", &rest); word != NULL && line.n < WORDS_MAX;
         word = strtok_r(NULL, " ,\t", &rest))
        line.words[line.n++] = word;
    return line;
}

static gboolean starts_with(const Line *line, const char *const *words, guint n)
{
    for (guint i = 0; i < n; i++)
        if (i >= line->n || strcmp(line->words[i], words[i]) != 0)
            return FALSE;
    return TRUE;
}

/* "Node 0, zone Normal ..."; *out_node and the name are in there. */
static gboolean parse_place(const Line *line, int *out_node)
{
    guint64 id = 0;
    if (line->n < FIRST_COLUMN || strcmp(line->words[2], "zone") != 0 ||
        !hv_parse_u64(line->words[1], &id) || id >= HV_MAX_NODES)
        return FALSE;
    *out_node = (int)id;
    return TRUE;
}

static HvZone *find_zone(const GArray *zones, int node, const char *name)
{
    for (guint i = 0; i < zones->len; i++) {
        HvZone *zone = &g_array_index(zones, HvZone, i);
        if (zone->node == node && strcmp(zone->name, name) == 0)
            return zone;
    }
    return NULL;
}

/* Columns of numbers from a word on, all there are; FALSE: not n of them, or no numbers. */
static gboolean parse_columns(const Line *line, guint first, guint n, guint64 *out_values)
{
    if (line->n != first + n)
        return FALSE;
    for (guint i = 0; i < n; i++) {
        const char *word = line->words[first + i];
        if (!hv_parse_u64(word[0] == '>' ? word + 1 : word, &out_values[i]))
            return FALSE;
    }
    return TRUE;
}

/* All zones have as many orders as the first. */
static gboolean parse_buddyinfo(char *text, GArray *zones)
{
    for (char *at = text, *raw; (raw = hv_next_line(&at)) != NULL;) {
        Line line = split_line(raw);
        HvZone zone = {.node = -1};
        if (!parse_place(&line, &zone.node) || line.n - FIRST_COLUMN > HV_ORDERS_MAX ||
            zones->len == ZONES_MAX)
            return FALSE;
        zone.n_orders =
            zones->len > 0 ? g_array_index(zones, HvZone, 0).n_orders : line.n - FIRST_COLUMN;
        g_strlcpy(zone.name, line.words[3], sizeof zone.name);
        if (zone.n_orders == 0 ||
            !parse_columns(&line, FIRST_COLUMN, zone.n_orders, zone.free_blocks))
            return FALSE;
        g_array_append_val(zones, zone);
    }
    return zones->len > 0;
}

/* What is being read of /proc/pagetypeinfo. */
typedef struct {
    GArray *zones;
    guint64 base_page_kib;
    guint64 block_order;
    char *types[TYPES_MAX]; /* columns of the table of pageblocks; they lie in the text */
    guint n_types;          /* 0: this is not that table */
} Types;

/* Pages of these are moved by compaction; CMA lends its memory to such pages only. */
static gboolean is_movable_type(const char *type)
{
    return strcmp(type, "Movable") == 0 || strcmp(type, "CMA") == 0;
}

/* "Node 0, zone Normal, type Movable 1 353 145 ..." */
static gboolean add_free_of_type(const Line *line, HvZone *zone)
{
    guint64 blocks[HV_ORDERS_MAX];
    if (line->n < FIRST_COLUMN + 2 ||
        !parse_columns(line, FIRST_COLUMN + 2, zone->n_orders, blocks))
        return FALSE;
    for (guint i = 0; is_movable_type(line->words[FIRST_COLUMN + 1]) && i < zone->n_orders; i++)
        zone->movable_free_blocks[i] = hv_plus(zone->movable_free_blocks[i], blocks[i]);
    return TRUE;
}

/* "Node 0, zone Normal 151 10526 75" */
static gboolean add_pageblocks(const Types *types, const Line *line, HvZone *zone)
{
    guint64 blocks[TYPES_MAX], kib;
    if (!parse_columns(line, FIRST_COLUMN, types->n_types, blocks))
        return FALSE;
    zone->pageblock_kib = types->base_page_kib << types->block_order;
    for (guint i = 0; i < types->n_types; i++) {
        guint64 *sum_kib = is_movable_type(types->types[i]) ? &zone->movable_kib : &zone->fixed_kib;
        if (!hv_checked_mul(blocks[i], zone->pageblock_kib, &kib))
            return FALSE;
        *sum_kib = hv_plus(*sum_kib, kib);
    }
    zone->has_types = TRUE;
    return TRUE;
}

/* "Number of blocks type Unmovable Movable ..." */
static gboolean begin_pageblocks(Types *types, const Line *line)
{
    types->n_types = line->n - FIRST_COLUMN;
    if (types->n_types == 0 || types->n_types > TYPES_MAX)
        return FALSE;
    memcpy(types->types, line->words + FIRST_COLUMN, types->n_types * sizeof types->types[0]);
    return TRUE;
}

static gboolean parse_type_line(Types *types, const Line *line)
{
    static const char *const order[] = {"Page", "block", "order:"};
    static const char *const pageblocks[] = {"Number", "of", "blocks", "type"};
    int node = -1;
    if (starts_with(line, order, G_N_ELEMENTS(order)))
        return line->n == 4 && hv_parse_u64(line->words[3], &types->block_order) &&
               types->block_order < HV_ORDERS_MAX;
    if (starts_with(line, pageblocks, G_N_ELEMENTS(pageblocks)))
        return begin_pageblocks(types, line);
    if (line->n == 0 || strcmp(line->words[0], "Node") != 0) {
        types->n_types = 0;
        return TRUE;
    }
    if (!parse_place(line, &node))
        return FALSE;
    HvZone *zone = find_zone(types->zones, node, line->words[3]);
    if (zone == NULL) /* an empty one, which buddyinfo leaves out */
        return TRUE;
    if (line->n > FIRST_COLUMN && strcmp(line->words[FIRST_COLUMN], "type") == 0)
        return add_free_of_type(line, zone);
    return types->n_types == 0 || add_pageblocks(types, line, zone);
}

static gboolean parse_pagetypeinfo(char *text, guint64 base_page_kib, GArray *zones)
{
    Types types = {.zones = zones, .base_page_kib = base_page_kib};
    for (char *at = text, *raw; (raw = hv_next_line(&at)) != NULL;) {
        Line line = split_line(raw);
        if (!parse_type_line(&types, &line))
            return FALSE;
    }
    return TRUE;
}

/* A zone whose "managed" is not there has 0: nothing larger than a block is forecast for it. */
static void parse_zoneinfo(char *text, GArray *zones)
{
    HvZone *zone = NULL;
    for (char *at = text, *raw; (raw = hv_next_line(&at)) != NULL;) {
        Line line = split_line(raw);
        int node = -1;
        if (line.n == FIRST_COLUMN && strcmp(line.words[0], "Node") == 0)
            zone = parse_place(&line, &node) ? find_zone(zones, node, line.words[3]) : NULL;
        else if (zone != NULL && line.n == 2 && strcmp(line.words[0], "managed") == 0)
            hv_parse_u64(line.words[1], &zone->managed_pages);
    }
}

/* Pages that somebody holds on to by their address (devices of VMs, RDMA, io_uring). */
static guint64 read_pinned_pages(const HvRoot *root, const char *path)
{
    g_autofree char *text = hv_root_read_text(root, path, VMSTAT_MAX_BYTES, NULL);
    guint64 acquired = 0, released = 0;
    for (char *at = text, *raw; (raw = hv_next_line(&at)) != NULL;) {
        Line line = split_line(raw);
        if (line.n == 2 && strcmp(line.words[0], "nr_foll_pin_acquired") == 0)
            hv_parse_u64(line.words[1], &acquired);
        else if (line.n == 2 && strcmp(line.words[0], "nr_foll_pin_released") == 0)
            hv_parse_u64(line.words[1], &released);
    }
    return hv_minus(acquired, released);
}

static void read_pins(const HvRoot *root, HvSnapshot *snapshot)
{
    for (guint i = 0; i < snapshot->nodes->len; i++) {
        HvNode *node = &g_array_index(snapshot->nodes, HvNode, i);
        g_autofree char *path = g_strdup_printf("/sys/devices/system/node/node%d/vmstat", node->id);
        gboolean is_whole_host = snapshot->nodes->len == 1 && !hv_root_exists(root, path);
        node->pinned_pages = read_pinned_pages(root, is_whole_host ? "/proc/vmstat" : path);
    }
}

static gboolean fail_malformed(const HvRoot *root, const char *path, GError **error)
{
    g_autofree char *real = hv_root_path(root, path);
    hv_set_error(error, HV_ERROR_SYSTEM, NULL, "%s is not what a kernel writes", real);
    return FALSE;
}

static gboolean read_free_blocks(const HvRoot *root, GArray *zones, GError **error)
{
    g_autofree char *buddy = hv_root_read_text(root, "/proc/buddyinfo", BUDDYINFO_MAX_BYTES, error);
    if (buddy == NULL)
        return FALSE;
    return parse_buddyinfo(buddy, zones) || fail_malformed(root, "/proc/buddyinfo", error);
}

guint64 hv_zones_free_kib(const HvRoot *root, int node, guint64 size_kib)
{
    guint64 kib = 0, base_kib = hv_platform_base_page_kib(root);
    g_autoptr(GArray) zones = g_array_new(FALSE, TRUE, sizeof(HvZone));
    if (!read_free_blocks(root, zones, NULL))
        return 0;
    for (guint i = 0; i < zones->len; i++) {
        const HvZone *zone = &g_array_index(zones, HvZone, i);
        for (guint order = 0; zone->node == node && order < zone->n_orders; order++) {
            guint64 here_kib = 0;
            if (base_kib << order >= size_kib &&
                hv_checked_mul(zone->free_blocks[order], base_kib << order, &here_kib))
                kib = hv_plus(kib, here_kib);
        }
    }
    return kib;
}

static gboolean read_zones(const HvRoot *root, guint64 base_page_kib, GArray *zones, GError **error)
{
    if (!read_free_blocks(root, zones, error))
        return FALSE;
    g_autofree char *types =
        hv_root_read_text(root, "/proc/pagetypeinfo", PAGETYPEINFO_MAX_BYTES, NULL);
    if (types != NULL && !parse_pagetypeinfo(types, base_page_kib, zones))
        return fail_malformed(root, "/proc/pagetypeinfo", error);
    g_autofree char *info = hv_root_read_text(root, "/proc/zoneinfo", ZONEINFO_MAX_BYTES, NULL);
    parse_zoneinfo(info, zones);
    return TRUE;
}

void hv_zones_read(const HvRoot *root, HvSnapshot *snapshot)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GArray) zones = g_array_new(FALSE, TRUE, sizeof(HvZone));
    g_clear_pointer(&snapshot->zones, g_array_unref);
    g_clear_pointer(&snapshot->zones_fault, g_free);
    if (read_zones(root, snapshot->base_page_kib, zones, &error)) {
        read_pins(root, snapshot);
        snapshot->zones = g_steal_pointer(&zones);
    } else if (!g_error_matches(error, G_FILE_ERROR, G_FILE_ERROR_NOENT)) {
        g_autofree char *message = hv_error_message(error);
        snapshot->zones_fault = g_strdup_printf(
            "%s: what can be grown is forecast by the amount of free memory alone", message);
    }
}
