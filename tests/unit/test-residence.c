/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "residence.h"

#include "../host/tree.h"
#include "error.h"

#define SIZE_2M ((guint64)2048)
#define SIZE_1G ((guint64)1048576)
#define STAT "42 (qemu) S 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 7 0\n"

typedef struct {
    char *directory;
    HvRoot *root;
    HvProcess process;
    HvResidence *residence;
    GError *error;
} Host;

static void host_init(Host *host)
{
    *host = (Host){.directory = g_dir_make_tmp("hugevm-residence-XXXXXX", NULL)};
    host->process = (HvProcess){42, 7};
    host->root = hv_root_new(host->directory);
    tree_write(host->directory, "/proc/42/stat", STAT);
}

static void host_clear(Host *host)
{
    tree_remove(host->directory);
    hv_root_free(host->root);
    hv_residence_free(host->residence);
    g_clear_error(&host->error);
    g_free(host->directory);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Host, host_clear)

static void numa_maps(Host *host, const char *text)
{
    tree_write(host->directory, "/proc/42/numa_maps", text);
}

/* A mapping as smaps shows it; flags NULL: a kernel without that line. */
static char *mapping(const char *header, const char *size_kib, const char *lines, const char *flags)
{
    g_autofree char *last = flags != NULL ? g_strdup_printf("VmFlags: %s\n", flags) : g_strdup("");
    return g_strdup_printf("%s\nSize: 0 kB\nKernelPageSize:     %s kB\nMMUPageSize: 4 kB\n%s%s",
                           header, size_kib, lines, last);
}

static void add_mapping(Host *host, char *text)
{
    g_autofree char *path = g_strconcat(host->directory, "/proc/42/smaps", NULL);
    g_autofree char *before = NULL;
    g_autofree char *owned = text;
    g_file_get_contents(path, &before, NULL, NULL);
    g_autofree char *all = g_strconcat(before != NULL ? before : "", owned, NULL);
    tree_write(host->directory, "/proc/42/smaps", all);
}

static void read_on(Host *host, int only_node)
{
    host->residence = hv_residence_read(host->root, &host->process, only_node, &host->error);
}

static void assert_placed(const GArray *placed, guint index, int node, guint64 size_kib,
                          guint64 pages)
{
    g_assert_cmpuint(index, <, placed->len);
    const HvPlacedPages *one = &g_array_index(placed, HvPlacedPages, index);
    g_assert_cmpint(one->node, ==, node);
    g_assert_cmpuint(one->size_kib, ==, size_kib);
    g_assert_cmpuint(one->pages, ==, pages);
}

static void huge_pages_are_summed_per_node_and_size(void)
{
    g_auto(Host) host;
    host_init(&host);
    numa_maps(&host, "7f0000000000 bind:0-1 file=/dev/hugepages/libvirt/qemu/1-web/a huge dirty=5 "
                     "N0=3 N1=2 kernelpagesize_kB=2048\n"
                     "7f1000000000 bind:12 file=/memfd:ram\\040(deleted) huge mapped=1 N12=1 "
                     "kernelpagesize_kB=1048576\n"
                     "7f2000000000 prefer (many):0-1 file=/anon_hugepage\\040(deleted) huge anon=4 "
                     "dirty=4 N1=4 kernelpagesize_kB=2048\n"
                     "7f3000000000 default file=/usr/bin/qemu mapped=9 N0=9 kernelpagesize_kB=4\n"
                     "7f4000000000 default huge\n");
    read_on(&host, HV_NODE_UNKNOWN);
    g_assert_no_error(host.error);
    g_assert_true(host.residence->knows_nodes);
    g_assert_cmpuint(host.residence->placed->len, ==, 3);
    assert_placed(host.residence->placed, 0, 0, SIZE_2M, 3);
    assert_placed(host.residence->placed, 1, 1, SIZE_2M, 6);
    assert_placed(host.residence->placed, 2, 12, SIZE_1G, 1);
}

static void mapped_pages_are_more_than_those_touched(void)
{
    g_auto(Host) host;
    host_init(&host);
    numa_maps(&host, "7f0000000000 bind:1 huge N1=3 kernelpagesize_kB=2048\n7f0040000000 bind:0 "
                     "huge\n");
    add_mapping(&host, mapping("7f0000000000-7f0000800000 rw-s 00000000 00:11 5   /memfd:a", "2048",
                               "Private_Hugetlb: 6144 kB\n", "rd wr sh ht sd"));
    add_mapping(&host, mapping("7f0040000000-7f0080000000 rw-s 00000000 00:12 6   /memfd:b",
                               "1048576", "", "rd wr ht"));
    read_on(&host, HV_NODE_UNKNOWN);
    g_assert_no_error(host.error);
    g_assert_cmpuint(host.residence->placed->len, ==, 1);
    assert_placed(host.residence->placed, 0, 1, SIZE_2M, 3);
    assert_placed(host.residence->mapped, 0, HV_NODE_UNKNOWN, SIZE_2M, 4);
    assert_placed(host.residence->mapped, 1, HV_NODE_UNKNOWN, SIZE_1G, 1);
}

