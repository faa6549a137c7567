/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The ladder: split larger pages where the plan says so, grow in bounded steps,
 * compact and grow, drop caches and grow. What a pool cannot give is planned anew
 * without it: only the planner knows who else may serve a need. The claim stays as it
 * is, since it names the needs and not the pools. Between two steps no lock is held:
 * there the host hears of the progress and may cancel, and the deadline is looked at.
 */
#include "executor.h"

#include "consumers.h"
#include "error.h"
#include "page-size.h"
#include "shortage.h"
#include "topology.h"
#include "zones.h"

#define STEP_TARGET_US (100 * 1000)
#define FIRST_STEP_KIB (128 * 1024)
#define MAX_COMPACTIONS 8
#define EASY_STEP_KIB (4 * 1024 * 1024) /* at 50 us per 2 MiB, a slow host, 100 ms */

/* Growth, one bounded step: as much as asked, as the floor allows at this moment. */
static guint64 decide_growth(const HvWorld *world, const HvPool *pool, guint64 pages)
{
    guint64 growable_kib =
        MIN(hv_room_growable_on_node_kib(world, pool->node), hv_room_growable_on_host_kib(world));
    return pool->total_pages + MIN(pages, growable_kib / pool->size_kib);
}

static guint64 decide_give_back(const HvWorld *world, const HvPool *pool, guint64 pages)
{
    (void)pages;
    return hv_minus(pool->total_pages, hv_plan_give_back_pages(world, pool));
}

/* What a growth has come to, over all its steps. */
typedef struct {
    const HvExecutor *executor;
    guint64 done_pages;
    guint64 total_pages;
    HvAttempt attempt;    /* left: what is to be done yet */
    gboolean is_at_floor; /* the last step was cut by the memory kept for the host */
} Growth;

static void growth_clear(Growth *growth)
{
    g_array_unref(growth->attempt.left);
    g_array_unref(growth->attempt.spent);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Growth, growth_clear)

static char *describe(const HvStep *step)
{
    g_autofree char *size = hv_format_kib(step->size_kib);
    return g_strdup_printf("%s %s pages on node %d",
                           step->action == HV_STEP_DEMOTE ? "splitting" : "growing", size,
                           step->node);
}

/* FALSE: the host cancels. */
static gboolean tell_host(const Growth *growth, const HvStep *step, GError **error)
{
    const HvExecutor *executor = growth->executor;
    g_autofree char *what = describe(step);
    if (executor->progress == NULL ||
        !executor->progress(executor->progress_data, growth->done_pages, growth->total_pages, what))
        return TRUE;
    hv_set_error(error, HV_ERROR_CANCELLED, NULL,
                 "cancelled while %s, after %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT
                 " pages; they are given back",
                 what, growth->done_pages, growth->total_pages);
    return FALSE;
}

static gboolean check_go_on(const Growth *growth, const HvStep *step, GError **error)
{
    if (!tell_host(growth, step, error))
        return FALSE;
    if (g_get_monotonic_time() < growth->executor->writer.deadline_us)
        return TRUE;
    g_autofree char *what = describe(step);
    hv_set_error(error, HV_ERROR_TIMEOUT,
                 "raise allocation_timeout (in a hook: hook_timeout) in "
                 "/etc/hugevm/hugevm.conf, or allocate the pages at boot",
                 "the time allowed ran out while %s, after %" G_GUINT64_FORMAT
                 " of %" G_GUINT64_FORMAT " pages; they are given back",
                 what, growth->done_pages, growth->total_pages);
    return FALSE;
}

/* Keeps a step near 100 ms, so that progress, cancelling and the deadline are never far. */
static guint64 next_step_pages(guint64 pages, gint64 took_us)
{
    gint64 scale_percent = took_us > 0 ? STEP_TARGET_US * 100 / took_us : 400;
    return MAX(1, pages * (guint64)CLAMP(scale_percent, 25, 400) / 100);
}

/*
 * Before a page's price is known: few, since the kernel may have to clear the memory for each
 * one first. Pages that need only be taken off its lists of free blocks are cheap.
 */
