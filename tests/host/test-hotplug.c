/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Memory devices that come and go while a VM runs, reported or not: DIMMs. */
#include "hotplug-fixture.h"

static void test_dimm_comes_and_goes(void)
{
    g_auto(Host) host = {0};
    host_begin(&host);
    guint64 generation = plug(&host, DIMM);
    g_assert_cmpuint(generation, !=, 0);
    assert_counts(1, SIZE_2M, 38, 8, 0); /* its guest cell is bound there */
    assert_claimed(60, 8);
    map(1, 8);
    report(&host, HV_PLUG_DONE, generation, DIMM);
    assert_claimed(68, 0);
    map(1, -8);
    report(&host, HV_PLUG_UNDONE, 0, DIMM);
    assert_claimed(60, 0);
    assert_counts(1, SIZE_2M, 30, 0, 0);
    end_vm(&host);
}

static void test_events_may_come_twice_without_a_name_and_after_the_end(void)
{
    g_auto(Host) host = {0};
    host_begin(&host);
    plug(&host, DIMM);
    map(1, 8);
    for (guint i = 0; i < 2; i++) {
        report(&host, HV_PLUG_DONE, 0, DIMM);
        assert_claimed(68, 0);
    }
    report(&host, HV_PLUG_FAILED, 0, DIMM); /* a lie: QEMU has it */
    assert_claimed(68, 0);
    map(1, -8);
    for (guint i = 0; i < 2; i++) {
        report(&host, HV_PLUG_UNDONE, 0, DIMM);
        assert_claimed(60, 0);
    }
    end_vm(&host);
    for (HvPlugEnd end = HV_PLUG_DONE; end <= HV_PLUG_UNDONE; end++)
        report(&host, end, 0, DIMM);
    assert_as_before();
}

static void test_plugging_that_fails_gives_back(void)
{
    g_auto(Host) host = {0};
    host_begin(&host);
    report(&host, HV_PLUG_FAILED, plug(&host, DIMM), DIMM);
    assert_claimed(60, 0);
    assert_counts(1, SIZE_2M, 30, 0, 0);
    end_vm(&host);
}

static void test_two_devices_are_told_apart(void)
{
    g_auto(Host) host = {0};
    host_begin(&host);
    guint64 first = plug(&host, DIMM);
    guint64 second = plug(&host, DIMM_ON("0"));
    assert_counts(0, SIZE_2M, 38, 8, 0);
    assert_counts(1, SIZE_2M, 38, 8, 0);
    report(&host, HV_PLUG_FAILED, second, DIMM_ON("0"));
    assert_counts(0, SIZE_2M, 30, 0, 0);
    assert_counts(1, SIZE_2M, 38, 8, 0);
    map(1, 8);
    report(&host, HV_PLUG_DONE, first, DIMM);
    assert_claimed(68, 0);
    end_vm(&host);
}

/* Pages of the VM's claim that count on a node, whoever of its devices claimed them. */
static guint64 counted_pages_on(int node)
{
    guint64 pages = 0;
    g_autoptr(HvLedger) ledger = read_ledger();
    const HvClaim *claim = hv_ledger_claim(ledger, UUID_A);
    const GArray *needs = hv_claim_places(claim);
    for (guint i = 0; i < needs->len; i++) {
        const HvNeed *need = &g_array_index(needs, HvNeed, i);
        if (hv_node_set_single(&need->nodes) == node)
            pages += need->pages;
    }
    return pages;
}

/* A look in between cannot tell which of two of one size it was: both are kept for until a report.
 */
static void test_second_device_may_come_first(void)
{
    g_auto(Host) host = {0};
    host_begin(&host);
    guint64 first = plug(&host, DIMM);
    guint64 second = plug(&host, DIMM_ON("0"));
    map(0, 8);
    recover(host.agent);
    assert_claimed(68, 16);
    g_assert_cmpuint(counted_pages_on(0), ==, 38);
    g_assert_cmpuint(counted_pages_on(1), ==, 30);
    report(&host, HV_PLUG_DONE, second, DIMM_ON("0"));
    assert_claimed(68, 8);
    map(1, 8);
    report(&host, HV_PLUG_DONE, first, DIMM);
    assert_claimed(76, 0);
    g_assert_cmpuint(counted_pages_on(1), ==, 38);
    map(1, -8); /* the one that came last */
    report(&host, HV_PLUG_UNDONE, 0, DIMM);
    assert_claimed(68, 0);
    g_assert_cmpuint(counted_pages_on(1), ==, 30);
    assert_counts(1, SIZE_2M, 30, 0, 0);
    end_vm(&host);
}

