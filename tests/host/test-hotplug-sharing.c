/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Devices that are plugged into a VM whose memory is shared, or is not. */
#include "hotplug-fixture.h"

#define NIC                                                                                        \
    "<interface type='vhostuser'><mac address='52:54:00:00:00:07'/>"                               \
    "<source type='unix' path='/run/nic'/></interface>"
#define DIMM_WITH(access)                                                                          \
    "<memory model='dimm' access='" access "'><target><size unit='MiB'>16</size><node>1</node>"    \
    "</target></memory>"

/* A VM that runs on 30 pages of each node. */
static void begin(Host *host, gboolean is_shared)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *xml = vm_xml(UUID_A, 60, 60);
    g_autoptr(GString) text = g_string_new(xml);
    host_without_vm(host);
    mapped = (Mapped){0};
    if (is_shared)
        g_string_replace(text, "</memoryBacking>", "<access mode='shared'/></memoryBacking>", 1);
    g_autoptr(HvOutcome) outcome = try_claim(host->agent, text->str, NULL, &error);
    g_assert_no_error(error);
    set_qemu(QEMU, UUID_A);
    map(0, 30);
    map(1, 30);
    tell(hv_lifecycle_started, host->agent, UUID_A, 0, QEMU);
}

/* Of the VM's claim, and of its device's; -1: there is none. */
static void assert_shared(int of_vm, int of_device)
{
    int found = -1;
    g_autoptr(HvLedger) ledger = read_ledger();
    for (guint i = 0; i < ledger->claims->len; i++) {
        const HvClaim *claim = g_ptr_array_index(ledger->claims, i);
        if (claim->device_of != NULL)
            found = claim->shared;
    }
    g_assert_cmpint(hv_ledger_claim(ledger, UUID_A)->shared, ==, of_vm);
    g_assert_cmpint(found, ==, of_device);
}

static void test_dimm_takes_after_its_vm(void)
{
    for (int is_shared = FALSE; is_shared <= TRUE; is_shared++) {
        g_auto(Host) host = {0};
        begin(&host, is_shared);
        guint64 generation = plug(&host, DIMM);
        assert_shared(is_shared, is_shared);
        map(1, 8);
        report(&host, HV_PLUG_DONE, generation, DIMM);
        assert_shared(is_shared, -1);
        assert_claimed(68, 0);
    }
}

static void test_private_dimm_is_refused_to_a_shared_vm(void)
{
    g_auto(Host) host = {0};
    g_autoptr(GError) error = NULL;
    begin(&host, TRUE);
    g_assert_null(try_plug(&host, UUID_A, DIMM_WITH("private"), &error));
    g_assert_error(error, HV_ERROR, HV_ERROR_CONFLICT);
    g_assert_nonnull(strstr(error->message, "memory of VM " UUID_A " is shared"));
    g_assert_nonnull(strstr(hv_error_hint(error), "access='private'"));
    assert_claimed(60, 0);
    assert_counts(1, SIZE_2M, 30, 0, 0);
    plug(&host, DIMM_WITH("shared"));
    assert_claimed(60, 8);
    assert_shared(TRUE, TRUE);
}

static void test_dimm_of_a_private_vm_may_be_either(void)
{
    g_auto(Host) host = {0};
    begin(&host, FALSE);
    report(&host, HV_PLUG_FAILED, plug(&host, DIMM_WITH("private")), DIMM);
    plug(&host, DIMM_WITH("shared"));
    assert_shared(FALSE, TRUE);
}

static gboolean check(const Host *host, const char *uuid, const char *xml, GError **error)
{
    const HvVmRef vm = {.uuid = uuid};
    const HvPlug plug_of = {.xml = xml, .xml_bytes = strlen(xml)};
    return hv_lifecycle_check_device(host->agent, &vm, &plug_of, error);
}

static void assert_passes(const Host *host, const char *uuid, const char *xml)
{
    g_autoptr(GError) error = NULL;
    gboolean is_good = check(host, uuid, xml, &error);
    g_assert_no_error(error);
    g_assert_true(is_good);
}

static void assert_fails(const Host *host, const char *xml, HvErrorCode code, const char *says)
{
    g_autoptr(GError) error = NULL;
    g_assert_false(check(host, UUID_A, xml, &error));
    g_assert_error(error, HV_ERROR, (gint)code);
    if (strstr(error->message, says) == NULL)
        g_error("\"%s\" does not say \"%s\"", error->message, says);
}

