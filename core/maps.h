/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Maps: what /proc/PID/maps, smaps and numa_maps say, line by line. For process.c, residence.c,
 * backing.c and consumers.c, which sum it up.
 */
#pragma once

#include "root.h"

#define HV_NODE_UNKNOWN (-1)

/* A file, whatever its name. */
typedef struct {
    guint64 major, minor; /* of its device */
    guint64 inode;
} HvFileId;

/* Pages of one size on one node. */
typedef struct {
    int node; /* HV_NODE_UNKNOWN: the kernel does not tell; and where it does not matter */
    guint64 size_kib;
    guint64 pages;
} HvPlacedPages;

/* The first line of a mapping, which is all of it in maps. */
typedef struct {
    guint64 start, end;
    char perms[5];
    guint64 offset;
    HvFileId file;    /* inode 0: none */
    const char *path; /* within the line, up to its end; "": none */
} HvMapping;

/* text may go on behind the line. FALSE: it is another line. */
gboolean hv_mapping_parse(const char *text, HvMapping *out_mapping);

/* Is it of a file below the directory? The line must end with the path. */
gboolean hv_mapping_is_below(const HvMapping *mapping, const char *directory);

/* One mapping as smaps shows it. */
typedef struct {
    guint64 start;
    guint64 size_kib;
    guint64 offset;
    HvFileId file;
    const char *path; /* in the text */
    guint64 page_kib;
    guint64 rss_kib; /* without huge pages of hugetlb */
    guint64 transparent_kib[3];
    guint64 hugetlb_kib[2]; /* mapped by several, by this process alone */
    gboolean is_huge;
    gboolean is_unreserved; /* what it has not touched yet the kernel does not keep for it */
    gboolean is_data;       /* that a program reads and writes: no code, heap or stack */
} HvSmap;

/* Appends HvSmap, by ascending start; cuts the text up. FALSE: a line is not understood. */
gboolean hv_smaps_parse(char *text, guint64 base_page_kib, GArray *smaps);

/* The one that starts there; NULL: none. */
const HvSmap *hv_smaps_find(const GArray *smaps, guint64 start);

/* One mapping as numa_maps shows it. */
typedef struct {
    guint64 start;
    guint64 page_kib; /* 0: nothing of it is there */
    gboolean is_huge;
    GArray *counts; /* HvPlacedPages, without size; the caller's */
} HvNumaLine;

/* Cuts the line up. FALSE: it is not understood. */
gboolean hv_numa_line_parse(char *text, HvNumaLine *line);
