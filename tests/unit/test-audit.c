/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "audit.h"

#include "world.h"

#include <string.h>

#define UUID_A "00000000-0000-0000-0000-0000000000a1"
#define UUID_B "00000000-0000-0000-0000-0000000000b2"
#define QEMU 4000
#define NO_QEMU 0

typedef struct {
    World *world;
    HvAuditView *view;
    GPtrArray *findings;
} Host;

/* One node with 100 pages of 2 MiB, all free. */
static void host_init(Host *host)
{
    *host = (Host){.world = world_new(), .view = hv_audit_view_new()};
    world_pool(host->world, 0, SIZE_2M, 100, 100);
    hv_ledger_free(host->view->ledger);
    host->view->ledger = host->world->ledger;
    host->view->snapshot = host->world->snapshot;
    host->view->settings = host->world->settings;
}

static void host_clear(Host *host)
{
    /* the world's, and freed with it */
    host->view->ledger = NULL;
    host->view->snapshot = NULL;
    host->view->settings = NULL;
    hv_audit_view_free(host->view);
    world_free(host->world);
    g_clear_pointer(&host->findings, g_ptr_array_unref);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Host, host_clear)

static HvPool *pool_of(Host *host)
{
    return &g_array_index(host->world->snapshot->pools, HvPool, 0);
}

static HvClaim *add_claim(Host *host, const char *uuid, HvClaimState state, gint64 qemu_pid)
{
    HvClaim *claim = world_claim(host->world, uuid, state, ANY, SIZE_2M, 40);
    HvClaimFacts facts = {.is_owner_alive = TRUE, .qemu_pid = qemu_pid};
    claim->generation = host->view->facts->len + 7;
    claim->qemu.pid = qemu_pid;
    g_array_append_val(host->view->facts, facts);
    return claim;
}

static HvClaimFacts *facts_of(Host *host)
{
    return &g_array_index(host->view->facts, HvClaimFacts, 0);
}

static void add_process(Host *host, gint64 pid, const char *uuid, guint64 huge_kib)
{
    HvHugeProcess *process = g_new0(HvHugeProcess, 1);
    process->pid = pid;
    process->name = g_strdup("prog\033");
    process->uuid = g_strdup(uuid);
    process->vm_name = g_strdup(uuid != NULL ? "web" : NULL);
    process->huge_kib = huge_kib;
    g_ptr_array_add(host->view->processes, process);
}

static void add_guard(Host *host, guint64 generation, guint64 pages)
{
    HvGuard guard = {.id = 5,
                     .generation_bits = generation,
                     .size_kib = SIZE_2M,
                     .bytes = pages * SIZE_2M * 1024};
    g_array_append_val(host->view->guards, guard);
}

static void add_mount(Host *host, const char *uuid, guint64 generation)
{
    HvLaunchMount *mount = g_new0(HvLaunchMount, 1);
    mount->path = g_strdup("/dev/hugepages/libvirt/qemu/1-web");
    mount->uuid = g_strdup(uuid);
    mount->generation = generation;
    g_ptr_array_add(host->view->mounts, mount);
}

static void libvirt_runs(Host *host, const char *uuid)
{
    host->view->running_uuids = g_new0(char *, 2);
    host->view->running_uuids[0] = g_strdup(uuid);
}

static void audit(Host *host)
{
    g_clear_pointer(&host->findings, g_ptr_array_unref);
    host->findings = hv_audit(host->view);
}

static void assert_clean(Host *host)
{
    audit(host);
    g_autofree char *text = hv_report_audit_text(host->findings);
    g_assert_cmpstr(text, ==, "");
    g_assert_false(hv_audit_is_bad(host->findings));
}

