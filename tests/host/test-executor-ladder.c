/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is tried where a node gives less than was asked, and larger pages that are split. */
#include "executor-fixture.h"

/* Node 3 has most memory left, node 1 more than node 2. */
static const char four_nodes[] = "arch x86_64\n"
                                 "mem available=33554432 default=2048\n"
                                 "size 2048\n"
                                 "node 0 total=16777216 free=16777216\n"
                                 "node 1 total=16777216 free=16777216\n"
                                 "node 2 total=16777216 free=8388608\n"
                                 "node 3 total=33554432 free=33554432\n"
                                 "pool 0 2048 total=10 free=10\n"
                                 "pool 1 2048 total=20 free=20\n"
                                 "pool 2 2048 total=20 free=20\n"
                                 "pool 3 2048 total=10 free=10\n";

static HvStep split_on(int node, guint64 size_kib, guint64 pages, guint64 to_kib)
{
    return (HvStep){HV_STEP_DEMOTE, node, size_kib, pages, to_kib};
}

static void test_short_grant_is_followed_by_compaction(void)
{
    g_auto(Bench) bench;
    bench_init(&bench, two_nodes);
    fake.room_kib[0] = 3 * SIZE_2M;
    fake.compacted_kib[0] = 4 * SIZE_2M;
    HvStep step = grow_on(0, SIZE_2M, 7);
    run_good(&bench, &step, 1);
    assert_write(0, NODE0_2M, 17);
    assert_write(1, "node0/compact", 1);
    assert_write(2, NODE0_2M, 17);
    assert_ledger(&bench, 0, SIZE_2M, 7);
}

/* The kernel's pass may end early. */
static void test_compaction_is_repeated_as_long_as_it_helps(void)
{
    static const struct {
        guint64 compacted_pages, got_pages;
        guint compactions;
    } rows[] = {{2, 5, 3}, {4, 7, 4}, {0, 3, 1}, {20, 11, 8}};
    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_auto(Bench) bench;
        bench_init(&bench, two_nodes);
        fake.room_kib[0] = 3 * SIZE_2M;
        fake.compacted_kib[0] = rows[i].compacted_pages * SIZE_2M;
        fake.compaction_kib = SIZE_2M;
        HvStep step = grow_on(0, SIZE_2M, rows[i].got_pages == 7 ? 7 : 13);
        run_steps(&bench, &step, 1, NULL);
        g_assert_cmpuint(count_writes("compact"), ==, rows[i].compactions);
        assert_ledger(&bench, 0, SIZE_2M, rows[i].got_pages);
    }
}

static void test_compaction_can_be_switched_off(void)
{
    g_auto(Bench) bench;
    g_autoptr(GError) error = NULL;
    bench_init(&bench, two_nodes);
    bench.settings->compact = FALSE;
    fake.room_kib[0] = 3 * SIZE_2M;
    fake.compacted_kib[0] = 4 * SIZE_2M;
    HvStep step = grow_on(0, SIZE_2M, 7);
    g_assert_false(run_steps(&bench, &step, 1, &error));
    g_assert_error(error, HV_ERROR, HV_ERROR_SHORTAGE);
    g_assert_cmpuint(count_writes("compact"), ==, 0);
}

static void test_caches_are_dropped_only_on_request(void)
{
    for (int is_on = 0; is_on <= 1; is_on++) {
        g_auto(Bench) bench;
        bench_init(&bench, two_nodes);
        bench.settings->drop_caches = is_on;
        fake.room_kib[0] = 3 * SIZE_2M;
        fake.cached_kib[0] = 4 * SIZE_2M;
        HvStep step = grow_on(0, SIZE_2M, 7);
        g_assert_true(run_steps(&bench, &step, 1, NULL) == is_on);
        g_assert_cmpuint(count_writes("drop_caches"), ==, is_on);
    }
}

static void test_short_grant_says_what_was_asked_and_got(void)
{
    g_auto(Bench) bench;
    g_autoptr(GError) error = NULL;
    bench_init(&bench, two_nodes);
    fake.room_kib[0] = 3 * SIZE_2M;
    HvStep step = grow_on(0, SIZE_2M, 7);
    g_assert_false(run_steps(&bench, &step, 1, &error));
    g_assert_error(error, HV_ERROR, HV_ERROR_SHORTAGE);
    static const char *const parts[] = {"node 0", "3 of 7", "2 MiB", "compaction"};
    for (guint i = 0; i < G_N_ELEMENTS(parts); i++)
        g_assert_nonnull(strstr(error->message, parts[i]));
    g_assert_nonnull(strstr(hv_error_hint(error), "drop_caches"));
    assert_ledger(&bench, 0, SIZE_2M, 3); /* for the give-back that follows */
}

