/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One start that passes through two agents, as through VDSM's hook and libvirt's. */
#include "vm-fixture.h"

#include "error.h"

/* The test's own agent, process 1000, is the earlier one. */
typedef struct {
    Host host;
    HvAgent *later; /* process 1001 */
} Pair;

static void pair_init(Pair *pair)
{
    host_init(&pair->host);
    set_process(1001, 'S');
    pair->later = hv_agent_new(fake.directory, NULL, "later", 1001);
}

static void pair_clear(Pair *pair)
{
    hv_agent_free(pair->later);
    host_clear(&pair->host);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Pair, pair_clear)

static HvOutcome *try_adopt(const HvAgent *agent, guint node0_mib, GError **error)
{
    g_autofree char *xml = vm_xml(UUID_A, node0_mib, 0);
    HvVm vm = {.xml = xml, .xml_bytes = strlen(xml), .adopts = TRUE};
    return hv_lifecycle_claim(agent, &vm, error);
}

/* The generation. */
static guint64 adopt(const HvAgent *agent, guint node0_mib)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(HvOutcome) outcome = try_adopt(agent, node0_mib, &error);
    g_assert_no_error(error);
    g_assert_nonnull(outcome);
    return outcome->generation;
}

static void assert_adoption_fails(const HvAgent *agent, guint node0_mib, HvErrorCode code,
                                  const char *said)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(HvOutcome) outcome = try_adopt(agent, node0_mib, &error);
    g_assert_null(outcome);
    g_assert_error(error, HV_ERROR, (gint)code);
    g_assert_nonnull(strstr(error->message, said));
}

/* The only claim there is. */
static void assert_claim(gint64 owner_pid, guint64 generation, guint64 pages)
{
    g_autoptr(HvLedger) ledger = read_ledger();
    const HvClaim *claim = hv_ledger_claim(ledger, UUID_A);
    g_assert_cmpuint(ledger->claims->len, ==, 1);
    g_assert_nonnull(claim);
    g_assert_cmpint(claim->owner.pid, ==, owner_pid);
    g_assert_cmpuint(claim->owner.start_ticks, ==, (guint64)owner_pid * 100);
    g_assert_cmpstr(claim->owner_name, ==, owner_pid == 1001 ? "later" : "test");
    g_assert_cmpuint(claim->generation, ==, generation);
    g_assert_cmpuint(hv_needs_pages(claim->needs, SIZE_2M), ==, pages);
}

static guint64 grown_pages(void)
{
    g_autoptr(HvLedger) ledger = read_ledger();
    return hv_ledger_grown_pages(ledger, 0, SIZE_2M);
}

static void test_claim_passes_to_the_later_agent(void)
{
    g_auto(Pair) pair = {0};
    pair_init(&pair);
    guint64 generation = claim_vm(pair.host.agent, UUID_A, 60, 0);
    g_assert_cmpuint(adopt(pair.later, 60), ==, generation);
    assert_claim(1001, generation, 30);
}

static void test_pages_are_not_taken_twice(void)
{
    g_auto(Pair) pair = {0};
    pair_init(&pair);
    claim_vm(pair.host.agent, UUID_A, 60, 0);
    guint n_writes = fake.n_writes;
    adopt(pair.later, 60);
    g_assert_cmpuint(fake.n_writes, ==, n_writes);
    assert_counts(0, SIZE_2M, 30, 30, 0);
    g_assert_cmpuint(grown_pages(), ==, 20);
}

static void live_and_end(const HvAgent *agent, guint64 generation)
{
    g_assert_true(tell(hv_lifecycle_launching, agent, UUID_A, generation, 0));
    g_assert_cmpint(state_of(UUID_A), ==, HV_CLAIM_LAUNCHING);
    set_qemu(2000, UUID_A);
    g_assert_true(tell(hv_lifecycle_started, agent, UUID_A, generation, 2000));
    g_assert_cmpint(state_of(UUID_A), ==, HV_CLAIM_RUNNING);
    end_process(2000);
    g_assert_true(tell(hv_lifecycle_gone, agent, UUID_A, generation, 0));
    assert_untouched();
}

static void test_earlier_agent_reports_by_its_generation(void)
{
    g_auto(Pair) pair = {0};
    pair_init(&pair);
    guint64 generation = claim_vm(pair.host.agent, UUID_A, 60, 0);
    adopt(pair.later, 60);
    live_and_end(pair.host.agent, generation);
}

static void test_later_agent_reports_without_generation(void)
{
    g_auto(Pair) pair = {0};
    pair_init(&pair);
    claim_vm(pair.host.agent, UUID_A, 60, 0);
    adopt(pair.later, 60);
    live_and_end(pair.later, 0);
}