/* Exactly one finding, of that kind; its text holds no control character. */
static const HvFinding *assert_one(Host *host, HvFindingKind kind)
{
    audit(host);
    g_autofree char *text = hv_report_audit_text(host->findings);
    g_assert_cmpstr(host->findings->len == 1 ? "" : text, ==, "");
    const HvFinding *finding = g_ptr_array_index(host->findings, 0);
    g_assert_cmpstr(hv_finding_kind_name(finding->kind), ==, hv_finding_kind_name(kind));
    for (const char *p = finding->text; *p != '\0'; p++)
        g_assert_true((guchar)*p >= 0x20);
    g_assert_true(hv_audit_is_bad(host->findings) != hv_finding_is_note(finding));
    return finding;
}

static void assert_holds(const char *text, const char *part)
{
    if (text != NULL && strstr(text, part) != NULL)
        return;
    g_test_message("'%s' is not in: %s", part, text);
    g_test_fail();
}

static void test_clean_host(void)
{
    g_auto(Host) host;
    host_init(&host);
    assert_clean(&host);
    add_claim(&host, UUID_A, HV_CLAIM_RUNNING, QEMU);
    add_process(&host, QEMU, UUID_A, 40 * SIZE_2M);
    pool_of(&host)->free_pages = 60;
    assert_clean(&host);
    libvirt_runs(&host, UUID_A);
    assert_clean(&host);
}

static void test_start_under_way_is_no_finding(void)
{
    g_auto(Host) host;
    host_init(&host);
    add_claim(&host, UUID_A, HV_CLAIM_CLAIMED, NO_QEMU);
    add_claim(&host, UUID_B, HV_CLAIM_GUARDED, NO_QEMU);
    add_guard(&host, 8, 40);
    libvirt_runs(&host, NULL);
    assert_clean(&host);
}

static void test_missing_ledger(void)
{
    g_auto(Host) host;
    host_init(&host);
    host.view->found = HV_LEDGER_FOUND_NONE;
    assert_clean(&host);
    add_guard(&host, 8, 40);
    audit(&host);
    g_assert_cmpuint(host.findings->len, ==, 2);
    const HvFinding *finding = g_ptr_array_index(host.findings, 0);
    g_assert_cmpint(finding->kind, ==, HV_FINDING_LEDGER_MISSING);
    g_assert_nonnull(finding->repair);
}

static void test_damaged_ledger(void)
{
    g_auto(Host) host;
    host_init(&host);
    host.view->found = HV_LEDGER_FOUND_COPY;
    assert_holds(assert_one(&host, HV_FINDING_LEDGER_DAMAGED)->text, "second copy is good");
    host.view->found = HV_LEDGER_FOUND_DAMAGED;
    assert_holds(assert_one(&host, HV_FINDING_LEDGER_DAMAGED)->repair, "stay in the pools");
    host.view->found = HV_LEDGER_FOUND_OTHER_BOOT;
    g_assert_true(hv_finding_is_note(assert_one(&host, HV_FINDING_LEDGER_OTHER_BOOT)));
}

static void test_dead_claims(void)
{
    g_auto(Host) host;
    host_init(&host);
    HvClaim *claim = add_claim(&host, UUID_A, HV_CLAIM_CLAIMED, NO_QEMU);
    facts_of(&host)->is_owner_alive = FALSE;
    const HvFinding *finding = assert_one(&host, HV_FINDING_DEAD_CLAIM);
    g_assert_cmpstr(finding->uuid, ==, UUID_A);
    assert_holds(finding->text, "40 pages of 2 MiB");
    assert_holds(finding->text, "'agent', process 4711");
    g_assert_nonnull(finding->repair);
    /* a QEMU that is known takes its claim along, though the agent lives */
    facts_of(&host)->is_owner_alive = TRUE;
    claim->state = HV_CLAIM_RUNNING;
    claim->qemu.pid = QEMU;
    assert_holds(assert_one(&host, HV_FINDING_DEAD_CLAIM)->text, "process 4000, has ended");
}

static void test_dead_agent_of_a_running_vm_is_no_finding(void)
{
    g_auto(Host) host;
    host_init(&host);
    add_claim(&host, UUID_A, HV_CLAIM_RUNNING, QEMU);
    facts_of(&host)->is_owner_alive = FALSE;
    pool_of(&host)->free_pages = 60;
    assert_clean(&host);
}

