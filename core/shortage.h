/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A shortage of pages in words: what was asked, where, found, who has the rest, what to do. */
#pragma once

#include "room.h"

/* The needs of one size that the same nodes may serve. In pages. */
typedef struct {
    guint64 size_kib;
    HvNodeSet nodes;
    guint64 wanted;
    guint64 available;
    guint64 missing;
    guint64 missing_of_size; /* by all needs of the size */
} HvShortage;

HvRefusal *hv_shortage_refusal(const HvWorld *world, const HvRequest *request,
                               const HvShortage *shortage);

/*
 * Who has, or waits for, pages of the size that may come from these nodes, with the number of
 * pages: "'a' (40), 'b' (12) and 2 more"; empty: nobody. self_uuid: not this VM, or NULL.
 */
char *hv_shortage_holders(const HvLedger *ledger, const char *self_uuid, guint64 size_kib,
                          const HvNodeSet *nodes);
