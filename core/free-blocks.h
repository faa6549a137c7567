/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Free blocks: memory that the kernel has in large pieces already, by /proc/buddyinfo. */
#pragma once

#include "root.h"

/*
 * Free memory of a node in blocks of a page of this size or larger. 0 where that is not known, and
 * for pages that are larger than the kernel's largest block.
 */
guint64 hv_free_blocks_kib(const HvRoot *root, int node, guint64 size_kib);
