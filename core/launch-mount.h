/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Launch mount: a hugetlbfs with min_size= over the directory in which QEMU will
 * make its memory files. The kernel keeps that many pages for files made there; it
 * is detached once QEMU has mapped, which costs QEMU nothing. Its source names hugevm
 * and the claim, so that /proc/self/mountinfo tells whose it is.
 *
 * None of this is for fixture trees.
 */
#pragma once

#include "root.h"

/* What every launch mount's source begins with. */
#define HV_LAUNCH_MOUNT_PREFIX "hugevm:"

typedef struct {
    char *path;
    char *uuid;
    guint64 generation;
    gboolean is_propagated; /* an unmount reaches copies of it in other mount namespaces */
} HvLaunchMount;

void hv_launch_mount_free(gpointer mount);

/*
 * A directory that can be mounted over for this page size: the index in directories
 * (NULL-terminated), with *out_fd open for it; -1: none of them is on a hugetlbfs of
 * the size.
 */
int hv_launch_mount_find(const char *const *directories, guint64 size_kib, int *out_fd);

/* The options for a mount over the open directory: its owner and mode, page size and minimum. */
char *hv_launch_mount_options(int fd, guint64 size_kib, guint64 bytes);

/* Mounts. 0, or errno: ENOMEM where the pages are not there. Root. */
int hv_launch_mount_make(int fd, const char *uuid, guint64 generation, const char *options);

/* All there are in this mount namespace (HvLaunchMount). */
GPtrArray *hv_launch_mount_list(const HvRoot *root);

/* The same for what a file of /proc says, such as /proc/PID/mountinfo. */
GPtrArray *hv_launch_mount_list_of(const HvRoot *root, const char *mountinfo);

/* Detaches; 0 or errno. */
int hv_launch_mount_detach(const char *path);

typedef gboolean HvLaunchMountKeep(const HvLaunchMount *mount, gconstpointer data);

/*
 * Detaches copies in the mount namespaces of other processes, but for those that are to be kept
 * (launch-elsewhere.c). As far as it may: what it cannot reach goes with its namespace.
 */
void hv_launch_mount_detach_elsewhere(const HvRoot *root, HvLaunchMountKeep *keep,
                                      gconstpointer data);
