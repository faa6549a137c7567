/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How free memory lies, read from what kernels write, and from what no kernel would. */
#include "zones.h"

#include <glib/gstdio.h>
#include <string.h>

#define BUDDY                                                                                      \
    "Node 0, zone      DMA      0      1      2 \n"                                                \
    "Node 0, zone   Normal      7     20      4 \n"                                                \
    "Node 1, zone   Normal      1      0    300 \n"

#define TYPES_OF_NODE_0                                                                            \
    "Page block order: 9\nPages per block:  512\n\n"                                               \
    "Free pages count per migrate type at order       0      1      2 \n"                          \
    "Node    0, zone   Normal, type    Unmovable      3      0      1 \n"                          \
    "Node    0, zone   Normal, type      Movable      4 >100000     2 \n"                          \
    "Node    0, zone   Normal, type          CMA      0      5      0 \n"                          \
    "Node    0, zone   Normal, type   HighAtomic      0      0      1 \n\n"                        \
    "Number of blocks type     Unmovable      Movable          CMA   HighAtomic \n"                \
    "Node 0, zone   Normal            2            9            4            1 \n"

typedef struct {
    char *directory;
    HvSnapshot *snapshot;
} Host;

static void put(const Host *host, const char *path, const char *text)
{
    g_autofree char *real = g_strconcat(host->directory, path, NULL);
    g_autofree char *parent = g_path_get_dirname(real);
    g_assert_cmpint(g_mkdir_with_parents(parent, 0755), ==, 0);
    g_assert_true(g_file_set_contents(real, text, -1, NULL));
}

static void host_up(Host *host, gconstpointer data)
{
    (void)data;
    host->directory = g_dir_make_tmp("hugevm-zones-XXXXXX", NULL);
    host->snapshot = hv_snapshot_new();
    host->snapshot->base_page_kib = 4;
    for (int id = 0; id <= 1; id++) {
        HvNode node = {.id = id};
        g_array_append_val(host->snapshot->nodes, node);
    }
}

static void remove_tree(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    for (const char *name; dir != NULL && (name = g_dir_read_name(dir)) != NULL;) {
        g_autofree char *child = g_build_filename(path, name, NULL);
        remove_tree(child);
    }
    g_remove(path);
}

static void host_down(Host *host, gconstpointer data)
{
    (void)data;
    hv_snapshot_free(host->snapshot);
    remove_tree(host->directory);
    g_free(host->directory);
}

static void look(Host *host)
{
    g_autoptr(HvRoot) root = hv_root_new(host->directory);
    hv_zones_read(root, host->snapshot);
}

static const HvZone *zone_at(const Host *host, guint index, int node, const char *name)
{
    g_assert_cmpstr(host->snapshot->zones_fault, ==, NULL);
    g_assert_nonnull(host->snapshot->zones);
    g_assert_cmpuint(index, <, host->snapshot->zones->len);
    const HvZone *zone = &g_array_index(host->snapshot->zones, HvZone, index);
    g_assert_cmpint(zone->node, ==, node);
    g_assert_cmpstr(zone->name, ==, name);
    return zone;
}

static void assert_fault(const Host *host, const char *path)
{
    g_assert_null(host->snapshot->zones);
    g_assert_nonnull(host->snapshot->zones_fault);
    g_assert_nonnull(strstr(host->snapshot->zones_fault, path));
}

static void test_free_blocks_are_read_by_order(Host *host, gconstpointer data)
{
    (void)data;
    put(host, "/proc/buddyinfo", BUDDY);
    look(host);
    g_assert_cmpuint(host->snapshot->zones->len, ==, 3);
    const HvZone *zone = zone_at(host, 1, 0, "Normal");
    g_assert_cmpuint(zone->n_orders, ==, 3);
    g_assert_cmpuint(zone->free_blocks[0], ==, 7);
    g_assert_cmpuint(zone->free_blocks[2], ==, 4);
    g_assert_false(zone->has_types);
    g_assert_cmpuint(zone_at(host, 2, 1, "Normal")->free_blocks[2], ==, 300);
}

/* CMA serves movable pages only; 100000 and more is what the kernel counts to. */
static void test_types_tell_what_may_be_moved(Host *host, gconstpointer data)
{
    (void)data;
    put(host, "/proc/buddyinfo", BUDDY);
    put(host, "/proc/pagetypeinfo", TYPES_OF_NODE_0);
    look(host);
    const HvZone *zone = zone_at(host, 1, 0, "Normal");
    g_assert_true(zone->has_types);
    g_assert_cmpuint(zone->movable_free_blocks[0], ==, 4);
    g_assert_cmpuint(zone->movable_free_blocks[1], ==, 100005);
    g_assert_cmpuint(zone->movable_free_blocks[2], ==, 2);
    g_assert_cmpuint(zone->fixed_kib, ==, (2 + 1) * 2048);
    g_assert_cmpuint(zone->movable_kib, ==, (9 + 4) * 2048);
    g_assert_false(zone_at(host, 2, 1, "Normal")->has_types);
}

/* CONFIG_PAGE_OWNER adds a table that looks like the one of pageblocks. */
static void test_other_tables_are_skipped(Host *host, gconstpointer data)
{
    (void)data;
    put(host, "/proc/buddyinfo", BUDDY);
    put(host, "/proc/pagetypeinfo",
        TYPES_OF_NODE_0 "\nNumber of mixed blocks    Unmovable      Movable          CMA \n"
                        "Node 0, zone   Normal           88           88           88 \n");
    look(host);
    g_assert_cmpuint(zone_at(host, 1, 0, "Normal")->fixed_kib, ==, 3 * 2048);
}

