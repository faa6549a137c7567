/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Left files: DPDK makes files of huge pages called rtemap_N, or PREFIXmap_N, in a hugetlbfs, and
 * leaves them when it is killed. Their pages are in use, and nobody's, until its next start.
 */
#pragma once

#include "root.h"

/* Such files of one hugetlbfs, which no process maps. */
typedef struct {
    char *directory;
    char *name; /* of one of them */
    guint n_files;
    guint64 size_kib;
    guint64 pages;
} HvLeftFiles;

/*
 * Finds them (HvLeftFiles), by looking at what every process maps: for `doctor`. Who is not root
 * sees too few processes to tell, and finds none.
 */
GPtrArray *hv_left_files_find(const HvRoot *root);
