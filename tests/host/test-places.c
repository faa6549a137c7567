/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where the pages of a VM are that nothing binds: known once it runs. */
#include "vm-fixture.h"

#include "report.h"

#define QEMU 2000

/* A VM of 10 pages, anywhere. */
static char *floating_xml(const char *uuid)
{
    return g_strdup_printf("<domain type='kvm'><name>vm</name><uuid>%s</uuid>"
                           "<memory unit='MiB'>20</memory><memoryBacking><hugepages>"
                           "<page size='2' unit='M'/></hugepages></memoryBacking></domain>",
                           uuid);
}

static void start_floating(const Host *host, const char *uuid)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *xml = floating_xml(uuid);
    g_autoptr(HvOutcome) outcome = try_claim(host->agent, xml, NULL, &error);
    g_assert_no_error(error);
    g_assert_nonnull(outcome);
}

/* Its QEMU runs, with pages where numa_maps says. */
static void run_with(const Host *host, const char *uuid, const char *numa_maps)
{
    set_qemu(QEMU, uuid);
    tree_write(fake.directory, "/proc/2000/numa_maps", numa_maps);
    g_assert_true(tell(hv_lifecycle_started, host->agent, uuid, 0, QEMU));
}

static guint64 claimed_on(int node)
{
    g_autoptr(HvLedger) ledger = read_ledger();
    g_autoptr(HvSnapshot) snapshot = hv_snapshot_read(fake.root, NULL);
    g_autoptr(HvSettings) settings = hv_settings_new();
    HvWorld world = {snapshot, settings, ledger, NULL};
    return hv_report_pool(&world, hv_snapshot_pool(snapshot, node, SIZE_2M)).claimed_pages;
}

static void assert_claimed(guint64 node0_pages, guint64 node1_pages)
{
    g_assert_cmpuint(claimed_on(0), ==, node0_pages);
    g_assert_cmpuint(claimed_on(1), ==, node1_pages);
}

static void set_up(Host *host)
{
    host_init(host);
    tree_write(fake.directory, "/sys/devices/system/node/has_memory", "0-1\n");
}

static void test_running_vm_counts_where_its_pages_are(void)
{
    g_auto(Host) host = {0};
    set_up(&host);
    start_floating(&host, UUID_A);
    assert_claimed(0, 0); /* of either node, nobody knows which */
    run_with(&host, UUID_A,
             "7f0000000000 default file=/a huge N0=3 N1=4 kernelpagesize_kB=2048\n"
             "7f1000000000 default file=/b huge N1=3 kernelpagesize_kB=2048\n");
    assert_claimed(3, 7);
}

/* What was planned is still to be seen: verify asks for it. */
static void test_needs_stay_as_they_were_planned(void)
{
    g_auto(Host) host = {0};
    set_up(&host);
    start_floating(&host, UUID_A);
    run_with(&host, UUID_A, "7f0000000000 default huge N1=10 kernelpagesize_kB=2048\n");
    g_autoptr(HvLedger) ledger = read_ledger();
    const HvClaim *claim = hv_ledger_claim(ledger, UUID_A);
    g_assert_cmpuint(hv_needs_floating_pages(claim->needs, SIZE_2M), ==, 10);
}

static void test_vm_whose_pages_are_not_all_there_stays_anywhere(void)
{
    static const char *const texts[] = {
        "7f0000000000 default huge N0=9 kernelpagesize_kB=2048\n",
        "7f0000000000 default huge N0=11 kernelpagesize_kB=2048\n",
        "7f0000000000 default huge N0=10 kernelpagesize_kB=1048576\n",
        "7f0000000000 default huge N0=ten\n",
        "7f0000000000 default N0=10 kernelpagesize_kB=4\n",
        "",
    };
    for (guint i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_auto(Host) host = {0};
        set_up(&host);
        start_floating(&host, UUID_A);
        run_with(&host, UUID_A, texts[i]);
        assert_claimed(0, 0);
    }
}

/* 5 pages of node 0 are reserved, and used by whom they are for; the VM is on node 1. */
static void test_use_by_others_is_told_from_the_vms_on_each_node(void)
{
    g_auto(Host) host = {0};
    set_up(&host);
    start_floating(&host, UUID_A);
    fake_use(0, SIZE_2M, 5);
    fake_use(1, SIZE_2M, 10);
    for (int is_known = 0; is_known <= 1; is_known++) {
        run_with(&host, UUID_A,
                 is_known ? "7f0000000000 default huge N1=10 kernelpagesize_kB=2048\n" : "");
        g_autoptr(HvLedger) ledger = read_ledger();
        g_autoptr(HvSnapshot) snapshot = hv_snapshot_read(fake.root, NULL);
        g_autoptr(HvSettings) settings = hv_settings_new();
        HvReserved reserved = {.size_kib = SIZE_2M, .count_pages = 5, .node = 0};
        g_array_append_val(settings->reserved, reserved);
        HvWorld world = {snapshot, settings, ledger, NULL};
        g_assert_cmpuint(hv_room_on_node(&world, SIZE_2M, 0), ==, is_known ? 5 : 0);
        end_process(QEMU);
        if (!is_known)
            start_floating(&host, UUID_A);
    }
}

static void test_vm_that_starts_again_is_anywhere_again(void)
{
    g_auto(Host) host = {0};
    set_up(&host);
    start_floating(&host, UUID_A);
    run_with(&host, UUID_A, "7f0000000000 default huge N1=10 kernelpagesize_kB=2048\n");
    end_process(QEMU);
    start_floating(&host, UUID_A);
    assert_claimed(0, 0);
}

static void test_host_with_one_node_is_not_asked(void)
{
    g_auto(Host) host = {0};
    set_up(&host);
    tree_write(fake.directory, "/sys/devices/system/node/has_memory", "0\n");
    start_floating(&host, UUID_A);
    run_with(&host, UUID_A, "7f0000000000 default huge N1=10 kernelpagesize_kB=2048\n");
    assert_claimed(0, 0);
}

#define ADD(name, function) g_test_add_func("/places/" name, function)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("running-vm-counts-where-its-pages-are", test_running_vm_counts_where_its_pages_are);
    ADD("needs-stay-as-they-were-planned", test_needs_stay_as_they_were_planned);
    ADD("vm-whose-pages-are-not-all-there-stays-anywhere",
        test_vm_whose_pages_are_not_all_there_stays_anywhere);
    ADD("use-by-others-is-told-from-the-vms-on-each-node",
        test_use_by_others_is_told_from_the_vms_on_each_node);
    ADD("vm-that-starts-again-is-anywhere-again", test_vm_that_starts_again_is_anywhere_again);
    ADD("host-with-one-node-is-not-asked", test_host_with_one_node_is_not_asked);
    return g_test_run();
}
