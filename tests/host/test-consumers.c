/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who named reservations are for, and what these processes hold. */
#include "consumers.h"

#include "backing.h"
#include "residence.h"
#include "tree.h"

#include <unistd.h>

#define SIZE_2M ((guint64)2048)
#define SIZE_1G ((guint64)1048576)
#define VM_UUID "00000000-0000-0000-0000-0000000000b1"

typedef struct {
    char *directory;
    HvRoot *root;
    HvSettings *settings;
    HvLedger *ledger;
    HvSnapshot *snapshot;
} Host;

static void host_init(Host *host)
{
    *host = (Host){.directory = g_dir_make_tmp("hugevm-consumers-XXXXXX", NULL)};
    host->root = hv_root_new(host->directory);
    host->settings = hv_settings_new();
    host->ledger = hv_ledger_new();
    host->snapshot = hv_snapshot_new();
}

static void host_clear(Host *host)
{
    tree_remove(host->directory);
    hv_root_free(host->root);
    hv_settings_free(host->settings);
    hv_ledger_free(host->ledger);
    hv_snapshot_free(host->snapshot);
    g_free(host->directory);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Host, host_clear)

static void reserve_for(const Host *host, const char *process)
{
    HvReserved entry = {.name = g_strdup("name"),
                        .process = g_strdup(process),
                        .size_kib = SIZE_2M,
                        .count_pages = 512,
                        .node = 0};
    g_array_append_val(host->settings->reserved, entry);
}

/* program NULL: a kernel thread */
static void process(const Host *host, int pid, const char *program, const char *comm)
{
    g_autofree char *comm_path = g_strdup_printf("/proc/%d/comm", pid);
    g_autofree char *status = g_strdup_printf("/proc/%d/status", pid);
    g_autofree char *exe = g_strdup_printf("%s/proc/%d/exe", host->directory, pid);
    tree_printf(host->directory, comm_path, "%s\n", comm);
    tree_write(host->directory, status, "Name:\tx\nUid:\t0\t0\t0\t0\nHugetlbPages:\t 2048 kB\n");
    if (program != NULL)
        g_assert_cmpint(symlink(program, exe), ==, 0);
}

static void maps(const Host *host, int pid, const char *maps, const char *numa_maps)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/maps", pid);
    g_autofree char *numa_path = g_strdup_printf("/proc/%d/numa_maps", pid);
    tree_write(host->directory, path, maps);
    if (numa_maps != NULL)
        tree_write(host->directory, numa_path, numa_maps);
}

static void look(const Host *host)
{
    hv_consumers_read(host->root, host->settings, host->ledger, host->snapshot);
}

static const HvConsumer *consumer_at(const Host *host, guint index)
{
    g_assert_nonnull(host->snapshot->consumers);
    g_assert_cmpuint(index, <, host->snapshot->consumers->len);
    return g_ptr_array_index(host->snapshot->consumers, index);
}

static guint64 pages_of(const HvConsumer *consumer, int node, guint64 size_kib)
{
    guint64 pages = 0;
    for (guint i = 0; i < consumer->placed->len; i++) {
        const HvPlacedPages *placed = &g_array_index(consumer->placed, HvPlacedPages, i);
        if (placed->node == node && placed->size_kib == size_kib)
            pages += placed->pages;
    }
    return pages;
}

/* --- who ------------------------------------------------------------------------------------- */

static void test_names_mean_a_program_and_its_variants(void)
{
    static const struct {
        const char *process, *name;
        gboolean is_meant;
    } cases[] = {
        {"ovs-vswitchd", "ovs-vswitchd", TRUE},
        {"ovs-vswitchd", "ovs-vswitchd-dpdk", TRUE},
        {"ovs", "ovs-vswitchd", TRUE},
        {"spdk", "spdk_tgt", TRUE},
        {"testpmd", "testpmd.old", TRUE},
        {"ovs", "ovsdb-server", FALSE},
        {"ovs", "my-ovs", FALSE},
        {"ovs", "ov", FALSE},
        {"ovs", "", FALSE},
        {"OVS", "ovs", FALSE},
        /* as the kernel cuts it */
        {"ovs-vswitchd-dpdk", "ovs-vswitchd-dp", TRUE},
        {"ovs-vswitchd-dpdk", "ovs-vswitchd-dX", FALSE},
        {"ovs-vswitchd-dpdk", "ovs-vswitchd", FALSE},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++)
        g_assert_cmpint(hv_consumer_is_meant(cases[i].process, cases[i].name), ==,
                        cases[i].is_meant);
}

