/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Snapshot: what the kernel's pools and the memory beside them look like at one
 * moment, as plain numbers. Everything behind it (planner, report) works on
 * numbers only.
 */
#pragma once

#include "memory-dir.h"
#include "node-set.h"
#include "platform.h"

typedef struct {
    int id;
    guint64 mem_total_kib;
    guint64 mem_free_kib;
    guint64 reclaimable_kib;   /* file pages on the LRU lists + SReclaimable */
    guint64 file_kib;          /* of these, the file pages */
    guint64 low_watermark_kib; /* sum of the zones' "low" of this node */
    gboolean is_cpuless;       /* memory that is far from every CPU */
    HvNodeSet cpus;            /* of topology.h: its CPUs; empty: it has none, or not read */
    guint64 pinned_pages;      /* of the base page size; 0 unless hv_zones_read() was called */
} HvNode;

/* What the kernel keeps per page size, over all nodes. */
typedef struct {
    guint64 size_kib;
    guint64 resv_pages;       /* promised by mmap, not yet touched */
    guint64 overcommit_pages; /* nr_overcommit_hugepages */
    guint64 demote_size_kib;  /* 0: the kernel cannot split this size */
    gboolean is_default;      /* Hugepagesize of /proc/meminfo */
} HvPageSize;

/* One (node, page size) pair. persistent = total - surplus; in use = total - free. */
typedef struct {
    int node;
    guint64 size_kib;
    guint64 total_pages;
    guint64 free_pages;
    guint64 surplus_pages;
} HvPool;

/* The kernel's distances within a node, and to another where it does not know better. */
#define HV_DISTANCE_LOCAL 10u
#define HV_DISTANCE_REMOTE 20u

typedef struct {
    GArray *nodes; /* HvNode, ascending id */
    GArray *sizes; /* HvPageSize, ascending size */
    GArray *pools; /* HvPool, ascending (node, size) */
    GArray *zones; /* HvZone (zones.h); NULL unless hv_zones_read() was called, and could read */
    char *zones_fault;    /* why not, in words; NULL: for no fault */
    GPtrArray *consumers; /* HvConsumer; NULL unless hv_consumers_read() was called */
    guint64 mem_available_kib;
    guint64 base_page_kib;
    guint kernel_version; /* HV_KERNEL_VERSION; 0: not known */
    HvVersions versions;  /* only what an agent has said */
    char *arch;           /* "x86_64", "ppc64le", ...; "unknown" */
    GArray *distances;    /* guint, of topology.h: a row per node; empty: not read */
    /* no hugetlbfs of the default size; FALSE: there is one, or nobody has looked */
    gboolean lacks_default_mount;
    HvMemoryDir *memory_dir; /* NULL: not looked at, as VMs' memory is not in files */
} HvSnapshot;

/*
 * Reads every node and every size found. A kernel without huge pages gives a
 * snapshot without sizes. Unknown directory entries are skipped; a known file
 * with malformed content is HV_ERROR_SYSTEM and names the file.
 */
HvSnapshot *hv_snapshot_read(const HvRoot *root, GError **error);

/* The same of one page size, for whoever is about to write its pools. */
HvSnapshot *hv_snapshot_read_size(const HvRoot *root, guint64 size_kib, GError **error);

/* Its pools and nothing else, to see what came of a write: nodes without their memory. */
HvSnapshot *hv_snapshot_read_pools(const HvRoot *root, guint64 size_kib, GError **error);
HvSnapshot *hv_snapshot_new(void); /* empty, for tests */
void hv_snapshot_free(HvSnapshot *snapshot);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvSnapshot, hv_snapshot_free)

/* NULL where there is none. */
const HvPageSize *hv_snapshot_size(const HvSnapshot *snapshot, guint64 size_kib);
const HvPool *hv_snapshot_pool(const HvSnapshot *snapshot, int node, guint64 size_kib);
const HvNode *hv_snapshot_node(const HvSnapshot *snapshot, int node);

/*
 * How far a node is from the nearest of others, as the kernel counts: 10 is there. 0 where there
 * are no others to be near. Not read: 10 or 20.
 */
guint hv_snapshot_distance(const HvSnapshot *snapshot, int node, const HvNodeSet *near);

/* The default huge page size in KiB, 0 where there is none. */
guint64 hv_snapshot_default_size_kib(const HvSnapshot *snapshot);

/* "2 MiB, 1 GiB" for messages, "none" where there is none. Newly allocated. */
char *hv_snapshot_format_sizes(const HvSnapshot *snapshot);

static inline guint64 hv_pool_persistent(const HvPool *pool)
{
    return pool->total_pages > pool->surplus_pages ? pool->total_pages - pool->surplus_pages : 0;
}

static inline guint64 hv_pool_in_use(const HvPool *pool)
{
    return pool->total_pages > pool->free_pages ? pool->total_pages - pool->free_pages : 0;
}