static guint64 first_step_pages(const HvRoot *root, const HvStep *step)
{
    guint64 easy_kib = hv_zones_free_kib(root, step->node, step->size_kib);
    return MAX(1, MAX(FIRST_STEP_KIB, MIN(easy_kib, EASY_STEP_KIB)) / step->size_kib);
}

/* Grows until the step's pages are there or the kernel gives fewer than asked. */
static gboolean grow_until_short(Growth *growth, const HvStep *step, guint64 *left, GError **error)
{
    guint64 chunk = first_step_pages(growth->executor->writer.root, step);
    while (*left > 0) {
        if (!check_go_on(growth, step, error))
            return FALSE;
        guint64 asked = MIN(chunk, *left);
        HvResize resize = {step->node, step->size_kib, decide_growth, asked};
        HvResized resized;
        gint64 start_us = g_get_monotonic_time();
        if (!hv_pool_resize(&growth->executor->writer, &resize, &resized, error))
            return FALSE;
        guint64 got = MIN(asked, hv_minus(resized.after_total, resized.before_total));
        growth->is_at_floor = hv_minus(resized.wanted_total, resized.before_total) < asked;
        *left -= got;
        growth->done_pages += got;
        if (got < asked)
            return TRUE;
        chunk = next_step_pages(chunk, g_get_monotonic_time() - start_us);
    }
    return TRUE;
}

static void compact_node(const HvRoot *root, int node)
{
    g_autofree char *path = g_strdup_printf("/sys/devices/system/node/node%d/compact", node);
    gboolean is_node = hv_root_exists(root, path);
    /* best effort: what it brought shows in the next growth */
    hv_root_write_u64(root, is_node ? path : "/proc/sys/vm/compact_memory", 1, NULL);
}

/* One pass of the kernel's may end at the first page that it cannot move: again, while it helps. */
static gboolean compact_and_grow(Growth *growth, const HvStep *step, guint64 *left, GError **error)
{
    guint64 before = G_MAXUINT64;
    for (guint i = 0; i<MAX_COMPACTIONS && * left> 0 && *left < before; i++) {
        if (growth->is_at_floor || !growth->executor->writer.settings->compact)
            return TRUE; /* compaction gives contiguity, not memory */
        before = *left;
        if (!check_go_on(growth, step, error))
            return FALSE;
        compact_node(growth->executor->writer.root, step->node);
        if (!grow_until_short(growth, step, left, error))
            return FALSE;
    }
    return TRUE;
}

/* The ladder for one pool: grow, compact and grow, drop caches and grow. */
static gboolean grow_step(Growth *growth, const HvStep *step, guint64 *left, GError **error)
{
    const HvExecutor *executor = growth->executor;
    if (!grow_until_short(growth, step, left, error) ||
        !compact_and_grow(growth, step, left, error))
        return FALSE;
    if (*left == 0 || growth->is_at_floor || !executor->writer.settings->drop_caches)
        return TRUE;
    if (!check_go_on(growth, step, error))
        return FALSE;
    hv_root_write_u64(executor->writer.root, "/proc/sys/vm/drop_caches", 3, NULL);
    return grow_until_short(growth, step, left, error) &&
           compact_and_grow(growth, step, left, error);
}

/* The VMs that might make room on a step's node. */
static char *find_holders(const HvExecutor *executor, const HvStep *step)
{
    HvNodeSet here = {0};
    hv_node_set_add(&here, step->node);
    g_autoptr(HvLedger) ledger = hv_store_read(executor->writer.store, NULL);
    return ledger == NULL
               ? g_strdup("")
               : hv_shortage_holders(ledger, executor->writer.self_uuid, step->size_kib, &here);
}

