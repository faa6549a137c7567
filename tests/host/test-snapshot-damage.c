/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Trees with files that are missing, unknown, or not what a kernel writes. */
#include "snapshot-fixture.h"

#include "zones.h"

/* Whoever divides by it relies on that. */
static void test_demotion_into_no_parts_is_none(void)
{
    static const char *const texts[] = {"0kB\n",        "2048kB\n", "3000kB\n", "1048576kB\n",
                                        "16777216kB\n", "kB\n",     "-64kB\n",  "64\n64\n"};
    g_auto(Tree) tree;
    tree_init_named(&tree, "arm64-4k.txt");
    for (guint i = 0; i < G_N_ELEMENTS(texts); i++) {
        tree_write(tree.directory, TREE_SIZES "/hugepages-2048kB/demote_size", texts[i]);
        g_autoptr(HvSnapshot) snapshot = read_good(&tree);
        g_test_message("%s", texts[i]);
        assert_size(snapshot, 1, 2048, 0, TRUE);
    }
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
    };
    g_auto(Tree) tree;
    tree_init_named(&tree, "four-nodes.txt");
    g_assert_cmpuint(hv_zones_free_kib(tree.root, 1, 4), ==, 0);
    for (guint i = 0; i < G_N_ELEMENTS(texts); i++) {
        tree_write(tree.directory, "/proc/buddyinfo", texts[i]);
        g_assert_cmpuint(hv_zones_free_kib(tree.root, 1, 4), ==, 0);
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
    tree_init_named(&tree, "one-node.txt");
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
    tree_init_named(&tree, "one-node.txt");
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
            tree_init_named(&tree, "one-node.txt");
            tree_write(tree.directory, paths[i], texts[j]);
            assert_unreadable(&tree, paths[i]);
        }
    }
}

static void test_number_needs_no_line_end(void)
{
    g_auto(Tree) tree;
    tree_init_named(&tree, "one-node.txt");
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
        tree_init_named(&tree, "four-nodes.txt");
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
        tree_init_named(&tree, "four-nodes.txt");
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
        tree_init_named(&tree, "four-nodes.txt");
        tree_write(tree.directory, paths[i], huge);
        assert_unreadable(&tree, paths[i]);
    }
}

static void test_directory_in_place_of_a_counter_is_an_error(void)
{
    static const char path[] = TREE_NODES "/node0/hugepages/hugepages-2048kB/nr_hugepages";
    g_auto(Tree) tree;
    tree_init_named(&tree, "one-node.txt");
    g_autofree char *real = g_strconcat(tree.directory, path, NULL);
    g_assert_cmpint(g_remove(real), ==, 0);
    g_assert_cmpint(g_mkdir(real, 0755), ==, 0);
    assert_unreadable(&tree, path);
}

/* A number of meminfo that is no number must not become "0 KiB available". */
static void test_malformed_meminfo_is_an_error_that_names_the_file(void)
{
    g_auto(Tree) tree;
    tree_init_named(&tree, "one-node.txt");
    tree_write(tree.directory, "/proc/meminfo",
               "MemTotal: 16777216 kB\nMemAvailable: lots kB\nHugepagesize: 2048 kB\n");
    assert_unreadable(&tree, "/proc/meminfo");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("demotion-into-no-parts-is-none", test_demotion_into_no_parts_is_none);
    ADD("damaged-buddyinfo-has-no-free-blocks", test_damaged_buddyinfo_has_no_free_blocks);
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
    ADD("malformed-meminfo-is-an-error-that-names-the-file",
        test_malformed_meminfo_is_an_error_that_names_the_file);
    return g_test_run();
}