static void test_ended_claims(void)
{
    g_auto(Host) host;
    host_init(&host);
    add_claim(&host, UUID_A, HV_CLAIM_RUNNING, NO_QEMU);
    const HvFinding *finding = assert_one(&host, HV_FINDING_ENDED_CLAIM);
    g_assert_null(finding->repair);
    assert_holds(finding->hint, "release " UUID_A);
    libvirt_runs(&host, UUID_B);
    assert_holds(assert_one(&host, HV_FINDING_ENDED_CLAIM)->repair, "libvirt does not run");
    g_strfreev(host.view->running_uuids);
    libvirt_runs(&host, UUID_A);
    g_assert_null(assert_one(&host, HV_FINDING_ENDED_CLAIM)->repair);
}

static void test_claim_of_the_hook_whose_vm_libvirt_does_not_start(void)
{
    g_auto(Host) host;
    host_init(&host);
    HvClaim *claim = add_claim(&host, UUID_A, HV_CLAIM_CLAIMED, NO_QEMU);
    libvirt_runs(&host, UUID_B);
    host.view->libvirt_owner = "libvirt";
    assert_clean(&host); /* another agent's */
    g_free(claim->owner_name);
    claim->owner_name = g_strdup("libvirt");
    assert_holds(assert_one(&host, HV_FINDING_ENDED_CLAIM)->repair, "libvirt does not run");
    g_strfreev(host.view->running_uuids);
    libvirt_runs(&host, UUID_A);
    assert_clean(&host);
}

static void test_vm_that_libvirt_does_not_know(void)
{
    g_auto(Host) host;
    host_init(&host);
    add_claim(&host, UUID_A, HV_CLAIM_RUNNING, QEMU);
    pool_of(&host)->free_pages = 60;
    libvirt_runs(&host, UUID_B);
    const HvFinding *finding = assert_one(&host, HV_FINDING_UNKNOWN_TO_LIBVIRT);
    assert_holds(finding->text, "process 4000");
    g_assert_true(hv_finding_is_note(finding));
}

static void test_vm_of_a_killed_run(void)
{
    g_auto(Host) host;
    host_init(&host);
    gint64 pid = QEMU;
    add_process(&host, QEMU, UUID_A, SIZE_2M);
    g_array_append_val(host.view->left_pids, pid);
    const HvFinding *finding = assert_one(&host, HV_FINDING_LEFT_VM);
    g_assert_cmpstr(finding->uuid, ==, UUID_A);
    g_assert_nonnull(finding->repair);
}

static void test_vm_from_outside(void)
{
    g_auto(Host) host;
    host_init(&host);
    add_process(&host, QEMU, UUID_A, 256 * 1024);
    const HvFinding *finding = assert_one(&host, HV_FINDING_OUTSIDE_VM);
    g_assert_true(hv_finding_is_note(finding));
    g_assert_cmpstr(finding->uuid, ==, UUID_A);
    assert_holds(finding->text, "process 4000 'prog\\x1b' has 256 MiB");
    assert_holds(finding->text, "'web'");
    libvirt_runs(&host, UUID_A);
    assert_holds(assert_one(&host, HV_FINDING_OUTSIDE_VM)->text, "libvirt runs it");
    g_strfreev(host.view->running_uuids);
    libvirt_runs(&host, UUID_B);
    assert_holds(assert_one(&host, HV_FINDING_OUTSIDE_VM)->text, "not by this libvirt");
}

static void test_second_qemu_of_a_claimed_vm_is_from_outside(void)
{
    g_auto(Host) host;
    host_init(&host);
    add_claim(&host, UUID_A, HV_CLAIM_RUNNING, QEMU);
    pool_of(&host)->free_pages = 60;
    add_process(&host, QEMU + 1, UUID_A, SIZE_2M);
    assert_holds(assert_one(&host, HV_FINDING_OUTSIDE_VM)->text, "process 4001");
}