static void set_short_grant(const Growth *growth, const HvStep *step, guint64 left, GError **error)
{
    const HvSettings *settings = growth->executor->writer.settings;
    g_autofree char *size = hv_format_kib(step->size_kib);
    const char *hint = "allocate the pages at boot, or try drop_caches = true in "
                       "/etc/hugevm/hugevm.conf";
    const char *why = settings->compact ? "its memory is fragmented, also after compaction"
                                        : "its memory is fragmented";
    if (growth->is_at_floor) {
        hint = "stop something, use a smaller VM, or lower host_memory_floor in "
               "/etc/hugevm/hugevm.conf";
        why = "the rest of its memory is kept for the host";
    } else if (settings->drop_caches) {
        hint = "allocate the pages at boot, where memory is not yet fragmented";
    }
    g_autofree char *holders = find_holders(growth->executor, step);
    hv_set_error(error, HV_ERROR_SHORTAGE, hint,
                 "node %d gave %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT
                 " pages of %s asked for: %s%s%s; what was got is given back",
                 step->node, step->pages - left, step->pages, size, why,
                 holders[0] != '\0' ? "; VMs there: " : "", holders);
}

static gboolean demote_step(Growth *growth, const HvStep *step, guint64 *left, GError **error)
{
    HvSplit split = {step->node, step->size_kib, step->to_kib, step->pages};
    guint64 pages = 0;
    if (!check_go_on(growth, step, error) ||
        !hv_pool_split(&growth->executor->writer, &split, &pages, error))
        return FALSE;
    growth->done_pages += pages;
    *left = hv_minus(step->pages, pages);
    return TRUE;
}

static void set_steps(Growth *growth, const GArray *steps)
{
    g_array_set_size(growth->attempt.left, 0);
    g_array_append_vals(growth->attempt.left, steps->data, steps->len);
    growth->total_pages = growth->done_pages;
    for (guint i = 0; i < steps->len; i++)
        growth->total_pages += g_array_index(steps, HvStep, i).pages;
}

/*
 * Carries out what is left, until nothing is or the first of these steps fell short. The host
 * hears of the end, too: it may have wanted to cancel all the while.
 */
static gboolean run_steps(Growth *growth, GError **error)
{
    GArray *todo = growth->attempt.left;
    while (todo->len > 0) {
        HvStep step = g_array_index(todo, HvStep, 0);
        guint64 left = step.pages;
        if (step.action == HV_STEP_DEMOTE ? !demote_step(growth, &step, &left, error)
                                          : !grow_step(growth, &step, &left, error))
            return FALSE;
        if (left > 0) {
            step.pages -= left;
            g_array_append_val(growth->attempt.spent, step);
            g_array_index(todo, HvStep, 0).pages = left;
            return TRUE;
        }
        g_array_remove_index(todo, 0);
        if (todo->len == 0 && !tell_host(growth, &step, error))
            return FALSE;
    }
    return TRUE;
}

/*
 * Another plan for a request of which a step has fallen short. The ledger is read first: a VM that
 * reports in between then counts twice, not never.
 */
static gboolean plan_again(Growth *growth, const HvRequest *request, GError **error)
{
    const HvPoolWriter *writer = &growth->executor->writer;
    const GArray *spent = growth->attempt.spent;
    guint64 left = g_array_index(growth->attempt.left, HvStep, 0).pages;
    HvStep step = g_array_index(spent, HvStep, spent->len - 1);
    step.pages += left; /* as it was asked for */
    g_autoptr(HvLedger) ledger = hv_store_read(writer->store, error);
    g_autoptr(HvSnapshot) snapshot = ledger != NULL ? hv_snapshot_read(writer->root, error) : NULL;
    if (snapshot == NULL)
        return FALSE;
    hv_consumers_read(writer->root, writer->settings, ledger, snapshot);
    hv_topology_read_for(writer->root, snapshot, request->needs);
    HvWorld world = {snapshot, writer->settings, ledger, writer->self_uuid};
    g_autoptr(HvPlan) plan = hv_plan_again(&world, request, &growth->attempt);
    if (plan->refusal == NULL)
        set_steps(growth, plan->steps);
    else if (step.action == HV_STEP_GROW)
        set_short_grant(growth, &step, left, error);
    else
        hv_set_error(error, plan->refusal->code, plan->refusal->hint, "%s", plan->refusal->message);
    return plan->refusal == NULL;
}

