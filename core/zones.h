/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Zones: how a node's free memory lies, which decides how many huge pages the kernel can make of
 * it. Read for `plan` and `status`: a start asks the kernel itself, and looks at free blocks only
 * where it grows a pool.
 */
#pragma once

#include "snapshot.h"

#define HV_ORDERS_MAX 32

/* One zone of a node's memory. A block of order N has 2^N pages of the base size. */
typedef struct {
    int node;
    char name[16];
    guint64 managed_pages;
    guint n_orders;                             /* orders in which the kernel keeps free blocks */
    guint64 free_blocks[HV_ORDERS_MAX];         /* by order */
    gboolean has_types;                         /* what follows is known: it takes root */
    guint64 movable_free_blocks[HV_ORDERS_MAX]; /* of the free ones, those among movable pages */
    guint64 pageblock_kib;                      /* the piece in which the kernel sorts by type */
    guint64 movable_kib;                        /* in pageblocks whose pages may be moved */
    guint64 fixed_kib;                          /* in all others: mostly the kernel's own memory */
} HvZone;

/*
 * Reads /proc/buddyinfo and, where it may, /proc/pagetypeinfo into snapshot->zones, and each
 * node's pinned pages. A kernel without buddyinfo leaves snapshot->zones NULL. So does a malformed
 * file; snapshot->zones_fault then tells, and all else of the snapshot stays good.
 */
void hv_zones_read(const HvRoot *root, HvSnapshot *snapshot);

/*
 * Free memory of a node in blocks of a page of this size or larger: what the kernel need not put
 * together first. 0 where that is not known, and for pages larger than its largest block.
 */
guint64 hv_zones_free_kib(const HvRoot *root, int node, guint64 size_kib);
