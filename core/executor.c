/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One pool write, from lock to record:
 *
 *   lock the page size -> settle its pools (what a killed writer left, what others
 *   changed) -> decide -> record the intent -> write -> read back -> record the result
 *
 * Killed at any point: the intent tells the next holder of the lock what was
 * meant, the pool tells what came of it. The ledger's lock is not held during the
 * write, which may compact memory for long; the lock of the size is, and only it.
 *
 * The kernel's write succeeds even when it got nothing, so what counts is what is
 * read back. Beside surplus pages its arithmetic differs between kernels, and a
 * shrink makes more surplus instead of freeing pages: so surplus is first pinned,
 * that is made persistent by one write of the total to the global file.
 */
#include "executor.h"

#include "error.h"
#include "page-size.h"

#define STEP_TARGET_US (100 * 1000)
#define FIRST_STEP_KIB (128 * 1024)
#define RECORD_LOCK_US (10 * G_USEC_PER_SEC)

typedef guint64 (*DecideTotal)(const HvWorld *world, const HvPool *pool, guint64 pages);

/* A change of one pool: decide gives its new total once all is locked and settled. */
typedef struct {
    int node;
    guint64 size_kib;
    DecideTotal decide;
    guint64 pages; /* handed to decide */
} Resize;

typedef struct {
    gboolean is_pin;       /* this write only pins surplus; the change itself comes next */
    guint64 before_total;  /* of the pool */
    guint64 write_total;   /* what to write; equal to before_total: nothing to do */
    guint64 after_total;
} Write;

static char *global_file(guint64 size_kib)
{
    return g_strdup_printf(
        "/sys/kernel/mm/hugepages/hugepages-%" G_GUINT64_FORMAT "kB/nr_hugepages", size_kib);
}

/* A kernel without NUMA has the global file only. */
static char *pool_file(const HvRoot *root, int node, guint64 size_kib)
{
    g_autofree char *path = g_strdup_printf(
        "/sys/devices/system/node/node%d/hugepages/hugepages-%" G_GUINT64_FORMAT "kB/nr_hugepages",
        node, size_kib);
    return hv_root_exists(root, path) ? g_steal_pointer(&path) : global_file(size_kib);
}

/* The pools as they are now, those of one size settled; inside an open transaction. */
static HvSnapshot *read_settled(const HvExecutor *executor, HvTransaction *transaction,
                                guint64 size_kib, GError **error)
{
    HvSnapshot *snapshot = hv_snapshot_read(executor->root, error);
    for (guint i = 0; snapshot != NULL && i < snapshot->pools->len; i++) {
        const HvPool *pool = &g_array_index(snapshot->pools, HvPool, i);
        if (pool->size_kib == size_kib && hv_ledger_settle_pool(transaction->ledger, pool))
            transaction->is_changed = TRUE;
    }
    return snapshot;
}

static const HvPool *find_pool(const HvSnapshot *snapshot, const Resize *resize, GError **error)
{
    const HvPool *pool = hv_snapshot_pool(snapshot, resize->node, resize->size_kib);
    if (pool == NULL)
        hv_set_error(error, HV_ERROR_SYSTEM, NULL,
                     "node %d has no pool of %" G_GUINT64_FORMAT " KiB pages any more",
                     resize->node, resize->size_kib);
    return pool;
}

/* Records the intent to make all surplus of a size persistent; the total of all pools, or 0 where
 * there is no surplus. */
static guint64 announce_pin(HvLedger *ledger, const HvSnapshot *snapshot, guint64 size_kib)
{
    guint64 total = 0, surplus = 0;
    for (guint i = 0; i < snapshot->pools->len; i++) {
        const HvPool *pool = &g_array_index(snapshot->pools, HvPool, i);
        if (pool->size_kib != size_kib)
            continue;
        total += pool->total_pages;
        surplus += pool->surplus_pages;
        HvIntent intent = {pool->node, size_kib, hv_pool_persistent(pool), pool->total_pages};
        if (pool->surplus_pages > 0)
            hv_ledger_begin_write(ledger, &intent);
    }
    return surplus > 0 ? total : 0;
}

/* Settles, decides, and records what will be written, in one transaction. */
static gboolean announce(const HvExecutor *executor, const Resize *resize, Write *out,
                         GError **error)
{
    g_autoptr(HvTransaction) transaction =
        hv_transaction_begin(executor->store, executor->deadline_us, error);
    if (transaction == NULL)
        return FALSE;
    g_autoptr(HvSnapshot) snapshot =
        read_settled(executor, transaction, resize->size_kib, error);
    const HvPool *pool = snapshot != NULL ? find_pool(snapshot, resize, error) : NULL;
    if (pool == NULL)
        return FALSE;
    HvWorld world = {snapshot, executor->settings, transaction->ledger, executor->self_uuid};
    Write write = {.before_total = pool->total_pages};
    write.write_total = resize->decide(&world, pool, resize->pages);
    if (write.write_total != write.before_total) {
        guint64 pin_total = announce_pin(transaction->ledger, snapshot, resize->size_kib);
        write.is_pin = pin_total > 0;
        HvIntent intent = {resize->node, resize->size_kib, pool->total_pages, write.write_total};
        if (write.is_pin)
            write.write_total = pin_total;
        else
            hv_ledger_begin_write(transaction->ledger, &intent);
        transaction->is_changed = TRUE;
    }
    if (!hv_transaction_commit(transaction, error))
        return FALSE;
    *out = write;
    return TRUE;
}

