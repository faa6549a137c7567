/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Forecast: what could still be had, for `plan` and `status`. Pure, as the planner. */
#pragma once

#include "planner.h"

/*
 * Pages that a pool could grow by, whether growth is switched on or not. Where the snapshot does
 * not know how memory lies (zones.h), all three are what memory allows.
 */
typedef struct {
    guint64 at_once_pages; /* the memory for these lies in one piece already */
    guint64 likely_pages;  /* with what compaction usually brings: the one estimate */
    guint64 memory_pages;  /* the most, as memory and its floor allow: what plans go by */
} HvGrowth;

/* node -1: of all pools of the size together. */
HvGrowth hv_forecast_growth(const HvWorld *world, guint64 size_kib, int node);

/* Pages a VM bound to this pool's node could have: available now, and by growth if that is on. */
guint64 hv_forecast_allocatable_pages(const HvWorld *world, const HvPool *pool);

/* The same for a VM that any node may serve. */
guint64 hv_forecast_allocatable_of_size(const HvWorld *world, guint64 size_kib);

/* Steps of a plan that are not likely to succeed, in words: char *, added to warnings. */
void hv_forecast_warn(const HvWorld *world, const HvRequest *request, const HvPlan *plan,
                      GPtrArray *warnings);
