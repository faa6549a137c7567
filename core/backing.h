/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Backing: the files that a VM's huge pages are in. QEMU removes their names at once,
 * but a vhost backend maps them too, and may do so longer than QEMU lives: as long as
 * anybody maps such a file, its pages are in use.
 */
#pragma once

#include "maps.h"

typedef struct {
    gint64 pid;
    char *name; /* of the program, as in /proc/PID/comm */
} HvHolder;

/* The files of huge pages that a process maps (HvFileId); empty where it cannot be seen. */
GArray *hv_backing_of(const HvRoot *root, gint64 pid);

/* Files below the directory that it maps. */
GArray *hv_backing_below(const HvRoot *root, gint64 pid, const char *directory);

/* Who maps any of these files (HvHolder). No files: nobody. Looks through all of /proc. */
GPtrArray *hv_backing_holders(const HvRoot *root, const GArray *files);