static void test_without_names_nobody_is_looked_for(void)
{
    g_auto(Host) host;
    host_init(&host);
    HvReserved entry = {.size_kib = SIZE_2M, .count_pages = 512, .node = 0};
    g_array_append_val(host.settings->reserved, entry);
    process(&host, 100, "/usr/sbin/ovs-vswitchd", "ovs-vswitchd");
    look(&host);
    g_assert_null(host.snapshot->consumers);
}

static void assert_found(const char *program, const char *comm, const char *as)
{
    g_auto(Host) host;
    host_init(&host);
    reserve_for(&host, "ovs");
    reserve_for(&host, "spdk_tgt");
    reserve_for(&host, "ovs-vswitchd");
    process(&host, 100, program, comm);
    look(&host);
    g_assert_cmpuint(host.snapshot->consumers->len, ==, as != NULL ? 1 : 0);
    if (as != NULL) {
        g_assert_cmpint(consumer_at(&host, 0)->pid, ==, 100);
        g_assert_cmpstr(consumer_at(&host, 0)->comm, ==, comm);
        g_assert_cmpstr(consumer_at(&host, 0)->process, ==, as);
    }
}

static void test_processes_are_found_by_program_and_by_comm(void)
{
    assert_found("/usr/lib/ovs-dpdk/ovs-vswitchd-dpdk", "ovs-vswitchd-dp", "ovs-vswitchd");
    assert_found("/usr/bin/ovs-testcontroller", "ovs-testcontrol", "ovs");
    assert_found("/usr/bin/spdk_tgt", "reactor_0", "spdk_tgt");
    assert_found("/usr/bin/spdk_tgt (deleted)", "reactor_0", "spdk_tgt");
    assert_found("/usr/bin/python3.11", "ovs", "ovs"); /* a script */
    assert_found("/usr/bin/postgres", "postgres", NULL);
    assert_found("/opt/ovs/bin/postgres", "reactor_0", NULL);
    assert_found(NULL, "ovs-vswitchd", NULL);
}

static void test_user_who_takes_a_consumers_name_is_no_consumer(void)
{
    g_auto(Host) host;
    host_init(&host);
    reserve_for(&host, "ovs");
    process(&host, 100, "/home/eve/ovs", "ovs");
    tree_write(host.directory, "/proc/100/status",
               "Name:\tovs\nUid:\t1000\t0\nHugetlbPages:\t 2048 kB\n");
    look(&host);
    g_assert_cmpuint(host.snapshot->consumers->len, ==, 0);
}

/* --- what ------------------------------------------------------------------------------------ */

#define OWN_MAPS                                                                                   \
    "555500000000-555500010000 r-xp 00000000 08:01 77 /usr/lib/ovs/ovs-vswitchd-dpdk\n"            \
    "7f0000000000-7f0000200000 rw-s 00000000 00:2d 1001 /dev/hugepages/rtemap_0\n"                 \
    "7f0000200000-7f0000400000 rw-s 00000000 00:2d 1002 /dev/hugepages/rtemap_1\n"                 \
    "7f4000000000-7f4040000000 rw-s 00000000 00:2e 5 /dev/hugepages1G/a b\\012c\n"                 \
    "7f5000000000-7f5000400000 rw-p 00000000 00:0f 9 /anon_hugepage (deleted)\n"
#define OWN_NUMA                                                                                   \
    "555500000000 default file=/usr/lib/ovs/ovs-vswitchd-dpdk mapped=16 N0=16 "                    \
    "kernelpagesize_kB=4\n"                                                                        \
    "7f0000000000 default file=/dev/hugepages/rtemap_0 huge dirty=1 N0=1 kernelpagesize_kB=2048\n" \
    "7f0000200000 default file=/dev/hugepages/rtemap_1 huge dirty=1 N1=1 kernelpagesize_kB=2048\n" \
    "7f4000000000 default file=/dev/hugepages1G/a\\040b\\012c huge dirty=1 N1=1 "                  \
    "kernelpagesize_kB=1048576\n"                                                                  \
    "7f5000000000 default file=/anon_hugepage\\040(deleted) huge anon=2 dirty=2 N0=2 "             \
    "kernelpagesize_kB=2048\n"

static void assert_own(const HvConsumer *consumer)
{
    g_assert_true(consumer->is_readable);
    g_assert_cmpuint(pages_of(consumer, 0, SIZE_2M), ==, 1 + 2);
    g_assert_cmpuint(pages_of(consumer, 1, SIZE_2M), ==, 1);
    g_assert_cmpuint(pages_of(consumer, 1, SIZE_1G), ==, 1);
    g_assert_cmpuint(consumer->placed->len, ==, 3);
}

