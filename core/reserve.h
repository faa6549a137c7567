/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reserve: what reservations come to on this host: who uses them, and which it cannot honour. Pure.
 */
#pragma once

#include "consumers.h"

/* What a named reservation's consumer has of it. */
typedef struct {
    const HvReserved *entry;
    guint64 used_pages; /* at most its count */
} HvReserveUse;

/*
 * One per named entry of a size whose pool is there, in the order of the settings. No page counts
 * for two: of several entries for one process those for a node are filled first, by what it has
 * there.
 */
GArray *hv_reserve_uses(const HvSettings *settings, const HvSnapshot *snapshot, guint64 size_kib);

/* "reserved for ovs on node 0, 256 of 512 in use", without the node where there is only one. */
char *hv_reserve_describe(const HvReserveUse *use, const HvSnapshot *snapshot);

/* Pages of this size that a consumer holds on a node; -1: on all. */
guint64 hv_consumer_pages(const HvConsumer *consumer, guint64 size_kib, int node);

/* The same of all processes that a reservation means. */
guint64 hv_reserve_held_pages(const HvSnapshot *snapshot, const char *process, guint64 size_kib,
                              int node);

/* char *: named reservations that are not used as they are written, as far as it was looked for. */
GPtrArray *hv_reserve_notes(const HvSettings *settings, const HvSnapshot *snapshot);

/* char *: what is reserved on nodes or of sizes that are missing, or beyond a pool. */
GPtrArray *hv_reserve_warnings(const HvSettings *settings, const HvSnapshot *snapshot);
