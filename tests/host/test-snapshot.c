/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tree.h"

#include "error.h"
#include "free-blocks.h"
#include "page-size.h"
#include "snapshot.h"

typedef struct {
    char *directory;
    HvRoot *root;
} Tree;

static void tree_init(Tree *tree, const char *name)
{
    g_autofree char *text = tree_description(name);
    tree->directory = g_dir_make_tmp("hugevm-host-XXXXXX", NULL);
    g_assert_nonnull(tree->directory);
    tree_make(tree->directory, text);
    tree->root = hv_root_new(tree->directory);
}

static void tree_clear(Tree *tree)
{
    tree_remove(tree->directory);
    hv_root_free(tree->root);
    g_free(tree->directory);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Tree, tree_clear)

static HvSnapshot *read_good(const Tree *tree)
{
    g_autoptr(GError) error = NULL;
    HvSnapshot *snapshot = hv_snapshot_read(tree->root, &error);
    g_assert_no_error(error);
    g_assert_nonnull(snapshot);
    return snapshot;
}

static HvSnapshot *read_tree(const char *name)
{
    g_auto(Tree) tree;
    tree_init(&tree, name);
    return read_good(&tree);
}

static void assert_pool(const HvSnapshot *snapshot, int node, guint64 size_kib, guint64 total,
                        guint64 free_pages, guint64 surplus)
{
    const HvPool *pool = hv_snapshot_pool(snapshot, node, size_kib);
    g_test_message("node %d, size %" G_GUINT64_FORMAT, node, size_kib);
    g_assert_nonnull(pool);
    g_assert_cmpuint(pool->total_pages, ==, total);
    g_assert_cmpuint(pool->free_pages, ==, free_pages);
    g_assert_cmpuint(pool->surplus_pages, ==, surplus);
}

static void assert_size(const HvSnapshot *snapshot, guint index, guint64 size_kib,
                        guint64 demote_kib, gboolean is_default)
{
    g_assert_cmpuint(index, <, snapshot->sizes->len);
    const HvPageSize *size = &g_array_index(snapshot->sizes, HvPageSize, index);
    g_assert_cmpuint(size->size_kib, ==, size_kib);
    g_assert_cmpuint(size->demote_size_kib, ==, demote_kib);
    g_assert_true(size->is_default == is_default);
}

static void test_one_node_is_read_whole(void)
{
    g_autoptr(HvSnapshot) snapshot = read_tree("one-node.txt");
    g_assert_cmpstr(snapshot->arch, ==, "x86_64");
    g_assert_cmpuint(snapshot->mem_available_kib, ==, 8388608);
    g_assert_cmpuint(snapshot->base_page_kib, ==, 4);
    g_assert_cmpuint(snapshot->nodes->len, ==, 1);
    const HvNode *node = hv_snapshot_node(snapshot, 0);
    g_assert_cmpuint(node->mem_total_kib, ==, 16777216);
    g_assert_cmpuint(node->mem_free_kib, ==, 4194304);
    g_assert_cmpuint(node->reclaimable_kib, ==, 1048576 + 524288);
    g_assert_cmpuint(node->low_watermark_kib, ==, 65536);
    g_assert_cmpuint(snapshot->sizes->len, ==, 2);
    assert_size(snapshot, 0, 2048, 0, TRUE);
    assert_size(snapshot, 1, 1048576, 2048, FALSE);
    g_assert_cmpuint(hv_snapshot_size(snapshot, 2048)->resv_pages, ==, 3);
    g_assert_cmpuint(hv_snapshot_size(snapshot, 2048)->overcommit_pages, ==, 5);
    g_assert_cmpuint(snapshot->pools->len, ==, 2);
    assert_pool(snapshot, 0, 2048, 100, 60, 4);
    assert_pool(snapshot, 0, 1048576, 2, 1, 0);
}

static void test_persistent_and_in_use_are_told_apart(void)
{
    g_autoptr(HvSnapshot) snapshot = read_tree("one-node.txt");
    const HvPool *pool = hv_snapshot_pool(snapshot, 0, 2048);
    g_assert_cmpuint(hv_pool_persistent(pool), ==, 96);
    g_assert_cmpuint(hv_pool_in_use(pool), ==, 40);
    HvPool torn = {0, 2048, 5, 7, 9}; /* read while it changed */
    g_assert_cmpuint(hv_pool_persistent(&torn), ==, 0);
    g_assert_cmpuint(hv_pool_in_use(&torn), ==, 0);
}