static void without_numa_all_is_on_the_only_node(void)
{
    g_auto(Host) host;
    host_init(&host);
    add_mapping(&host, mapping("7f0000000000-7f0000800000 rw-s 00000000 00:11 5", "2048",
                               "Shared_Hugetlb: 2048 kB\nPrivate_Hugetlb: 4096 kB\n", "rd wr ht"));
    add_mapping(&host, mapping("7f1000000000-7f1008000000 rw-p 00000000 00:00 0", "4",
                               "Rss: 8192 kB\n", "rd wr"));
    read_on(&host, 0);
    g_assert_no_error(host.error);
    g_assert_true(host.residence->knows_nodes);
    assert_placed(host.residence->placed, 0, 0, SIZE_2M, 3);
    g_assert_cmpuint(hv_placed_pages(host.residence->mapped, SIZE_2M), ==, 4);
    assert_placed(host.residence->normal, 0, 0, 4, 2048);
}

static void without_numa_maps_several_nodes_are_not_told_apart(void)
{
    g_auto(Host) host;
    host_init(&host);
    add_mapping(&host, mapping("7f0000000000-7f0000800000 rw-s 00000000 00:11 5", "2048",
                               "Private_Hugetlb: 4096 kB\n", "rd wr ht"));
    read_on(&host, HV_NODE_UNKNOWN);
    g_assert_no_error(host.error);
    g_assert_false(host.residence->knows_nodes);
    assert_placed(host.residence->placed, 0, HV_NODE_UNKNOWN, SIZE_2M, 2);
}

static void large_mappings_on_normal_pages_are_told(void)
{
    g_auto(Host) host;
    host_init(&host);
    numa_maps(&host, "7f0000000000 default anon=20000 N0=5000 N1=15000 kernelpagesize_kB=4\n"
                     "7f2000000000 default anon=300 N0=300 kernelpagesize_kB=4\n");
    add_mapping(&host, mapping("7f0000000000-7f0008000000 rw-p 00000000 00:00 0", "4",
                               "Rss: 80000 kB\nAnonHugePages: 61440 kB\n", "rd wr mr"));
    add_mapping(&host, mapping("7f2000000000-7f2000200000 rw-p 00000000 00:00 0", "4",
                               "Rss: 1200 kB\n", "rd wr mr"));
    read_on(&host, HV_NODE_UNKNOWN);
    g_assert_no_error(host.error);
    g_assert_cmpuint(host.residence->normal_mapped_kib, ==, 131072);
    g_assert_cmpuint(host.residence->normal_transparent_kib, ==, 61440);
    assert_placed(host.residence->normal, 0, 0, 4, 5000);
    assert_placed(host.residence->normal, 1, 1, 4, 15000);
    g_assert_cmpuint(host.residence->mapped->len, ==, 0);
}

/* QEMU's code, code that it makes, its heap, and address space that it only keeps free. */
static void what_is_no_guest_memory_does_not_count(void)
{
    static const char *const headers[] = {
        "7f0000000000-7f0040000000 rwxp 00000000 00:00 0",
        "7f1000000000-7f1040000000 ---p 00000000 00:00 0",
        "7f2000000000-7f2040000000 r--p 00000000 fe:00 5    /usr/lib/locale/locale-archive",
        "7f3000000000-7f3040000000 rw-p 00000000 00:00 0    [heap]",
        "7f4000000000-7f4040000000 rw-p 00000000 00:00 0    [stack]",
    };
    g_auto(Host) host;
    host_init(&host);
    numa_maps(&host, "7f0000000000 default anon=99 N0=99 kernelpagesize_kB=4\n"
                     "7f3000000000 default heap anon=99 N0=99 kernelpagesize_kB=4\n");
    for (guint i = 0; i < G_N_ELEMENTS(headers); i++)
        add_mapping(&host, mapping(headers[i], "4", "Rss: 400000 kB\n", "rd wr"));
    read_on(&host, HV_NODE_UNKNOWN);
    g_assert_no_error(host.error);
    g_assert_cmpuint(host.residence->normal_mapped_kib, ==, 0);
    g_assert_cmpuint(host.residence->normal->len, ==, 0);
}

