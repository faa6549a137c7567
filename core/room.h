/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Room: how many pages of a size a VM could have now. Pure arithmetic on a
 * snapshot, the settings and the ledger; doc/architecture.md explains the terms.
 */
#pragma once

#include "ledger.h"

/* All that a plan depends on besides the request. Owns nothing. */
typedef struct {
    const HvSnapshot *snapshot;
    const HvSettings *settings;
    const HvLedger *ledger;
    const char *self_uuid; /* a VM whose own claim does not count; NULL: none */
} HvWorld;

/* One page size, over all nodes, in pages. */
typedef struct {
    guint64 total;
    guint64 free; /* less what a give-back under way is about to take */
    guint64 resv; /* promised by mmap, not yet touched */
    guint64 in_use;
    guint64 held;              /* for VMs with a claim: mapped, or kept by guard or launch mount */
    guint64 exposed;           /* claimed, and kept by nothing: looks free to the kernel */
    guint64 foreign;           /* in use or promised, and not by a claim */
    guint64 reserved;          /* withheld by configuration */
    guint64 reserved_unused;   /* of these, what no consumer has taken yet */
    guint64 grown;             /* added by hugevm */
    guint64 floating_mapped;   /* of VMs whose pages several nodes may give, and that have them */
    guint64 floating_unmapped; /* and that have not: all of them may come from any one node */
    guint64 overcommit_left;   /* surplus pages that the kernel would still add by itself */
    guint64 available;
} HvRoom;

HvRoom hv_room_of_size(const HvWorld *world, guint64 size_kib);

/* Pages of other claims that no QEMU has yet, as far as anybody has said. */
guint64 hv_room_unmapped_pages(const HvWorld *world, guint64 size_kib);

/* Pages of the size that a need bound to this node could have now. */
guint64 hv_room_on_node(const HvWorld *world, guint64 size_kib, int node);

/* The same for whoever asks about many nodes: room is that of hv_room_of_size(). */
guint64 hv_room_on_node_within(const HvWorld *world, guint64 size_kib, int node,
                               const HvRoom *room);

/* Memory that growth may still take from a node, and from the host as a whole. */
guint64 hv_room_growable_on_node_kib(const HvWorld *world, int node);
guint64 hv_room_growable_on_host_kib(const HvWorld *world);

/*
 * Memory that the growth for other claims is still going to take: planned, but not
 * yet in the pools. node -1: on the host as a whole. For planning only: who carries
 * out a plan has been counted already.
 */
guint64 hv_room_promised_growth_kib(const HvWorld *world, int node);

/* Memory that the growth of a new plan may count on: what may be taken, less what is promised. */
guint64 hv_room_plannable_kib(const HvWorld *world, int node);

/* Free pages of one pool that hugevm may take away again (see planner.h for all pools). */
guint64 hv_room_returnable(const HvWorld *world, const HvPool *pool);