static void claim_on(const Bench *bench, const char *name, int node, guint64 pages)
{
    HvNeed need = {.size_kib = SIZE_2M, .pages = pages};
    hv_node_set_add(&need.nodes, node);
    g_autoptr(GArray) needs = g_array_new(FALSE, TRUE, sizeof need);
    g_array_append_val(needs, need);
    g_autofree char *uuid = g_uuid_string_random();
    HvRequest request = {.uuid = uuid, .name = (char *)name, .needs = needs};
    HvProcess owner = {4711, 815};
    g_autoptr(HvTransaction) transaction =
        hv_transaction_begin(bench->store, g_get_monotonic_time() + G_USEC_PER_SEC, NULL);
    hv_ledger_add_claim(transaction->ledger, &request, "agent", &owner);
    transaction->is_changed = TRUE;
    g_assert_true(hv_transaction_commit(transaction, NULL));
}

static void test_short_grant_names_the_vms_on_that_node(void)
{
    g_auto(Bench) bench;
    g_autoptr(GError) error = NULL;
    bench_init(&bench, two_nodes);
    claim_on(&bench, "here", 0, 5);
    claim_on(&bench, "there", 1, 9);
    fake.room_kib[0] = 3 * SIZE_2M;
    HvStep step = grow_on(0, SIZE_2M, 7);
    g_assert_false(run_steps(&bench, &step, 1, &error));
    g_assert_nonnull(strstr(error->message, "; VMs there: 'here' (5);"));
    g_assert_null(strstr(error->message, "'there'"));
}

static gboolean cancel_on_node_2(gpointer data, guint64 done, guint64 total, const char *what)
{
    (void)data, (void)done;
    g_assert_cmpuint(total, ==, 7);
    return strstr(what, "node 2") != NULL;
}

/* For a need of so many pages that these nodes may serve: all that is free, and a step of 7 more.
 */
static gboolean run_short_step(const Bench *bench, const char *nodes, guint64 pages, GError **error)
{
    g_autoptr(HvRequest) request = request_new();
    add_need(request, nodes, SIZE_2M, pages);
    HvStep step = grow_on(0, SIZE_2M, 7);
    return run_steps_of(bench, request, &step, 1, error);
}

static void test_what_a_node_cannot_give_is_grown_where_it_may_be(void)
{
    static const struct {
        const char *nodes;
        guint64 pages;
        int node;
    } rows[] = {{NULL, 67, 2}, {"0,2", 37, 2}, {"0-1", 37, 1}};
    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_auto(Bench) bench;
        g_autoptr(GError) error = NULL;
        bench_init(&bench, four_nodes);
        fake.room_kib[0] = 3 * SIZE_2M;
        gboolean is_good = run_short_step(&bench, rows[i].nodes, rows[i].pages, &error);
        g_assert_no_error(error);
        g_assert_true(is_good);
        assert_ledger(&bench, 0, SIZE_2M, 3);
        assert_ledger(&bench, rows[i].node, SIZE_2M, 4);
        g_assert_cmpuint(fake.n_writes, ==, 4); /* grow, compact, grow; and once there */
    }
}

static void test_what_a_node_cannot_give_is_grown_nowhere_else(void)
{
    g_auto(Bench) bench;
    g_autoptr(GError) error = NULL;
    bench_init(&bench, four_nodes);
    fake.room_kib[0] = fake.room_kib[2] = 3 * SIZE_2M;
    g_assert_false(run_short_step(&bench, "0,2", 37, &error));
    g_assert_error(error, HV_ERROR, HV_ERROR_SHORTAGE);
    g_assert_nonnull(strstr(error->message, "node 2 gave 3 of 4 pages")); /* the last hope */
    g_assert_cmpuint(count_writes("node1"), ==, 0);
    g_assert_cmpuint(count_writes("node3"), ==, 0);
    give_back(&bench);
    assert_counts(0, SIZE_2M, 10, 10, 0);
    assert_counts(2, SIZE_2M, 20, 20, 0);
}

/* Each plan has a node less to ask, so there is an end to it. */
static void test_every_node_is_asked_once(void)
{
    g_auto(Bench) bench;
    g_autoptr(GError) error = NULL;
    bench_init(&bench, four_nodes);
    bench.settings->compact = FALSE;
    for (int node = 0; node < 4; node++)
        fake.room_kib[node] = SIZE_2M;
    g_assert_false(run_short_step(&bench, NULL, 67, &error));
    g_assert_error(error, HV_ERROR, HV_ERROR_SHORTAGE);
    g_assert_cmpuint(fake.n_writes, ==, 4);
    for (int node = 0; node < 4; node++)
        assert_ledger(&bench, node, SIZE_2M, 1);
}

