/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Explain: per node and page size, what a plan was made from: what the VM wants there,
 * what there is and who has it, and what could still be had. Pure, as the planner.
 */
#pragma once

#include "forecast.h"

/*
 * In pages. Row of a node: wanted, reserved and claimed are what it alone may serve. node -1: what
 * several nodes may serve, beside total, free, available and the forecasts of all of them together.
 */
typedef struct {
    int node;
    guint64 size_kib;
    guint64 wanted;
    guint64 missing; /* of these, what cannot be had: 0 unless the plan is refused */
    guint64 total;
    guint64 free;
    guint64 reserved;        /* withheld by configuration */
    GPtrArray *reserved_for; /* char *: for whom, as far as that has a name */
    guint64 claimed;         /* for other VMs, whether they have them yet or not */
    GPtrArray *claimed_by;   /* char *: their names, or UUIDs where they have none */
    guint64 available;       /* a VM could have them now */
    guint64 demotable;       /* more by splitting larger pages, as the settings allow */
    HvGrowth growth;         /* more by growth, even if that is switched off */
} HvExplainRow;

/* A row per pool of each size that the request needs, larger sizes first (HvExplainRow). */
GPtrArray *hv_explain(const HvWorld *world, const HvRequest *request, const HvPlan *plan);
