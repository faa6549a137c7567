/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Growth as far as memory goes, its end before the last page, and giving back. */
#include "executor-fixture.h"

#define NODE1_2M "node1/hugepages/hugepages-2048kB/nr_hugepages"
#define GLOBAL_2M "/mm/hugepages/hugepages-2048kB/nr_hugepages"

static void test_growth_writes_the_nodes_own_files(void)
{
    g_auto(Bench) bench;
    bench_init(&bench, two_nodes);
    HvStep steps[] = {grow_on(1, SIZE_2M, 30), grow_on(0, SIZE_2M, 5)};
    run_good(&bench, steps, 2);
    g_assert_cmpuint(fake.n_writes, ==, 2);
    assert_write(0, NODE1_2M, 50);
    assert_write(1, NODE0_2M, 15);
    assert_counts(0, SIZE_2M, 15, 15, 0);
    assert_counts(1, SIZE_2M, 50, 50, 0);
    assert_ledger(&bench, 0, SIZE_2M, 5);
    assert_ledger(&bench, 1, SIZE_2M, 30);
}

static void test_growth_goes_in_bounded_steps(void)
{
    g_auto(Bench) bench;
    bench_init(&bench, two_nodes);
    HvStep step = grow_on(0, SIZE_2M, 2000);
    run_good(&bench, &step, 1);
    g_assert_cmpuint(fake.n_writes, >, 2);
    g_assert_cmpuint(fake.writes[0].value, <=, 10 + 64); /* 128 MiB to begin with */
    assert_counts(0, SIZE_2M, 2010, 2010, 0);
    assert_ledger(&bench, 0, SIZE_2M, 2000);
}

/* Memory in large pieces costs the kernel nothing: no need to feel one's way. */
static void test_first_step_takes_what_is_free_in_large_blocks(void)
{
    static const struct {
        int node;
        guint64 blocks, first_pages;
    } rows[] = {
        {0, 30, 64}, {0, 500, 500}, {0, 9000, 2000}, {1, 500, 64} /* of another node */
    };
    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_auto(Bench) bench;
        bench_init(&bench, two_nodes);
        guint order = 9; /* of 2 MiB where a page has 4 KiB */
        g_autoptr(GString) line = g_string_new(NULL);
        g_string_printf(line, "Node %d, zone Normal", rows[i].node);
        for (guint k = 0; k < order; k++)
            g_string_append(line, " 9999");
        g_string_append_printf(line, " %" G_GUINT64_FORMAT "\n", rows[i].blocks);
        tree_write(fake.directory, "/proc/buddyinfo", line->str);
        HvStep step = grow_on(0, SIZE_2M, 2000);
        run_good(&bench, &step, 1);
        assert_write(0, NODE0_2M, 10 + rows[i].first_pages);
        assert_ledger(&bench, 0, SIZE_2M, 2000);
    }
}

static void test_no_steps_write_nothing(void)
{
    g_auto(Bench) bench;
    bench_init(&bench, two_nodes);
    run_good(&bench, NULL, 0);
    give_back(&bench);
    g_assert_cmpuint(fake.n_writes, ==, 0);
}

static void test_kernel_without_numa_is_grown_by_its_only_file(void)
{
    g_auto(Bench) bench;
    bench_init(&bench, "mem total=16777216 free=16777216 available=16777216 default=2048\n"
                       "size 2048\npool - 2048 total=10 free=10\n");
    HvStep step = grow_on(0, SIZE_2M, 5);
    run_good(&bench, &step, 1);
    assert_write(0, GLOBAL_2M, 15);
    assert_ledger(&bench, 0, SIZE_2M, 5);
    give_back(&bench);
    assert_counts(-1, SIZE_2M, 10, 10, 0);
}

static gboolean cancel_after(gpointer data, guint64 done, guint64 total, const char *what)
{
    g_assert_cmpuint(total, ==, 2000);
    g_assert_nonnull(strstr(what, "node 0"));
    return done >= *(guint64 *)data;
}