static void test_unequal_nodes_keep_their_own_numbers(void)
{
    g_autoptr(HvSnapshot) snapshot = read_tree("four-nodes.txt");
    g_assert_cmpuint(snapshot->nodes->len, ==, 4);
    g_assert_cmpuint(snapshot->pools->len, ==, 8);
    assert_pool(snapshot, 0, 2048, 512, 512, 0);
    assert_pool(snapshot, 1, 2048, 0, 0, 0);
    assert_pool(snapshot, 2, 2048, 64, 1, 0);
    assert_pool(snapshot, 3, 2048, 7, 7, 7);
    assert_pool(snapshot, 0, 1048576, 4, 2, 0);
    assert_pool(snapshot, 3, 1048576, 1, 1, 0);
    g_assert_cmpuint(hv_snapshot_node(snapshot, 1)->mem_free_kib, ==, 4194304);
    g_assert_cmpuint(hv_snapshot_node(snapshot, 3)->low_watermark_kib, ==, 8192);
}

static void test_gaps_between_nodes_are_no_nodes(void)
{
    static const int ids[] = {0, 2, 17};
    g_autoptr(HvSnapshot) snapshot = read_tree("node-gaps.txt");
    g_assert_cmpuint(snapshot->nodes->len, ==, G_N_ELEMENTS(ids));
    for (guint i = 0; i < G_N_ELEMENTS(ids); i++)
        g_assert_cmpint(g_array_index(snapshot->nodes, HvNode, i).id, ==, ids[i]);
    g_assert_null(hv_snapshot_node(snapshot, 1));
    g_assert_null(hv_snapshot_pool(snapshot, 1, 2048));
    assert_pool(snapshot, 17, 2048, 3, 3, 0);
}

static void test_node_without_memory_has_empty_pools(void)
{
    g_autoptr(HvSnapshot) snapshot = read_tree("memoryless-node.txt");
    g_assert_cmpuint(snapshot->nodes->len, ==, 2);
    g_assert_cmpuint(hv_snapshot_node(snapshot, 1)->mem_total_kib, ==, 0);
    assert_pool(snapshot, 1, 2048, 0, 0, 0);
}

static void test_node_without_memory_may_have_no_pools(void)
{
    g_autoptr(HvSnapshot) snapshot = read_tree("memoryless-node-old.txt");
    g_assert_cmpuint(snapshot->nodes->len, ==, 2);
    g_assert_cmpuint(snapshot->pools->len, ==, 1);
    g_assert_null(hv_snapshot_pool(snapshot, 1, 2048));
    g_assert_cmpuint(hv_snapshot_node(snapshot, 1)->mem_total_kib, ==, 0);
}

static void test_kernel_without_numa_is_one_node(void)
{
    g_autoptr(HvSnapshot) snapshot = read_tree("no-numa.txt");
    g_assert_cmpuint(snapshot->nodes->len, ==, 1);
    g_assert_cmpuint(hv_snapshot_node(snapshot, 0)->mem_total_kib, ==, 4194304);
    assert_pool(snapshot, 0, 2048, 10, 8, 2);
    g_assert_cmpuint(hv_snapshot_size(snapshot, 2048)->resv_pages, ==, 1);
}

/* Kernels that set up memory lazily show a fraction of it in the node's own file. */
static void test_memory_of_the_only_node_is_the_hosts(void)
{
    g_auto(Tree) tree;
    tree_init(&tree, "one-node.txt");
    tree_write(tree.directory, TREE_NODES "/node0/meminfo", "Node 0 MemFree: 5 kB\n");
    g_autoptr(HvSnapshot) snapshot = read_good(&tree);
    g_assert_cmpuint(hv_snapshot_node(snapshot, 0)->mem_free_kib, ==, 4194304);
}