static void test_managed_pages_are_the_zones(Host *host, gconstpointer data)
{
    (void)data;
    put(host, "/proc/buddyinfo", BUDDY);
    put(host, "/proc/zoneinfo",
        "Node 0, zone      DMA\n  per-node stats\n        managed  3840\n"
        "Node 0, zone  Movable\n        managed  5\nNode 1, zone   Normal\n        managed  77\n");
    look(host);
    g_assert_cmpuint(zone_at(host, 0, 0, "DMA")->managed_pages, ==, 3840);
    g_assert_cmpuint(zone_at(host, 1, 0, "Normal")->managed_pages, ==, 0);
    g_assert_cmpuint(zone_at(host, 2, 1, "Normal")->managed_pages, ==, 77);
}

static void test_pinned_pages_are_the_nodes(Host *host, gconstpointer data)
{
    (void)data;
    put(host, "/proc/buddyinfo", BUDDY);
    put(host, "/proc/vmstat", "nr_foll_pin_acquired 9000\nnr_foll_pin_released 0\n");
    put(host, "/sys/devices/system/node/node1/vmstat",
        "nr_free_pages 1\nnr_foll_pin_acquired 950\nnr_foll_pin_released 900\n");
    look(host);
    g_assert_cmpuint(hv_snapshot_node(host->snapshot, 0)->pinned_pages, ==, 0);
    g_assert_cmpuint(hv_snapshot_node(host->snapshot, 1)->pinned_pages, ==, 50);
}

static void test_kernel_without_buddyinfo_is_no_fault(Host *host, gconstpointer data)
{
    (void)data;
    put(host, "/proc/pagetypeinfo", TYPES_OF_NODE_0);
    look(host);
    g_assert_null(host->snapshot->zones);
    g_assert_null(host->snapshot->zones_fault);
}

static void test_malformed_buddyinfo_is_told(Host *host, gconstpointer data)
{
    (void)data;
    static const char *const texts[] = {
        "",
        "\n",
        "hello\n",
        "Node 0, zone   Normal\n",
        "Node 0, zone   Normal 1 2 x\n",
        "Node 0, zone   Normal 1 2 -3\n",
        "Node 0, zone   Normal 1 2 99999999999999999999\n",
        "Node 0, zone   Normal 1 2 3\nNode 1, zone   Normal 1 2\n",
        "Node 0, zone   Normal 1 2 3\nNode 1, zo",
        "Node 1024, zone   Normal 1 2 3\n",
        "Node x, zone   Normal 1 2 3\n",
        "Node 0, zone Normal 1 2 3 4 5 6 7 8 9 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1\n",
    };
    for (guint i = 0; i < G_N_ELEMENTS(texts); i++) {
        put(host, "/proc/buddyinfo", texts[i]);
        look(host);
        assert_fault(host, "/proc/buddyinfo");
    }
}

static void test_malformed_pagetypeinfo_is_told(Host *host, gconstpointer data)
{
    (void)data;
    static const char *const texts[] = {
        "Page block order: 40\n",
        "Page block order: x\n",
        "Node 0, zone Normal, type Movable 1 2\n",
        "Node 0, zone Normal, type\n",
        "Number of blocks type\n",
        "Number of blocks type Unmovable Movable\nNode 0, zone Normal 1\n",
        "Page block order: 31\nNumber of blocks type Unmovable\n"
        "Node 0, zone Normal 18446744073709551615\n",
        "Node 5000, zone Normal, type Movable 1 2 3\n",
    };
    put(host, "/proc/buddyinfo", BUDDY);
    for (guint i = 0; i < G_N_ELEMENTS(texts); i++) {
        put(host, "/proc/pagetypeinfo", texts[i]);
        look(host);
        assert_fault(host, "/proc/pagetypeinfo");
    }
}

/* More than any host has: neither read to its end nor taken for what it says. */
static void test_endless_buddyinfo_is_told(Host *host, gconstpointer data)
{
    (void)data;
    g_autoptr(GString) text = g_string_new(NULL);
    while (text->len < 3 * 1024 * 1024)
        g_string_append(text, "Node 0, zone   Normal      7     20      4 \n");
    put(host, "/proc/buddyinfo", text->str);
    look(host);
    assert_fault(host, "/proc/buddyinfo");
    g_string_truncate(text, 1024 * 1024);
    put(host, "/proc/buddyinfo", text->str);
    look(host);
    assert_fault(host, "/proc/buddyinfo");
}

#define ADD(name, function) g_test_add("/zones/" name, Host, NULL, host_up, function, host_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("free-blocks-are-read-by-order", test_free_blocks_are_read_by_order);
    ADD("types-tell-what-may-be-moved", test_types_tell_what_may_be_moved);
    ADD("other-tables-are-skipped", test_other_tables_are_skipped);
    ADD("managed-pages-are-the-zones", test_managed_pages_are_the_zones);
    ADD("pinned-pages-are-the-nodes", test_pinned_pages_are_the_nodes);
    ADD("kernel-without-buddyinfo-is-no-fault", test_kernel_without_buddyinfo_is_no_fault);
    ADD("malformed-buddyinfo-is-told", test_malformed_buddyinfo_is_told);
    ADD("malformed-pagetypeinfo-is-told", test_malformed_pagetypeinfo_is_told);
    ADD("endless-buddyinfo-is-told", test_endless_buddyinfo_is_told);
    return g_test_run();
}
