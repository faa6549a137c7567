/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Ledgers that no hugevm has written, but could be one: each is believed, and does no harm. */
#include "hostile-ledger.h"

/* What the store makes of a ledger, in a world of three nodes with 100 pages each, 60 of them
 * free, and 1 GiB to grow into. */
static World *world_of(const HvLedger *ledger)
{
    g_auto(StoreFixture) fixture;
    g_autoptr(GError) error = NULL;
    fixture_init(&fixture);
    g_autofree char *text = hv_ledger_to_json(ledger, BOOT_ID);
    g_autoptr(HvStore) store = open_store(&fixture);
    set_store_text(&fixture, LEDGER, text);
    World *world = world_new();
    hv_ledger_free(world->ledger);
    world->ledger = hv_store_read(store, &error);
    g_assert_no_error(error);
    for (int node = 0; node < 3; node++) {
        world_node(world, node, GIB_KIB);
        world_pool(world, node, SIZE_2M, 100, 60);
    }
    return world;
}

static void set_need(World *world, const char *nodes, guint64 pages)
{
    g_array_set_size(world->request->needs, 0);
    world_need(world, nodes, SIZE_2M, pages);
}

/* Three needs, of one claim or of three. */
static HvLedger *ledger_of_claims(const guint64 *pages, HvClaimState state, gboolean is_one)
{
    static const char *const uuids[] = {A, B, C};
    HvLedger *ledger = hv_ledger_new();
    for (guint i = 0; i < 3; i++) {
        HvNeed need = {.size_kib = SIZE_2M, .pages = pages[i]};
        if (i == 0 || !is_one)
            add_claim(ledger, uuids[i], state, pages[i]);
        else
            g_array_append_val(hv_ledger_claim(ledger, A)->needs, need);
    }
    return ledger;
}

static void assert_nothing_left(World *world)
{
    for (int growth = 0; growth <= 1; growth++) {
        world->settings->use_dynamic_hugepages = growth;
        set_need(world, ANY, 1);
        g_autoptr(HvPlan) anywhere = world_plan(world);
        assert_refused(anywhere);
        set_need(world, "1", 1);
        g_autoptr(HvPlan) bound = world_plan(world);
        assert_refused(bound);
    }
}

/* Claims that look free to the kernel, and that together ask for more than there is. A sum or a
 * number of KiB that wrapped would be small: 2 * MOST + 2 pages are 0, and so are 2^53 in KiB. */
static void test_huge_exposed_claims_leave_nothing_to_others(void)
{
    static const guint64 pages[][3] = {{MOST, 0, 0},       {MOST, MOST, 2},
                                       {MOST, MOST, 3},    {2, MOST, MOST},
                                       {MOST, MOST, MOST}, {((guint64)1 << 53) + 3 * 60, 0, 0}};
    static const HvClaimState states[] = {HV_CLAIM_CLAIMED, HV_CLAIM_LAUNCHING};
    for (guint i = 0; i < G_N_ELEMENTS(pages); i++)
        for (guint s = 0; s < G_N_ELEMENTS(states); s++)
            for (int is_one = 0; is_one <= 1; is_one++) {
                g_autoptr(HvLedger) ledger = ledger_of_claims(pages[i], states[s], is_one);
                g_autoptr(World) world = world_of(ledger);
                g_test_message("case %u, %u, %d", i, s, is_one);
                assert_nothing_left(world);
            }
}

/* Whatever a claim is said to have, nobody is promised pages that are not there. */
static void test_huge_held_claims_do_not_make_pages(void)
{
    static const HvClaimState states[] = {HV_CLAIM_GUARDED, HV_CLAIM_MOUNTED, HV_CLAIM_RUNNING,
                                          HV_CLAIM_DRAINING};
    for (guint s = 0; s < G_N_ELEMENTS(states); s++) {
        g_autoptr(HvLedger) ledger = hv_ledger_new();
        add_claim(ledger, B, states[s], MOST);
        add_claim(ledger, A, states[s], MOST);
        add_claim(ledger, C, states[s], 2);
        g_autoptr(World) world = world_of(ledger);
        set_need(world, ANY, 3 * 60 + 1);
        g_autoptr(HvPlan) floating = world_plan(world);
        assert_refused(floating);
        set_need(world, "2", 60 + 1);
        g_autoptr(HvPlan) bound = world_plan(world);
        assert_refused(bound);
        set_need(world, ANY, MOST);
        world_allow_growth(world);
        g_autoptr(HvPlan) huge = world_plan(world);
        assert_refused(huge);
    }
}

static void test_huge_grown_counts_give_back_what_is_free_at_most(void)
{
    static const guint64 grown[][3] = {
        {MOST, 0, 0}, {MOST, MOST, 2 + 7}, {MOST, MOST, MOST}, {MOST, MOST, 2}};
    for (guint i = 0; i < G_N_ELEMENTS(grown); i++)
        for (int is_known = 0; is_known <= 1; is_known++) {
            g_autoptr(HvLedger) ledger = hv_ledger_new();
            add_claim(ledger, B, HV_CLAIM_CLAIMED, 50);
            for (int node = 0; node < 3; node++)
                add_grown(ledger, node, grown[i][node], is_known ? 100 : MOST);
            g_autoptr(World) world = world_of(ledger);
            guint64 sum = 0;
            for (int node = 0; node < 3; node++) {
                guint64 pages = world_give_back(world, node, SIZE_2M);
                g_assert_cmpuint(pages, <=, 60);
                g_assert_cmpuint(pages, <=, grown[i][node]);
                sum += pages;
            }
            g_assert_cmpuint(sum, <=, 3 * (3 * 60 - 50)); /* each alone leaves the 50 */
        }
}

