/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "mounts.h"

#include "page-size.h"

#include <string.h>

#define MOUNTS_MAX_BYTES (4 * 1024 * 1024)

/* The kernel always shows the page size of a hugetlbfs among its options: "rw,pagesize=2M". */
static gboolean has_page_size(const char *options, guint64 size_kib)
{
    g_auto(GStrv) list = g_strsplit(options, ",", -1);
    for (guint i = 0; list[i] != NULL; i++) {
        guint64 kib;
        if (g_str_has_prefix(list[i], "pagesize=") &&
            hv_parse_size_kib(list[i] + strlen("pagesize="), 1, &kib) && kib == size_kib)
            return TRUE;
    }
    return FALSE;
}

gboolean hv_mounts_have(const HvRoot *root, guint64 size_kib)
{
    g_autofree char *text = hv_root_read_text(root, "/proc/self/mounts", MOUNTS_MAX_BYTES, NULL);
    if (text == NULL)
        return TRUE;
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (guint i = 0; lines[i] != NULL; i++) {
        g_auto(GStrv) fields = g_strsplit(lines[i], " ", 5);
        if (g_strv_length(fields) >= 4 && strcmp(fields[2], "hugetlbfs") == 0 &&
            has_page_size(fields[3], size_kib))
            return TRUE;
    }
    return FALSE;
}

char *hv_mounts_command(guint64 size_kib)
{
    static const char units[] = "KMG";
    guint unit = 0;
    for (; size_kib % 1024 == 0 && unit + 2 < sizeof units; unit++)
        size_kib /= 1024;
    g_autofree char *size = g_strdup_printf("%" G_GUINT64_FORMAT "%c", size_kib, units[unit]);
    return g_strdup_printf(
        "mkdir -p /dev/hugepages-%s && mount -t hugetlbfs -o pagesize=%s none /dev/hugepages-%s",
        size, size, size);
}
