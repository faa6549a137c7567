/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "backing.h"

#include "page-size.h"
#include "platform.h"
#include "process.h"

#include <stdio.h>
#include <string.h>

#define SMAPS_MAX_BYTES (64 * 1024 * 1024)
#define COMM_MAX_BYTES 64

static gboolean contains(const GArray *files, const HvFileId *id)
{
    for (guint i = 0; i < files->len; i++)
        if (memcmp(&g_array_index(files, HvFileId, i), id, sizeof *id) == 0)
            return TRUE;
    return FALSE;
}

GArray *hv_backing_of(const HvRoot *root, gint64 pid)
{
    GArray *files = g_array_new(FALSE, TRUE, sizeof(HvFileId));
    guint64 base_kib = hv_platform_base_page_kib(root);
    HvMapping current = {0};
    g_autofree char *digits = g_strdup_printf("%" G_GINT64_FORMAT, pid);
    g_autofree char *text = hv_process_read(root, digits, "smaps", SMAPS_MAX_BYTES);
    g_auto(GStrv) lines = g_strsplit(text != NULL ? text : "", "\n", -1);
    for (guint i = 0; lines[i] != NULL; i++) {
        unsigned long long page_kib;
        if (hv_mapping_parse(lines[i], &current))
            continue;
        if (sscanf(lines[i], "KernelPageSize: %llu kB", &page_kib) == 1 && page_kib > base_kib &&
            current.file.inode != 0 && !contains(files, &current.file))
            g_array_append_val(files, current.file);
    }
    return files;
}

GArray *hv_backing_below(const HvRoot *root, gint64 pid, const char *directory)
{
    GArray *files = g_array_new(FALSE, TRUE, sizeof(HvFileId));
    g_autofree char *digits = g_strdup_printf("%" G_GINT64_FORMAT, pid);
    g_autofree char *text = hv_process_read(root, digits, "maps", SMAPS_MAX_BYTES);
    char *next = text, *line;
    HvMapping mapping;
    while (text != NULL && (line = hv_next_line(&next)) != NULL)
        if (hv_mapping_parse(line, &mapping) && hv_mapping_is_below(&mapping, directory) &&
            !contains(files, &mapping.file))
            g_array_append_val(files, mapping.file);
    return files;
}

/* Line by line without copies: this is done for every process of the host. */
static gboolean maps_any(const char *text, const GArray *files)
{
    for (const char *line = text; line != NULL && *line != '\0';) {
        HvMapping mapping;
        if (hv_mapping_parse(line, &mapping) && mapping.file.inode != 0 &&
            contains(files, &mapping.file))
            return TRUE;
        line = strchr(line, '\n');
        line = line != NULL ? line + 1 : NULL;
    }
    return FALSE;
}

static void holder_free(gpointer data)
{
    HvHolder *holder = data;
    g_free(holder->name);
    g_free(holder);
}

GPtrArray *hv_backing_holders(const HvRoot *root, const GArray *files)
{
    GPtrArray *holders = g_ptr_array_new_with_free_func(holder_free);
    g_auto(GStrv) names = files->len > 0 ? hv_root_list(root, "/proc", NULL) : NULL;
    for (guint i = 0; names != NULL && names[i] != NULL; i++) {
        guint64 pid;
        if (!hv_parse_u64(names[i], &pid))
            continue;
        g_autofree char *maps = hv_process_read(root, names[i], "maps", SMAPS_MAX_BYTES);
        if (maps == NULL || !maps_any(maps, files))
            continue;
        HvHolder *holder = g_new0(HvHolder, 1);
        g_autofree char *comm = hv_process_read(root, names[i], "comm", COMM_MAX_BYTES);
        holder->pid = (gint64)pid;
        holder->name = g_strdup(comm != NULL ? g_strstrip(comm) : "?");
        g_ptr_array_add(holders, holder);
    }
    return holders;
}
