/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Files read (all below the injected root):
 *   /sys/kernel/mm/hugepages/hugepages-<KiB>kB/{resv_hugepages,nr_overcommit_hugepages,demote_size}
 *   /sys/devices/system/node/nodeN/{meminfo,hugepages/hugepages-<KiB>kB/...}
 *   /sys/devices/system/node/has_cpu
 *   /proc/meminfo, /proc/zoneinfo, and those of platform.c
 * A kernel without NUMA has no node directories: its global pools are then node 0's.
 * A kernel that sets up memory lazily shows a fraction of it in the node's meminfo
 * but all of it in /proc/meminfo: so the only node is read from there.
 * The numbers are read one after the other, so they are no atomic picture; what
 * decides is read again under the lock of the page size.
 */
#include "snapshot.h"

#include "error.h"
#include "page-size.h"

#include <string.h>

#define SYS_HUGEPAGES "/sys/kernel/mm/hugepages"
#define SYS_NODES "/sys/devices/system/node"
#define MAX_READS 8
#define MEMINFO_MAX_BYTES (64 * 1024)
#define LIST_MAX_BYTES (16 * 1024)
#define ZONEINFO_MAX_BYTES (16 * 1024 * 1024)

HvSnapshot *hv_snapshot_new(void)
{
    HvSnapshot *snapshot = g_new0(HvSnapshot, 1);
    snapshot->nodes = g_array_new(FALSE, TRUE, sizeof(HvNode));
    snapshot->sizes = g_array_new(FALSE, TRUE, sizeof(HvPageSize));
    snapshot->pools = g_array_new(FALSE, TRUE, sizeof(HvPool));
    snapshot->distances = g_array_new(FALSE, TRUE, sizeof(guint));
    return snapshot;
}

void hv_snapshot_free(HvSnapshot *snapshot)
{
    if (snapshot == NULL)
        return;
    g_array_unref(snapshot->nodes);
    g_array_unref(snapshot->sizes);
    g_array_unref(snapshot->pools);
    g_array_unref(snapshot->distances);
    g_clear_pointer(&snapshot->zones, g_array_unref);
    g_free(snapshot->zones_fault);
    g_clear_pointer(&snapshot->consumers, g_ptr_array_unref);
    hv_memory_dir_free(snapshot->memory_dir);
    g_free(snapshot->arch);
    g_free(snapshot);
}

/* "hugepages-2048kB" -> 2048; 0 for any other name. */
static guint64 size_of_directory(const char *name)
{
    if (!g_str_has_prefix(name, "hugepages-") || !g_str_has_suffix(name, "kB"))
        return 0;
    g_autofree char *digits =
        g_strndup(name + strlen("hugepages-"), strlen(name) - strlen("hugepages-kB"));
    guint64 kib = 0;
    return hv_parse_u64(digits, &kib) ? kib : 0;
}

/* "node3" -> 3; -1 for any other name. */
static int id_of_directory(const char *name)
{
    guint64 id = 0;
    if (!g_str_has_prefix(name, "node") || !hv_parse_u64(name + strlen("node"), &id) || id >= 1024)
        return -1;
    return (int)id;
}

/* A meminfo file; the first key whose value is no number of kB, if any. */
typedef struct {
    char *path;
    char *text;
    const char *malformed;
} MemInfo;