static void test_kernel_without_huge_pages_has_no_sizes(void)
{
    g_autoptr(HvSnapshot) snapshot = read_tree("no-hugetlb.txt");
    g_autofree char *sizes = hv_snapshot_format_sizes(snapshot);
    g_assert_cmpuint(snapshot->sizes->len, ==, 0);
    g_assert_cmpuint(snapshot->pools->len, ==, 0);
    g_assert_cmpuint(snapshot->nodes->len, ==, 1);
    g_assert_cmpuint(hv_snapshot_default_size_kib(snapshot), ==, 0);
    g_assert_cmpstr(sizes, ==, "none");
}

static void test_sizes_of_other_machines(void)
{
    static const struct {
        const char *name, *arch, *sizes;
        guint64 default_kib;
    } machines[] = {
        {"one-node.txt", "x86_64", "2 MiB, 1 GiB", 2048},
        {"arm64-4k.txt", "aarch64", "64 KiB, 2 MiB, 32 MiB, 1 GiB", 2048},
        {"arm64-64k.txt", "aarch64", "2 MiB, 512 MiB, 16 GiB", 524288},
        {"ppc64.txt", "ppc64le", "16 MiB, 16 GiB", 16384},
        {"s390x.txt", "s390x", "1 MiB", 1024},
    };
    for (guint i = 0; i < G_N_ELEMENTS(machines); i++) {
        g_autoptr(HvSnapshot) snapshot = read_tree(machines[i].name);
        g_autofree char *sizes = hv_snapshot_format_sizes(snapshot);
        g_assert_cmpstr(snapshot->arch, ==, machines[i].arch);
        g_assert_cmpstr(sizes, ==, machines[i].sizes);
        g_assert_cmpuint(hv_snapshot_default_size_kib(snapshot), ==, machines[i].default_kib);
    }
}

static void test_chain_of_demotions_is_read(void)
{
    g_autoptr(HvSnapshot) snapshot = read_tree("arm64-4k.txt");
    assert_size(snapshot, 0, 64, 0, FALSE);
    assert_size(snapshot, 1, 2048, 64, TRUE);
    assert_size(snapshot, 2, 32768, 2048, FALSE);
    assert_size(snapshot, 3, 1048576, 32768, FALSE);
}

/* Whoever divides by it relies on that. */
static void test_demotion_into_no_parts_is_none(void)
{
    static const char *const texts[] = {"0kB\n",        "2048kB\n", "3000kB\n", "1048576kB\n",
                                        "16777216kB\n", "kB\n",     "-64kB\n",  "64\n64\n"};
    g_auto(Tree) tree;
    tree_init(&tree, "arm64-4k.txt");
    for (guint i = 0; i < G_N_ELEMENTS(texts); i++) {
        tree_write(tree.directory, TREE_SIZES "/hugepages-2048kB/demote_size", texts[i]);
        g_autoptr(HvSnapshot) snapshot = read_good(&tree);
        g_test_message("%s", texts[i]);
        assert_size(snapshot, 1, 2048, 0, TRUE);
    }
}

static void test_kernel_that_cannot_demote(void)
{
    g_autoptr(HvSnapshot) snapshot = read_tree("ppc64.txt");
    assert_size(snapshot, 0, 16384, 0, TRUE);
    assert_size(snapshot, 1, 16777216, 0, FALSE);
    assert_pool(snapshot, 8, 16777216, 1, 1, 0);
}

static void test_many_nodes_are_in_the_order_of_their_numbers(void)
{
    g_autoptr(HvSnapshot) snapshot = read_tree("sixteen-nodes.txt");
    g_assert_cmpuint(snapshot->nodes->len, ==, 16);
    g_assert_cmpuint(snapshot->pools->len, ==, 16);
    for (int id = 0; id < 16; id++) {
        const HvPool *pool = &g_array_index(snapshot->pools, HvPool, id);
        g_assert_cmpint(g_array_index(snapshot->nodes, HvNode, id).id, ==, id);
        g_assert_cmpint(pool->node, ==, id); /* not 0, 1, 10, 11 */
        g_assert_cmpuint(pool->total_pages, ==, (guint64)id + 1);
    }
}

