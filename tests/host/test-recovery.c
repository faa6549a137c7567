/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What killed agents, damaged ledgers and unfinished give-backs leave, and who sets it right. */
#include "vm-fixture.h"

static void test_recovery_lets_go_of_dead_claims(void)
{
    g_auto(Host) host = {0};
    host_init(&host);
    g_autoptr(HvAgent) other = new_agent(1001);
    fake_use(1, SIZE_2M, 20); /* so that B's pages are all grown */
    claim_vm(host.agent, UUID_A, 60, 0);
    claim_vm(other, UUID_B, 0, 10);
    end_process(1000);
    recover(other);
    g_assert_cmpuint(count_claims(), ==, 1);
    g_assert_cmpint(state_of(UUID_B), ==, HV_CLAIM_CLAIMED);
    assert_counts(0, SIZE_2M, 10, 10, 0);
    assert_counts(1, SIZE_2M, 25, 5, 0);
}

static void test_recovery_keeps_claims_of_living_agents(void)
{
    g_auto(Host) host = {0};
    host_init(&host);
    claim_vm(host.agent, UUID_A, 60, 0);
    recover(host.agent);
    g_assert_cmpuint(count_claims(), ==, 1);
    assert_counts(0, SIZE_2M, 30, 30, 0);
}

static void test_recovery_keeps_claims_whose_qemu_lives(void)
{
    for (int is_known = 0; is_known <= 1; is_known++) {
        g_auto(Host) host = {0};
        host_init(&host);
        claim_vm(host.agent, UUID_A, 60, 0);
        set_qemu(2000, UUID_A);
        if (is_known)
            tell(hv_lifecycle_started, host.agent, UUID_A, 0, 2000);
        end_process(1000);
        recover(host.agent);
        g_assert_cmpuint(count_claims(), ==, 1);
        end_process(2000);
        recover(host.agent);
        assert_untouched();
    }
}

static void test_the_end_of_one_vm_lets_go_of_others_that_are_gone(void)
{
    g_auto(Host) host = {0};
    host_init(&host);
    g_autoptr(HvAgent) other = new_agent(1001);
    claim_vm(host.agent, UUID_A, 60, 0);
    claim_vm(other, UUID_B, 60, 0);
    end_process(1000);
    tell(hv_lifecycle_gone, other, UUID_B, 0, 0);
    assert_untouched();
}

/* A give-back that was killed before its write has announced pages that are still free. */
static void test_pages_of_an_unfinished_give_back_serve_the_next_start(void)
{
    g_auto(Host) host = {0};
    g_autoptr(GError) error = NULL;
    host_init(&host);
    guint64 free_pages = fake_get(0, SIZE_2M, "free_hugepages");
    guint64 total = fake_get(0, SIZE_2M, "nr_hugepages");
    g_assert_cmpuint(free_pages, >=, 5);
    g_autoptr(HvStore) store = hv_store_open(fake.root, TRUE, &error);
    g_assert_no_error(error);
    HvTransaction *transaction =
        hv_transaction_begin(store, g_get_monotonic_time() + G_USEC_PER_SEC, &error);
    HvIntent intent = {0, SIZE_2M, total, 0, 0};
    hv_ledger_begin_write(transaction->ledger, &intent);
    transaction->is_changed = TRUE;
    g_assert_true(hv_transaction_commit(transaction, &error));
    hv_transaction_end(transaction);
    claim_vm(host.agent, UUID_A, 10, 0); /* 5 pages, all free already */
    assert_counts(0, SIZE_2M, total, free_pages, 0);
}

static void test_recovery_tells_a_reused_pid_from_the_agent(void)
{
    g_auto(Host) host = {0};
    host_init(&host);
    claim_vm(host.agent, UUID_A, 60, 0);
    tree_write(fake.directory, "/proc/1000/stat",
               "1000 (x) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 999 20\n");
    recover(host.agent);
    assert_untouched();
}

static void test_recovery_without_ledger_does_nothing(void)
{
    g_auto(Host) host = {0};
    host_init(&host);
    recover(host.agent);
    g_assert_false(tree_has(fake.directory, "/run/hugevm"));
    g_assert_cmpuint(fake.n_writes, ==, 0);
}

