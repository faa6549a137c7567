/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Claims, and the arithmetic of `grown`. As text: test-ledger-json.c. */
#include "ledger.h"

#define SIZE 2048
#define A "00000000-0000-0000-0000-00000000000a"
#define B "00000000-0000-0000-0000-00000000000b"

static HvClaim *add_claim(HvLedger *ledger, const char *uuid)
{
    g_autoptr(GArray) needs = g_array_new(FALSE, TRUE, sizeof(HvNeed));
    HvNeed need = {.size_kib = SIZE, .pages = 4};
    HvRequest request = {
        .uuid = (char *)uuid, .name = (char *)"vm", .needs = needs, .shared = TRUE};
    HvProcess owner = {11, 22};
    g_array_append_val(needs, need);
    return hv_ledger_add_claim(ledger, &request, "agent", &owner);
}

static void test_claim_keeps_what_it_was_made_of(void)
{
    g_autoptr(HvLedger) ledger = hv_ledger_new();
    const HvClaim *claim = add_claim(ledger, A);
    g_assert_true(hv_ledger_claim(ledger, A) == claim);
    g_assert_cmpstr(claim->uuid, ==, A);
    g_assert_cmpstr(claim->name, ==, "vm");
    g_assert_cmpstr(claim->owner_name, ==, "agent");
    g_assert_cmpint(claim->owner.pid, ==, 11);
    g_assert_cmpuint(claim->owner.start_ticks, ==, 22);
    g_assert_cmpint(claim->qemu.pid, ==, 0);
    g_assert_cmpint(claim->state, ==, HV_CLAIM_CLAIMED);
    g_assert_true(claim->shared);
    g_assert_cmpuint(claim->needs->len, ==, 1);
    g_assert_cmpuint(hv_needs_pages(claim->needs, SIZE), ==, 4);
}

static void test_every_claim_has_a_generation_of_its_own(void)
{
    g_autoptr(HvLedger) ledger = hv_ledger_new();
    guint64 first = add_claim(ledger, A)->generation;
    guint64 second = add_claim(ledger, B)->generation;
    hv_ledger_remove_claim(ledger, A);
    guint64 third = add_claim(ledger, A)->generation;
    g_assert_cmpuint(first, >, 0);
    g_assert_cmpuint(second, >, first);
    g_assert_cmpuint(third, >, second);
}

static void test_removing_a_claim_leaves_the_others(void)
{
    g_autoptr(HvLedger) ledger = hv_ledger_new();
    add_claim(ledger, A);
    add_claim(ledger, B);
    hv_ledger_remove_claim(ledger, A);
    hv_ledger_remove_claim(ledger, A);
    hv_ledger_remove_claim(ledger, "unknown");
    g_assert_null(hv_ledger_claim(ledger, A));
    g_assert_nonnull(hv_ledger_claim(ledger, B));
    g_assert_cmpuint(ledger->claims->len, ==, 1);
}

static void test_needs_are_told_apart_by_size_and_place(void)
{
    static const struct {
        const char *nodes;
        guint64 size_kib, pages;
    } rows[] = {{"0", SIZE, 1},  {"1", SIZE, 2},     {"0-1", SIZE, 4},
                {NULL, SIZE, 8}, {"0", 1048576, 16}, {"0", SIZE, 32}};
    g_autoptr(GArray) needs = g_array_new(FALSE, TRUE, sizeof(HvNeed));
    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        HvNeed need = {.size_kib = rows[i].size_kib, .pages = rows[i].pages};
        g_assert_true(rows[i].nodes == NULL || hv_node_set_parse(rows[i].nodes, &need.nodes));
        g_array_append_val(needs, need);
    }
    g_assert_cmpuint(hv_needs_pages(needs, SIZE), ==, 1 + 2 + 4 + 8 + 32);
    g_assert_cmpuint(hv_needs_bound_pages(needs, SIZE, 0), ==, 1 + 32);
    g_assert_cmpuint(hv_needs_bound_pages(needs, SIZE, 1), ==, 2);
    g_assert_cmpuint(hv_needs_floating_pages(needs, SIZE), ==, 4 + 8);
    g_assert_cmpuint(hv_needs_pages(needs, 1048576), ==, 16);
    g_assert_cmpuint(hv_needs_pages(needs, 64), ==, 0);
}

/* A pool that had grown so much, perhaps with an open intent, is settled at a new total. */
typedef struct {
    const char *what;
    guint64 grown, persistent; /* grown 0: no entry */
    guint64 before, target;    /* both 0: no intent */
    guint64 total, surplus;
    guint64 grown_after, persistent_after; /* grown 0: no entry is left */
    gboolean is_changed;
} Settle;