#define DIMM_OF(mib)                                                                               \
    "<memory model='dimm'><target><size unit='MiB'>" mib "</size><node>1</node></target></memory>"

static void test_larger_device_does_not_use_up_a_smaller_one(void)
{
    g_auto(Host) host = {0};
    host_begin(&host);
    guint64 small = plug(&host, DIMM_OF("16"));
    guint64 large = plug(&host, DIMM_OF("32"));
    map(1, 16);
    report(&host, HV_PLUG_DONE, large, DIMM_OF("32"));
    assert_claimed(76, 8);
    report(&host, HV_PLUG_FAILED, small, DIMM_OF("16"));
    assert_claimed(76, 0);
    assert_counts(1, SIZE_2M, 46, 0, 0);
    end_vm(&host);
}

static void test_claim_that_nobody_reports_ends(void)
{
    g_auto(Host) host = {0};
    host_begin(&host);
    plug(&host, DIMM);
    now_s += 59;
    recover(host.agent);
    assert_claimed(60, 8);
    now_s += 1;
    recover(host.agent);
    assert_claimed(60, 0);
    assert_counts(1, SIZE_2M, 30, 0, 0);
    end_vm(&host);
}

static void test_device_that_nobody_reports_is_seen(void)
{
    g_auto(Host) host = {0};
    host_begin(&host);
    plug(&host, DIMM);
    map(1, 8);
    recover(host.agent);
    assert_claimed(68, 0);
    now_s += 1000;
    recover(host.agent);
    assert_claimed(68, 0);
    end_vm(&host);
}

/* Reconciliation may be a quarter of an hour away: the pages must not count as a stranger's until
 * then, who would be thought to be the one that reserved and static pages are for. */
static void test_device_that_nobody_reports_is_seen_by_any_call(void)
{
    for (guint i = 0; i < 2; i++) {
        g_autoptr(GError) error = NULL;
        g_auto(Host) host = {0};
        host_begin(&host);
        plug(&host, DIMM);
        map(1, 8);
        now_s += 60;
        if (i == 0)
            tell(hv_lifecycle_gone, host.agent, UUID_B, 0, 0);
        else
            claim_vm(host.agent, UUID_B, 4, 4);
        assert_claimed(68, 0);
        if (i == 1)
            tell(hv_lifecycle_gone, host.agent, UUID_B, 0, 0);
        end_vm(&host);
    }
}

/* libvirt has no hook for it: pages of the administrator go, and come back. */
static void test_device_that_nobody_asked_for_is_seen(void)
{
    g_auto(Host) host = {0};
    host_begin(&host);
    fake_resize_node(1, SIZE_2M, 50);
    map(1, 8);
    recover(host.agent);
    assert_claimed(68, 0);
    map(1, -8);
    recover(host.agent);
    assert_claimed(60, 0);
    assert_counts(1, SIZE_2M, 50, 20, 0);
    end_process(QEMU);
    fake_unuse(0, SIZE_2M, 30);
    fake_unuse(1, SIZE_2M, 30);
    tell(hv_lifecycle_gone, host.agent, UUID_A, 0, 0);
    assert_counts(1, SIZE_2M, 20, 20, 0);
}

static void test_vm_that_ends_takes_its_devices_along(void)
{
    g_auto(Host) host = {0};
    host_begin(&host);
    plug(&host, DIMM);
    end_vm(&host);
}

static void test_list_of_running_vms_spares_devices(void)
{
    static const char *const running[] = {UUID_A, NULL};
    g_autoptr(GError) error = NULL;
    g_auto(Host) host = {0};
    host_begin(&host);
    plug(&host, DIMM);
    const HvRunning list = {.sequence = 99, .uuids = running, .owner_name = "test"};
    g_assert_true(hv_lifecycle_reconcile(host.agent, &list, &error));
    assert_claimed(60, 8);
    end_vm(&host);
}

