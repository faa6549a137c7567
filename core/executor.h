/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Executor: turns plan steps into pool writes, and gives back what was added.
 * The only code that writes to the kernel.
 */
#pragma once

#include "planner.h"
#include "store.h"

/* Pages got and wanted so far, and what is going on. TRUE cancels. Called without any lock. */
typedef gboolean (*HvProgressFunc)(gpointer data, guint64 done_pages, guint64 total_pages,
                                   const char *what);

typedef struct {
    const HvRoot *root;
    HvStore *store;
    const HvSettings *settings;
    gint64 deadline_us; /* monotonic clock */
    HvProgressFunc progress; /* NULL: none */
    gpointer progress_data;
    const char *self_uuid; /* the VM that pages are got for; NULL: none */
} HvExecutor;

/*
 * Carries out the steps. On failure (SHORTAGE, TIMEOUT, CANCELLED, PERMISSION,
 * LEDGER, SYSTEM) the pages got so far are in the pools and in the ledger as
 * grown: the caller lets go of the claim and calls hv_execute_give_back.
 */
gboolean hv_execute_steps(const HvExecutor *executor, const GArray *steps, GError **error);

/*
 * Closes what killed writers left open, and takes away every grown page that
 * nobody needs, in every pool. Goes on after a failure; reports the first.
 */
gboolean hv_execute_give_back(const HvExecutor *executor, GError **error);
