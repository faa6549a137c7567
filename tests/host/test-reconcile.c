/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* VMs whose end nobody reported, and VMs whose pages somebody still has after their end. */
#include "vm-fixture.h"

#include "error.h"

#define QEMU 2000
#define BACKEND 3000

static void set_shared_file(gint64 pid, const char *name)
{
    g_autofree char *maps = g_strdup_printf("/proc/%" G_GINT64_FORMAT "/maps", pid);
    g_autofree char *smaps = g_strdup_printf("/proc/%" G_GINT64_FORMAT "/smaps", pid);
    g_autofree char *comm = g_strdup_printf("/proc/%" G_GINT64_FORMAT "/comm", pid);
    const char *line = "7f0000000000-7f0004000000 rw-s 00000000 00:31 4711 /1-vm/ram (deleted)\n";
    const char *other = "7f1000000000-7f1000001000 r--p 00000000 08:01 4711 /usr/lib/libc.so\n";
    tree_printf(fake.directory, comm, "%s\n", name);
    tree_printf(fake.directory, maps, "%s%s", other, line);
    tree_printf(fake.directory, smaps,
                "%sKernelPageSize:        4 kB\n%sKernelPageSize:     2048 kB\n", other, line);
}

/* A VM with shared memory: 30 pages of node 0, of which 20 are added. */
static void run_shared_vm(const HvAgent *agent)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GHashTable) properties = g_hash_table_new(g_str_hash, g_str_equal);
    g_autofree char *xml = vm_xml(UUID_A, 60, 0);
    g_hash_table_insert(properties, (char *)"hugepages_shared", (char *)"true");
    HvVm vm = {.xml = xml, .xml_bytes = strlen(xml), .properties = properties};
    g_autoptr(HvOutcome) outcome = hv_lifecycle_claim(agent, &vm, &error);
    g_assert_no_error(error);
    set_qemu(QEMU, UUID_A);
    set_shared_file(QEMU, "qemu");
    g_assert_true(tell(hv_lifecycle_started, agent, UUID_A, 0, QEMU));
    fake_add(0, SIZE_2M, "free_hugepages", -30);
    end_process(QEMU);
}

static void set_backend(void)
{
    set_process(BACKEND, 'S');
    set_shared_file(BACKEND, "ovs-vswitchd");
}

static void test_pages_that_a_backend_holds_are_waited_for(void)
{
    g_auto(Host) host = {0};
    host_init(&host);
    run_shared_vm(host.agent);
    set_backend();
    g_assert_true(tell(hv_lifecycle_gone, host.agent, UUID_A, 0, 0));
    g_autoptr(HvLedger) ledger = read_ledger();
    g_assert_cmpuint(ledger->claims->len, ==, 1);
    const HvClaim *claim = g_ptr_array_index(ledger->claims, 0);
    g_assert_cmpint(claim->state, ==, HV_CLAIM_DRAINING);
    g_assert_null(hv_ledger_claim(ledger, UUID_A)); /* none that could run */

    end_process(BACKEND);
    fake_add(0, SIZE_2M, "free_hugepages", 30);
    recover(host.agent);
    assert_untouched();
}

/* The backend has 10 of the administrator's 30 pages: so long as it does, 10 of ours stay for him.
 */
static void test_pages_that_drain_are_made_up_for(void)
{
    g_auto(Host) host = {0};
    host_init(&host);
    run_shared_vm(host.agent);
    set_backend();
    g_assert_true(tell(hv_lifecycle_gone, host.agent, UUID_A, 0, 0));
    guint64 generation = claim_vm(host.agent, UUID_B, 0, 60);
    assert_counts(1, SIZE_2M, 30, 30, 0);
    g_assert_true(tell(hv_lifecycle_gone, host.agent, UUID_B, generation, 0));
    assert_counts(1, SIZE_2M, 30, 30, 0);
    end_process(BACKEND);
    fake_add(0, SIZE_2M, "free_hugepages", 30);
    recover(host.agent);
    assert_untouched();
}

static void test_vm_starts_again_while_its_old_pages_drain(void)
{
    g_auto(Host) host = {0};
    host_init(&host);
    run_shared_vm(host.agent);
    set_backend();
    g_assert_true(tell(hv_lifecycle_gone, host.agent, UUID_A, 0, 0));
    guint64 generation = claim_vm(host.agent, UUID_A, 0, 20);
    g_assert_cmpuint(count_claims(), ==, 2);
    g_assert_true(tell(hv_lifecycle_gone, host.agent, UUID_A, generation, 0));
    g_assert_cmpuint(count_claims(), ==, 1);
    end_process(BACKEND);
    fake_add(0, SIZE_2M, "free_hugepages", 30);
    recover(host.agent);
    assert_untouched();
}

static void test_dead_qemu_ends_the_claim_of_a_living_agent(void)
{
    g_auto(Host) host = {0};
    host_init(&host);
    claim_vm(host.agent, UUID_A, 60, 0);
    set_qemu(QEMU, UUID_A);
    g_assert_true(tell(hv_lifecycle_started, host.agent, UUID_A, 0, QEMU));
    recover(host.agent);
    g_assert_cmpuint(count_claims(), ==, 1);
    end_process(QEMU);
    recover(host.agent);
    assert_untouched();
}

static void test_claim_before_its_qemu_stays_with_a_living_agent(void)
{
    g_auto(Host) host = {0};
    host_init(&host);
    claim_vm(host.agent, UUID_A, 60, 0);
    g_assert_true(tell(hv_lifecycle_launching, host.agent, UUID_A, 0, 0));
    recover(host.agent);
    g_assert_cmpuint(count_claims(), ==, 1);
}