static const Settle settles[] = {
    {"nothing recorded", 0, 0, 0, 0, 10, 0, 0, 0, FALSE},
    {"nothing happened", 4, 14, 0, 0, 14, 0, 4, 14, FALSE},
    {"a write that got everything", 0, 0, 10, 14, 14, 0, 4, 14, TRUE},
    {"a write that got a part", 0, 0, 10, 14, 12, 0, 2, 12, TRUE},
    {"a write that got nothing, or was never made", 0, 0, 10, 14, 10, 0, 0, 0, TRUE},
    {"a write on top of earlier growth", 4, 14, 14, 20, 20, 0, 10, 20, TRUE},
    {"somebody added as well: that is theirs", 0, 0, 10, 14, 20, 0, 4, 20, TRUE},
    {"somebody took more than the write brought", 3, 10, 10, 14, 8, 0, 1, 8, TRUE},
    {"a shrink that took everything", 6, 16, 16, 12, 12, 0, 2, 12, TRUE},
    {"a shrink that took all that was grown", 4, 14, 14, 10, 10, 0, 0, 0, TRUE},
    {"a shrink that took a part", 6, 16, 16, 12, 14, 0, 4, 14, TRUE},
    {"a shrink that was never made", 6, 16, 16, 12, 16, 0, 6, 16, TRUE},
    {"a shrink beside an outside shrink", 6, 16, 16, 12, 11, 0, 1, 11, TRUE},
    {"a shrink beside an outside growth", 6, 16, 16, 12, 20, 0, 6, 20, TRUE},
    {"a shrink of more than was grown", 2, 16, 16, 12, 12, 0, 0, 0, TRUE},
    {"an outside decrease takes from grown first", 4, 14, 0, 0, 11, 0, 1, 11, TRUE},
    {"an outside decrease of more than grown", 4, 14, 0, 0, 7, 0, 0, 0, TRUE},
    {"an outside increase is theirs", 4, 14, 0, 0, 30, 0, 4, 30, TRUE},
    {"pages that became surplus are no more grown", 4, 14, 0, 0, 14, 3, 1, 11, TRUE},
    {"pinned surplus is hugevm's doing", 0, 0, 10, 13, 13, 0, 3, 13, TRUE},
    {"a pin that was never made", 0, 0, 10, 13, 13, 3, 0, 0, TRUE},
    {"an intent without change", 4, 14, 14, 14, 14, 0, 4, 14, TRUE},
    {"numbers at the edge", 1, G_MAXINT64, G_MAXINT64, G_MAXUINT64, G_MAXUINT64, 0,
     (guint64)G_MAXINT64 + 2, G_MAXUINT64, TRUE},
};

static void test_settling_credits_what_the_write_did(void)
{
    for (guint i = 0; i < G_N_ELEMENTS(settles); i++) {
        const Settle *s = &settles[i];
        g_autoptr(HvLedger) ledger = hv_ledger_new();
        HvGrown entry = {0, SIZE, s->grown, s->persistent};
        HvIntent intent = {0, SIZE, s->before, s->target};
        HvPool pool = {0, SIZE, s->total, s->total, s->surplus};
        if (s->grown > 0)
            g_array_append_val(ledger->grown, entry);
        if (s->target > 0)
            hv_ledger_begin_write(ledger, &intent);
        g_test_message("%s", s->what);
        g_assert_true(hv_ledger_settle_pool(ledger, &pool) == s->is_changed);
        g_assert_cmpuint(ledger->intents->len, ==, 0);
        g_assert_cmpuint(hv_ledger_grown_pages(ledger, 0, SIZE), ==, s->grown_after);
        g_assert_cmpuint(ledger->grown->len, ==, s->grown_after > 0 ? 1 : 0);
        if (s->grown_after > 0)
            g_assert_cmpuint(g_array_index(ledger->grown, HvGrown, 0).persistent_pages, ==,
                             s->persistent_after);
    }
}

static void test_settling_twice_is_settling_once(void)
{
    for (guint i = 0; i < G_N_ELEMENTS(settles); i++) {
        const Settle *s = &settles[i];
        g_autoptr(HvLedger) ledger = hv_ledger_new();
        HvIntent intent = {0, SIZE, s->before, s->target};
        HvPool pool = {0, SIZE, s->total, s->total, s->surplus};
        if (s->target > 0)
            hv_ledger_begin_write(ledger, &intent);
        hv_ledger_settle_pool(ledger, &pool);
        guint64 grown = hv_ledger_grown_pages(ledger, 0, SIZE);
        g_test_message("%s", s->what);
        g_assert_false(hv_ledger_settle_pool(ledger, &pool));
        g_assert_cmpuint(hv_ledger_grown_pages(ledger, 0, SIZE), ==, grown);
    }
}