static gboolean cancel_after_any(gpointer data, guint64 done, guint64 total, const char *what)
{
    (void)total, (void)what;
    return done >= *(guint64 *)data;
}

static void test_cancelled_growth_stops_between_steps(void)
{
    g_auto(Bench) bench;
    g_autoptr(GError) error = NULL;
    guint64 enough = 64;
    bench_init(&bench, two_nodes);
    bench.executor.progress = cancel_after;
    bench.executor.progress_data = &enough;
    HvStep step = grow_on(0, SIZE_2M, 2000);
    g_assert_false(run_steps(&bench, &step, 1, &error));
    g_assert_error(error, HV_ERROR, HV_ERROR_CANCELLED);
    g_assert_nonnull(strstr(error->message, "64 of 2000"));
    g_assert_cmpuint(fake.n_writes, ==, 1);
    assert_ledger(&bench, 0, SIZE_2M, 64);
}

static gboolean note_progress(gpointer data, guint64 done, guint64 total, const char *what)
{
    (void)what;
    g_string_append_printf(data, "%" G_GUINT64_FORMAT "/%" G_GUINT64_FORMAT " ", done, total);
    return FALSE;
}

static void test_progress_goes_up_to_the_last_page(void)
{
    g_auto(Bench) bench;
    g_autoptr(GString) seen = g_string_new(NULL);
    bench_init(&bench, two_nodes);
    bench.executor.progress = note_progress;
    bench.executor.progress_data = seen;
    HvStep steps[] = {grow_on(1, SIZE_1G, 1), grow_on(0, SIZE_2M, 5)};
    run_good(&bench, steps, 2);
    g_assert_cmpstr(seen->str, ==, "0/6 1/6 6/6 ");
    g_string_truncate(seen, 0);
    run_good(&bench, NULL, 0);
    g_assert_cmpstr(seen->str, ==, "");
}

/* However few the steps, whoever wants to cancel is heard. */
static void test_growth_of_one_step_can_be_cancelled(void)
{
    g_auto(Bench) bench;
    g_autoptr(GError) error = NULL;
    guint64 enough = 1;
    bench_init(&bench, two_nodes);
    bench.executor.progress = cancel_after_any;
    bench.executor.progress_data = &enough;
    HvStep step = grow_on(0, SIZE_2M, 5);
    g_assert_false(run_steps(&bench, &step, 1, &error));
    g_assert_error(error, HV_ERROR, HV_ERROR_CANCELLED);
    g_assert_nonnull(strstr(error->message, "5 of 5"));
    give_back(&bench);
    assert_counts(0, SIZE_2M, 10, 10, 0);
}

static void be_slow(void)
{
    g_usleep(60 * 1000);
}

static void test_deadline_ends_a_growth_of_large_pages_in_its_middle(void)
{
    g_auto(Bench) bench;
    g_autoptr(GError) error = NULL;
    bench_init(&bench, two_nodes);
    fake.after_write = be_slow;
    bench.executor.writer.deadline_us = g_get_monotonic_time() + 100 * 1000;
    HvStep step = grow_on(0, SIZE_1G, 8);
    g_assert_false(run_steps(&bench, &step, 1, &error));
    g_assert_error(error, HV_ERROR, HV_ERROR_TIMEOUT);
    g_assert_nonnull(strstr(error->message, "of 8 pages"));
    guint64 total = fake_get(0, SIZE_1G, "nr_hugepages");
    g_assert_cmpuint(total, >, 2);
    g_assert_cmpuint(total, <, 2 + 8);
    assert_ledger(&bench, 0, SIZE_1G, total - 2);
    bench.executor.writer.deadline_us = g_get_monotonic_time() + 60 * G_USEC_PER_SEC;
    give_back(&bench);
    assert_counts(0, SIZE_1G, 2, 2, 0);
}