static void test_pools_are_in_the_order_of_nodes_then_sizes(void)
{
    g_autoptr(HvSnapshot) snapshot = read_tree("four-nodes.txt");
    for (guint i = 1; i < snapshot->pools->len; i++) {
        const HvPool *before = &g_array_index(snapshot->pools, HvPool, i - 1);
        const HvPool *pool = &g_array_index(snapshot->pools, HvPool, i);
        g_assert_true(before->node < pool->node ||
                      (before->node == pool->node && before->size_kib < pool->size_kib));
    }
}

static void assert_same_pools(const HvSnapshot *part, const HvSnapshot *whole, guint64 size_kib)
{
    guint n = 0;
    for (guint i = 0; i < whole->pools->len; i++) {
        const HvPool *pool = &g_array_index(whole->pools, HvPool, i);
        if (pool->size_kib == size_kib)
            g_assert_cmpmem(&g_array_index(part->pools, HvPool, n++), sizeof *pool, pool,
                            sizeof *pool);
    }
    g_assert_cmpuint(part->pools->len, ==, n);
    g_assert_cmpuint(part->sizes->len, ==, 1);
    g_assert_cmpuint(part->nodes->len, ==, whole->nodes->len);
}

static void test_one_size_reads_as_it_does_among_all(void)
{
    static const char *const names[] = {"one-node.txt", "four-nodes.txt", "node-gaps.txt",
                                        "memoryless-node.txt", "no-numa.txt"};
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        g_auto(Tree) tree;
        tree_init(&tree, names[i]);
        g_autoptr(HvSnapshot) whole = read_good(&tree);
        for (guint k = 0; k < whole->sizes->len; k++) {
            const HvPageSize *size = &g_array_index(whole->sizes, HvPageSize, k);
            g_autoptr(HvSnapshot) one = hv_snapshot_read_size(tree.root, size->size_kib, NULL);
            g_autoptr(HvSnapshot) pools = hv_snapshot_read_pools(tree.root, size->size_kib, NULL);
            assert_same_pools(one, whole, size->size_kib);
            assert_same_pools(pools, whole, size->size_kib);
            g_assert_cmpmem(one->sizes->data, sizeof *size, size, sizeof *size);
            g_assert_cmpmem(one->nodes->data, one->nodes->len * sizeof(HvNode), whole->nodes->data,
                            whole->nodes->len * sizeof(HvNode));
            g_assert_cmpuint(one->mem_available_kib, ==, whole->mem_available_kib);
        }
    }
}

static void test_size_that_is_not_there_has_no_pools(void)
{
    g_auto(Tree) tree;
    tree_init(&tree, "four-nodes.txt");
    g_autoptr(HvSnapshot) one = hv_snapshot_read_size(tree.root, 64, NULL);
    g_assert_cmpuint(one->pools->len + one->sizes->len, ==, 0);
    g_assert_cmpuint(one->nodes->len, ==, 4);
}

/* Node 1 has 3 blocks of the size of a large page, 1 of four times that, and many of half. */
static void test_free_blocks_of_a_node_are_those_of_the_size_and_larger(void)
{
    g_auto(Tree) tree;
    guint64 base_kib = 4;
    tree_init(&tree, "four-nodes.txt");
    tree_write(tree.directory, "/proc/buddyinfo",
               "Node 0, zone      DMA      9      9      9      9      9 \n"
               "Node 1, zone    DMA32      5      7      1      0      0 \n"
               "Node 1, zone   Normal     88     99      2      0      1 \n"
               "Node 11, zone  Normal     1      1       1      1      1 \n");
    guint64 size_kib = 4 * base_kib;
    g_assert_cmpuint(hv_free_blocks_kib(tree.root, 1, size_kib), ==, (1 + 2 + 4) * size_kib);
    g_assert_cmpuint(hv_free_blocks_kib(tree.root, 1, 1024 * base_kib), ==, 0);
    g_assert_cmpuint(hv_free_blocks_kib(tree.root, 2, size_kib), ==, 0);
}

