/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * hugetlbfs mounts: libvirt needs one of the page size, unless memory comes from
 * memfd. Its system daemon looks for them only when it starts, and makes the
 * directory libvirt/qemu in each: a mount without that is one it does not know.
 */
#pragma once

#include "root.h"

typedef enum {
    HV_LIBVIRT_EMBEDDED, /* the driver in this process, which has yet to look for mounts */
    HV_LIBVIRT_DAEMON,
} HvLibvirt;

typedef struct {
    char *directory;
    guint64 size_kib; /* of its pages */
} HvHugetlbfs;

/* All hugetlbfs mounts (HvHugetlbfs); NULL where /proc/mounts cannot be read. */
GPtrArray *hv_mounts_list(const HvRoot *root);

/*
 * Will libvirt find a hugetlbfs of this page size? HV_ERROR_CONFLICT with the
 * command to run. TRUE as well where /proc/mounts cannot be read.
 */
gboolean hv_mounts_check(const HvRoot *root, guint64 size_kib, HvLibvirt libvirt, GError **error);