static guint64 begin(const HvAgent *agent)
{
    g_autoptr(GError) error = NULL;
    guint64 sequence = 77;
    g_assert_true(hv_lifecycle_reconcile_begin(agent, &sequence, &error));
    g_assert_no_error(error);
    return sequence;
}

static void reconcile(const HvAgent *agent, guint64 sequence, const char *uuid,
                      const char *libvirt_owner)
{
    g_autoptr(GError) error = NULL;
    const char *const uuids[] = {uuid, NULL};
    HvRunning running = {.sequence = sequence,
                         .uuids = uuids,
                         .owner_name = libvirt_owner != NULL ? libvirt_owner : agent->owner_name,
                         .all_running = libvirt_owner != NULL};
    g_assert_true(hv_lifecycle_reconcile(agent, &running, &error));
    g_assert_no_error(error);
}

static void test_list_of_running_vms_ends_the_others(void)
{
    g_auto(Host) host = {0};
    host_init(&host);
    claim_vm(host.agent, UUID_A, 60, 0);
    claim_vm(host.agent, UUID_B, 0, 20);
    reconcile(host.agent, begin(host.agent), UUID_B, NULL);
    g_autoptr(HvLedger) ledger = read_ledger();
    g_assert_null(hv_ledger_claim(ledger, UUID_A));
    g_assert_nonnull(hv_ledger_claim(ledger, UUID_B));
    assert_counts(0, SIZE_2M, 20, 20, 0); /* 10 for those of the administrator that B will use */
}

static void test_list_does_not_speak_for_claims_younger_than_its_begin(void)
{
    g_auto(Host) host = {0};
    host_init(&host);
    g_assert_cmpuint(begin(host.agent), ==, 0); /* no ledger yet */
    claim_vm(host.agent, UUID_A, 60, 0);
    guint64 sequence = begin(host.agent);
    claim_vm(host.agent, UUID_B, 0, 20);
    reconcile(host.agent, sequence, NULL, NULL);
    g_autoptr(HvLedger) ledger = read_ledger();
    g_assert_null(hv_ledger_claim(ledger, UUID_A));
    g_assert_nonnull(hv_ledger_claim(ledger, UUID_B));
}

static void test_list_does_not_speak_for_vms_that_are_seen_to_run(void)
{
    g_auto(Host) host = {0};
    host_init(&host);
    claim_vm(host.agent, UUID_A, 60, 0);
    set_qemu(QEMU, UUID_A);
    reconcile(host.agent, begin(host.agent), NULL, NULL);
    g_assert_cmpuint(count_claims(), ==, 1);
}

static void test_list_does_not_speak_for_claims_of_others(void)
{
    g_auto(Host) host = {0};
    host_init(&host);
    claim_vm(host.agent, UUID_A, 60, 0);
    g_autoptr(HvAgent) other = hv_agent_new(fake.directory, NULL, "other", 1000);
    reconcile(other, begin(other), NULL, NULL);
    g_assert_cmpuint(count_claims(), ==, 1);
    reconcile(other, begin(other), NULL, "libvirt"); /* it is starting: unknown to it as yet */
    g_assert_cmpuint(count_claims(), ==, 1);
    fake_use(0, SIZE_2M, 30); /* by a QEMU that cannot be seen */
    g_assert_true(tell(hv_lifecycle_started, host.agent, UUID_A, 0, 0));
    fake_unuse(0, SIZE_2M, 30);
    reconcile(other, begin(other), NULL, "libvirt");
    assert_untouched();
}

static void test_libvirt_speaks_for_its_hook_before_vms_run(void)
{
    g_auto(Host) host = {0};
    host_init(&host);
    g_autoptr(HvAgent) hook = hv_agent_new(fake.directory, NULL, "libvirt", 1000);
    claim_vm(hook, UUID_A, 60, 0);
    reconcile(host.agent, begin(host.agent), UUID_A, "libvirt");
    g_assert_cmpuint(count_claims(), ==, 1);
    reconcile(host.agent, begin(host.agent), UUID_B, "libvirt");
    assert_untouched();
}

#define ADD(name, function) g_test_add_func("/reconcile/" name, function)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("pages-that-a-backend-holds-are-waited-for",
        test_pages_that_a_backend_holds_are_waited_for);
    ADD("pages-that-drain-are-made-up-for", test_pages_that_drain_are_made_up_for);
    ADD("vm-starts-again-while-its-old-pages-drain",
        test_vm_starts_again_while_its_old_pages_drain);
    ADD("dead-qemu-ends-the-claim-of-a-living-agent",
        test_dead_qemu_ends_the_claim_of_a_living_agent);
    ADD("claim-before-its-qemu-stays-with-a-living-agent",
        test_claim_before_its_qemu_stays_with_a_living_agent);
    ADD("list-of-running-vms-ends-the-others", test_list_of_running_vms_ends_the_others);
    ADD("list-does-not-speak-for-claims-younger-than-its-begin",
        test_list_does_not_speak_for_claims_younger_than_its_begin);
    ADD("list-does-not-speak-for-vms-that-are-seen-to-run",
        test_list_does_not_speak_for_vms_that_are_seen_to_run);
    ADD("list-does-not-speak-for-claims-of-others", test_list_does_not_speak_for_claims_of_others);
    ADD("libvirt-speaks-for-its-hook-before-vms-run",
        test_libvirt_speaks_for_its_hook_before_vms_run);
    return g_test_run();
}