static void test_passed_deadline_ends_the_growth(void)
{
    g_auto(Bench) bench;
    g_autoptr(GError) error = NULL;
    bench_init(&bench, two_nodes);
    bench.executor.writer.deadline_us = g_get_monotonic_time();
    HvStep step = grow_on(0, SIZE_2M, 2000);
    g_assert_false(run_steps(&bench, &step, 1, &error));
    g_assert_error(error, HV_ERROR, HV_ERROR_TIMEOUT);
    g_assert_nonnull(strstr(error->message, "0 of 2000"));
    g_assert_nonnull(strstr(hv_error_hint(error), "allocation_timeout"));
    g_assert_cmpuint(fake.n_writes, ==, 0);
}

static void test_resizing_by_another_process_is_waited_for_until_the_deadline(void)
{
    g_auto(Bench) bench;
    g_autoptr(GError) error = NULL;
    bench_init(&bench, two_nodes);
    g_auto(HvFd) lock = hv_store_lock_size(bench.store, SIZE_2M, 0, NULL);
    bench.executor.writer.deadline_us = g_get_monotonic_time() + 20 * 1000;
    HvStep step = grow_on(0, SIZE_2M, 1);
    g_assert_false(run_steps(&bench, &step, 1, &error));
    g_assert_error(error, HV_ERROR, HV_ERROR_TIMEOUT);
    g_assert_cmpuint(fake.n_writes, ==, 0);
    HvStep other_size = grow_on(0, SIZE_1G, 1);
    bench.executor.writer.deadline_us = g_get_monotonic_time() + G_USEC_PER_SEC;
    run_good(&bench, &other_size, 1);
}

static void test_refused_write_credits_nothing(void)
{
    g_auto(Bench) bench;
    g_autoptr(GError) error = NULL;
    bench_init(&bench, two_nodes);
    fake.broken = NODE1_2M;
    HvStep steps[] = {grow_on(0, SIZE_2M, 5), grow_on(1, SIZE_2M, 5)};
    g_assert_false(run_steps(&bench, steps, 2, &error));
    g_assert_error(error, HV_ERROR, HV_ERROR_PERMISSION);
    assert_ledger(&bench, 0, SIZE_2M, 5);
    assert_ledger(&bench, 1, SIZE_2M, 0);
    give_back(&bench);
    assert_counts(0, SIZE_2M, 10, 10, 0);
    assert_counts(1, SIZE_2M, 20, 20, 0);
}

static void test_surplus_is_pinned_before_a_node_is_written(void)
{
    g_auto(Bench) bench;
    bench_init(&bench, two_nodes);
    fake_add(1, SIZE_2M, "nr_hugepages", 4); /* a foreign user's overcommit */
    fake_add(1, SIZE_2M, "surplus_hugepages", 4);
    HvStep step = grow_on(0, SIZE_2M, 5);
    run_good(&bench, &step, 1);
    g_assert_cmpuint(fake.n_writes, ==, 2);
    assert_write(0, GLOBAL_2M, 34);
    assert_write(1, NODE0_2M, 15);
    assert_ledger(&bench, 0, SIZE_2M, 5);
    assert_ledger(&bench, 1, SIZE_2M, 4); /* hugevm made it persistent: hugevm gives it back */
    fake_unuse(1, SIZE_2M, 4);
    give_back(&bench);
    assert_counts(0, SIZE_2M, 10, 10, 0);
    assert_counts(1, SIZE_2M, 20, 20, 0);
}

static void test_give_back_leaves_pages_that_are_in_use(void)
{
    g_auto(Bench) bench;
    bench_init(&bench, two_nodes);
    HvStep step = grow_on(0, SIZE_2M, 5);
    run_good(&bench, &step, 1);
    fake_use(0, SIZE_2M, 13);
    give_back(&bench);
    assert_counts(0, SIZE_2M, 13, 0, 0); /* 2 were free; none became surplus */
    assert_ledger(&bench, 0, SIZE_2M, 3);
    fake_unuse(0, SIZE_2M, 13);
    give_back(&bench);
    assert_counts(0, SIZE_2M, 10, 10, 0);
    assert_ledger(&bench, 0, SIZE_2M, 0);
}