static void test_settling_one_pool_leaves_the_others(void)
{
    g_autoptr(HvLedger) ledger = hv_ledger_new();
    HvIntent intents[] = {{0, SIZE, 0, 4}, {1, SIZE, 0, 4}, {0, 1048576, 0, 4}};
    for (guint i = 0; i < G_N_ELEMENTS(intents); i++)
        hv_ledger_begin_write(ledger, &intents[i]);
    HvPool pool = {1, SIZE, 4, 4, 0};
    g_assert_true(hv_ledger_settle_pool(ledger, &pool));
    g_assert_cmpuint(ledger->intents->len, ==, 2);
    g_assert_cmpuint(hv_ledger_grown_pages(ledger, 0, SIZE), ==, 0);
    g_assert_cmpuint(hv_ledger_grown_pages(ledger, 1, SIZE), ==, 4);
    g_assert_cmpuint(hv_ledger_grown_pages(ledger, 0, 1048576), ==, 0);
}

static void test_killed_before_the_write_then_grown_by_others(void)
{
    g_autoptr(HvLedger) ledger = hv_ledger_new();
    HvIntent intent = {0, SIZE, 10, 14};
    HvPool pool = {0, SIZE, 10, 10, 0};
    hv_ledger_begin_write(ledger, &intent);
    hv_ledger_settle_pool(ledger, &pool);    /* whoever takes the lock next */
    pool.total_pages = pool.free_pages = 14; /* now the administrator adds 4 */
    g_assert_false(hv_ledger_settle_pool(ledger, &pool));
    g_assert_cmpuint(hv_ledger_grown_pages(ledger, 0, SIZE), ==, 0);
}

static void test_growth_in_steps_adds_up(void)
{
    g_autoptr(HvLedger) ledger = hv_ledger_new();
    HvPool pool = {0, SIZE, 10, 10, 0};
    for (int step = 0; step < 5; step++) {
        HvIntent intent = {0, SIZE, pool.total_pages, pool.total_pages + 3};
        hv_ledger_begin_write(ledger, &intent);
        pool.total_pages += 3;
        g_assert_true(hv_ledger_settle_pool(ledger, &pool));
    }
    g_assert_cmpuint(hv_ledger_grown_pages(ledger, 0, SIZE), ==, 15);
    HvIntent intent = {0, SIZE, 25, 10};
    hv_ledger_begin_write(ledger, &intent);
    pool.total_pages = 10;
    hv_ledger_settle_pool(ledger, &pool);
    g_assert_cmpuint(ledger->grown->len, ==, 0);
}

static void test_states_have_names(void)
{
    g_assert_cmpstr(hv_claim_state_name(HV_CLAIM_CLAIMED), ==, "claimed");
    g_assert_cmpstr(hv_claim_state_name(HV_CLAIM_LAUNCHING), ==, "launching");
    g_assert_cmpstr(hv_claim_state_name(HV_CLAIM_RUNNING), ==, "running");
    g_assert_cmpstr(hv_claim_state_name((HvClaimState)77), ==, "unknown");
}

static void test_nothing_can_be_freed(void)
{
    hv_ledger_free(NULL);
}

#define ADD(name, function) g_test_add_func("/ledger/" name, function)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("claim-keeps-what-it-was-made-of", test_claim_keeps_what_it_was_made_of);
    ADD("every-claim-has-a-generation-of-its-own", test_every_claim_has_a_generation_of_its_own);
    ADD("removing-a-claim-leaves-the-others", test_removing_a_claim_leaves_the_others);
    ADD("needs-are-told-apart-by-size-and-place", test_needs_are_told_apart_by_size_and_place);
    ADD("settling-credits-what-the-write-did", test_settling_credits_what_the_write_did);
    ADD("settling-twice-is-settling-once", test_settling_twice_is_settling_once);
    ADD("settling-one-pool-leaves-the-others", test_settling_one_pool_leaves_the_others);
    ADD("killed-before-the-write-then-grown-by-others",
        test_killed_before_the_write_then_grown_by_others);
    ADD("growth-in-steps-adds-up", test_growth_in_steps_adds_up);
    ADD("states-have-names", test_states_have_names);
    ADD("nothing-can-be-freed", test_nothing_can_be_freed);
    return g_test_run();
}