/* It only says how large a first step may be: what is no number counts as nothing. */
static void test_damaged_buddyinfo_has_no_free_blocks(void)
{
    static const char *const texts[] = {
        "",
        "Node",
        "Node 1, zone",
        "Node 1, zone Normal",
        "Node 1, zone Normal x 4 4 4",
        "Node 99999999999999999999, zone Normal 4 4 4",
        "Node 1, zone AVeryVeryLongNameOfAZone 4 4 4",
    };
    g_auto(Tree) tree;
    tree_init(&tree, "four-nodes.txt");
    g_assert_cmpuint(hv_free_blocks_kib(tree.root, 1, 4), ==, 0);
    for (guint i = 0; i < G_N_ELEMENTS(texts); i++) {
        tree_write(tree.directory, "/proc/buddyinfo", texts[i]);
        g_assert_cmpuint(hv_free_blocks_kib(tree.root, 1, 4), ==, 0);
    }
}

static void test_unknown_entries_are_skipped(void)
{
    static const char *const paths[] = {TREE_SIZES "/hugepages-2048MB/nr_hugepages",
                                        TREE_SIZES "/hugepages-kB/nr_hugepages",
                                        TREE_SIZES "/hugepages-x2048kB/x",
                                        TREE_SIZES "/README",
                                        TREE_NODES "/has_cpu",
                                        TREE_NODES "/nodeX/meminfo",
                                        TREE_NODES "/node-1/meminfo",
                                        TREE_NODES "/node1024/meminfo",
                                        TREE_NODES "/node99999999999999999999/x",
                                        TREE_NODES "/node/meminfo",
                                        TREE_NODES "/node0/hugepages/hugepages-4kB/nr_hugepages",
                                        TREE_SIZES "/hugepages-2048kB/some_new_counter"};
    g_auto(Tree) tree;
    tree_init(&tree, "one-node.txt");
    for (guint i = 0; i < G_N_ELEMENTS(paths); i++)
        tree_write(tree.directory, paths[i], "not a number\n");
    g_autoptr(HvSnapshot) snapshot = read_good(&tree);
    g_assert_cmpuint(snapshot->nodes->len, ==, 1);
    g_assert_cmpuint(snapshot->sizes->len, ==, 2);
    g_assert_cmpuint(snapshot->pools->len, ==, 2);
}

static void test_files_that_older_kernels_lack_are_zero(void)
{
    static const char *const paths[] = {TREE_SIZES "/hugepages-2048kB/resv_hugepages",
                                        TREE_SIZES "/hugepages-2048kB/nr_overcommit_hugepages",
                                        TREE_SIZES "/hugepages-1048576kB/demote_size",
                                        TREE_NODES
                                        "/node0/hugepages/hugepages-2048kB/surplus_hugepages",
                                        "/proc/zoneinfo",
                                        "/proc/sys/kernel/arch"};
    g_auto(Tree) tree;
    tree_init(&tree, "one-node.txt");
    for (guint i = 0; i < G_N_ELEMENTS(paths); i++) {
        g_autofree char *path = g_strconcat(tree.directory, paths[i], NULL);
        g_assert_cmpint(g_remove(path), ==, 0);
    }
    g_autoptr(HvSnapshot) snapshot = read_good(&tree);
    g_assert_cmpuint(hv_snapshot_size(snapshot, 2048)->resv_pages, ==, 0);
    g_assert_cmpuint(hv_snapshot_size(snapshot, 2048)->overcommit_pages, ==, 0);
    g_assert_cmpuint(hv_snapshot_size(snapshot, 1048576)->demote_size_kib, ==, 0);
    g_assert_cmpuint(hv_snapshot_node(snapshot, 0)->low_watermark_kib, ==, 0);
    assert_pool(snapshot, 0, 2048, 100, 60, 0);
    g_assert_cmpstr(snapshot->arch, ==, "unknown"); /* not that of this machine */
}

/* The error must say which file it was. */
static void assert_unreadable(const Tree *tree, const char *path)
{
    g_autoptr(GError) error = NULL;
    g_assert_null(hv_snapshot_read(tree->root, &error));
    g_assert_nonnull(error);
    g_assert_nonnull(strstr(error->message, tree->directory));
    g_assert_nonnull(strstr(error->message, path));
}