static void test_foreign_use(void)
{
    g_auto(Host) host;
    host_init(&host);
    add_process(&host, 77, NULL, SIZE_2M);
    const HvFinding *finding = assert_one(&host, HV_FINDING_FOREIGN_USE);
    g_assert_true(hv_finding_is_note(finding));
    assert_holds(finding->text, "process 77 'prog\\x1b' has 2 MiB");
}

static GPtrArray *make_holder(void)
{
    GPtrArray *holders = g_ptr_array_new();
    static HvHolder holder = {.pid = 88, .name = (char *)"ovs-vswitchd"};
    g_ptr_array_add(holders, &holder);
    return holders;
}

static void test_held_pages(void)
{
    g_auto(Host) host;
    host_init(&host);
    HvClaim *claim = add_claim(&host, UUID_A, HV_CLAIM_DRAINING, NO_QEMU);
    pool_of(&host)->free_pages = 60;
    facts_of(&host)->holders = make_holder();
    const HvFinding *finding = assert_one(&host, HV_FINDING_HELD_PAGES);
    assert_holds(finding->text, "process 88 'ovs-vswitchd'");
    g_assert_null(finding->repair);
    /* the same before a recovery has seen it, and not while the VM lives */
    claim->state = HV_CLAIM_RUNNING;
    claim->qemu.pid = QEMU;
    assert_one(&host, HV_FINDING_HELD_PAGES);
    facts_of(&host)->qemu_pid = QEMU;
    assert_clean(&host);
    facts_of(&host)->qemu_pid = NO_QEMU;
    claim->state = HV_CLAIM_DRAINING;
    g_ptr_array_set_size(facts_of(&host)->holders, 0);
    assert_one(&host, HV_FINDING_DEAD_CLAIM);
}

static void test_open_intent(void)
{
    g_auto(Host) host;
    host_init(&host);
    world_intent(host.world, 0, SIZE_2M, 60, 120);
    const HvFinding *finding = assert_one(&host, HV_FINDING_OPEN_INTENT);
    assert_holds(finding->text, "from 60 to 120");
    assert_holds(finding->text, "now there are 100");
    g_assert_nonnull(finding->repair);
    /* its writer lives: it has the lock */
    guint64 size_kib = SIZE_2M;
    g_array_append_val(host.view->busy_sizes, size_kib);
    assert_clean(&host);
}

static void test_open_intent_of_a_pool_that_is_gone(void)
{
    g_auto(Host) host;
    host_init(&host);
    world_intent(host.world, 5, SIZE_2M, 60, 120);
    const HvFinding *finding = assert_one(&host, HV_FINDING_OPEN_INTENT);
    g_assert_null(finding->repair);
    g_assert_nonnull(finding->hint);
}

static void test_drift(void)
{
    g_auto(Host) host;
    host_init(&host);
    world_grown(host.world, 0, SIZE_2M, 30);
    add_claim(&host, UUID_A, HV_CLAIM_RUNNING, QEMU);
    pool_of(&host)->total_pages = 90;
    pool_of(&host)->free_pages = 0;
    const HvFinding *finding = assert_one(&host, HV_FINDING_DRIFT);
    assert_holds(finding->text, "has 90 pages of 2 MiB where hugevm left 100");
    assert_holds(finding->text, "20 of them count as added by hugevm (now: 30)");
    g_assert_true(hv_finding_is_note(finding));
    pool_of(&host)->total_pages = 100;
    assert_clean(&host);
}

static void test_give_back_due(void)
{
    g_auto(Host) host;
    host_init(&host);
    world_grown(host.world, 0, SIZE_2M, 30);
    assert_holds(assert_one(&host, HV_FINDING_GIVE_BACK_DUE)->text, "30 pages of 2 MiB on node 0");
    guint64 size_kib = SIZE_2M;
    g_array_append_val(host.view->busy_sizes, size_kib);
    assert_clean(&host);
}

