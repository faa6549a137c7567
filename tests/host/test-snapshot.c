/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Trees of whole machines, read in full, one size of them, and their free blocks. */
#include "snapshot-fixture.h"

#include "zones.h"

static HvSnapshot *read_tree(const char *name)
{
    g_auto(Tree) tree;
    tree_init_named(&tree, name);
    return read_good(&tree);
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
    tree_init_named(&tree, "one-node.txt");
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
        tree_init_named(&tree, names[i]);
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
    tree_init_named(&tree, "four-nodes.txt");
    g_autoptr(HvSnapshot) one = hv_snapshot_read_size(tree.root, 64, NULL);
    g_assert_cmpuint(one->pools->len + one->sizes->len, ==, 0);
    g_assert_cmpuint(one->nodes->len, ==, 4);
}

/* Node 1 has 3 blocks of the size of a large page, 1 of four times that, and many of half. */
static void test_free_blocks_of_a_node_are_those_of_the_size_and_larger(void)
{
    g_auto(Tree) tree;
    guint64 base_kib = 4;
    tree_init_named(&tree, "four-nodes.txt");
    tree_write(tree.directory, "/proc/buddyinfo",
               "Node 0, zone      DMA      9      9      9      9      9 \n"
               "Node 1, zone    DMA32      5      7      1      0      0 \n"
               "Node 1, zone   Normal     88     99      2      0      1 \n"
               "Node 11, zone  Normal     1      1       1      1      1 \n");
    guint64 size_kib = 4 * base_kib;
    g_assert_cmpuint(hv_zones_free_kib(tree.root, 1, size_kib), ==, (1 + 2 + 4) * size_kib);
    g_assert_cmpuint(hv_zones_free_kib(tree.root, 1, 1024 * base_kib), ==, 0);
    g_assert_cmpuint(hv_zones_free_kib(tree.root, 2, size_kib), ==, 0);
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
    ADD("kernel-that-cannot-demote", test_kernel_that_cannot_demote);
    ADD("many-nodes-are-in-the-order-of-their-numbers",
        test_many_nodes_are_in_the_order_of_their_numbers);
    ADD("pools-are-in-the-order-of-nodes-then-sizes",
        test_pools_are_in_the_order_of_nodes_then_sizes);
    ADD("one-size-reads-as-it-does-among-all", test_one_size_reads_as_it_does_among_all);
    ADD("size-that-is-not-there-has-no-pools", test_size_that_is_not_there_has_no_pools);
    ADD("free-blocks-of-a-node-are-those-of-the-size-and-larger",
        test_free_blocks_of_a_node_are_those_of_the_size_and_larger);
    ADD("this-machine-can-be-read", test_this_machine_can_be_read);
    return g_test_run();
}
