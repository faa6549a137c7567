/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Executor: carries out a plan step by step, and gives back what was added.
 */
#pragma once

#include "pool-write.h"

/* Pages got and wanted so far, and what is going on. TRUE cancels. Called without any lock. */
typedef gboolean (*HvProgressFunc)(gpointer data, guint64 done_pages, guint64 total_pages,
                                   const char *what);

typedef struct {
    HvPoolWriter writer;
    HvProgressFunc progress; /* NULL: none */
    gpointer progress_data;
    GArray *spent; /* HvStep: gets those that fell short; NULL: nobody wants to know */
} HvExecutor;

/*
 * Carries out the steps of a plan for the request. Where a pool gives less than that, the
 * rest is planned anew, without that pool, and so on until nothing is left to plan with.
 * On failure (SHORTAGE, TIMEOUT, CANCELLED, PERMISSION,
 * LEDGER, SYSTEM) the pages got so far are in the pools and in the ledger as
 * grown: the caller lets go of the claim and calls hv_execute_give_back.
 */
gboolean hv_execute_steps(const HvExecutor *executor, const HvRequest *request, const GArray *steps,
                          GError **error);

/*
 * Closes what killed writers left open, and takes away every grown page that
 * nobody needs, in every pool. Goes on after a failure; reports the first.
 */
gboolean hv_execute_give_back(const HvExecutor *executor, GError **error);

/*
 * Hands over to the kernel what may be, in every size (hv_plan_may_hand_over). What
 * somebody else is resizing at the moment is left to the next call.
 */
gboolean hv_execute_hand_over(const HvExecutor *executor, GError **error);