static void ovs_with(Host *host, const char *more_maps, const char *more_numa_maps)
{
    g_autofree char *all = g_strconcat(OWN_MAPS, more_maps, NULL);
    g_autofree char *all_numa = g_strconcat(OWN_NUMA, more_numa_maps, NULL);
    host_init(host);
    reserve_for(host, "ovs");
    process(host, 100, "/usr/lib/ovs/ovs-vswitchd-dpdk", "ovs-vswitchd-dp");
    maps(host, 100, all, all_numa);
}

static void test_pages_are_counted_per_node_and_size(void)
{
    g_auto(Host) host;
    ovs_with(&host, "", "");
    look(&host);
    assert_own(consumer_at(&host, 0));
}

static void test_memory_of_claimed_vms_is_not_the_switchs(void)
{
    g_auto(Host) host;
    ovs_with(&host, "7f6000000000-7f6040000000 rw-s 00000000 00:30 4242 /any (deleted)\n",
             "7f6000000000 default file=/any\\040(deleted) huge dirty=9 N0=300 N1=212 "
             "kernelpagesize_kB=2048\n");
    g_autoptr(GArray) none = g_array_new(FALSE, TRUE, sizeof(HvNeed));
    HvRequest request = {.uuid = (char *)VM_UUID, .name = (char *)"vm", .needs = none};
    HvProcess owner = {1, 1};
    HvClaim *claim = hv_ledger_add_claim(host.ledger, &request, "agent", &owner);
    HvFileId file = {0, 0x30, 4242};
    g_array_append_val(claim->files, file);
    look(&host);
    assert_own(consumer_at(&host, 0));
}

/* Its QEMU has been connected to before its start was reported; or nobody claims it at all. */
static void test_memory_that_qemu_made_is_not_the_switchs(void)
{
    static const char *const files[] = {"/dev/hugepages/libvirt/qemu/1-vm/qemu_back_mem.pc.ram.Xy1",
                                        "/qemu_back_mem._objects_ram-node0.Xy1",
                                        "/memfd:memory-backend-memfd"};
    for (guint i = 0; i < G_N_ELEMENTS(files); i++) {
        g_auto(Host) host;
        g_autofree char *more = g_strdup_printf(
            "7f6000000000-7f6040000000 rw-s 00000000 00:30 4242 %s (deleted)\n", files[i]);
        ovs_with(&host, more,
                 "7f6000000000 default file=/x huge dirty=9 N0=512 kernelpagesize_kB=2048\n");
        look(&host);
        assert_own(consumer_at(&host, 0));
    }
}

static void test_pages_that_two_processes_map_are_counted_once(void)
{
    g_auto(Host) host;
    ovs_with(&host, "", "");
    process(&host, 101, "/usr/bin/ovs-helper", "ovs-helper");
    maps(&host, 101,
         "7f1000000000-7f1000200000 rw-s 00000000 00:2d 1001 /dev/hugepages/rtemap_0\n"
         "7f1000200000-7f1000800000 rw-s 00000000 00:2d 1002 /dev/hugepages/rtemap_1\n"
         "7f1000800000-7f1000a00000 rw-s 00600000 00:2d 1002 /dev/hugepages/rtemap_1\n",
         "7f1000000000 default file=/r huge dirty=1 N0=1 kernelpagesize_kB=2048\n"
         "7f1000200000 default file=/r huge dirty=3 N1=3 kernelpagesize_kB=2048\n"
         "7f1000800000 default file=/r huge dirty=1 N1=1 kernelpagesize_kB=2048\n");
    look(&host);
    assert_own(consumer_at(&host, 0));
    g_assert_cmpuint(pages_of(consumer_at(&host, 1), 0, SIZE_2M), ==, 0);
    g_assert_cmpuint(pages_of(consumer_at(&host, 1), 1, SIZE_2M), ==, 2 + 1);
}

static void test_mappings_seen_in_one_file_only_do_not_count(void)
{
    g_auto(Host) host;
    ovs_with(&host, "7f6000000000-7f6000200000 rw-s 00000000 00:2d 1003 /dev/hugepages/rtemap_2\n",
             "7f7000000000 default file=/x huge dirty=1 N0=1 kernelpagesize_kB=2048\n");
    look(&host);
    assert_own(consumer_at(&host, 0));
}

static void test_lines_without_sense_do_not_count(void)
{
    g_auto(Host) host;
    ovs_with(&host,
             "zz\n7f6000000000\n7f6000000000-7f6000200000 rw-s 0 0:1 1 /a\n"
             "7f8000000000-7f8000200000 rw-s 00000000 00:2d 99999999999999999999999 /x\n",
             "huge\n7f6000000000 default huge N0=18446744073709551616 kernelpagesize_kB=2048\n"
             "7f6000000000 default huge N0=5\n"
             "7f6000000000 default huge N99999=5 kernelpagesize_kB=2048\n"
             "7f6000000000 default huge N0=-5 kernelpagesize_kB=2048\n");
    look(&host);
    assert_own(consumer_at(&host, 0));
}