static void test_device_that_needs_shared_memory_is_refused_to_a_private_vm(void)
{
    g_auto(Host) host = {0};
    begin(&host, FALSE);
    assert_fails(&host, NIC, HV_ERROR_CONFLICT,
                 "needed by interface 'vhostuser' (MAC '52:54:00:00:00:07', socket '/run/nic'), "
                 "but that of VM " UUID_A " ('vm') is private");
    assert_fails(&host, "<disk type='vhostuser'><target dev='vda'/></disk>", HV_ERROR_CONFLICT,
                 "disk 'vhostuser' (target 'vda')");
    assert_fails(&host, "<filesystem><driver type='virtiofs'/><target dir='t'/></filesystem>",
                 HV_ERROR_CONFLICT, "filesystem 'virtiofs' (target 't')");
    assert_passes(&host, UUID_A, "<interface type='bridge'/>");
    assert_passes(&host, UUID_A, "<interface type='vdpa'/>");
    assert_passes(&host, UUID_A, "<disk type='file'/>");
    assert_passes(&host, UUID_B, NIC); /* of which nothing is known */
    assert_fails(&host, "<interface", HV_ERROR_XML, "the domain XML");
    assert_claimed(60, 0);
}

static void test_device_that_needs_shared_memory_may_have_it(void)
{
    g_auto(Host) host = {0};
    begin(&host, TRUE);
    assert_passes(&host, UUID_A, NIC);
    assert_claimed(60, 0);
}

#define HUGE_DIMM                                                                                  \
    "<memory model='dimm'><source><pagesize unit='MiB'>2</pagesize><nodemask>0</nodemask>"         \
    "</source><target><size unit='MiB'>16</size><node>0</node></target></memory>"

/* Its claim speaks of the DIMM alone, which takes after cells that nobody has read. */
static void test_vm_that_has_but_a_huge_dimm_may_share_all_of_its_memory(void)
{
    g_auto(Host) host = {0};
    host_without_vm(&host);
    mapped = (Mapped){0};
    set_qemu(QEMU, UUID_A);
    guint64 generation = plug(&host, HUGE_DIMM);
    map(0, 8);
    report(&host, HV_PLUG_DONE, generation, HUGE_DIMM);
    assert_claimed(8, 0);
    assert_passes(&host, UUID_A, NIC);
}

static void test_host_without_claims_has_nothing_against_a_device(void)
{
    g_auto(Host) host = {0};
    host_without_vm(&host);
    assert_passes(&host, UUID_A, NIC);
    g_autofree char *directory = g_build_filename(fake.directory, "run", "hugevm", NULL);
    g_assert_false(g_file_test(directory, G_FILE_TEST_EXISTS));
}

static void test_switched_off_nothing_is_refused(void)
{
    g_auto(Host) host = {0};
    begin(&host, FALSE);
    tree_write(fake.directory, "/etc/hugevm/hugevm.conf", "[hugevm]\nenabled = false\n");
    assert_passes(&host, UUID_A, NIC);
}

/* It is said that nobody knows; and a device that works anywhere is not held up by it. */
static void test_damaged_ledger_is_told_from_a_refusal(void)
{
    g_auto(Host) host = {0};
    begin(&host, FALSE);
    tree_write(fake.directory, "/run/hugevm/ledger.json", "{");
    tree_write(fake.directory, "/run/hugevm/ledger.copy.json", "{");
    assert_fails(&host, NIC, HV_ERROR_LEDGER, "ledger");
    assert_passes(&host, UUID_A, "<interface type='bridge'/>");
}

#define ADD(path, test) g_test_add_func("/hotplug-sharing/" path, test)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("dimm-takes-after-its-vm", test_dimm_takes_after_its_vm);
    ADD("private-dimm-is-refused-to-a-shared-vm", test_private_dimm_is_refused_to_a_shared_vm);
    ADD("dimm-of-a-private-vm-may-be-either", test_dimm_of_a_private_vm_may_be_either);
    ADD("device-that-needs-shared-memory-is-refused-to-a-private-vm",
        test_device_that_needs_shared_memory_is_refused_to_a_private_vm);
    ADD("device-that-needs-shared-memory-may-have-it",
        test_device_that_needs_shared_memory_may_have_it);
    ADD("vm-that-has-but-a-huge-dimm-may-share-all-of-its-memory",
        test_vm_that_has_but_a_huge_dimm_may_share_all_of_its_memory);
    ADD("host-without-claims-has-nothing-against-a-device",
        test_host_without_claims_has_nothing_against_a_device);
    ADD("switched-off-nothing-is-refused", test_switched_off_nothing_is_refused);
    ADD("damaged-ledger-is-told-from-a-refusal", test_damaged_ledger_is_told_from_a_refusal);
    return g_test_run();
}