static void test_next_start_has_a_generation_of_its_own(void)
{
    g_auto(Pair) pair = {0};
    pair_init(&pair);
    guint64 generation = claim_vm(pair.host.agent, UUID_A, 60, 0);
    adopt(pair.later, 60);
    tell(hv_lifecycle_gone, pair.later, UUID_A, 0, 0);
    g_assert_cmpuint(claim_vm(pair.host.agent, UUID_A, 60, 0), >, generation);
}

static void test_without_adoption_the_later_agent_is_refused(void)
{
    g_auto(Pair) pair = {0};
    g_autoptr(GError) error = NULL;
    pair_init(&pair);
    guint64 generation = claim_vm(pair.host.agent, UUID_A, 60, 0);
    g_autofree char *xml = vm_xml(UUID_A, 60, 0);
    g_autoptr(HvOutcome) outcome = try_claim(pair.later, xml, NULL, &error);
    g_assert_null(outcome);
    g_assert_error(error, HV_ERROR, HV_ERROR_CONFLICT);
    g_assert_nonnull(strstr(error->message, "is being started by"));
    assert_claim(1000, generation, 30);
}

static void test_running_vm_is_not_adopted(void)
{
    g_auto(Pair) pair = {0};
    pair_init(&pair);
    guint64 generation = claim_vm(pair.host.agent, UUID_A, 60, 0);
    set_qemu(2000, UUID_A);
    assert_adoption_fails(pair.later, 60, HV_ERROR_CONFLICT, "process 2000"); /* unreported */
    tell(hv_lifecycle_started, pair.host.agent, UUID_A, generation, 2000);
    assert_adoption_fails(pair.later, 60, HV_ERROR_CONFLICT, "process 2000");
    assert_claim(1000, generation, 30);
}

/* Another start than that whose QEMU has ended meanwhile. */
static void test_claim_whose_qemu_has_ended_is_not_adopted(void)
{
    g_auto(Pair) pair = {0};
    pair_init(&pair);
    guint64 generation = claim_vm(pair.host.agent, UUID_A, 60, 0);
    set_qemu(2000, UUID_A);
    tell(hv_lifecycle_started, pair.host.agent, UUID_A, generation, 2000);
    end_process(2000);
    g_assert_cmpuint(adopt(pair.later, 60), >, generation);
    g_assert_cmpuint(count_claims(), ==, 1);
}

static void test_launching_claim_is_adopted(void)
{
    g_auto(Pair) pair = {0};
    pair_init(&pair);
    guint64 generation = claim_vm(pair.host.agent, UUID_A, 60, 0);
    tell(hv_lifecycle_launching, pair.host.agent, UUID_A, generation, 0);
    g_assert_cmpuint(adopt(pair.later, 60), ==, generation);
    assert_claim(1001, generation, 30);
    assert_counts(0, SIZE_2M, 30, 30, 0);
}

static void test_more_memory_grows_by_the_difference(void)
{
    g_auto(Pair) pair = {0};
    pair_init(&pair);
    guint64 generation = claim_vm(pair.host.agent, UUID_A, 60, 0);
    adopt(pair.later, 80);
    assert_claim(1001, generation, 40);
    assert_counts(0, SIZE_2M, 40, 40, 0);
    g_assert_cmpuint(grown_pages(), ==, 30);
    tell(hv_lifecycle_gone, pair.later, UUID_A, 0, 0);
    assert_untouched();
}

static void test_less_memory_is_the_new_need(void)
{
    g_auto(Pair) pair = {0};
    pair_init(&pair);
    guint64 generation = claim_vm(pair.host.agent, UUID_A, 60, 0);
    adopt(pair.later, 40);
    assert_claim(1001, generation, 20);
    tell(hv_lifecycle_gone, pair.later, UUID_A, 0, 0);
    assert_untouched();
}

static void test_refused_adoption_leaves_the_claim_as_it_was(void)
{
    g_auto(Pair) pair = {0};
    pair_init(&pair);
    guint64 generation = claim_vm(pair.host.agent, UUID_A, 60, 0);
    guint n_writes = fake.n_writes;
    assert_adoption_fails(pair.later, 1024 * 1024, HV_ERROR_SHORTAGE, "short");
    assert_claim(1000, generation, 30);
    g_assert_cmpuint(fake.n_writes, ==, n_writes);
    assert_counts(0, SIZE_2M, 30, 30, 0);
    live_and_end(pair.host.agent, generation);
}

/* The start has failed, so its claim goes, whoever made it. */
static void test_failed_growth_leaves_the_pools_as_before(void)
{
    g_auto(Pair) pair = {0};
    pair_init(&pair);
    guint64 generation = claim_vm(pair.host.agent, UUID_A, 60, 0);
    fake.room_kib[0] = 3 * SIZE_2M;
    assert_adoption_fails(pair.later, 80, HV_ERROR_SHORTAGE, "");
    g_assert_false(tell(hv_lifecycle_gone, pair.host.agent, UUID_A, generation, 0));
    assert_untouched();
}