gboolean hv_execute_steps(const HvExecutor *executor, const HvRequest *request, const GArray *steps,
                          GError **error)
{
    g_auto(Growth) growth = {.executor = executor,
                             .attempt = {.left = g_array_new(FALSE, TRUE, sizeof(HvStep)),
                                         .spent = executor->spent != NULL
                                                      ? g_array_ref(executor->spent)
                                                      : g_array_new(FALSE, TRUE, sizeof(HvStep))}};
    set_steps(&growth, steps);
    for (;;) {
        if (!run_steps(&growth, error))
            return FALSE;
        if (growth.attempt.left->len == 0)
            return TRUE;
        if (!plan_again(&growth, request, error))
            return FALSE;
    }
}

/*
 * Gives back in one pool, if there is anything to do. Pages that are due are worth
 * waiting for whoever resizes the size. An open intent, or a count that is not the
 * recorded one, may come from a writer at work, who will settle it himself: so it is
 * looked at only if there is none.
 */
static gboolean give_back_in(const HvExecutor *executor, const HvWorld *world, const HvPool *pool,
                             GError **error)
{
    HvPoolWriter writer = executor->writer;
    HvResize resize = {pool->node, pool->size_kib, decide_give_back, 0};
    HvResized resized;
    g_autoptr(GError) local = NULL;
    /* a handover whose maker was killed before he saw that the kernel left some free */
    if (pool->surplus_pages > 0 && pool->free_pages > 0 &&
        hv_ledger_handed_pages(world->ledger, pool->node, pool->size_kib) > 0 &&
        !hv_pool_pin(&writer, pool->size_kib, error))
        return FALSE;
    gboolean is_due = hv_plan_give_back_pages(world, pool) > 0;
    if (!is_due && !hv_ledger_has_intent(world->ledger, pool->node, pool->size_kib) &&
        !hv_ledger_has_drifted(world->ledger, pool))
        return TRUE;
    if (!is_due)
        writer.deadline_us = 0;
    if (hv_pool_resize(&writer, &resize, &resized, &local) ||
        (!is_due && g_error_matches(local, HV_ERROR, HV_ERROR_TIMEOUT)))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

static gint by_size_descending(gconstpointer a, gconstpointer b)
{
    const HvPool *x = a, *y = b;
    return x->size_kib > y->size_kib ? -1 : x->size_kib < y->size_kib;
}

gboolean hv_execute_give_back(const HvExecutor *executor, GError **error)
{
    g_autoptr(HvLedger) ledger = hv_store_read(executor->writer.store, error);
    if (ledger == NULL)
        return FALSE;
    if (ledger->grown->len == 0 && ledger->intents->len == 0)
        return TRUE;
    g_autoptr(HvSnapshot) snapshot = hv_snapshot_read(executor->writer.root, error);
    if (snapshot == NULL)
        return FALSE;
    g_autoptr(GArray) pools = g_array_copy(snapshot->pools);
    g_array_sort(pools, by_size_descending);
    HvWorld world = {snapshot, executor->writer.settings, ledger, NULL};
    gboolean is_good = TRUE;
    for (guint i = 0; i < pools->len; i++) {
        const HvPool *pool = &g_array_index(pools, HvPool, i);
        is_good = give_back_in(executor, &world, pool, is_good ? error : NULL) && is_good;
    }
    return is_good;
}

gboolean hv_execute_hand_over(const HvExecutor *executor, GError **error)
{
    HvPoolWriter writer = executor->writer;
    g_autoptr(HvLedger) ledger = hv_store_read(writer.store, error);
    g_autoptr(HvSnapshot) snapshot = ledger != NULL ? hv_snapshot_read(writer.root, error) : NULL;
    if (snapshot == NULL)
        return FALSE;
    HvWorld world = {snapshot, writer.settings, ledger, NULL};
    writer.deadline_us = 0;
    for (guint i = 0; i < snapshot->sizes->len; i++) {
        g_autoptr(GError) local = NULL;
        guint64 size_kib = g_array_index(snapshot->sizes, HvPageSize, i).size_kib;
        if (!hv_plan_may_hand_over(&world, size_kib) ||
            hv_pool_hand_over(&writer, size_kib, &local) ||
            g_error_matches(local, HV_ERROR, HV_ERROR_TIMEOUT))
            continue;
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    return TRUE;
}