static void test_stray_guard(void)
{
    g_auto(Host) host;
    host_init(&host);
    add_guard(&host, 7, 40);
    const HvFinding *finding = assert_one(&host, HV_FINDING_STRAY_GUARD);
    assert_holds(finding->text, "segment 5 keeps 40 pages of 2 MiB");
    g_assert_nonnull(finding->repair);
}

static void test_lost_guard(void)
{
    g_auto(Host) host;
    host_init(&host);
    add_claim(&host, UUID_A, HV_CLAIM_GUARDED, NO_QEMU);
    const HvFinding *finding = assert_one(&host, HV_FINDING_LOST_GUARD);
    g_assert_null(finding->repair);
    g_assert_nonnull(finding->hint);
    add_guard(&host, 7, 40);
    assert_clean(&host);
    /* one of another size in bytes is none of this claim's */
    g_array_index(host.view->guards, HvGuard, 0).bytes -= 4096;
    audit(&host);
    g_assert_cmpuint(host.findings->len, ==, 2);
}

static void add_to_vault(Host *host, const char *uuid, guint64 generation)
{
    HvVaultName name = {.generation = generation, .size_kib = 2048};
    g_strlcpy(name.uuid, uuid, sizeof name.uuid);
    g_array_append_val(host->view->vault, name);
    host->view->sees_vault = TRUE;
}

static void test_guard_in_the_vault(void)
{
    g_auto(Host) host;
    host_init(&host);
    HvClaim *claim = add_claim(&host, UUID_A, HV_CLAIM_GUARDED, NO_QEMU);
    claim->from_hugetlbfs = TRUE;
    assert_clean(&host); /* an ordinary user cannot look into it */
    host.view->sees_vault = TRUE;
    assert_one(&host, HV_FINDING_LOST_GUARD);
    add_to_vault(&host, UUID_A, claim->generation);
    assert_clean(&host);
    add_to_vault(&host, UUID_A, claim->generation + 1); /* of another start */
    const HvFinding *finding = assert_one(&host, HV_FINDING_STRAY_GUARD);
    assert_holds(finding->text, "2 MiB");
    g_assert_cmpstr(finding->uuid, ==, UUID_A);
    g_assert_nonnull(finding->repair);
}

static void test_stray_mount(void)
{
    g_auto(Host) host;
    host_init(&host);
    add_claim(&host, UUID_A, HV_CLAIM_RUNNING, QEMU);
    pool_of(&host)->free_pages = 60;
    add_mount(&host, UUID_A, 7);
    const HvFinding *finding = assert_one(&host, HV_FINDING_STRAY_MOUNT);
    assert_holds(finding->text, "/dev/hugepages/libvirt/qemu/1-web");
    g_assert_cmpstr(finding->uuid, ==, UUID_A);
    g_assert_nonnull(finding->repair);
}

static void test_stray_mount_of_a_forged_name(void)
{
    g_auto(Host) host;
    host_init(&host);
    add_mount(&host, "no\033uuid", 7);
    g_assert_null(assert_one(&host, HV_FINDING_STRAY_MOUNT)->uuid);
}

static void test_lost_mount(void)
{
    g_auto(Host) host;
    host_init(&host);
    add_claim(&host, UUID_A, HV_CLAIM_MOUNTED, NO_QEMU);
    g_assert_null(assert_one(&host, HV_FINDING_LOST_MOUNT)->repair);
    add_mount(&host, UUID_A, 7);
    assert_clean(&host);
}

static void test_short_lived_guards(void)
{
    g_auto(Host) host;
    host_init(&host);
    host.view->guards_die = TRUE;
    assert_holds(assert_one(&host, HV_FINDING_SHORT_LIVED_GUARDS)->hint, "shm_rmid_forced=0");
}

static void test_handover_that_failed(void)
{
    g_auto(Host) host;
    host_init(&host);
    host.view->ledger->handover_failed = TRUE;
    const HvFinding *finding = assert_one(&host, HV_FINDING_HANDOVER_OFF);
    g_assert_true(hv_finding_is_note(finding));
    assert_holds(finding->text, "until the next boot");
}

