/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Demotion: which larger pages a plan splits. Of the planner, and pure as it is.
 *
 * A size splits into one smaller size (demote_size), which may be split in turn: on
 * arm64 1 GiB -> 32 MiB -> 2 MiB -> 64 KiB. The smallest pages that can be split go
 * first, of all nodes that may serve the need, so that large ones stay whole as long
 * as possible; of those that are split on the way down, only as many as it takes.
 */
#pragma once

#include "planner.h"

typedef struct {
    const HvWorld *world;
    const GArray *needs;      /* HvNeed of the request: it keeps its larger pages */
    const HvAttempt *attempt; /* NULL: none */
    GArray *steps;            /* HvStep, appended to */
    GArray *pools;            /* what is known of each pool; made when it is first asked for */
} HvDemotion;

void hv_demotion_init(HvDemotion *demotion, const HvWorld *world, const GArray *needs,
                      const HvAttempt *attempt, GArray *steps);
void hv_demotion_clear(HvDemotion *demotion);

/* Pages for a need that these nodes may serve, by splitting larger ones. Returns what is left. */
guint64 hv_demotion_get(HvDemotion *demotion, const HvNodeSet *allowed, guint64 size_kib,
                        guint64 pages);
