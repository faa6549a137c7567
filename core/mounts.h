/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* hugetlbfs mounts: libvirt needs one of the page size, unless memory comes from memfd. */
#pragma once

#include "snapshot.h"

/* Is a hugetlbfs of this page size mounted? TRUE as well where /proc/mounts cannot be read. */
gboolean hv_mounts_have(const HvRoot *root, guint64 size_kib);

/* The command that makes such a mount, for hints. Newly allocated. */
char *hv_mounts_command(guint64 size_kib);