/* Reads back and records what the write did. Has its own time: a write without record is worse
 * than a late one. */
static gboolean record(const HvExecutor *executor, const Resize *resize, Write *write,
                       GError **error)
{
    g_autoptr(HvTransaction) transaction = hv_transaction_begin(
        executor->store, g_get_monotonic_time() + RECORD_LOCK_US, error);
    if (transaction == NULL)
        return FALSE;
    g_autoptr(HvSnapshot) snapshot =
        read_settled(executor, transaction, resize->size_kib, error);
    const HvPool *pool = snapshot != NULL ? find_pool(snapshot, resize, error) : NULL;
    if (pool == NULL)
        return FALSE;
    write->after_total = pool->total_pages;
    return hv_transaction_commit(transaction, error);
}

/* One announced write: to the pool's file, or for a pin to the global one. */
static gboolean write_once(const HvExecutor *executor, const Resize *resize, Write *out,
                           GError **error)
{
    Write write;
    if (!announce(executor, resize, &write, error))
        return FALSE;
    write.after_total = write.before_total;
    *out = write;
    if (write.write_total == write.before_total && !write.is_pin)
        return TRUE;
    g_autofree char *path = write.is_pin
                                ? global_file(resize->size_kib)
                                : pool_file(executor->root, resize->node, resize->size_kib);
    g_autoptr(GError) write_error = NULL;
    gboolean is_written =
        hv_root_write_u64(executor->root, path, write.write_total, &write_error);
    if (!record(executor, resize, &write, error))
        return FALSE;
    if (!is_written)
        g_propagate_error(error, g_steal_pointer(&write_error));
    *out = write;
    return is_written;
}

static gboolean resize_pool(const HvExecutor *executor, const Resize *resize, Write *out,
                            GError **error)
{
    g_auto(HvFd) lock =
        hv_store_lock_size(executor->store, resize->size_kib, executor->deadline_us, error);
    return lock >= 0 && write_once(executor, resize, out, error) &&
           (!out->is_pin || write_once(executor, resize, out, error));
}

/* Growth, one bounded step: as much as asked, as the floor allows at this moment. */
static guint64 decide_growth(const HvWorld *world, const HvPool *pool, guint64 pages)
{
    guint64 growable_kib = MIN(hv_room_growable_on_node_kib(world, pool->node),
                               hv_room_growable_on_host_kib(world));
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
    HvNodeSet exhausted; /* nodes that could not give what was planned */
} Growth;

static gboolean check_go_on(Growth *growth, const HvStep *step, GError **error)
{
    const HvExecutor *executor = growth->executor;
    g_autofree char *size = hv_format_kib(step->size_kib);
    g_autofree char *what = g_strdup_printf("growing %s pages on node %d", size, step->node);
    if (executor->progress != NULL &&
        executor->progress(executor->progress_data, growth->done_pages, growth->total_pages,
                           what)) {
        hv_set_error(error, HV_ERROR_CANCELLED, NULL,
                     "cancelled while %s, after %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT
                     " pages; they are given back",
                     what, growth->done_pages, growth->total_pages);
        return FALSE;
    }
    if (g_get_monotonic_time() >= executor->deadline_us) {
        hv_set_error(error, HV_ERROR_TIMEOUT,
                     "raise allocation_timeout in /etc/hugevm/hugevm.conf, or allocate the pages "
                     "at boot",
                     "the time allowed ran out while %s, after %" G_GUINT64_FORMAT
                     " of %" G_GUINT64_FORMAT " pages; they are given back",
                     what, growth->done_pages, growth->total_pages);
        return FALSE;
    }
    return TRUE;
}

/* Keeps a step near 100 ms, so that progress, cancelling and the deadline are never far. */
static guint64 next_step_pages(guint64 pages, gint64 took_us)
{
    gint64 scale_percent = took_us > 0 ? STEP_TARGET_US * 100 / took_us : 400;
    return MAX(1, pages * (guint64)CLAMP(scale_percent, 25, 400) / 100);
}