static void test_other_vms_cannot_have_the_pages_of_a_device(void)
{
    g_autoptr(GError) error = NULL;
    g_auto(Host) host = {0};
    host_begin(&host);
    plug(&host, DIMM);
    fake.room_kib[1] = 0;
    g_autofree char *xml = vm_xml(UUID_B, 0, 2);
    g_autoptr(HvOutcome) outcome = try_claim(host.agent, xml, NULL, &error);
    g_assert_error(error, HV_ERROR, HV_ERROR_SHORTAGE);
    g_assert_null(outcome);
    end_vm(&host);
}

static void test_shortage_leaves_everything_as_it_was(void)
{
    g_autoptr(GError) error = NULL;
    g_auto(Host) host = {0};
    host_begin(&host);
    fake.room_kib[1] = 4 * SIZE_2M;
    g_autoptr(HvOutcome) outcome = try_plug(&host, UUID_A, DIMM, &error);
    g_assert_error(error, HV_ERROR, HV_ERROR_SHORTAGE);
    g_assert_null(outcome);
    assert_claimed(60, 0);
    assert_counts(1, SIZE_2M, 30, 0, 0);
    end_vm(&host);
}

static void test_devices_without_huge_pages_leave_no_trace(void)
{
    static const char *const devices[] = {
        "<memory model='nvdimm'><source><path>/x</path></source><target><size>1048576</size>"
        "<node>0</node></target></memory>",
        "<memory model='dimm'><source><pagesize>4</pagesize></source><target><size>16384</size>"
        "<node>0</node></target></memory>",
        "<memory model='virtio-mem'><target><size>16384</size><requested>0</requested>"
        "<node>0</node></target></memory>"};
    g_auto(Host) host = {0};
    host_begin(&host);
    guint n_writes = fake.n_writes;
    for (guint i = 0; i < G_N_ELEMENTS(devices); i++) {
        g_assert_cmpuint(plug(&host, devices[i]), ==, 0);
        assert_claimed(60, 0);
    }
    g_assert_cmpuint(fake.n_writes, ==, n_writes);
    end_vm(&host);
}

static void test_bad_input_is_refused(void)
{
    static const char *const devices[] = {"", "<memory", "<domain/>", "<memory model='dimm'/>",
                                          "<memory model='tape'><target/></memory>"};
    g_auto(Host) host = {0};
    host_begin(&host);
    for (guint i = 0; i < G_N_ELEMENTS(devices); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(HvOutcome) outcome = try_plug(&host, UUID_A, devices[i], &error);
        g_assert_error(error, HV_ERROR, HV_ERROR_XML);
        g_assert_null(outcome);
    }
    assert_claimed(60, 0);
    end_vm(&host);
}

static void test_vm_that_does_not_run_has_nothing_plugged_in(void)
{
    g_autoptr(GError) error = NULL;
    g_auto(Host) host = {0};
    host_without_vm(&host);
    claim_vm(host.agent, UUID_A, 60, 60);
    g_autoptr(HvOutcome) outcome = try_plug(&host, UUID_A, DIMM, &error);
    g_assert_error(error, HV_ERROR, HV_ERROR_CONFLICT);
    g_assert_null(outcome);
    tell(hv_lifecycle_gone, host.agent, UUID_A, 0, 0);
    assert_as_before();
}

#define DIMM_OF_2M                                                                                 \
    "<memory model='dimm'><source><pagesize unit='MiB'>2</pagesize><nodemask>0</nodemask>"         \
    "</source><target><size unit='MiB'>24</size><node>0</node></target></memory>"

/* A VM on normal pages gets a DIMM on huge ones: from then on it has a claim. */
static void test_first_huge_pages_of_a_vm(void)
{
    g_auto(Host) host = {0};
    host_without_vm(&host);
    mapped = (Mapped){0};
    guint64 generation = plug(&host, DIMM_OF_2M);
    assert_counts(0, SIZE_2M, 12, 12, 0);
    set_qemu(QEMU, UUID_A);
    map(0, 12);
    report(&host, HV_PLUG_DONE, generation, DIMM_OF_2M);
    assert_claimed(12, 0);
    g_assert_cmpint(state_of(UUID_A), ==, HV_CLAIM_RUNNING);
    end_vm(&host);
}

