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
#include "pool-write.h"

#include "consumers.h"
#include "error.h"
#include "page-size.h"

#define RECORD_LOCK_US (10 * G_USEC_PER_SEC)
#define MAX_PINS 4

typedef struct {
    gboolean is_pin;      /* this write only pins surplus; the change itself comes next */
    guint64 before_total; /* of the pool */
    guint64 write_total;  /* what to write; equal to before_total: nothing to do */
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

static void settle_size(HvTransaction *transaction, const HvSnapshot *snapshot, guint64 size_kib)
{
    for (guint i = 0; i < snapshot->pools->len; i++) {
        const HvPool *pool = &g_array_index(snapshot->pools, HvPool, i);
        if (pool->size_kib == size_kib && hv_ledger_settle_pool(transaction->ledger, pool))
            transaction->is_changed = TRUE;
    }
}

/* The pools of a size as they are now, settled; inside an open transaction. */
static HvSnapshot *read_settled(const HvPoolWriter *writer, HvTransaction *transaction,
                                guint64 size_kib, GError **error)
{
    HvSnapshot *snapshot = hv_snapshot_read_size(writer->root, size_kib, error);
    if (snapshot != NULL)
        settle_size(transaction, snapshot, size_kib);
    return snapshot;
}

/* The same after a write, when no memory has to be known. */
static HvSnapshot *read_back(const HvPoolWriter *writer, HvTransaction *transaction,
                             guint64 size_kib, GError **error)
{
    HvSnapshot *snapshot = hv_snapshot_read_pools(writer->root, size_kib, error);
    if (snapshot != NULL)
        settle_size(transaction, snapshot, size_kib);
    return snapshot;
}

static const HvPool *find_pool(const HvSnapshot *snapshot, const HvResize *resize, GError **error)
{
    const HvPool *pool = hv_snapshot_pool(snapshot, resize->node, resize->size_kib);
    if (pool == NULL)
        hv_set_error(error, HV_ERROR_SYSTEM, NULL,
                     "node %d has no pool of %" G_GUINT64_FORMAT " KiB pages any more",
                     resize->node, resize->size_kib);
    return pool;
}

/*
 * Records the intent to make all surplus of a size persistent; the total of all
 * pools, or 0 where there is no surplus. Each pool may grow by all of it: surplus
 * that goes between our reading and our writing is made up by the kernel anywhere.
 */
static guint64 announce_pin(HvLedger *ledger, const HvSnapshot *snapshot, guint64 size_kib)
{
    guint64 total = 0, surplus = 0;
    for (guint i = 0; i < snapshot->pools->len; i++) {
        const HvPool *pool = &g_array_index(snapshot->pools, HvPool, i);
        if (pool->size_kib == size_kib) {
            total += pool->total_pages;
            surplus += pool->surplus_pages;
        }
    }
    for (guint i = 0; surplus > 0 && i < snapshot->pools->len; i++) {
        const HvPool *pool = &g_array_index(snapshot->pools, HvPool, i);
        guint64 persistent = hv_pool_persistent(pool);
        HvIntent intent = {pool->node, size_kib, persistent, persistent + surplus, 0, FALSE};
        if (pool->size_kib == size_kib)
            hv_ledger_begin_write(ledger, &intent);
    }
    return surplus > 0 ? total : 0;
}

/* For a pin and nothing else. */
static guint64 decide_same(const HvWorld *world, const HvPool *pool, guint64 pages)
{
    (void)world, (void)pages;
    return pool->total_pages;
}

/* Settles, decides, and records what will be written, in one transaction. */
static gboolean announce(const HvPoolWriter *writer, const HvResize *resize, Write *out,
                         GError **error)
{
    g_autoptr(HvTransaction) transaction =
        hv_transaction_begin(writer->store, writer->deadline_us, error);
    if (transaction == NULL)
        return FALSE;
    g_autoptr(HvSnapshot) snapshot = read_settled(writer, transaction, resize->size_kib, error);
    const HvPool *pool = snapshot != NULL ? find_pool(snapshot, resize, error) : NULL;
    if (pool == NULL)
        return FALSE;
    HvWorld world = {snapshot, writer->settings, transaction->ledger, writer->self_uuid};
    Write write = {.before_total = pool->total_pages};
    write.write_total = resize->decide(&world, pool, resize->pages);
    gboolean is_due = write.write_total != write.before_total;
    guint64 pin_total = 0;
    if (is_due || resize->decide == decide_same)
        pin_total = announce_pin(transaction->ledger, snapshot, resize->size_kib);
    if (is_due || pin_total > 0) {
        write.is_pin = pin_total > 0;
        HvIntent intent = {resize->node, resize->size_kib, pool->total_pages, write.write_total, 0,
                           FALSE};
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
static gboolean record(const HvPoolWriter *writer, const HvResize *resize, Write *write,
                       GError **error)
{
    g_autoptr(HvTransaction) transaction =
        hv_transaction_begin(writer->store, g_get_monotonic_time() + RECORD_LOCK_US, error);
    if (transaction == NULL)
        return FALSE;
    g_autoptr(HvSnapshot) snapshot = read_back(writer, transaction, resize->size_kib, error);
    const HvPool *pool = snapshot != NULL ? find_pool(snapshot, resize, error) : NULL;
    if (pool == NULL)
        return FALSE;
    write->after_total = pool->total_pages;
    return hv_transaction_commit(transaction, error);
}

/* One announced write: to the pool's file, or for a pin to the global one. */
static gboolean write_once(const HvPoolWriter *writer, const HvResize *resize, Write *out,
                           GError **error)
{
    Write write;
    if (!announce(writer, resize, &write, error))
        return FALSE;
    write.after_total = write.before_total;
    *out = write;
    if (write.write_total == write.before_total && !write.is_pin)
        return TRUE;
    g_autofree char *path = write.is_pin ? global_file(resize->size_kib)
                                         : pool_file(writer->root, resize->node, resize->size_kib);
    g_autoptr(GError) write_error = NULL;
    gboolean is_written = hv_root_write_u64(writer->root, path, write.write_total, &write_error);
    if (!record(writer, resize, &write, error))
        return FALSE;
    if (!is_written)
        g_propagate_error(error, g_steal_pointer(&write_error));
    *out = write;
    return is_written;
}

static gboolean resize_locked(const HvPoolWriter *writer, const HvResize *resize, HvResized *out,
                              GError **error)
{
    Write write = {.is_pin = TRUE};
    for (guint i = 0; write.is_pin && i < MAX_PINS; i++)
        if (!write_once(writer, resize, &write, error))
            return FALSE;
    /* surplus that comes back each time: nothing was changed but the pins */
    guint64 wanted = write.is_pin ? write.after_total : write.write_total;
    *out = (HvResized){write.before_total, wanted, write.after_total};
    return TRUE;
}

gboolean hv_pool_resize(const HvPoolWriter *writer, const HvResize *resize, HvResized *out,
                        GError **error)
{
    g_auto(HvFd) lock =
        hv_store_lock_size(writer->store, resize->size_kib, writer->deadline_us, error);
    return lock >= 0 && resize_locked(writer, resize, out, error);
}

/* A pool of the size, which stands for all: with surplus, if any has it. NULL: no such size. */
static const HvPool *representative(const HvSnapshot *snapshot, guint64 size_kib)
{
    const HvPool *found = NULL;
    for (guint i = 0; i < snapshot->pools->len; i++) {
        const HvPool *pool = &g_array_index(snapshot->pools, HvPool, i);
        if (pool->size_kib == size_kib && (found == NULL || pool->surplus_pages > 0))
            found = pool;
    }
    return found;
}

gboolean hv_pool_pin(const HvPoolWriter *writer, guint64 size_kib, GError **error)
{
    HvResized resized;
    g_autoptr(HvSnapshot) snapshot = hv_snapshot_read(writer->root, error);
    if (snapshot == NULL)
        return FALSE;
    const HvPool *pool = representative(snapshot, size_kib);
    if (pool == NULL || pool->surplus_pages == 0)
        return TRUE;
    HvResize resize = {pool->node, size_kib, decide_same, 0};
    return hv_pool_resize(writer, &resize, &resized, error);
}

/* The same where the size's lock is held. Has its own time, as a record has. */
static gboolean pin_locked(const HvPoolWriter *writer, const HvPool *pool, GError **error)
{
    HvResized resized;
    HvPoolWriter patient = *writer;
    HvResize resize = {pool->node, pool->size_kib, decide_same, 0};
    patient.deadline_us = g_get_monotonic_time() + RECORD_LOCK_US;
    return resize_locked(&patient, &resize, &resized, error);
}

/* Records that all persistent pages of the size will become surplus; 0: they may not. */
static gboolean announce_handover(const HvPoolWriter *writer, guint64 size_kib, guint64 *out_pages,
                                  GError **error)
{
    g_autoptr(HvTransaction) transaction =
        hv_transaction_begin(writer->store, writer->deadline_us, error);
    g_autoptr(HvSnapshot) snapshot =
        transaction != NULL ? read_settled(writer, transaction, size_kib, error) : NULL;
    if (snapshot == NULL)
        return FALSE;
    HvWorld world = {snapshot, writer->settings, transaction->ledger, NULL};
    gboolean may = hv_plan_may_hand_over(&world, size_kib);
    *out_pages = 0;
    for (guint i = 0; may && i < snapshot->pools->len; i++) {
        const HvPool *pool = &g_array_index(snapshot->pools, HvPool, i);
        HvIntent intent = {pool->node, size_kib, pool->total_pages, 0, 0, TRUE};
        if (pool->size_kib != size_kib || pool->total_pages == 0)
            continue;
        *out_pages += pool->total_pages;
        hv_ledger_begin_write(transaction->ledger, &intent);
    }
    for (guint i = 0; may && i < transaction->ledger->claims->len; i++) {
        HvClaim *claim = g_ptr_array_index(transaction->ledger->claims, i);
        if (hv_needs_pages(claim->needs, size_kib) > 0)
            claim->is_handed_over = TRUE;
    }
    if (may)
        transaction->is_changed = TRUE;
    return hv_transaction_commit(transaction, error);
}

/*
 * Reads back, and pins unless what is there is surplus in use and nothing else. It may
 * be that a user ended meanwhile; if not, this kernel does not do what was asked.
 */
static gboolean record_handover(const HvPoolWriter *writer, guint64 size_kib, guint64 before,
                                GError **error)
{
    guint64 total = 0, steady = 0;
    g_autoptr(HvTransaction) transaction =
        hv_transaction_begin(writer->store, g_get_monotonic_time() + RECORD_LOCK_US, error);
    g_autoptr(HvSnapshot) snapshot =
        transaction != NULL ? read_back(writer, transaction, size_kib, error) : NULL;
    if (snapshot == NULL)
        return FALSE;
    for (guint i = 0; i < snapshot->pools->len; i++) {
        const HvPool *pool = &g_array_index(snapshot->pools, HvPool, i);
        if (pool->size_kib != size_kib)
            continue;
        total += pool->total_pages;
        steady += pool->surplus_pages == pool->total_pages ? hv_pool_in_use(pool) : 0;
    }
    if (steady != total && total == before) {
        transaction->ledger->handover_failed = TRUE;
        transaction->is_changed = TRUE;
    }
    if (!hv_transaction_commit(transaction, error))
        return FALSE;
    g_clear_pointer(&transaction, hv_transaction_end);
    return steady == total || pin_locked(writer, representative(snapshot, size_kib), error);
}

gboolean hv_pool_hand_over(const HvPoolWriter *writer, guint64 size_kib, GError **error)
{
    guint64 pages = 0;
    g_auto(HvFd) lock = hv_store_lock_size(writer->store, size_kib, writer->deadline_us, error);
    if (lock < 0 || !announce_handover(writer, size_kib, &pages, error))
        return FALSE;
    if (pages == 0)
        return TRUE;
    g_autofree char *path = global_file(size_kib);
    g_autoptr(GError) write_error = NULL;
    gboolean is_written = hv_root_write_u64(writer->root, path, 0, &write_error);
    if (!record_handover(writer, size_kib, pages, error))
        return FALSE;
    if (!is_written)
        g_propagate_error(error, g_steal_pointer(&write_error));
    return is_written;
}

/* Pages that may be split now: as planned, but never one that is promised or that others hold. */
static guint64 splittable(const HvWorld *world, const HvPool *large, const HvPool *small,
                          guint64 pages)
{
    /* beside surplus the counts of a split could not be told from the kernel's own changes */
    if (large->surplus_pages > 0 || small->surplus_pages > 0)
        return 0;
    return MIN(pages, hv_plan_demotable_pages(world, large));
}

static gboolean announce_split(const HvPoolWriter *writer, const HvSplit *split, guint64 *out_pages,
                               guint64 *out_large_before, GError **error)
{
    g_autoptr(HvTransaction) transaction =
        hv_transaction_begin(writer->store, writer->deadline_us, error);
    if (transaction == NULL)
        return FALSE;
    g_autoptr(HvSnapshot) snapshot = hv_snapshot_read(writer->root, error);
    if (snapshot == NULL)
        return FALSE;
    hv_consumers_read(writer->root, writer->settings, transaction->ledger, snapshot);
    settle_size(transaction, snapshot, split->size_kib);
    settle_size(transaction, snapshot, split->to_kib);
    const HvPool *large = hv_snapshot_pool(snapshot, split->node, split->size_kib);
    const HvPool *small = hv_snapshot_pool(snapshot, split->node, split->to_kib);
    HvWorld world = {snapshot, writer->settings, transaction->ledger, writer->self_uuid};
    *out_pages =
        large != NULL && small != NULL ? splittable(&world, large, small, split->pages) : 0;
    if (*out_pages > 0) {
        *out_large_before = large->total_pages;
        guint64 ratio = split->size_kib / split->to_kib;
        guint64 own = MIN(*out_pages,
                          hv_ledger_grown_pages(transaction->ledger, split->node, split->size_kib));
        HvIntent down = {
            split->node, split->size_kib, large->total_pages, large->total_pages - *out_pages, 0,
            FALSE};
        HvIntent up = {split->node,
                       split->to_kib,
                       small->total_pages,
                       small->total_pages + *out_pages * ratio,
                       hv_minus(*out_pages, own) * ratio,
                       FALSE};
        hv_ledger_begin_write(transaction->ledger, &down);
        hv_ledger_begin_write(transaction->ledger, &up);
        transaction->is_changed = TRUE;
    }
    return hv_transaction_commit(transaction, error);
}

/* Reads back: *pages, announced, becomes what the kernel did. */
static gboolean record_split(const HvPoolWriter *writer, const HvSplit *split, guint64 large_before,
                             guint64 *pages, GError **error)
{
    g_autoptr(HvTransaction) transaction =
        hv_transaction_begin(writer->store, g_get_monotonic_time() + RECORD_LOCK_US, error);
    if (transaction == NULL)
        return FALSE;
    g_autoptr(HvSnapshot) snapshot = hv_snapshot_read(writer->root, error);
    if (snapshot == NULL)
        return FALSE;
    settle_size(transaction, snapshot, split->size_kib);
    settle_size(transaction, snapshot, split->to_kib);
    const HvPool *pool = hv_snapshot_pool(snapshot, split->node, split->size_kib);
    *pages = MIN(*pages, hv_minus(large_before, pool != NULL ? pool->total_pages : large_before));
    return hv_transaction_commit(transaction, error);
}

gboolean hv_pool_split(const HvPoolWriter *writer, const HvSplit *split, guint64 *out_pages,
                       GError **error)
{
    guint64 large_before = 0;
    g_auto(HvFd) large_lock =
        hv_store_lock_size(writer->store, split->size_kib, writer->deadline_us, error);
    if (large_lock < 0)
        return FALSE;
    g_auto(HvFd) small_lock =
        hv_store_lock_size(writer->store, split->to_kib, writer->deadline_us, error);
    if (small_lock < 0 || !announce_split(writer, split, out_pages, &large_before, error))
        return FALSE;
    if (*out_pages == 0)
        return TRUE;
    g_autofree char *path = g_strdup_printf(
        "/sys/devices/system/node/node%d/hugepages/hugepages-%" G_GUINT64_FORMAT "kB/demote",
        split->node, split->size_kib);
    /* one by one: only at the begin of a write do all kernels look whether pages are promised. One
     * that fails has split nothing, which the record shows */
    for (guint64 i = 0; i < *out_pages; i++)
        if (!hv_root_write_u64(writer->root, path, 1, NULL))
            break;
    return record_split(writer, split, large_before, out_pages, error);
}