static void mem_info_clear(MemInfo *info)
{
    g_free(info->path);
    g_free(info->text);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(MemInfo, mem_info_clear)

static gboolean mem_info_read(const HvRoot *root, const char *path, MemInfo *out_info,
                              GError **error)
{
    char *text = hv_root_read_text(root, path, MEMINFO_MAX_BYTES, error);
    if (text == NULL)
        return FALSE;
    *out_info = (MemInfo){.path = hv_root_path(root, path), .text = text};
    return TRUE;
}

/* The number behind "KEY:" ("MemFree: 1 kB", "Node 0 MemFree: 1 kB"); 0: no such key. */
static guint64 mem_info_kib(MemInfo *info, const char *key)
{
    gsize n = strlen(key);
    for (const char *found = info->text; (found = strstr(found, key)) != NULL; found += n) {
        gboolean starts = found == info->text || found[-1] == '\n' || found[-1] == ' ';
        if (!starts || found[n] != ':')
            continue;
        const char *value = found + n + 1 + strspn(found + n + 1, " ");
        g_autofree char *digits = g_strndup(value, strcspn(value, " \n"));
        guint64 kib = 0;
        if (!hv_parse_u64(digits, &kib))
            info->malformed = key;
        return kib;
    }
    return 0;
}

static gboolean mem_info_check(const MemInfo *info, GError **error)
{
    if (info->malformed == NULL)
        return TRUE;
    hv_set_error(error, HV_ERROR_SYSTEM, NULL, "%s should hold a number behind %s:", info->path,
                 info->malformed);
    return FALSE;
}

static gint compare_sizes(gconstpointer a, gconstpointer b)
{
    const HvPageSize *x = a, *y = b;
    return x->size_kib < y->size_kib ? -1 : x->size_kib > y->size_kib;
}

/* Reads a file that older kernels or single sizes may lack: missing is 0. */
static gboolean read_optional_u64(const HvRoot *root, const char *path, guint64 *out_value,
                                  GError **error)
{
    g_autoptr(GError) local = NULL;
    if (hv_root_read_u64(root, path, out_value, &local))
        return TRUE;
    if (g_error_matches(local, G_FILE_ERROR, G_FILE_ERROR_NOENT)) {
        *out_value = 0;
        return TRUE;
    }
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

/* demote_size reads as "2048kB"; 0 for one that is no part of the size. */
static guint64 read_demote_size_kib(const HvRoot *root, const char *directory, guint64 size_kib)
{
    g_autofree char *path = g_strdup_printf(SYS_HUGEPAGES "/%s/demote_size", directory);
    g_autofree char *text = hv_root_read_text(root, path, 64, NULL);
    guint64 kib = 0;
    if (text == NULL || !hv_parse_size_kib(g_strstrip(text), 1, &kib))
        return 0;
    return kib > 0 && kib < size_kib && size_kib % kib == 0 ? kib : 0;
}

static gboolean read_size(const HvRoot *root, const char *directory, HvPageSize *size,
                          GError **error)
{
    g_autofree char *resv = g_strdup_printf(SYS_HUGEPAGES "/%s/resv_hugepages", directory);
    g_autofree char *over = g_strdup_printf(SYS_HUGEPAGES "/%s/nr_overcommit_hugepages", directory);
    if (!read_optional_u64(root, resv, &size->resv_pages, error) ||
        !read_optional_u64(root, over, &size->overcommit_pages, error))
        return FALSE;
    size->demote_size_kib = read_demote_size_kib(root, directory, size->size_kib);
    return TRUE;
}

/* only_kib: no other size; 0: all. */
static gboolean read_sizes(const HvRoot *root, guint64 default_kib, guint64 only_kib,
                           HvSnapshot *snapshot, GError **error)
{
    g_auto(GStrv) names = hv_root_list(root, SYS_HUGEPAGES, error);
    if (names == NULL)
        return FALSE;
    for (guint i = 0; names[i] != NULL; i++) {
        HvPageSize size = {.size_kib = size_of_directory(names[i])};
        if (size.size_kib == 0 || (only_kib != 0 && size.size_kib != only_kib))
            continue;
        size.is_default = size.size_kib == default_kib;
        if (!read_size(root, names[i], &size, error))
            return FALSE;
        g_array_append_val(snapshot->sizes, size);
    }
    g_array_sort(snapshot->sizes, compare_sizes);
    return TRUE;
}

static gboolean read_pool(const HvRoot *root, const char *base, HvPool *pool, GError **error)
{
    g_autofree char *dir =
        g_strdup_printf("%s/hugepages-%" G_GUINT64_FORMAT "kB", base, pool->size_kib);
    g_autofree char *total = g_strconcat(dir, "/nr_hugepages", NULL);
    g_autofree char *free_pages = g_strconcat(dir, "/free_hugepages", NULL);
    g_autofree char *surplus = g_strconcat(dir, "/surplus_hugepages", NULL);
    /* a surplus page that is freed between two reads would look like a persistent one: read until
     * the surplus stands still */
    for (guint i = 0; i < MAX_READS; i++) {
        guint64 surplus_before;
        if (!read_optional_u64(root, surplus, &surplus_before, error) ||
            !hv_root_read_u64(root, total, &pool->total_pages, error) ||
            !hv_root_read_u64(root, free_pages, &pool->free_pages, error) ||
            !read_optional_u64(root, surplus, &pool->surplus_pages, error))
            return FALSE;
        if (pool->surplus_pages == surplus_before)
            break;
    }
    return TRUE;
}

/* The pools of one node. One without memory has no hugepages/ on kernels before 6.1, and pools
 * whose counters stay 0 since. */
static gboolean read_node_pools(const HvRoot *root, int node, const char *base,
                                HvSnapshot *snapshot, GError **error)
{
    for (guint i = 0; i < snapshot->sizes->len; i++) {
        HvPool pool = {.node = node,
                       .size_kib = g_array_index(snapshot->sizes, HvPageSize, i).size_kib};
        g_autofree char *dir =
            g_strdup_printf("%s/hugepages-%" G_GUINT64_FORMAT "kB", base, pool.size_kib);
        if (!hv_root_exists(root, dir))
            continue;
        if (!read_pool(root, base, &pool, error))
            return FALSE;
        g_array_append_val(snapshot->pools, pool);
    }
    return TRUE;
}

static gboolean fill_node_memory(HvNode *node, MemInfo *info, GError **error)
{
    node->mem_total_kib = mem_info_kib(info, "MemTotal");
    node->mem_free_kib = mem_info_kib(info, "MemFree");
    node->file_kib =
        hv_plus(mem_info_kib(info, "Active(file)"), mem_info_kib(info, "Inactive(file)"));
    node->reclaimable_kib = hv_plus(node->file_kib, mem_info_kib(info, "SReclaimable"));
    return mem_info_check(info, error);
}

/* host: where this is the only node, the host's memory is the node's, or none; NULL else. */
static gboolean read_node(const HvRoot *root, int id, MemInfo *host, HvSnapshot *snapshot,
                          GError **error)
{
    HvNode node = {.id = id};
    g_auto(MemInfo) own = {0};
    if (host == NULL) {
        g_autofree char *path = g_strdup_printf(SYS_NODES "/node%d/meminfo", id);
        if (!mem_info_read(root, path, &own, error))
            return FALSE;
    }
    if (!fill_node_memory(&node, host != NULL ? host : &own, error))
        return FALSE;
    g_array_append_val(snapshot->nodes, node);
    g_autofree char *base = g_strdup_printf(SYS_NODES "/node%d/hugepages", id);
    return read_node_pools(root, id, base, snapshot, error);
}

/* A host that does not say which nodes have CPUs is taken to have some on all. */
static void note_cpuless(const HvRoot *root, HvSnapshot *snapshot)
{
    HvNodeSet with_cpus;
    g_autofree char *text = hv_root_read_text(root, SYS_NODES "/has_cpu", LIST_MAX_BYTES, NULL);
    if (text == NULL || !hv_node_set_parse(g_strstrip(text), &with_cpus))
        return;
    for (guint i = 0; i < snapshot->nodes->len; i++) {
        HvNode *node = &g_array_index(snapshot->nodes, HvNode, i);
        node->is_cpuless = !hv_node_set_contains(&with_cpus, node->id);
    }
}

/* Instead of the host's, where no memory is wanted: that of all nodes. */
static MemInfo mem_info_none(void)
{
    return (MemInfo){.text = g_strdup("")};
}

static gint compare_ids(gconstpointer a, gconstpointer b)
{
    return *(const int *)a - *(const int *)b;
}

static gboolean read_nodes(const HvRoot *root, MemInfo *host, HvSnapshot *snapshot, GError **error)
{
    g_auto(GStrv) names = hv_root_list(root, SYS_NODES, error);
    if (names == NULL)
        return FALSE;
    g_autoptr(GArray) ids = g_array_new(FALSE, FALSE, sizeof(int));
    for (guint i = 0; names[i] != NULL; i++) {
        int id = id_of_directory(names[i]);
        if (id >= 0)
            g_array_append_val(ids, id);
    }
    g_array_sort(ids, compare_ids);
    gboolean is_shared = ids->len == 1 || host->path == NULL;
    for (guint i = 0; i < ids->len; i++)
        if (!read_node(root, g_array_index(ids, int, i), is_shared ? host : NULL, snapshot, error))
            return FALSE;
    if (!is_shared)
        note_cpuless(root, snapshot);
    if (ids->len > 0)
        return TRUE;

    HvNode node = {.id = 0};
    if (!fill_node_memory(&node, host, error))
        return FALSE;
    g_array_append_val(snapshot->nodes, node);
    return read_node_pools(root, 0, SYS_HUGEPAGES, snapshot, error);
}

static HvNode *find_node(HvSnapshot *snapshot, int id)
{
    for (guint i = 0; i < snapshot->nodes->len; i++) {
        HvNode *node = &g_array_index(snapshot->nodes, HvNode, i);
        if (node->id == id)
            return node;
    }
    return NULL;
}

/* Adds up the "low" watermarks of each node's zones ("Node 0, zone Normal", "  low 1234"). */
static void read_watermarks(const HvRoot *root, HvSnapshot *snapshot)
{
    g_autofree char *text = hv_root_read_text(root, "/proc/zoneinfo", ZONEINFO_MAX_BYTES, NULL);
    if (text == NULL)
        return;
    HvNode *node = NULL;
    for (char *line = text, *next; line != NULL; line = next) {
        next = strchr(line, '\n');
        if (next != NULL)
            *next++ = '\0';
        line = g_strchug(line);
        if (g_str_has_prefix(line, "Node "))
            node = find_node(snapshot, (int)g_ascii_strtoull(line + strlen("Node "), NULL, 10));
        else if (node != NULL && g_str_has_prefix(line, "low "))
            node->low_watermark_kib +=
                g_ascii_strtoull(line + strlen("low "), NULL, 10) * snapshot->base_page_kib;
    }
}

HvSnapshot *hv_snapshot_read(const HvRoot *root, GError **error)
{
    return hv_snapshot_read_size(root, 0, error);
}

HvSnapshot *hv_snapshot_read_pools(const HvRoot *root, guint64 size_kib, GError **error)
{
    g_auto(MemInfo) none = mem_info_none();
    g_autoptr(HvSnapshot) snapshot = hv_snapshot_new();
    if (!read_sizes(root, 0, size_kib, snapshot, error) ||
        !read_nodes(root, &none, snapshot, error))
        return NULL;
    return g_steal_pointer(&snapshot);
}

HvSnapshot *hv_snapshot_read_size(const HvRoot *root, guint64 size_kib, GError **error)
{
    g_auto(MemInfo) host = {0};
    if (!mem_info_read(root, "/proc/meminfo", &host, error))
        return NULL;
    g_autoptr(HvSnapshot) snapshot = hv_snapshot_new();
    snapshot->arch = hv_platform_arch(root);
    snapshot->kernel_version = hv_platform_kernel_version(root);
    snapshot->mem_available_kib = mem_info_kib(&host, "MemAvailable");
    snapshot->base_page_kib = hv_platform_base_page_kib(root);
    if (!read_sizes(root, mem_info_kib(&host, "Hugepagesize"), size_kib, snapshot, error) ||
        !read_nodes(root, &host, snapshot, error) || !mem_info_check(&host, error))
        return NULL;
    read_watermarks(root, snapshot);
    return g_steal_pointer(&snapshot);
}

const HvPageSize *hv_snapshot_size(const HvSnapshot *snapshot, guint64 size_kib)
{
    for (guint i = 0; i < snapshot->sizes->len; i++) {
        const HvPageSize *size = &g_array_index(snapshot->sizes, HvPageSize, i);
        if (size->size_kib == size_kib)
            return size;
    }
    return NULL;
}

const HvPool *hv_snapshot_pool(const HvSnapshot *snapshot, int node, guint64 size_kib)
{
    for (guint i = 0; i < snapshot->pools->len; i++) {
        const HvPool *pool = &g_array_index(snapshot->pools, HvPool, i);
        if (pool->node == node && pool->size_kib == size_kib)
            return pool;
    }
    return NULL;
}

const HvNode *hv_snapshot_node(const HvSnapshot *snapshot, int node)
{
    return find_node((HvSnapshot *)snapshot, node);
}

static guint index_of(const HvSnapshot *snapshot, int id)
{
    guint index = 0;
    while (index < snapshot->nodes->len && g_array_index(snapshot->nodes, HvNode, index).id != id)
        index++;
    return index;
}

guint hv_snapshot_distance(const HvSnapshot *snapshot, int node, const HvNodeSet *near)
{
    guint n_nodes = snapshot->nodes->len, row = index_of(snapshot, node), least = 0;
    gboolean is_read = snapshot->distances->len == n_nodes * n_nodes;
    for (guint i = 0; i < n_nodes; i++) {
        int other = g_array_index(snapshot->nodes, HvNode, i).id;
        if (!hv_node_set_contains(near, other))
            continue;
        guint distance = other == node ? HV_DISTANCE_LOCAL : HV_DISTANCE_REMOTE;
        if (is_read && row < n_nodes)
            distance = g_array_index(snapshot->distances, guint, row * n_nodes + i);
        least = least == 0 ? distance : MIN(least, distance);
    }
    return least;
}

guint64 hv_snapshot_default_size_kib(const HvSnapshot *snapshot)
{
    for (guint i = 0; i < snapshot->sizes->len; i++) {
        const HvPageSize *size = &g_array_index(snapshot->sizes, HvPageSize, i);
        if (size->is_default)
            return size->size_kib;
    }
    return 0;
}

char *hv_snapshot_format_sizes(const HvSnapshot *snapshot)
{
    if (snapshot->sizes->len == 0)
        return g_strdup("none");
    GString *out = g_string_new(NULL);
    for (guint i = 0; i < snapshot->sizes->len; i++) {
        g_autofree char *size =
            hv_format_kib(g_array_index(snapshot->sizes, HvPageSize, i).size_kib);
        g_string_append_printf(out, "%s%s", i > 0 ? ", " : "", size);
    }
    return g_string_free(out, FALSE);
}
