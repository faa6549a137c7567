/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An executor on the fake kernel, and the steps that it is given. */
#pragma once

#include "fake-kernel.h"

#include "executor.h"

#define SIZE_2M ((guint64)2048)
#define SIZE_1G ((guint64)1048576)
#define NODE0_2M "node0/hugepages/hugepages-2048kB/nr_hugepages"

static const char two_nodes[] = "arch x86_64\n"
                                "mem available=33554432 default=2048\n"
                                "size 2048\n"
                                "size 1048576 demote=2048\n"
                                "node 0 total=16777216 free=16777216\n"
                                "node 1 total=16777216 free=16777216\n"
                                "pool 0 2048 total=10 free=10\n"
                                "pool 1 2048 total=20 free=20\n"
                                "pool 0 1048576 total=2 free=2\n"
                                "pool 1 1048576\n";

typedef struct {
    HvStore *store;
    HvSettings *settings;
    HvExecutor executor;
} Bench;

static inline void bench_init(Bench *bench, const char *description)
{
    g_autoptr(GError) error = NULL;
    fake_init(description);
    bench->settings = hv_settings_new();
    bench->settings->floor_host_kib = 0;
    bench->settings->floor_node_percent = 0;
    bench->settings->use_dynamic_hugepages = TRUE;
    bench->store = hv_store_open(fake.root, TRUE, &error);
    g_assert_no_error(error);
    bench->executor =
        (HvExecutor){.writer = {.root = fake.root,
                                .store = bench->store,
                                .settings = bench->settings,
                                .deadline_us = g_get_monotonic_time() + 60 * G_USEC_PER_SEC}};
}

static inline void bench_clear(Bench *bench)
{
    hv_store_free(bench->store);
    hv_settings_free(bench->settings);
    fake_clear();
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Bench, bench_clear)

static inline HvStep grow_on(int node, guint64 size_kib, guint64 pages)
{
    return (HvStep){.action = HV_STEP_GROW, .node = node, .size_kib = size_kib, .pages = pages};
}

static inline void add_need(HvRequest *request, const char *nodes, guint64 size_kib, guint64 pages)
{
    HvNeed need = {.size_kib = size_kib, .pages = pages};
    if (nodes != NULL)
        g_assert_true(hv_node_set_parse(nodes, &need.nodes));
    g_array_append_val(request->needs, need);
}

static inline HvRequest *request_new(void)
{
    HvRequest *request = g_new0(HvRequest, 1);
    request->name = g_strdup("vm");
    request->needs = g_array_new(FALSE, TRUE, sizeof(HvNeed));
    request->warnings = g_ptr_array_new_with_free_func(g_free);
    return request;
}

static inline gboolean run_steps_of(const Bench *bench, const HvRequest *request,
                                    const HvStep *steps, guint n, GError **error)
{
    g_autoptr(GArray) array = g_array_new(FALSE, TRUE, sizeof(HvStep));
    g_array_append_vals(array, steps, n);
    return hv_execute_steps(&bench->executor, request, array, error);
}

/* As for a VM that takes all free pages of these nodes, and what the steps bring there. */
static inline gboolean run_steps(const Bench *bench, const HvStep *steps, guint n, GError **error)
{
    g_autoptr(HvRequest) request = request_new();
    for (guint i = 0; i < n; i++) {
        const HvStep *step = &steps[i];
        gboolean is_split = step->action == HV_STEP_DEMOTE;
        guint64 size_kib = is_split ? step->to_kib : step->size_kib;
        g_autofree char *node = g_strdup_printf("%d", step->node);
        guint64 free_pages = tree_has(fake.directory, TREE_NODES "/node0")
                                 ? fake_get(step->node, size_kib, "free_hugepages")
                                 : fake_get(-1, size_kib, "free_hugepages");
        add_need(request, node, size_kib, free_pages + step->pages * (step->size_kib / size_kib));
    }
    return run_steps_of(bench, request, steps, n, error);
}

static inline void run_good(const Bench *bench, const HvStep *steps, guint n)
{
    g_autoptr(GError) error = NULL;
    gboolean is_good = run_steps(bench, steps, n, &error);
    g_assert_no_error(error);
    g_assert_true(is_good);
}

static inline void give_back(const Bench *bench)
{
    g_autoptr(GError) error = NULL;
    gboolean is_good = hv_execute_give_back(&bench->executor, &error);
    g_assert_no_error(error);
    g_assert_true(is_good);
}

static inline void assert_ledger(const Bench *bench, int node, guint64 size_kib, guint64 grown)
{
    g_autoptr(HvLedger) ledger = hv_store_read(bench->store, NULL);
    g_assert_nonnull(ledger);
    g_assert_cmpuint(ledger->intents->len, ==, 0);
    g_assert_cmpuint(hv_ledger_grown_pages(ledger, node, size_kib), ==, grown);
}

#define ADD(name, function) g_test_add_func("/executor/" name, function)