static void test_what_cannot_be_seen_is_not_held(void)
{
    g_auto(Host) host;
    host_init(&host);
    reserve_for(&host, "ovs");
    process(&host, 100, "/usr/sbin/ovs-vswitchd", "ovs-vswitchd");
    look(&host);
    g_assert_false(consumer_at(&host, 0)->is_readable);
    g_assert_cmpuint(consumer_at(&host, 0)->placed->len, ==, 0);
}

static void test_process_without_huge_pages_holds_nothing(void)
{
    g_auto(Host) host;
    ovs_with(&host, "", "");
    tree_write(host.directory, "/proc/100/status",
               "Name:\tovs\nUid:\t0\t0\nHugetlbPages:\t 0 kB\n");
    look(&host);
    g_assert_true(consumer_at(&host, 0)->is_readable);
    g_assert_cmpuint(consumer_at(&host, 0)->placed->len, ==, 0);
}

static void test_kernel_without_numa_has_one_node(void)
{
    g_auto(Host) host;
    host_init(&host);
    reserve_for(&host, "ovs");
    process(&host, 100, "/usr/sbin/ovs-vswitchd", "ovs-vswitchd");
    maps(&host, 100, OWN_MAPS, NULL);
    tree_write(host.directory, "/proc/100/smaps",
               "7f0000000000-7f0000400000 rw-s 00000000 00:2d 1001 /dev/hugepages/rtemap_0\n"
               "KernelPageSize:     2048 kB\nPrivate_Hugetlb:  4096 kB\nVmFlags: rd wr sh ht\n"
               "7f6000000000-7f6040000000 rw-s 00000000 00:30 4242 /qemu_back_mem.pc.ram.X\n"
               "KernelPageSize:     2048 kB\nShared_Hugetlb:  8192 kB\nVmFlags: rd wr sh ht\n");
    HvNode node = {.id = 0};
    g_array_append_val(host.snapshot->nodes, node);
    look(&host);
    g_assert_cmpuint(pages_of(consumer_at(&host, 0), 0, SIZE_2M), ==, 2);
    g_assert_cmpuint(consumer_at(&host, 0)->placed->len, ==, 1);
}

/* However many processes take the name; another name's are found beside them. */
static void test_number_of_consumers_of_a_name_is_bounded(void)
{
    g_auto(Host) host;
    host_init(&host);
    reserve_for(&host, "postgres");
    reserve_for(&host, "ovs");
    for (int pid = 1000; pid < 1200; pid++)
        process(&host, pid, "/usr/lib/postgresql/15/bin/postgres", "postgres");
    process(&host, 2000, "/usr/sbin/ovs-vswitchd", "ovs-vswitchd");
    look(&host);
    g_assert_cmpuint(host.snapshot->consumers->len, ==, 64 + 1);
    g_assert_cmpint(consumer_at(&host, 64)->pid, ==, 2000);
}

#define ADD(name, test) g_test_add_func("/consumers/" name, test)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("names-mean-a-program-and-its-variants", test_names_mean_a_program_and_its_variants);
    ADD("without-names-nobody-is-looked-for", test_without_names_nobody_is_looked_for);
    ADD("processes-are-found-by-program-and-by-comm",
        test_processes_are_found_by_program_and_by_comm);
    ADD("user-who-takes-a-consumers-name-is-no-consumer",
        test_user_who_takes_a_consumers_name_is_no_consumer);
    ADD("pages-are-counted-per-node-and-size", test_pages_are_counted_per_node_and_size);
    ADD("memory-of-claimed-vms-is-not-the-switchs", test_memory_of_claimed_vms_is_not_the_switchs);
    ADD("memory-that-qemu-made-is-not-the-switchs", test_memory_that_qemu_made_is_not_the_switchs);
    ADD("pages-that-two-processes-map-are-counted-once",
        test_pages_that_two_processes_map_are_counted_once);
    ADD("mappings-seen-in-one-file-only-do-not-count",
        test_mappings_seen_in_one_file_only_do_not_count);
    ADD("lines-without-sense-do-not-count", test_lines_without_sense_do_not_count);
    ADD("what-cannot-be-seen-is-not-held", test_what_cannot_be_seen_is_not_held);
    ADD("process-without-huge-pages-holds-nothing", test_process_without_huge_pages_holds_nothing);
    ADD("kernel-without-numa-has-one-node", test_kernel_without_numa_has_one_node);
    ADD("number-of-consumers-of-a-name-is-bounded", test_number_of_consumers_of_a_name_is_bounded);
    return g_test_run();
}