static void test_malformed_number_is_an_error_that_names_the_file(void)
{
    static const char *const paths[] = {
        TREE_SIZES "/hugepages-2048kB/resv_hugepages",
        TREE_SIZES "/hugepages-2048kB/nr_overcommit_hugepages",
        TREE_NODES "/node0/hugepages/hugepages-2048kB/nr_hugepages",
        TREE_NODES "/node0/hugepages/hugepages-2048kB/free_hugepages",
        TREE_NODES "/node0/hugepages/hugepages-1048576kB/surplus_hugepages"};
    static const char *const texts[] = {
        "",      "\n",   "x\n",   "-1\n",   "1 2\n",
        "1.5\n", " 1\n", "1\n\n", "0x10\n", "18446744073709551616\n"};
    for (guint i = 0; i < G_N_ELEMENTS(paths); i++) {
        for (guint j = 0; j < G_N_ELEMENTS(texts); j++) {
            g_auto(Tree) tree;
            tree_init(&tree, "one-node.txt");
            tree_write(tree.directory, paths[i], texts[j]);
            assert_unreadable(&tree, paths[i]);
        }
    }
}

static void test_number_needs_no_line_end(void)
{
    g_auto(Tree) tree;
    tree_init(&tree, "one-node.txt");
    tree_write(tree.directory, TREE_NODES "/node0/hugepages/hugepages-2048kB/nr_hugepages", "100");
    g_autoptr(HvSnapshot) snapshot = read_good(&tree);
    assert_pool(snapshot, 0, 2048, 100, 60, 4);
}

static void test_missing_counter_is_an_error_that_names_the_file(void)
{
    static const char *const paths[] = {TREE_NODES "/node0/hugepages/hugepages-2048kB/nr_hugepages",
                                        TREE_NODES
                                        "/node0/hugepages/hugepages-2048kB/free_hugepages",
                                        TREE_NODES "/node0/meminfo", "/proc/meminfo"};
    for (guint i = 0; i < G_N_ELEMENTS(paths); i++) {
        g_auto(Tree) tree;
        tree_init(&tree, "four-nodes.txt");
        g_autofree char *path = g_strconcat(tree.directory, paths[i], NULL);
        g_assert_cmpint(g_remove(path), ==, 0);
        assert_unreadable(&tree, paths[i]);
    }
}

static void test_nul_bytes_are_an_error_that_names_the_file(void)
{
    static const char *const paths[] = {TREE_NODES "/node0/hugepages/hugepages-2048kB/nr_hugepages",
                                        TREE_NODES "/node0/meminfo", "/proc/meminfo"};
    for (guint i = 0; i < G_N_ELEMENTS(paths); i++) {
        g_auto(Tree) tree;
        tree_init(&tree, "four-nodes.txt");
        g_autofree char *path = g_strconcat(tree.directory, paths[i], NULL);
        g_assert_true(g_file_set_contents(path,
                                          "1\0"
                                          "2\n",
                                          4, NULL));
        assert_unreadable(&tree, paths[i]);
    }
}

static void test_huge_file_is_an_error_that_names_the_file(void)
{
    static const char *const paths[] = {TREE_NODES "/node0/hugepages/hugepages-2048kB/nr_hugepages",
                                        TREE_NODES "/node0/meminfo", "/proc/meminfo"};
    g_autofree char *huge = g_strnfill(1024 * 1024, '1');
    for (guint i = 0; i < G_N_ELEMENTS(paths); i++) {
        g_auto(Tree) tree;
        tree_init(&tree, "four-nodes.txt");
        tree_write(tree.directory, paths[i], huge);
        assert_unreadable(&tree, paths[i]);
    }
}

static void test_directory_in_place_of_a_counter_is_an_error(void)
{
    static const char path[] = TREE_NODES "/node0/hugepages/hugepages-2048kB/nr_hugepages";
    g_auto(Tree) tree;
    tree_init(&tree, "one-node.txt");
    g_autofree char *real = g_strconcat(tree.directory, path, NULL);
    g_assert_cmpint(g_remove(real), ==, 0);
    g_assert_cmpint(g_mkdir(real, 0755), ==, 0);
    assert_unreadable(&tree, path);
}