/* And when it has let go of them, they go back, although it runs on. */
static void test_last_huge_pages_of_a_vm(void)
{
    g_auto(Host) host = {0};
    host_without_vm(&host);
    for (guint is_reported = 0; is_reported < 2; is_reported++) {
        mapped = (Mapped){.has_normal = TRUE};
        set_qemu(QEMU, UUID_A);
        guint64 generation = plug(&host, DIMM_OF_2M);
        map(0, 12);
        report(&host, HV_PLUG_DONE, generation, DIMM_OF_2M);
        assert_claimed(12, 0);
        map(0, -12);
        if (is_reported)
            report(&host, HV_PLUG_UNDONE, 0, DIMM_OF_2M);
        else
            recover(host.agent);
        assert_claimed(0, 0);
        assert_counts(0, SIZE_2M, 0, 0, 0);
        end_vm(&host);
    }
}

static void test_first_huge_pages_of_a_vm_are_seen(void)
{
    g_auto(Host) host = {0};
    host_without_vm(&host);
    mapped = (Mapped){0};
    set_qemu(QEMU, UUID_A);
    show_memory();
    plug(&host, DIMM_OF_2M);
    recover(host.agent);
    assert_claimed(0, 12);
    map(0, 12);
    now_s += 60;
    tell(hv_lifecycle_gone, host.agent, UUID_B, 0, 0);
    assert_claimed(12, 0);
    assert_counts(0, SIZE_2M, 12, 0, 0);
    end_vm(&host);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/hotplug/a dimm comes and goes", test_dimm_comes_and_goes);
    g_test_add_func("/hotplug/events may come twice, without a name, and after the end",
                    test_events_may_come_twice_without_a_name_and_after_the_end);
    g_test_add_func("/hotplug/plugging that fails gives back", test_plugging_that_fails_gives_back);
    g_test_add_func("/hotplug/two devices are told apart", test_two_devices_are_told_apart);
    g_test_add_func("/hotplug/the second device may come first", test_second_device_may_come_first);
    g_test_add_func("/hotplug/a larger device does not use up a smaller one",
                    test_larger_device_does_not_use_up_a_smaller_one);
    g_test_add_func("/hotplug/a claim that nobody reports ends",
                    test_claim_that_nobody_reports_ends);
    g_test_add_func("/hotplug/a device that nobody reports is seen",
                    test_device_that_nobody_reports_is_seen);
    g_test_add_func("/hotplug/a device that nobody reports is seen by any call",
                    test_device_that_nobody_reports_is_seen_by_any_call);
    g_test_add_func("/hotplug/a device that nobody asked for is seen",
                    test_device_that_nobody_asked_for_is_seen);
    g_test_add_func("/hotplug/a VM that ends takes its devices along",
                    test_vm_that_ends_takes_its_devices_along);
    g_test_add_func("/hotplug/a list of running VMs spares devices",
                    test_list_of_running_vms_spares_devices);
    g_test_add_func("/hotplug/other VMs cannot have the pages of a device",
                    test_other_vms_cannot_have_the_pages_of_a_device);
    g_test_add_func("/hotplug/a shortage leaves everything as it was",
                    test_shortage_leaves_everything_as_it_was);
    g_test_add_func("/hotplug/devices without huge pages leave no trace",
                    test_devices_without_huge_pages_leave_no_trace);
    g_test_add_func("/hotplug/bad input is refused", test_bad_input_is_refused);
    g_test_add_func("/hotplug/a VM that does not run has nothing plugged in",
                    test_vm_that_does_not_run_has_nothing_plugged_in);
    g_test_add_func("/hotplug/the first huge pages of a VM", test_first_huge_pages_of_a_vm);
    g_test_add_func("/hotplug/the last huge pages of a VM", test_last_huge_pages_of_a_vm);
    g_test_add_func("/hotplug/the first huge pages of a VM are seen",
                    test_first_huge_pages_of_a_vm_are_seen);
    return g_test_run();
}
