/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Store: the ledger's home, /run/hugevm, its locks, and transactions on it.
 *
 * Lock order: a page size's lock before the ledger's; of several sizes the larger
 * first. The ledger's lock is held only between begin and end of a transaction,
 * during which nothing but small files is read and written.
 */
#pragma once

#include "fd.h"
#include "ledger.h"

/* A file that is larger is none of ours: some 10000 VMs. */
#define HV_LEDGER_MAX_BYTES (8 * 1024 * 1024)

typedef struct HvStore HvStore;

/*
 * Opens the directory, makes it (root:root 0755) if create. It must be a real
 * directory of root's that nobody else may write to. HV_ERROR_LEDGER or
 * PERMISSION; without create a missing directory gives G_FILE_ERROR_NOENT.
 */
HvStore *hv_store_open(const HvRoot *root, gboolean create, GError **error);
void hv_store_free(HvStore *store);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvStore, hv_store_free)

/*
 * Reads the ledger without a lock: a consistent picture, since the file is
 * replaced as a whole. No ledger, or one of another boot: an empty one. A ledger
 * that cannot be used is HV_ERROR_LEDGER.
 */
HvLedger *hv_store_read(HvStore *store, GError **error);

/* The same for whoever only looks: where there is no store yet, nothing is claimed. No lock. */
HvLedger *hv_ledger_read(const HvRoot *root, GError **error);

typedef struct {
    HvStore *store;
    HvLedger *ledger;
    gboolean is_changed; /* set by whoever changes the ledger: commit writes only then */
    char *warning;       /* the ledger was damaged and has been set aside; NULL: all is well */
    HvFd lock;
} HvTransaction;

/*
 * Locks and loads the ledger; waits until deadline_us (monotonic clock) at most:
 * HV_ERROR_TIMEOUT names the holder. A damaged ledger is set aside under a new
 * name and its second copy read, or an empty ledger begun. A ledger in a newer
 * format is HV_ERROR_LEDGER and stays as it is.
 */
HvTransaction *hv_transaction_begin(HvStore *store, gint64 deadline_us, GError **error);

/* Writes a changed ledger, atomically; the transaction stays open. */
gboolean hv_transaction_commit(HvTransaction *transaction, GError **error);

/* Unlocks; what was not committed is forgotten. NULL is fine. */
void hv_transaction_end(HvTransaction *transaction);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvTransaction, hv_transaction_end)

/* The lock around read-write-read of one page size's pools; closing the fd lets go. -1: error. */
int hv_store_lock_size(HvStore *store, guint64 size_kib, gint64 deadline_us, GError **error);
