/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vm-fixture.h"

#include "error.h"

static void assert_claim_fails(const HvAgent *agent, const char *uuid, guint node0_mib,
                               HvErrorCode code, const char *said)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *xml = vm_xml(uuid, node0_mib, 0);
    g_assert_null(try_claim(agent, xml, NULL, &error));
    g_assert_error(error, HV_ERROR, (gint)code);
    g_assert_nonnull(strstr(error->message, said));
}

static void test_life_of_a_vm_ends_where_it_began(void)
{
    g_auto(Host) host = {0};
    host_init(&host);
    guint64 generation = claim_vm(host.agent, UUID_A, 60, 60); /* 30 pages on each */
    assert_counts(0, SIZE_2M, 30, 30, 0);
    assert_counts(1, SIZE_2M, 30, 30, 0);
    g_assert_cmpint(state_of(UUID_A), ==, HV_CLAIM_CLAIMED);
    g_assert_true(tell(hv_lifecycle_launching, host.agent, UUID_A, generation, 0));
    g_assert_cmpint(state_of(UUID_A), ==, HV_CLAIM_LAUNCHING);
    set_qemu(2000, UUID_A);
    fake_use(0, SIZE_2M, 30);
    fake_use(1, SIZE_2M, 30);
    g_assert_true(tell(hv_lifecycle_started, host.agent, UUID_A, generation, 2000));
    g_assert_cmpint(state_of(UUID_A), ==, HV_CLAIM_RUNNING);
    end_process(2000);
    fake_unuse(0, SIZE_2M, 30);
    fake_unuse(1, SIZE_2M, 30);
    g_assert_true(tell(hv_lifecycle_gone, host.agent, UUID_A, generation, 0));
    assert_untouched();
}

static void test_vm_that_free_pages_serve_writes_nothing(void)
{
    g_auto(Host) host = {0};
    host_init(&host);
    claim_vm(host.agent, UUID_A, 20, 40);
    tell(hv_lifecycle_gone, host.agent, UUID_A, 0, 0);
    g_assert_cmpuint(fake.n_writes, ==, 0);
    assert_untouched();
}

/* What its memory looks like is then libvirt's to judge. */
static void test_vm_without_huge_pages_may_have_memory_we_do_not_know(void)
{
    static const char *const parts[] = {
        "<memory unit='parsec'>1</memory>",
        "<memory>1024</memory><devices><memory model='cxl'/></devices>",
        "<memory>1024</memory><numatune><memory mode='later' nodeset='0'/></numatune>"};
    g_auto(Host) host = {0};
    host_init(&host);
    for (guint i = 0; i < G_N_ELEMENTS(parts); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *xml =
            g_strdup_printf("<domain type='kvm'><name>vm</name>%s</domain>", parts[i]);
        g_autoptr(HvOutcome) outcome = try_claim(host.agent, xml, NULL, &error);
        g_assert_no_error(error);
        g_assert_cmpstr(outcome->xml, ==, xml);
        g_assert_cmpstr(outcome->name, ==, "vm");
        /* the same with huge pages must be understood */
        g_autofree char *huge = g_strdup_printf(
            "<domain "
            "type='kvm'><name>vm</name>%s<memoryBacking><hugepages/></memoryBacking></domain>",
            parts[i]);
        g_autoptr(HvOutcome) refused = try_claim(host.agent, huge, NULL, &error);
        g_assert_error(error, HV_ERROR, HV_ERROR_XML);
        g_assert_null(refused);
    }
}