static void test_recovery_warns_of_a_damaged_ledger(void)
{
    g_auto(Host) host = {0};
    g_autoptr(GPtrArray) warnings = g_ptr_array_new_with_free_func(g_free);
    host_init(&host);
    claim_vm(host.agent, UUID_A, 60, 0);
    tree_write(fake.directory, "/run/hugevm/ledger.json", "{");
    g_assert_true(hv_lifecycle_recover(host.agent, warnings, NULL));
    g_assert_cmpuint(warnings->len, ==, 1);
    g_assert_nonnull(strstr(g_ptr_array_index(warnings, 0), "damaged"));
    g_assert_cmpuint(count_claims(), ==, 1);
}

static void test_recovery_from_the_second_copy_gives_back(void)
{
    g_auto(Host) host = {0};
    host_init(&host);
    claim_vm(host.agent, UUID_A, 60, 0);
    tell(hv_lifecycle_launching, host.agent, UUID_A, 0, 0);
    end_process(1000);
    g_autofree char *path = g_strconcat(fake.directory, "/run/hugevm/ledger.json", NULL);
    g_assert_cmpint(g_remove(path), ==, 0);
    recover(host.agent);
    assert_untouched();
}

static void test_give_back_spares_a_size_that_is_being_resized(void)
{
    g_auto(Host) host = {0};
    host_init(&host);
    g_autoptr(HvStore) store = hv_store_open(fake.root, TRUE, NULL);
    claim_vm(host.agent, UUID_A, 60, 0);
    end_process(1000);
    {
        g_auto(HvFd) lock = hv_store_lock_size(store, SIZE_2M, 0, NULL);
        recover(host.agent); /* no error: the next call does it */
        assert_counts(0, SIZE_2M, 30, 30, 0);
    }
    recover(host.agent);
    assert_untouched();
}

/* As above, but with no claim left to remove: the copy is all that knows of the pages. */
static void test_pages_known_to_the_second_copy_alone_are_given_back(void)
{
    g_auto(Host) host = {0};
    host_init(&host);
    g_autoptr(HvStore) store = hv_store_open(fake.root, TRUE, NULL);
    claim_vm(host.agent, UUID_A, 60, 0);
    end_process(1000);
    {
        g_auto(HvFd) lock = hv_store_lock_size(store, SIZE_2M, 0, NULL);
        recover(host.agent);
    }
    g_autofree char *path = g_strconcat(fake.directory, "/run/hugevm/ledger.json", NULL);
    g_assert_cmpint(g_remove(path), ==, 0);
    recover(host.agent);
    assert_untouched();
}

#define ADD(name, function) g_test_add_func("/recovery/" name, function)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("lets-go-of-dead-claims", test_recovery_lets_go_of_dead_claims);
    ADD("keeps-claims-of-living-agents", test_recovery_keeps_claims_of_living_agents);
    ADD("keeps-claims-whose-qemu-lives", test_recovery_keeps_claims_whose_qemu_lives);
    ADD("tells-a-reused-pid-from-the-agent", test_recovery_tells_a_reused_pid_from_the_agent);
    ADD("the-end-of-one-vm-lets-go-of-others-that-are-gone",
        test_the_end_of_one_vm_lets_go_of_others_that_are_gone);
    ADD("pages-of-an-unfinished-give-back-serve-the-next-start",
        test_pages_of_an_unfinished_give_back_serve_the_next_start);
    ADD("without-ledger-does-nothing", test_recovery_without_ledger_does_nothing);
    ADD("warns-of-a-damaged-ledger", test_recovery_warns_of_a_damaged_ledger);
    ADD("give-back-spares-a-size-that-is-being-resized",
        test_give_back_spares_a_size_that_is_being_resized);
    ADD("from-the-second-copy-gives-back", test_recovery_from_the_second_copy_gives_back);
    ADD("pages-known-to-the-second-copy-alone-are-given-back",
        test_pages_known_to_the_second_copy_alone_are_given_back);
    return g_test_run();
}