static GPtrArray *findings_with(Host *host, guint64 huge_kib)
{
    g_ptr_array_set_size(host->view->processes, 0);
    add_process(host, 77, NULL, huge_kib);
    return hv_audit(host->view);
}

static void test_only_what_lasts_counts(void)
{
    g_auto(Host) host;
    host_init(&host);
    add_guard(&host, 7, 40);
    GPtrArray *first = findings_with(&host, 2048);
    g_array_set_size(host.view->guards, 0);
    add_guard(&host, 8, 41);
    /* another guard, and the same note with another number */
    g_autoptr(GPtrArray) last = hv_audit_lasting(first, findings_with(&host, 4096));
    g_assert_cmpuint(last->len, ==, 1);
    const HvFinding *finding = g_ptr_array_index(last, 0);
    g_assert_cmpint(finding->kind, ==, HV_FINDING_FOREIGN_USE);
    assert_holds(finding->text, "4 MiB");
    GPtrArray *again = findings_with(&host, 4096);
    g_autoptr(GPtrArray) both = hv_audit_lasting(again, findings_with(&host, 4096));
    g_assert_cmpuint(both->len, ==, 2);
}

static void test_json(void)
{
    g_auto(Host) host;
    host_init(&host);
    add_guard(&host, 7, 40);
    audit(&host);
    g_autofree char *json = hv_report_audit_json(host.findings, NULL);
    assert_holds(json, "\"kind\" : \"stray-guard\"");
    assert_holds(json, "\"level\" : \"error\"");
    assert_holds(json, "\"uuid\" : null");
    assert_holds(json, "\"remaining\" : null");
    g_autoptr(GPtrArray) none = g_ptr_array_new();
    g_autofree char *repaired = hv_report_audit_json(host.findings, none);
    assert_holds(repaired, "\"remaining\" : []");
}

#define TEST(path, function) g_test_add_func("/audit/" path, function)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    TEST("clean-host", test_clean_host);
    TEST("start-under-way-is-no-finding", test_start_under_way_is_no_finding);
    TEST("missing-ledger", test_missing_ledger);
    TEST("damaged-ledger", test_damaged_ledger);
    TEST("dead-claims", test_dead_claims);
    TEST("dead-agent-of-a-running-vm-is-no-finding", test_dead_agent_of_a_running_vm_is_no_finding);
    TEST("ended-claims", test_ended_claims);
    TEST("claim-of-the-hook-whose-vm-libvirt-does-not-start",
         test_claim_of_the_hook_whose_vm_libvirt_does_not_start);
    TEST("vm-that-libvirt-does-not-know", test_vm_that_libvirt_does_not_know);
    TEST("vm-of-a-killed-run", test_vm_of_a_killed_run);
    TEST("vm-from-outside", test_vm_from_outside);
    TEST("second-qemu-of-a-claimed-vm-is-from-outside",
         test_second_qemu_of_a_claimed_vm_is_from_outside);
    TEST("foreign-use", test_foreign_use);
    TEST("held-pages", test_held_pages);
    TEST("open-intent", test_open_intent);
    TEST("open-intent-of-a-pool-that-is-gone", test_open_intent_of_a_pool_that_is_gone);
    TEST("drift", test_drift);
    TEST("give-back-due", test_give_back_due);
    TEST("stray-guard", test_stray_guard);
    TEST("lost-guard", test_lost_guard);
    TEST("guard-in-the-vault", test_guard_in_the_vault);
    TEST("stray-mount", test_stray_mount);
    TEST("stray-mount-of-a-forged-name", test_stray_mount_of_a_forged_name);
    TEST("lost-mount", test_lost_mount);
    TEST("short-lived-guards", test_short_lived_guards);
    TEST("handover-that-failed", test_handover_that_failed);
    TEST("only-what-lasts-counts", test_only_what_lasts_counts);
    TEST("json", test_json);
    return g_test_run();
}