static void test_this_machine_can_be_read(void)
{
    g_autoptr(HvRoot) root = hv_root_new(NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(HvSnapshot) snapshot = hv_snapshot_read(root, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(snapshot->nodes->len, >, 0);
    g_assert_cmpuint(g_array_index(snapshot->nodes, HvNode, 0).mem_total_kib, >, 0);
    g_assert_cmpuint(snapshot->mem_available_kib, >, 0);
}

/* A number of meminfo that is no number must not become "0 KiB available". */
static void test_malformed_meminfo_is_an_error_that_names_the_file(void)
{
    g_auto(Tree) tree;
    tree_init(&tree, "one-node.txt");
    tree_write(tree.directory, "/proc/meminfo",
               "MemTotal: 16777216 kB\nMemAvailable: lots kB\nHugepagesize: 2048 kB\n");
    assert_unreadable(&tree, "/proc/meminfo");
}

#define ADD(name, function) g_test_add_func("/snapshot/" name, function)

static void add_tests_of_damage(void)
{
    ADD("unknown-entries-are-skipped", test_unknown_entries_are_skipped);
    ADD("files-that-older-kernels-lack-are-zero", test_files_that_older_kernels_lack_are_zero);
    ADD("malformed-number-is-an-error-that-names-the-file",
        test_malformed_number_is_an_error_that_names_the_file);
    ADD("number-needs-no-line-end", test_number_needs_no_line_end);
    ADD("missing-counter-is-an-error-that-names-the-file",
        test_missing_counter_is_an_error_that_names_the_file);
    ADD("nul-bytes-are-an-error-that-names-the-file",
        test_nul_bytes_are_an_error_that_names_the_file);
    ADD("huge-file-is-an-error-that-names-the-file",
        test_huge_file_is_an_error_that_names_the_file);
    ADD("directory-in-place-of-a-counter-is-an-error",
        test_directory_in_place_of_a_counter_is_an_error);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("one-node-is-read-whole", test_one_node_is_read_whole);
    ADD("persistent-and-in-use-are-told-apart", test_persistent_and_in_use_are_told_apart);
    ADD("unequal-nodes-keep-their-own-numbers", test_unequal_nodes_keep_their_own_numbers);
    ADD("gaps-between-nodes-are-no-nodes", test_gaps_between_nodes_are_no_nodes);
    ADD("node-without-memory-has-empty-pools", test_node_without_memory_has_empty_pools);
    ADD("node-without-memory-may-have-no-pools", test_node_without_memory_may_have_no_pools);
    ADD("kernel-without-numa-is-one-node", test_kernel_without_numa_is_one_node);
    ADD("memory-of-the-only-node-is-the-hosts", test_memory_of_the_only_node_is_the_hosts);
    ADD("kernel-without-huge-pages-has-no-sizes", test_kernel_without_huge_pages_has_no_sizes);
    ADD("sizes-of-other-machines", test_sizes_of_other_machines);
    ADD("chain-of-demotions-is-read", test_chain_of_demotions_is_read);
    ADD("demotion-into-no-parts-is-none", test_demotion_into_no_parts_is_none);
    ADD("kernel-that-cannot-demote", test_kernel_that_cannot_demote);
    ADD("many-nodes-are-in-the-order-of-their-numbers",
        test_many_nodes_are_in_the_order_of_their_numbers);
    ADD("pools-are-in-the-order-of-nodes-then-sizes",
        test_pools_are_in_the_order_of_nodes_then_sizes);
    ADD("one-size-reads-as-it-does-among-all", test_one_size_reads_as_it_does_among_all);
    ADD("size-that-is-not-there-has-no-pools", test_size_that_is_not_there_has_no_pools);
    ADD("free-blocks-of-a-node-are-those-of-the-size-and-larger",
        test_free_blocks_of_a_node_are_those_of_the_size_and_larger);
    ADD("damaged-buddyinfo-has-no-free-blocks", test_damaged_buddyinfo_has_no_free_blocks);
    add_tests_of_damage();
    ADD("this-machine-can-be-read", test_this_machine_can_be_read);
    ADD("malformed-meminfo-is-an-error-that-names-the-file",
        test_malformed_meminfo_is_an_error_that_names_the_file);
    return g_test_run();
}