/* Grows until the step's pages are there or the kernel gives fewer than asked. */
static gboolean grow_until_short(Growth *growth, const HvStep *step, guint64 *left, GError **error)
{
    guint64 chunk = MAX(1, FIRST_STEP_KIB / step->size_kib);
    while (*left > 0) {
        if (!check_go_on(growth, step, error))
            return FALSE;
        guint64 asked = MIN(chunk, *left);
        Resize resize = {step->node, step->size_kib, decide_growth, asked};
        Write write;
        gint64 start_us = g_get_monotonic_time();
        if (!resize_pool(growth->executor, &resize, &write, error))
            return FALSE;
        guint64 got = MIN(asked, hv_minus(write.after_total, write.before_total));
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

/* The ladder for one pool: grow, compact and grow, drop caches and grow. */
static gboolean grow_step(Growth *growth, const HvStep *step, guint64 *left, GError **error)
{
    const HvExecutor *executor = growth->executor;
    if (!grow_until_short(growth, step, left, error))
        return FALSE;
    if (*left > 0 && executor->settings->compact) {
        compact_node(executor->root, step->node);
        if (!grow_until_short(growth, step, left, error))
            return FALSE;
    }
    if (*left > 0 && executor->settings->drop_caches) {
        hv_root_write_u64(executor->root, "/proc/sys/vm/drop_caches", 3, NULL);
        if (executor->settings->compact)
            compact_node(executor->root, step->node);
        return grow_until_short(growth, step, left, error);
    }
    return TRUE;
}

static void set_short_grant(const Growth *growth, const HvStep *step, guint64 left,
                            GError **error)
{
    const HvSettings *settings = growth->executor->settings;
    g_autofree char *size = hv_format_kib(step->size_kib);
    hv_set_error(error, HV_ERROR_SHORTAGE,
                 settings->drop_caches
                     ? "allocate the pages at boot, where memory is not yet fragmented"
                     : "allocate the pages at boot, or try drop_caches = true in "
                       "/etc/hugevm/hugevm.conf",
                 "node %d gave %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT
                 " pages of %s asked for%s: its memory is fragmented or at the floor kept for the "
                 "host; what was got is given back",
                 step->node, step->pages - left, step->pages, size,
                 settings->compact ? ", after compaction" : "");
}

/* Looks for other nodes for what is missing of a step; FALSE: there are none. */
static gboolean plan_rest_elsewhere(Growth *growth, const HvStep *step, guint64 left,
                                    GArray *steps)
{
    const HvExecutor *executor = growth->executor;
    hv_node_set_add(&growth->exhausted, step->node);
    if (left > step->movable_pages)
        return FALSE;
    g_autoptr(HvSnapshot) snapshot = hv_snapshot_read(executor->root, NULL);
    g_autoptr(HvLedger) ledger = hv_store_read(executor->store, NULL);
    if (snapshot == NULL || ledger == NULL)
        return FALSE;
    HvWorld world = {snapshot, executor->settings, ledger, executor->self_uuid};
    return hv_plan_elsewhere(&world, step->size_kib, left, &growth->exhausted, steps);
}

gboolean hv_execute_steps(const HvExecutor *executor, const GArray *steps, GError **error)
{
    Growth growth = {.executor = executor};
    g_autoptr(GArray) todo = g_array_copy((GArray *)steps);
    for (guint i = 0; i < todo->len; i++)
        growth.total_pages += g_array_index(todo, HvStep, i).pages;
    for (guint i = 0; i < todo->len; i++) {
        HvStep step = g_array_index(todo, HvStep, i); /* a copy: the array may grow below */
        guint64 left = step.pages;
        if (!grow_step(&growth, &step, &left, error))
            return FALSE;
        if (left > 0 && !plan_rest_elsewhere(&growth, &step, left, todo)) {
            set_short_grant(&growth, &step, left, error);
            return FALSE;
        }
    }
    return TRUE;
}

/* Pools that a give-back has to look at: grown pages or an open intent. */
static gboolean is_concerned(const HvLedger *ledger, const HvPool *pool)
{
    if (hv_ledger_grown_pages(ledger, pool->node, pool->size_kib) > 0)
        return TRUE;
    for (guint i = 0; i < ledger->intents->len; i++) {
        const HvIntent *intent = &g_array_index(ledger->intents, HvIntent, i);
        if (intent->node == pool->node && intent->size_kib == pool->size_kib)
            return TRUE;
    }
    return FALSE;
}

static gint by_size_descending(gconstpointer a, gconstpointer b)
{
    const HvPool *x = a, *y = b;
    return x->size_kib > y->size_kib ? -1 : x->size_kib < y->size_kib;
}

gboolean hv_execute_give_back(const HvExecutor *executor, GError **error)
{
    g_autoptr(HvLedger) ledger = hv_store_read(executor->store, error);
    if (ledger == NULL)
        return FALSE;
    if (ledger->grown->len == 0 && ledger->intents->len == 0)
        return TRUE;
    g_autoptr(HvSnapshot) snapshot = hv_snapshot_read(executor->root, error);
    if (snapshot == NULL)
        return FALSE;
    g_array_sort(snapshot->pools, by_size_descending);
    gboolean is_good = TRUE;
    for (guint i = 0; i < snapshot->pools->len; i++) {
        const HvPool *pool = &g_array_index(snapshot->pools, HvPool, i);
        Resize resize = {pool->node, pool->size_kib, decide_give_back, 0};
        Write write;
        if (is_concerned(ledger, pool))
            is_good = resize_pool(executor, &resize, &write, is_good ? error : NULL) && is_good;
    }
    return is_good;
}
