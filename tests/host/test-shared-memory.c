/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Shared memory on its way through a start: what is kept of it, and hosts that cannot edit. */
#include "vm-fixture.h"

#include "error.h"

#define NIC                                                                                        \
    "<devices><interface type='vhostuser'><mac address='52:54:00:00:00:07'/>"                      \
    "<source type='unix' path='/run/nic'/></interface></devices>"
#define NIC_NAME "interface 'vhostuser' (MAC '52:54:00:00:00:07', socket '/run/nic')"

/* 20 MiB of 2 MiB pages. */
static HvOutcome *start(const Host *host, const char *backing, const char *rest,
                        gboolean cannot_edit, GError **error)
{
    g_autofree char *xml =
        g_strdup_printf("<domain><name>vm</name><uuid>" UUID_A "</uuid><memory unit='MiB'>20"
                        "</memory><memoryBacking><hugepages><page size='2' unit='M'/></hugepages>"
                        "%s</memoryBacking>%s</domain>",
                        backing, rest);
    HvVm vm = {.xml = xml, .xml_bytes = strlen(xml), .cannot_edit = cannot_edit};
    return hv_lifecycle_claim(host->agent, &vm, error);
}

/* What the ledger says, and with it that a claim was made. */
static gboolean is_claimed_shared(void)
{
    g_autoptr(HvLedger) ledger = read_ledger();
    const HvClaim *claim = hv_ledger_claim(ledger, UUID_A);
    g_assert_nonnull(claim);
    return claim->shared;
}

static void assert_started(const Host *host, const char *backing, const char *rest,
                           gboolean cannot_edit, gboolean is_shared)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(HvOutcome) outcome = start(host, backing, rest, cannot_edit, &error);
    g_assert_no_error(error);
    g_assert_cmpint(is_claimed_shared(), ==, is_shared);
    if (cannot_edit)
        g_assert_false(outcome->xml_changed);
    tell(hv_lifecycle_gone, host->agent, UUID_A, 0, 0);
}

static void test_ledger_says_whether_memory_is_shared(void)
{
    g_auto(Host) host = {0};
    host_init(&host);
    assert_started(&host, "", "", FALSE, FALSE);
    assert_started(&host, "", NIC, FALSE, TRUE);
    assert_started(&host, "<access mode='shared'/>", "", FALSE, TRUE);
    assert_started(&host, "<access mode='private'/>", "", FALSE, FALSE);
    assert_started(&host, "<source type='memfd'/>", "", FALSE, TRUE);
}

static void test_host_that_cannot_edit_refuses_by_the_devices_name(void)
{
    g_auto(Host) host = {0};
    g_autoptr(GError) error = NULL;
    host_init(&host);
    g_assert_null(start(&host, "", NIC, TRUE, &error));
    g_assert_error(error, HV_ERROR, HV_ERROR_CONFLICT);
    g_assert_nonnull(strstr(error->message, "needed by " NIC_NAME ", but"));
    g_assert_nonnull(strstr(hv_error_hint(error), "<access mode='shared'/>"));
    assert_started(&host, "<access mode='shared'/>", NIC, TRUE, TRUE);
}

/* QEMU does, and libvirt's own checks have been passed by then. */
static void test_host_that_cannot_edit_may_leave_sharing_to_memfd(void)
{
    g_auto(Host) host = {0};
    host_init(&host);
    assert_started(&host, "<source type='memfd'/>", NIC, TRUE, TRUE);
}

static void test_what_is_private_outright_is_refused_everywhere(void)
{
    for (int cannot_edit = FALSE; cannot_edit <= TRUE; cannot_edit++) {
        g_auto(Host) host = {0};
        g_autoptr(GError) error = NULL;
        host_init(&host);
        g_assert_null(start(&host, "<access mode='private'/>", NIC, cannot_edit, &error));
        g_assert_error(error, HV_ERROR, HV_ERROR_CONFLICT);
        g_assert_nonnull(strstr(error->message, NIC_NAME ", but the domain XML has <access"));
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/shared-memory/ledger-says-whether-memory-is-shared",
                    test_ledger_says_whether_memory_is_shared);
    g_test_add_func("/shared-memory/host-that-cannot-edit-refuses-by-the-devices-name",
                    test_host_that_cannot_edit_refuses_by_the_devices_name);
    g_test_add_func("/shared-memory/host-that-cannot-edit-may-leave-sharing-to-memfd",
                    test_host_that_cannot_edit_may_leave_sharing_to_memfd);
    g_test_add_func("/shared-memory/what-is-private-outright-is-refused-everywhere",
                    test_what_is_private_outright_is_refused_everywhere);
    return g_test_run();
}