static void test_sum_of_huge_grown_counts_does_not_wrap(void)
{
    g_autoptr(HvLedger) ledger = hv_ledger_new();
    add_grown(ledger, 0, MOST, 100);
    add_grown(ledger, 1, MOST, 100);
    add_grown(ledger, 2, 2 + 7, 100);
    g_autoptr(World) world = world_of(ledger);
    HvWorld view = world_view(world);
    g_assert_cmpuint(hv_room_of_size(&view, SIZE_2M).grown, >=, MOST);
}

/* A write that was to be huge is believed as far as the pool shows it. */
static void test_huge_intents_credit_what_the_pool_shows_at_most(void)
{
    static const struct {
        guint64 grown, before, target;
        guint64 most_grown;
    } cases[] = {
        {0, 0, MOST, 100},      {0, MOST, 0, 0},   {0, MOST, MOST, 0}, {7, MOST, 0, 7},
        {7, 96, MOST, 11},      {7, MOST, 96, 7},  {7, 100, 0, 7},     {0, 0, 0, 0},
        {0, 1, MOST, 99},       {0, 100, MOST, 0}, {7, 96, 100, 11},   {7, 90, 92, 9},
        {7, MOST - 1, MOST, 7},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(HvLedger) ledger = hv_ledger_new();
        if (cases[i].grown > 0)
            add_grown(ledger, 0, cases[i].grown, 96);
        add_intent(ledger, 0, cases[i].before, cases[i].target);
        g_autoptr(World) world = world_of(ledger);
        const HvPool *pool = hv_snapshot_pool(world->snapshot, 0, SIZE_2M);
        g_test_message("case %u", i);
        g_assert_cmpuint(world_give_back(world, 0, SIZE_2M), <=, 60);
        set_need(world, "0", 61);
        g_autoptr(HvPlan) plan = world_plan(world);
        assert_refused(plan);
        g_assert_true(hv_ledger_settle_pool(world->ledger, pool));
        g_assert_false(hv_ledger_has_intent(world->ledger, 0, SIZE_2M));
        g_assert_cmpuint(hv_ledger_grown_pages(world->ledger, 0, SIZE_2M), <=, cases[i].most_grown);
        g_assert_false(hv_ledger_settle_pool(world->ledger, pool)); /* once is all */
    }
}

/* One more page on top of a count without end must not make it small. */
static void test_credit_on_a_huge_grown_count_does_not_wrap(void)
{
    g_autoptr(HvLedger) ledger = hv_ledger_new();
    add_grown(ledger, 0, MOST, 0);
    add_intent(ledger, 0, 0, MOST);
    g_autoptr(World) world = world_of(ledger);
    hv_ledger_settle_pool(world->ledger, hv_snapshot_pool(world->snapshot, 0, SIZE_2M));
    g_assert_cmpuint(hv_ledger_grown_pages(world->ledger, 0, SIZE_2M), >=, 100);
    g_assert_cmpuint(world_give_back(world, 0, SIZE_2M), <=, 60);
}

/* What we write ourselves after the last generation that JSON can hold must be readable again. */
static void test_ledger_outlives_the_last_generation(void)
{
    static const char *const uuids[] = {A, B, C};
    g_auto(StoreFixture) fixture;
    fixture_init(&fixture);
    g_autoptr(HvStore) store = open_store(&fixture);
    g_autoptr(HvLedger) ledger = hv_ledger_new();
    ledger->last_generation = MOST;
    g_autofree char *text = hv_ledger_to_json(ledger, BOOT_ID);
    set_store_text(&fixture, LEDGER, text);
    for (guint i = 0; i < G_N_ELEMENTS(uuids); i++) {
        g_autoptr(HvTransaction) transaction = begin(store);
        g_assert_true(i == 0 || transaction->warning == NULL);
        g_assert_cmpuint(transaction->ledger->claims->len, ==, i);
        add_claim(transaction->ledger, uuids[i], HV_CLAIM_CLAIMED, 1);
        commit(transaction);
    }
    g_autoptr(HvTransaction) last = begin(store);
    g_assert_null(last->warning);
    g_assert_cmpuint(last->ledger->claims->len, ==, G_N_ELEMENTS(uuids));
}

#define ADD(name, function) g_test_add_func("/ledger-hostile/" name, function)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("huge-exposed-claims-leave-nothing-to-others",
        test_huge_exposed_claims_leave_nothing_to_others);
    ADD("huge-held-claims-do-not-make-pages", test_huge_held_claims_do_not_make_pages);
    ADD("huge-grown-counts-give-back-what-is-free-at-most",
        test_huge_grown_counts_give_back_what_is_free_at_most);
    ADD("sum-of-huge-grown-counts-does-not-wrap", test_sum_of_huge_grown_counts_does_not_wrap);
    ADD("huge-intents-credit-what-the-pool-shows-at-most",
        test_huge_intents_credit_what_the_pool_shows_at_most);
    ADD("credit-on-a-huge-grown-count-does-not-wrap",
        test_credit_on_a_huge_grown_count_does_not_wrap);
    ADD("ledger-outlives-the-last-generation", test_ledger_outlives_the_last_generation);
    return g_test_run();
}