static void test_give_back_leaves_what_the_administrator_added(void)
{
    g_auto(Bench) bench;
    bench_init(&bench, two_nodes);
    HvStep step = grow_on(0, SIZE_2M, 5);
    run_good(&bench, &step, 1);
    fake_resize_node(0, SIZE_2M, 25);
    give_back(&bench);
    assert_counts(0, SIZE_2M, 20, 20, 0);
}

static void test_give_back_takes_no_more_after_an_outside_shrink(void)
{
    g_auto(Bench) bench;
    bench_init(&bench, two_nodes);
    HvStep step = grow_on(0, SIZE_2M, 5);
    run_good(&bench, &step, 1);
    fake_resize_node(0, SIZE_2M, 12);
    give_back(&bench);
    assert_counts(0, SIZE_2M, 10, 10, 0);
    give_back(&bench);
    assert_counts(0, SIZE_2M, 10, 10, 0);
}

static void test_give_back_goes_on_after_a_failure(void)
{
    g_auto(Bench) bench;
    g_autoptr(GError) error = NULL;
    bench_init(&bench, two_nodes);
    HvStep steps[] = {grow_on(0, SIZE_2M, 5), grow_on(1, SIZE_2M, 5)};
    run_good(&bench, steps, 2);
    fake.broken = NODE0_2M;
    g_assert_false(hv_execute_give_back(&bench.executor, &error));
    g_assert_error(error, HV_ERROR, HV_ERROR_PERMISSION);
    assert_counts(0, SIZE_2M, 15, 15, 0);
    assert_counts(1, SIZE_2M, 20, 20, 0);
    fake.broken = NULL;
    give_back(&bench);
    assert_counts(0, SIZE_2M, 10, 10, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("growth-writes-the-nodes-own-files", test_growth_writes_the_nodes_own_files);
    ADD("growth-goes-in-bounded-steps", test_growth_goes_in_bounded_steps);
    ADD("first-step-takes-what-is-free-in-large-blocks",
        test_first_step_takes_what_is_free_in_large_blocks);
    ADD("no-steps-write-nothing", test_no_steps_write_nothing);
    ADD("kernel-without-numa-is-grown-by-its-only-file",
        test_kernel_without_numa_is_grown_by_its_only_file);
    ADD("cancelled-growth-stops-between-steps", test_cancelled_growth_stops_between_steps);
    ADD("progress-goes-up-to-the-last-page", test_progress_goes_up_to_the_last_page);
    ADD("growth-of-one-step-can-be-cancelled", test_growth_of_one_step_can_be_cancelled);
    ADD("deadline-ends-a-growth-of-large-pages-in-its-middle",
        test_deadline_ends_a_growth_of_large_pages_in_its_middle);
    ADD("passed-deadline-ends-the-growth", test_passed_deadline_ends_the_growth);
    ADD("resizing-by-another-process-is-waited-for-until-the-deadline",
        test_resizing_by_another_process_is_waited_for_until_the_deadline);
    ADD("refused-write-credits-nothing", test_refused_write_credits_nothing);
    ADD("surplus-is-pinned-before-a-node-is-written",
        test_surplus_is_pinned_before_a_node_is_written);
    ADD("give-back-leaves-pages-that-are-in-use", test_give_back_leaves_pages_that_are_in_use);
    ADD("give-back-leaves-what-the-administrator-added",
        test_give_back_leaves_what_the_administrator_added);
    ADD("give-back-takes-no-more-after-an-outside-shrink",
        test_give_back_takes_no_more_after_an_outside_shrink);
    ADD("give-back-goes-on-after-a-failure", test_give_back_goes_on_after_a_failure);
    return g_test_run();
}
