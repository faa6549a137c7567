/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Residence: on which nodes, and on pages of which size, the memory of a process is. */
#pragma once

#include "maps.h"
#include "process.h"

/* Only this process's own view counts: what it maps, whoever else maps the same. */
typedef struct {
    gboolean knows_nodes;
    GArray *placed;     /* HvPlacedPages: huge pages that it has touched, ascending (node, size) */
    GArray *mapped;     /* HvPlacedPages without node: all that it maps, touched or not */
    GArray *reserved;   /* HvPlacedPages without node: of mapped, what the kernel keeps for it */
    GArray *unreserved; /* HvPlacedPages without node: what it has touched of the rest */
    guint n_unreserved; /* such mappings */
    guint64 unreserved_kib;  /* their sizes, touched or not */
    gboolean knows_mappings; /* else mapped is no more than what is there */

    /* Large mappings on normal pages: guest memory, if there is any beside the huge pages. */
    GArray *normal; /* HvPlacedPages: what of them is there */
    guint64 normal_mapped_kib;
    guint64 normal_transparent_kib; /* transparent huge pages, a part of what is there */
} HvResidence;

/*
 * Reads numa_maps and smaps of a process, of which one may be missing: without NUMA the
 * kernel has no numa_maps, and all is on only_node; without smaps the mappings count as no
 * larger than what is there. The kernel walks all page tables of the process for it.
 * HV_ERROR_PERMISSION: another user's process. HV_ERROR_SYSTEM: it has ended.
 */
HvResidence *hv_residence_read(const HvRoot *root, const HvProcess *process, int only_node,
                               GError **error);
HvResidence *hv_residence_new(void); /* of a process without memory */
void hv_residence_free(HvResidence *residence);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvResidence, hv_residence_free)

/* Adds pages to those of their node and size. Zero pages leave no entry. */
void hv_placed_add(GArray *placed, int node, guint64 size_kib, guint64 pages);

/* Pages of one size, on all nodes. */
guint64 hv_placed_pages(const GArray *placed, guint64 size_kib);

/* The memory of all of them. */
guint64 hv_placed_kib(const GArray *placed);