/* use_preallocated_hugepages = false: free pages are for others, whatever happens on the way. */
static void test_new_plan_leaves_pages_that_were_free_before(void)
{
    g_auto(Bench) bench;
    g_autoptr(GError) error = NULL;
    bench_init(&bench, four_nodes);
    bench.settings->use_preallocated_hugepages = FALSE;
    fake.room_kib[0] = 3 * SIZE_2M;
    g_assert_true(run_short_step(&bench, NULL, 7, &error));
    g_assert_no_error(error);
    assert_ledger(&bench, 0, SIZE_2M, 3);
    assert_ledger(&bench, 2, SIZE_2M, 4);
}

static void test_progress_tells_of_the_new_plan(void)
{
    g_auto(Bench) bench;
    g_autoptr(GError) error = NULL;
    bench_init(&bench, four_nodes);
    bench.executor.progress = cancel_on_node_2;
    fake.room_kib[0] = 3 * SIZE_2M;
    g_assert_false(run_short_step(&bench, "0,2", 37, &error));
    g_assert_error(error, HV_ERROR, HV_ERROR_CANCELLED);
    g_assert_nonnull(strstr(error->message, "growing 2 MiB pages on node 2, after 3 of 7 pages"));
}

static void test_floor_counts_at_the_moment_of_the_write(void)
{
    g_auto(Bench) bench;
    g_autoptr(GError) error = NULL;
    bench_init(&bench, two_nodes);
    bench.settings->floor_host_kib = 33554432 - 3 * SIZE_2M; /* 3 pages above it are left */
    HvStep step = grow_on(0, SIZE_2M, 7);
    fake.room_kib[0] = 3 * SIZE_2M;
    g_assert_false(run_steps(&bench, &step, 1, &error));
    assert_write(0, NODE0_2M, 13);
}

static void test_split_moves_what_was_grown_to_the_smaller_size(void)
{
    g_auto(Bench) bench;
    bench_init(&bench, two_nodes);
    HvStep grow = grow_on(0, SIZE_1G, 1);
    run_good(&bench, &grow, 1);
    HvStep split = split_on(0, SIZE_1G, 1, SIZE_2M);
    run_good(&bench, &split, 1);
    assert_write(1, "node0/hugepages/hugepages-1048576kB/demote", 1);
    assert_counts(0, SIZE_1G, 2, 2, 0);
    assert_counts(0, SIZE_2M, 522, 522, 0);
    assert_ledger(&bench, 0, SIZE_1G, 0);
    assert_ledger(&bench, 0, SIZE_2M, 512);
    give_back(&bench);
    assert_counts(0, SIZE_2M, 10, 10, 0);
    assert_counts(0, SIZE_1G, 2, 2, 0);
}

/* There is no way to join them again: but the memory stays his. */
static void test_pieces_of_a_static_page_stay_the_administrators(void)
{
    g_auto(Bench) bench;
    bench_init(&bench, two_nodes);
    bench.settings->demote = HV_DEMOTE_ANY;
    HvStep split = split_on(0, SIZE_1G, 1, SIZE_2M);
    run_good(&bench, &split, 1);
    assert_counts(0, SIZE_1G, 1, 1, 0);
    assert_counts(0, SIZE_2M, 522, 522, 0);
    assert_ledger(&bench, 0, SIZE_2M, 0);
    give_back(&bench);
    assert_counts(0, SIZE_2M, 522, 522, 0);
}

/* arm64: each piece is split as it comes, and all that came of hugevm's page goes back. */
static void test_split_over_several_sizes_is_given_back_in_all_of_them(void)
{
    static const char arm[] = "arch aarch64\nmem available=16777216 default=2048\n"
                              "size 64\nsize 2048 demote=64\nsize 32768 demote=2048\n"
                              "size 1048576 demote=32768\n"
                              "node 0 total=16777216 free=16777216\n"
                              "pool 0 64 total=5 free=5\npool 0 2048\npool 0 32768 total=1\n"
                              "pool 0 1048576 total=1 free=1\n";
    static const guint64 sizes[] = {64, SIZE_2M, 32768, SIZE_1G}, grown[] = {64, 14, 31, 0};
    static const guint64 total[] = {5, 0, 1, 1}, free_pages[] = {5, 0, 0, 1};
    g_auto(Bench) bench;
    bench_init(&bench, arm);
    HvStep grow = grow_on(0, SIZE_1G, 1);
    run_good(&bench, &grow, 1);
    HvStep steps[] = {split_on(0, SIZE_1G, 1, 32768), split_on(0, 32768, 1, SIZE_2M),
                      split_on(0, SIZE_2M, 2, 64)};
    run_good(&bench, steps, 3);
    for (guint i = 0; i < G_N_ELEMENTS(sizes); i++)
        assert_ledger(&bench, 0, sizes[i], grown[i]);
    give_back(&bench);
    for (guint i = 0; i < G_N_ELEMENTS(sizes); i++)
        assert_counts(0, sizes[i], total[i], free_pages[i], 0);
}