static void test_own_claim_is_no_adoption(void)
{
    g_auto(Pair) pair = {0};
    pair_init(&pair);
    guint64 first = adopt(pair.later, 60);
    guint64 second = adopt(pair.later, 60);
    g_assert_cmpuint(second, >, first);
    assert_claim(1001, second, 30);
    assert_counts(0, SIZE_2M, 30, 30, 0);
}

static void test_claim_of_a_dead_agent_is_no_adoption(void)
{
    g_auto(Pair) pair = {0};
    pair_init(&pair);
    guint64 first = claim_vm(pair.host.agent, UUID_A, 60, 0);
    end_process(1000);
    guint64 second = adopt(pair.later, 60);
    g_assert_cmpuint(second, >, first);
    assert_claim(1001, second, 30);
    assert_counts(0, SIZE_2M, 30, 30, 0);
}

static void test_adopted_claim_outlives_the_earlier_agent(void)
{
    g_auto(Pair) pair = {0};
    pair_init(&pair);
    guint64 generation = claim_vm(pair.host.agent, UUID_A, 60, 0);
    adopt(pair.later, 60);
    end_process(1000);
    recover(pair.later);
    assert_claim(1001, generation, 30);
    assert_counts(0, SIZE_2M, 30, 30, 0);
}

static void test_adopted_claim_ends_with_the_later_agent(void)
{
    g_auto(Pair) pair = {0};
    pair_init(&pair);
    claim_vm(pair.host.agent, UUID_A, 60, 0);
    adopt(pair.later, 60);
    end_process(1001);
    recover(pair.host.agent);
    assert_untouched();
}

static const HvAgent *adopter;

static gboolean adopt_once(gpointer data, guint64 done, guint64 total, const char *what)
{
    (void)data, (void)done, (void)total, (void)what;
    const HvAgent *agent = g_steal_pointer(&adopter);
    if (agent != NULL)
        adopt(agent, 60);
    return FALSE;
}

static void test_adoption_while_pages_are_got_leaves_nothing_behind(void)
{
    g_auto(Pair) pair = {0};
    g_autoptr(GError) error = NULL;
    pair_init(&pair);
    adopter = pair.later;
    g_autofree char *xml = vm_xml(UUID_A, 60, 0);
    g_autoptr(HvOutcome) outcome = try_claim(pair.host.agent, xml, adopt_once, &error);
    g_assert_no_error(error);
    g_assert_null(adopter);
    assert_claim(1001, outcome->generation, 30);
    live_and_end(pair.host.agent, outcome->generation);
}

#define ADD(name, function) g_test_add_func("/adoption/" name, function)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("claim-passes-to-the-later-agent", test_claim_passes_to_the_later_agent);
    ADD("pages-are-not-taken-twice", test_pages_are_not_taken_twice);
    ADD("earlier-agent-reports-by-its-generation", test_earlier_agent_reports_by_its_generation);
    ADD("later-agent-reports-without-generation", test_later_agent_reports_without_generation);
    ADD("next-start-has-a-generation-of-its-own", test_next_start_has_a_generation_of_its_own);
    ADD("without-adoption-the-later-agent-is-refused",
        test_without_adoption_the_later_agent_is_refused);
    ADD("running-vm-is-not-adopted", test_running_vm_is_not_adopted);
    ADD("claim-whose-qemu-has-ended-is-not-adopted",
        test_claim_whose_qemu_has_ended_is_not_adopted);
    ADD("launching-claim-is-adopted", test_launching_claim_is_adopted);
    ADD("more-memory-grows-by-the-difference", test_more_memory_grows_by_the_difference);
    ADD("less-memory-is-the-new-need", test_less_memory_is_the_new_need);
    ADD("refused-adoption-leaves-the-claim-as-it-was",
        test_refused_adoption_leaves_the_claim_as_it_was);
    ADD("failed-growth-leaves-the-pools-as-before", test_failed_growth_leaves_the_pools_as_before);
    ADD("own-claim-is-no-adoption", test_own_claim_is_no_adoption);
    ADD("claim-of-a-dead-agent-is-no-adoption", test_claim_of_a_dead_agent_is_no_adoption);
    ADD("adopted-claim-outlives-the-earlier-agent", test_adopted_claim_outlives_the_earlier_agent);
    ADD("adopted-claim-ends-with-the-later-agent", test_adopted_claim_ends_with_the_later_agent);
    ADD("adoption-while-pages-are-got-leaves-nothing-behind",
        test_adoption_while_pages_are_got_leaves_nothing_behind);
    return g_test_run();
}
