/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Hosts that do not report everything, and hosts that report too late. */
#include "vm-fixture.h"

#include "error.h"

#define QEMU 2000

/* A VM with 10 of the 20 pages of node 1, whose QEMU has touched so many MiB of them. */
static void start_silently(const HvAgent *agent, guint touched_mib)
{
    claim_vm(agent, UUID_A, 0, 20);
    set_qemu(QEMU, UUID_A);
    tree_printf(fake.directory, "/proc/2000/status",
                "Name:\tqemu\nUid:\t107\nHugetlbPages:\t%u kB\n", touched_mib * 1024);
    fake_add(1, SIZE_2M, "free_hugepages", -(gint64)(touched_mib / 2));
}

static void test_vm_that_nobody_reported_counts_once(void)
{
    g_auto(Host) host = {0};
    host_init(&host);
    start_silently(host.agent, 20);
    claim_vm(host.agent, UUID_B, 0, 20);
    g_assert_cmpuint(fake.n_writes, ==, 0); /* the other 10 pages are there */
    g_assert_cmpint(state_of(UUID_A), ==, HV_CLAIM_RUNNING);
    g_assert_cmpint(state_of(UUID_B), ==, HV_CLAIM_CLAIMED);
}

static void test_dry_run_sees_it_too(void)
{
    g_auto(Host) host = {0};
    g_autoptr(GError) error = NULL;
    host_init(&host);
    start_silently(host.agent, 20);
    g_autofree char *xml = vm_xml(UUID_B, 0, 20);
    HvVm vm = {.xml = xml, .xml_bytes = strlen(xml)};
    g_autoptr(HvOutcome) outcome = hv_lifecycle_plan(host.agent, &vm, &error);
    g_assert_no_error(error);
    g_assert_null(outcome->plan->refusal);
    g_assert_cmpuint(outcome->plan->steps->len, ==, 0);
    g_assert_cmpint(state_of(UUID_A), ==, HV_CLAIM_CLAIMED);
}

static void test_qemu_without_all_its_pages_is_still_starting(void)
{
    g_auto(Host) host = {0};
    host_init(&host);
    start_silently(host.agent, 18);
    claim_vm(host.agent, UUID_B, 0, 20);
    g_assert_cmpuint(fake.n_writes, >, 0);
    g_assert_cmpint(state_of(UUID_A), ==, HV_CLAIM_CLAIMED);
}

static gboolean tell_gone_as(const HvAgent *agent, const char *owner_name)
{
    g_autoptr(GError) error = NULL;
    gboolean is_known = FALSE;
    HvVmRef vm = {.uuid = UUID_A, .owner_name = owner_name};
    g_assert_true(hv_lifecycle_gone(agent, &vm, &is_known, &error));
    g_assert_no_error(error);
    return is_known;
}

/* libvirt's release of an earlier run, while VDSM has claimed for the next. */
static void test_late_release_spares_the_claim_of_another(void)
{
    g_auto(Host) host = {0};
    host_init(&host);
    claim_vm(host.agent, UUID_A, 60, 0);
    g_assert_false(tell_gone_as(host.agent, "libvirt"));
    g_assert_cmpuint(count_claims(), ==, 1);
    assert_counts(0, SIZE_2M, 30, 30, 0);
}

/* VDSM took over the claim of a VM that then ran through libvirt alone: nobody else will report. */
static void test_release_of_a_run_of_another_lets_go_of_it(void)
{
    g_auto(Host) host = {0};
    host_init(&host);
    guint64 generation = claim_vm(host.agent, UUID_A, 60, 0);
    set_qemu(QEMU, UUID_A);
    g_assert_true(tell(hv_lifecycle_started, host.agent, UUID_A, generation, QEMU));
    end_process(QEMU);
    g_assert_true(tell_gone_as(host.agent, "libvirt"));
    assert_untouched();
}

static void test_host_knows_the_qemu_better_than_a_note(void)
{
    g_auto(Host) host = {0};
    host_init(&host);
    start_silently(host.agent, 20);
    claim_vm(host.agent, UUID_B, 0, 20);
    set_qemu(3000, UUID_A);
    g_assert_true(tell(hv_lifecycle_started, host.agent, UUID_A, 0, 3000));
    g_autoptr(HvLedger) ledger = read_ledger();
    g_assert_cmpint(hv_ledger_claim(ledger, UUID_A)->qemu.pid, ==, 3000);
}

static void test_release_of_an_own_claim_lets_go_of_it(void)
{
    g_auto(Host) host = {0};
    host_init(&host);
    claim_vm(host.agent, UUID_A, 60, 0);
    g_assert_true(tell_gone_as(host.agent, "test"));
    assert_untouched();
}

#define ADD(name, function) g_test_add_func("/silent-hosts/" name, function)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("vm-that-nobody-reported-counts-once", test_vm_that_nobody_reported_counts_once);
    ADD("dry-run-sees-it-too", test_dry_run_sees_it_too);
    ADD("qemu-without-all-its-pages-is-still-starting",
        test_qemu_without_all_its_pages_is_still_starting);
    ADD("late-release-spares-the-claim-of-another", test_late_release_spares_the_claim_of_another);
    ADD("release-of-a-run-of-another-lets-go-of-it",
        test_release_of_a_run_of_another_lets_go_of_it);
    ADD("host-knows-the-qemu-better-than-a-note", test_host_knows_the_qemu_better_than_a_note);
    ADD("release-of-an-own-claim-lets-go-of-it", test_release_of_an_own_claim_lets_go_of_it);
    return g_test_run();
}
