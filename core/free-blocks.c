/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "free-blocks.h"

#include "page-size.h"
#include "platform.h"

#include <stdio.h>
#include <string.h>

#define BUDDYINFO_MAX_BYTES (1024 * 1024)
#define MAX_ORDERS 32

/* What stands behind the zone's name: the number of free blocks of 1, 2, 4, ... base pages. */
static guint64 sum_blocks_kib(const char *counts, guint64 block_kib, guint64 size_kib)
{
    guint64 kib = 0;
    for (int order = 0; order < MAX_ORDERS; order++, block_kib *= 2) {
        char *end = NULL;
        guint64 count = g_ascii_strtoull(counts, &end, 10), here_kib = 0;
        if (end == counts)
            break;
        if (block_kib >= size_kib && hv_checked_mul(count, block_kib, &here_kib))
            kib = hv_plus(kib, here_kib);
        counts = end;
    }
    return kib;
}

guint64 hv_free_blocks_kib(const HvRoot *root, int node, guint64 size_kib)
{
    guint64 kib = 0, base_kib = hv_platform_base_page_kib(root);
    g_autofree char *text = hv_root_read_text(root, "/proc/buddyinfo", BUDDYINFO_MAX_BYTES, NULL);
    g_auto(GStrv) lines = text != NULL ? g_strsplit(text, "\n", -1) : NULL;
    for (guint i = 0; lines != NULL && lines[i] != NULL; i++) {
        int line_node, counts_at = 0;
        if (sscanf(lines[i], "Node %9d, zone %*15s %n", &line_node, &counts_at) == 1 &&
            counts_at > 0 && line_node == node)
            kib = hv_plus(kib, sum_blocks_kib(lines[i] + counts_at, base_kib, size_kib));
    }
    return kib;
}