static void promise_all_large_pages(void)
{
    fake_add(-1, SIZE_1G, "resv_hugepages", 3);
    fake.before_write = NULL;
}

/* Somebody maps them after the plan was made: the look before the write sees it. */
static void test_promised_pages_are_not_split_whatever_the_plan_says(void)
{
    g_auto(Bench) bench;
    bench_init(&bench, two_nodes);
    HvStep grow = grow_on(0, SIZE_1G, 1);
    run_good(&bench, &grow, 1); /* 3 are free now */
    HvStep steps[] = {grow_on(1, SIZE_2M, 1), split_on(0, SIZE_1G, 1, SIZE_2M)};
    fake.before_write = promise_all_large_pages;
    run_good(&bench, steps, 2);
    g_assert_cmpuint(count_writes("/demote"), ==, 0);
    assert_counts(0, SIZE_1G, 3, 3, 0);
    assert_ledger(&bench, 0, SIZE_2M, 512); /* grown instead */
}

static void test_split_that_fails_is_grown_instead(void)
{
    g_auto(Bench) bench;
    bench_init(&bench, two_nodes);
    HvStep grow = grow_on(0, SIZE_1G, 1);
    run_good(&bench, &grow, 1);
    fake.broken = "/demote";
    HvStep split = split_on(0, SIZE_1G, 1, SIZE_2M);
    run_good(&bench, &split, 1);
    assert_ledger(&bench, 0, SIZE_1G, 1);
    assert_ledger(&bench, 0, SIZE_2M, 512);
}

static void test_static_larger_pages_are_not_split_behind_the_setting(void)
{
    g_auto(Bench) bench;
    bench_init(&bench, two_nodes);
    HvStep split = split_on(0, SIZE_1G, 1, SIZE_2M); /* planned when it was hugevm's page */
    run_good(&bench, &split, 1);
    assert_counts(0, SIZE_1G, 2, 2, 0);
    g_assert_cmpuint(count_writes("/demote"), ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("short-grant-is-followed-by-compaction", test_short_grant_is_followed_by_compaction);
    ADD("compaction-is-repeated-as-long-as-it-helps",
        test_compaction_is_repeated_as_long_as_it_helps);
    ADD("compaction-can-be-switched-off", test_compaction_can_be_switched_off);
    ADD("caches-are-dropped-only-on-request", test_caches_are_dropped_only_on_request);
    ADD("short-grant-says-what-was-asked-and-got", test_short_grant_says_what_was_asked_and_got);
    ADD("short-grant-names-the-vms-on-that-node", test_short_grant_names_the_vms_on_that_node);
    ADD("what-a-node-cannot-give-is-grown-where-it-may-be",
        test_what_a_node_cannot_give_is_grown_where_it_may_be);
    ADD("what-a-node-cannot-give-is-grown-nowhere-else",
        test_what_a_node_cannot_give_is_grown_nowhere_else);
    ADD("every-node-is-asked-once", test_every_node_is_asked_once);
    ADD("new-plan-leaves-pages-that-were-free-before",
        test_new_plan_leaves_pages_that_were_free_before);
    ADD("progress-tells-of-the-new-plan", test_progress_tells_of_the_new_plan);
    ADD("floor-counts-at-the-moment-of-the-write", test_floor_counts_at_the_moment_of_the_write);
    ADD("split-moves-what-was-grown-to-the-smaller-size",
        test_split_moves_what_was_grown_to_the_smaller_size);
    ADD("pieces-of-a-static-page-stay-the-administrators",
        test_pieces_of_a_static_page_stay_the_administrators);
    ADD("split-over-several-sizes-is-given-back-in-all-of-them",
        test_split_over_several_sizes_is_given_back_in_all_of_them);
    ADD("promised-pages-are-not-split-whatever-the-plan-says",
        test_promised_pages_are_not_split_whatever_the_plan_says);
    ADD("split-that-fails-is-grown-instead", test_split_that_fails_is_grown_instead);
    ADD("static-larger-pages-are-not-split-behind-the-setting",
        test_static_larger_pages_are_not_split_behind_the_setting);
    return g_test_run();
}
