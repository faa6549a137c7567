/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Pool writes: one change of one pool, recorded so that a kill at any moment loses nothing. */
#pragma once

#include "planner.h"
#include "store.h"

typedef struct {
    const HvRoot *root;
    HvStore *store;
    const HvSettings *settings;
    gint64 deadline_us;    /* for locks; monotonic clock */
    const char *self_uuid; /* the VM that pages are got for; NULL: none */
} HvPoolWriter;

/* A pool's new total, decided once everything is locked and settled; the old one: no change. */
typedef guint64 (*HvDecideTotal)(const HvWorld *world, const HvPool *pool, guint64 pages);

typedef struct {
    int node;
    guint64 size_kib;
    HvDecideTotal decide;
    guint64 pages; /* handed to decide */
} HvResize;

typedef struct {
    guint64 before_total;
    guint64 wanted_total; /* as decided: less than asked for where the floor allowed no more */
    guint64 after_total;
} HvResized;

/* Errors: TIMEOUT (lock), LEDGER, PERMISSION, SYSTEM. A grant of fewer pages is no error. */
gboolean hv_pool_resize(const HvPoolWriter *writer, const HvResize *resize, HvResized *out,
                        GError **error);

/*
 * Makes all surplus of a size persistent, so that no reservation which is dropped and
 * no page which is freed pays for it. Nothing to do where there is none.
 */
gboolean hv_pool_pin(const HvPoolWriter *writer, guint64 size_kib, GError **error);

/*
 * Hands the pages of a size over to the kernel if hv_plan_may_hand_over() says so. A
 * kernel that does something else with them is found out by what is read back: all is
 * made persistent again, and it is not tried any more.
 */
gboolean hv_pool_hand_over(const HvPoolWriter *writer, guint64 size_kib, GError **error);

/* Free pages of one size split into the next smaller one, on the same node. */
typedef struct {
    int node;
    guint64 size_kib;
    guint64 to_kib;
    guint64 pages;
} HvSplit;

/*
 * *out_pages: larger pages that were split, perhaps fewer than asked. The smaller
 * pages count as grown as far as the larger ones did: an administrator's page stays
 * his, in pieces. Errors as above.
 */
gboolean hv_pool_split(const HvPoolWriter *writer, const HvSplit *split, guint64 *out_pages,
                       GError **error);