static void test_vm_without_huge_pages_leaves_no_trace(void)
{
    static const char xml[] = "<domain type='kvm'><name>vm</name><memory>1048576</memory></domain>";
    g_auto(Host) host = {0};
    g_autoptr(GError) error = NULL;
    host_init(&host);
    g_autoptr(HvOutcome) outcome = try_claim(host.agent, xml, NULL, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(outcome->generation, ==, 0);
    g_assert_cmpstr(outcome->xml, ==, xml);
    g_assert_false(tree_has(fake.directory, "/run/hugevm"));
}

static void test_dry_run_leaves_no_trace(void)
{
    g_auto(Host) host = {0};
    g_autoptr(GError) error = NULL;
    host_init(&host);
    g_autofree char *xml = vm_xml(UUID_A, 60, 60);
    HvVm vm = {.xml = xml, .xml_bytes = strlen(xml)};
    g_autoptr(HvOutcome) outcome = hv_lifecycle_plan(host.agent, &vm, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(outcome->plan->steps->len, ==, 2);
    g_assert_false(tree_has(fake.directory, "/run/hugevm"));
    g_assert_cmpuint(fake.n_writes, ==, 0);
}

static void test_release_twice_is_release_once(void)
{
    g_auto(Host) host = {0};
    host_init(&host);
    claim_vm(host.agent, UUID_A, 60, 0);
    guint64 generation = claim_vm(host.agent, UUID_B, 60, 0);
    g_assert_true(tell(hv_lifecycle_gone, host.agent, UUID_A, 0, 0));
    assert_counts(0, SIZE_2M, 40, 40, 0); /* 10 static ones stay free beside B's 30 */
    g_assert_false(tell(hv_lifecycle_gone, host.agent, UUID_A, 0, 0));
    assert_counts(0, SIZE_2M, 40, 40, 0);
    g_assert_true(tell(hv_lifecycle_gone, host.agent, UUID_B, generation, 0));
    assert_untouched();
}

static void test_late_event_of_an_earlier_start_frees_nothing(void)
{
    g_auto(Host) host = {0};
    host_init(&host);
    guint64 first = claim_vm(host.agent, UUID_A, 60, 0);
    tell(hv_lifecycle_gone, host.agent, UUID_A, first, 0);
    guint64 second = claim_vm(host.agent, UUID_A, 60, 0);
    g_assert_cmpuint(second, >, first);
    g_assert_false(tell(hv_lifecycle_gone, host.agent, UUID_A, first, 0));
    g_assert_false(tell(hv_lifecycle_launching, host.agent, UUID_A, first, 0));
    g_assert_false(tell(hv_lifecycle_started, host.agent, UUID_A, first, 0));
    g_assert_cmpint(state_of(UUID_A), ==, HV_CLAIM_CLAIMED);
    assert_counts(0, SIZE_2M, 30, 30, 0);
}

static void test_events_of_unknown_vms_do_nothing(void)
{
    static const VmEvent events[] = {hv_lifecycle_launching, hv_lifecycle_started,
                                     hv_lifecycle_gone};
    g_auto(Host) host = {0};
    host_init(&host);
    for (guint i = 0; i < G_N_ELEMENTS(events); i++)
        g_assert_false(tell(events[i], host.agent, UUID_B, 0, 0)); /* no ledger yet */
    g_assert_false(tree_has(fake.directory, "/run/hugevm"));
    claim_vm(host.agent, UUID_A, 60, 0);
    for (guint i = 0; i < G_N_ELEMENTS(events); i++)
        g_assert_false(tell(events[i], host.agent, UUID_B, 0, 0));
    assert_counts(0, SIZE_2M, 30, 30, 0);
}

static void test_state_never_moves_back(void)
{
    g_auto(Host) host = {0};
    host_init(&host);
    claim_vm(host.agent, UUID_A, 20, 0);
    set_qemu(2000, UUID_A);
    g_assert_true(tell(hv_lifecycle_started, host.agent, UUID_A, 0, 0));
    g_assert_true(tell(hv_lifecycle_launching, host.agent, UUID_A, 0, 0));
    g_assert_cmpint(state_of(UUID_A), ==, HV_CLAIM_RUNNING);
}

static void test_qemu_is_known_after_the_start(void)
{
    for (gint64 told = 0; told <= 2000; told += 2000) {
        g_auto(Host) host = {0};
        host_init(&host);
        claim_vm(host.agent, UUID_A, 20, 0);
        set_qemu(2000, UUID_A);
        tell(hv_lifecycle_started, host.agent, UUID_A, 0, told);
        g_autoptr(HvLedger) ledger = read_ledger();
        g_assert_cmpint(hv_ledger_claim(ledger, UUID_A)->qemu.pid, ==, 2000);
        g_assert_cmpuint(hv_ledger_claim(ledger, UUID_A)->qemu.start_ticks, ==, 200000);
    }
}

static void test_refused_start_leaves_no_claim(void)
{
    g_auto(Host) host = {0};
    host_init(&host);
    assert_claim_fails(host.agent, UUID_A, 1024 * 1024, HV_ERROR_SHORTAGE, "short");
    g_assert_cmpuint(fake.n_writes, ==, 0);
    assert_untouched();
}

static void test_failed_write_leaves_everything_as_before(void)
{
    g_auto(Host) host = {0};
    g_autoptr(GError) error = NULL;
    host_init(&host);
    fake.broken = "node1/hugepages";
    g_autofree char *xml = vm_xml(UUID_A, 60, 60);
    g_assert_null(try_claim(host.agent, xml, NULL, &error));
    g_assert_error(error, HV_ERROR, HV_ERROR_PERMISSION);
    g_assert_cmpuint(count_writes("node0/hugepages"), ==, 2); /* up, and down again */
    assert_untouched();
}

static void break_all_pools(void)
{
    fake.broken = "hugepages-2048kB";
}

static void test_failed_rollback_is_told_and_done_by_the_next_call(void)
{
    g_auto(Host) host = {0};
    g_autoptr(GError) error = NULL;
    host_init(&host);
    fake.after_write = break_all_pools; /* the first write is the last that works */
    g_autofree char *xml = vm_xml(UUID_A, 60, 60);
    g_assert_null(try_claim(host.agent, xml, NULL, &error));
    g_assert_error(error, HV_ERROR, HV_ERROR_PERMISSION);
    g_assert_nonnull(strstr(error->message, "not all could be given back"));
    assert_counts(0, SIZE_2M, 30, 30, 0);
    fake.broken = NULL;
    fake.after_write = NULL;
    recover(host.agent);
    assert_untouched();
}

static void test_short_grant_leaves_everything_as_before(void)
{
    g_auto(Host) host = {0};
    g_autoptr(GError) error = NULL;
    host_init(&host);
    fake.room_kib[1] = 3 * SIZE_2M;
    g_autofree char *xml = vm_xml(UUID_A, 60, 60);
    g_assert_null(try_claim(host.agent, xml, NULL, &error));
    g_assert_error(error, HV_ERROR, HV_ERROR_SHORTAGE);
    assert_untouched();
}

/* 40 pages for a VM that both nodes may serve: 30 are there. */
static void test_vm_of_several_nodes_starts_where_one_of_them_gives_little(void)
{
    static const char xml[] =
        "<domain type='kvm'><name>vm</name><uuid>" UUID_A "</uuid><memory unit='MiB'>80</memory>"
        "<memoryBacking><hugepages/></memoryBacking>"
        "<numatune><memory mode='strict' nodeset='0-1'/></numatune></domain>";
    for (int has_enough = 0; has_enough <= 1; has_enough++) {
        g_auto(Host) host = {0};
        g_autoptr(GError) error = NULL;
        host_init(&host);
        fake.room_kib[0] = 3 * SIZE_2M;
        fake.room_kib[1] = has_enough ? 7 * SIZE_2M : 6 * SIZE_2M;
        g_autoptr(HvOutcome) outcome = try_claim(host.agent, xml, NULL, &error);
        if (has_enough) {
            g_assert_no_error(error);
            assert_counts(0, SIZE_2M, 13, 13, 0);
            assert_counts(1, SIZE_2M, 27, 27, 0);
            tell(hv_lifecycle_gone, host.agent, UUID_A, 0, 0);
        } else {
            g_assert_error(error, HV_ERROR, HV_ERROR_SHORTAGE);
        }
        assert_untouched();
    }
}

static gboolean cancel_late(gpointer data, guint64 done, guint64 total, const char *what)
{
    (void)data, (void)total, (void)what;
    return done >= 20;
}

static void test_cancelled_start_leaves_everything_as_before(void)
{
    g_auto(Host) host = {0};
    g_autoptr(GError) error = NULL;
    host_init(&host);
    g_autofree char *xml = vm_xml(UUID_A, 60, 60);
    g_assert_null(try_claim(host.agent, xml, cancel_late, &error));
    g_assert_error(error, HV_ERROR, HV_ERROR_CANCELLED);
    g_assert_cmpuint(fake.n_writes, >, 0);
    assert_untouched();
}

static gboolean sleep_late(gpointer data, guint64 done, guint64 total, const char *what)
{
    (void)data, (void)total, (void)what;
    if (done >= 20)
        g_usleep(300 * 1000);
    return FALSE;
}

static void test_late_start_leaves_everything_as_before(void)
{
    g_auto(Host) host = {0};
    g_autoptr(GError) error = NULL;
    host_init(&host);
    g_autofree char *xml = vm_xml(UUID_A, 60, 60);
    HvVm vm = {.xml = xml, .xml_bytes = strlen(xml), .progress = sleep_late, .timeout_ms = 250};
    g_assert_null(hv_lifecycle_claim(host.agent, &vm, &error));
    g_assert_error(error, HV_ERROR, HV_ERROR_TIMEOUT);
    g_assert_cmpuint(fake.n_writes, >, 0);
    assert_untouched();
}

static void test_same_agent_may_start_again(void)
{
    g_auto(Host) host = {0};
    host_init(&host);
    guint64 first = claim_vm(host.agent, UUID_A, 60, 0);
    guint64 second = claim_vm(host.agent, UUID_A, 60, 0);
    g_assert_cmpuint(second, >, first);
    g_assert_cmpuint(count_claims(), ==, 1);
    assert_counts(0, SIZE_2M, 30, 30, 0); /* not counted twice */
}

static void test_second_agent_waits_its_turn(void)
{
    g_auto(Host) host = {0};
    host_init(&host);
    g_autoptr(HvAgent) other = new_agent(1001);
    claim_vm(host.agent, UUID_A, 20, 0);
    assert_claim_fails(other, UUID_A, 20, HV_ERROR_CONFLICT, "process 1000");
    g_assert_cmpuint(count_claims(), ==, 1);
}

static void test_second_agent_takes_over_from_a_dead_one(void)
{
    g_auto(Host) host = {0};
    host_init(&host);
    g_autoptr(HvAgent) other = new_agent(1001);
    claim_vm(host.agent, UUID_A, 60, 0);
    end_process(1000);
    claim_vm(other, UUID_A, 60, 0);
    g_assert_cmpuint(count_claims(), ==, 1);
    assert_counts(0, SIZE_2M, 30, 30, 0);
}

static void test_running_vm_cannot_be_started_again(void)
{
    g_auto(Host) host = {0};
    host_init(&host);
    claim_vm(host.agent, UUID_A, 20, 0);
    set_qemu(2000, UUID_A);
    tell(hv_lifecycle_started, host.agent, UUID_A, 0, 2000);
    assert_claim_fails(host.agent, UUID_A, 20, HV_ERROR_CONFLICT, "process 2000");
}

static void test_running_vm_cannot_be_released(void)
{
    g_auto(Host) host = {0};
    g_autoptr(GError) error = NULL;
    gboolean is_known;
    HvVmRef vm = {UUID_A, 0, 0};
    host_init(&host);
    claim_vm(host.agent, UUID_A, 60, 0);
    set_qemu(2000, UUID_A);
    tell(hv_lifecycle_started, host.agent, UUID_A, 0, 2000);
    g_assert_false(hv_lifecycle_gone(host.agent, &vm, &is_known, &error));
    g_assert_error(error, HV_ERROR, HV_ERROR_CONFLICT);
    g_assert_nonnull(strstr(error->message, "2000"));
    g_assert_cmpuint(count_claims(), ==, 1);
    assert_counts(0, SIZE_2M, 30, 30, 0);
}

static gpointer report_soon(gpointer data)
{
    g_usleep(200 * 1000);
    tell(hv_lifecycle_started, data, UUID_A, 0, 2000);
    return NULL;
}

/* A VM that has its pages but has not yet reported so counts twice for a moment. */
static void test_start_waits_for_a_vm_that_is_about_to_report(void)
{
    g_auto(Host) host = {0};
    host_init(&host);
    tree_write(fake.directory, "/etc/hugevm/hugevm.conf", "");
    fake_resize_node(0, SIZE_2M, 20);
    claim_vm(host.agent, UUID_A, 20, 0);
    set_qemu(2000, UUID_A);
    fake_use(0, SIZE_2M, 10);
    GThread *thread = g_thread_new("report", report_soon, host.agent);
    claim_vm(host.agent, UUID_B, 20, 0);
    g_thread_join(thread);
    g_assert_cmpuint(count_claims(), ==, 2);
}

static void test_start_does_not_wait_for_ever_for_others_to_report(void)
{
    g_auto(Host) host = {0};
    host_init(&host);
    tree_write(fake.directory, "/etc/hugevm/hugevm.conf", "");
    claim_vm(host.agent, UUID_A, 20, 0);
    gint64 start_us = g_get_monotonic_time();
    assert_claim_fails(host.agent, UUID_B, 20, HV_ERROR_SHORTAGE, "claimed by VMs");
    g_assert_cmpint(g_get_monotonic_time() - start_us, <, 10 * G_USEC_PER_SEC);
}

static void test_foreign_user_of_static_pages_can_restart(void)
{
    g_auto(Host) host = {0};
    host_init(&host);
    fake_use(0, SIZE_2M, 10); /* a database on all static pages */
    claim_vm(host.agent, UUID_A, 60, 0);
    assert_counts(0, SIZE_2M, 40, 30, 0);
    fake_use(0, SIZE_2M, 30);
    set_qemu(2000, UUID_A);
    tell(hv_lifecycle_started, host.agent, UUID_A, 0, 2000);
    fake_unuse(0, SIZE_2M, 10); /* it stops */
    recover(host.agent);
    assert_counts(0, SIZE_2M, 40, 10, 0);
    fake_use(0, SIZE_2M, 10); /* and starts again */
    fake_unuse(0, SIZE_2M, 30);
    end_process(2000);
    tell(hv_lifecycle_gone, host.agent, UUID_A, 0, 0);
    assert_counts(0, SIZE_2M, 10, 0, 0);
}

#define ADD(name, function) g_test_add_func("/lifecycle/" name, function)

static void add_tests_of_failures(void)
{
    ADD("refused-start-leaves-no-claim", test_refused_start_leaves_no_claim);
    ADD("failed-write-leaves-everything-as-before", test_failed_write_leaves_everything_as_before);
    ADD("failed-rollback-is-told-and-done-by-the-next-call",
        test_failed_rollback_is_told_and_done_by_the_next_call);
    ADD("short-grant-leaves-everything-as-before", test_short_grant_leaves_everything_as_before);
    ADD("vm-of-several-nodes-starts-where-one-of-them-gives-little",
        test_vm_of_several_nodes_starts_where_one_of_them_gives_little);
    ADD("cancelled-start-leaves-everything-as-before",
        test_cancelled_start_leaves_everything_as_before);
    ADD("late-start-leaves-everything-as-before", test_late_start_leaves_everything_as_before);
    ADD("same-agent-may-start-again", test_same_agent_may_start_again);
    ADD("second-agent-waits-its-turn", test_second_agent_waits_its_turn);
    ADD("second-agent-takes-over-from-a-dead-one", test_second_agent_takes_over_from_a_dead_one);
    ADD("running-vm-cannot-be-started-again", test_running_vm_cannot_be_started_again);
    ADD("running-vm-cannot-be-released", test_running_vm_cannot_be_released);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("life-of-a-vm-ends-where-it-began", test_life_of_a_vm_ends_where_it_began);
    ADD("vm-that-free-pages-serve-writes-nothing", test_vm_that_free_pages_serve_writes_nothing);
    ADD("vm-without-huge-pages-may-have-memory-we-do-not-know",
        test_vm_without_huge_pages_may_have_memory_we_do_not_know);
    ADD("vm-without-huge-pages-leaves-no-trace", test_vm_without_huge_pages_leaves_no_trace);
    ADD("dry-run-leaves-no-trace", test_dry_run_leaves_no_trace);
    ADD("release-twice-is-release-once", test_release_twice_is_release_once);
    ADD("late-event-of-an-earlier-start-frees-nothing",
        test_late_event_of_an_earlier_start_frees_nothing);
    ADD("events-of-unknown-vms-do-nothing", test_events_of_unknown_vms_do_nothing);
    ADD("state-never-moves-back", test_state_never_moves_back);
    ADD("qemu-is-known-after-the-start", test_qemu_is_known_after_the_start);
    ADD("start-waits-for-a-vm-that-is-about-to-report",
        test_start_waits_for_a_vm_that_is_about_to_report);
    ADD("start-does-not-wait-for-ever-for-others-to-report",
        test_start_does_not_wait_for_ever_for_others_to_report);
    ADD("foreign-user-of-static-pages-can-restart", test_foreign_user_of_static_pages_can_restart);
    add_tests_of_failures();
    return g_test_run();
}