/* An NVDIMM on device memory has pages of 2 MiB that are none of any pool. */
static void large_pages_of_a_device_are_no_huge_pages(void)
{
    g_auto(Host) host;
    host_init(&host);
    add_mapping(&host, mapping("7f0000000000-7f0040000000 rw-s 00000000 00:06 5    /dev/dax0.0",
                               "2048", "Rss: 0 kB\n", "rd wr sh mm hg"));
    read_on(&host, 0);
    g_assert_no_error(host.error);
    g_assert_cmpuint(host.residence->mapped->len, ==, 0);
}

static void without_flags_the_page_size_tells(void)
{
    g_auto(Host) host;
    host_init(&host);
    add_mapping(&host, mapping("7f0000000000-7f0000800000 rw-s 00000000 00:11 5", "2048",
                               "Private_Hugetlb: 4096 kB\n", NULL));
    read_on(&host, 0);
    g_assert_no_error(host.error);
    assert_placed(host.residence->placed, 0, 0, SIZE_2M, 2);
}

/* Blanks in a path are escaped in numa_maps, but not in smaps; newlines are in both. */
static void names_of_files_are_no_fields(void)
{
    g_auto(Host) host;
    host_init(&host);
    numa_maps(&host, "7f0000000000 default file=/tmp/a\\040huge\\040N5=7\\012x huge N0=1 "
                     "kernelpagesize_kB=2048\n");
    add_mapping(&host,
                mapping("7f0000000000-7f0000200000 rw-s 00000000 00:11 5    /tmp/a huge N5=7\\012x",
                        "2048", "Private_Hugetlb: 2048 kB\n", "rd wr ht"));
    read_on(&host, HV_NODE_UNKNOWN);
    g_assert_no_error(host.error);
    g_assert_cmpuint(host.residence->placed->len, ==, 1);
    assert_placed(host.residence->placed, 0, 0, SIZE_2M, 1);
}

static void malformed_lines_are_errors(void)
{
    static const char *const texts[] = {
        "hello\n",
        "7f00 default huge N0=x kernelpagesize_kB=2048\n",
        "7f00 default huge N0=-1 kernelpagesize_kB=2048\n",
        "7f00 default huge N9999=1 kernelpagesize_kB=2048\n",
        "7f00 default huge N0=99999999999999999999 kernelpagesize_kB=2048\n",
        "7f00 default huge N0=1 kernelpagesize_kB=0\n",
        "7f00 default huge N0=1\n",
    };
    for (guint i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_auto(Host) host;
        host_init(&host);
        numa_maps(&host, texts[i]);
        read_on(&host, HV_NODE_UNKNOWN);
        g_test_message("%s", texts[i]);
        g_assert_error(host.error, HV_ERROR, HV_ERROR_SYSTEM);
        g_assert_nonnull(strstr(host.error->message, "/proc/42/numa_maps"));
    }
}

static void malformed_smaps_is_an_error(void)
{
    g_auto(Host) host;
    host_init(&host);
    add_mapping(&host,
                mapping("7f0000000000-7f0000800000 rw-s 00000000 00:11 5", "many", "", NULL));
    read_on(&host, 0);
    g_assert_error(host.error, HV_ERROR, HV_ERROR_SYSTEM);
    g_assert_nonnull(strstr(host.error->message, "/proc/42/smaps"));
}

static void a_number_that_is_used_again_is_another_process(void)
{
    g_auto(Host) host;
    host_init(&host);
    numa_maps(&host, "");
    host.process.start_ticks = 6;
    read_on(&host, 0);
    g_assert_error(host.error, HV_ERROR, HV_ERROR_SYSTEM);
    g_assert_nonnull(strstr(host.error->message, "process 42 has ended"));
}

static void a_kernel_that_shows_nothing_is_an_error(void)
{
    g_auto(Host) host;
    host_init(&host);
    read_on(&host, 0);
    g_assert_error(host.error, HV_ERROR, HV_ERROR_SYSTEM);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name) g_test_add_func("/residence/" #name, name)
    ADD(huge_pages_are_summed_per_node_and_size);
    ADD(mapped_pages_are_more_than_those_touched);
    ADD(without_numa_all_is_on_the_only_node);
    ADD(without_numa_maps_several_nodes_are_not_told_apart);
    ADD(large_mappings_on_normal_pages_are_told);
    ADD(what_is_no_guest_memory_does_not_count);
    ADD(large_pages_of_a_device_are_no_huge_pages);
    ADD(without_flags_the_page_size_tells);
    ADD(names_of_files_are_no_fields);
    ADD(malformed_lines_are_errors);
    ADD(malformed_smaps_is_an_error);
    ADD(a_number_that_is_used_again_is_another_process);
    ADD(a_kernel_that_shows_nothing_is_an_error);
    return g_test_run();
}
