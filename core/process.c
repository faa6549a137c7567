/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "process.h"

#include "page-size.h"

#include <string.h>

#define STAT_MAX_BYTES 4096
#define CMDLINE_MAX_BYTES (1024 * 1024)
#define POLL_US (10 * 1000)

/* Fields behind the command name, which itself may hold blanks and parentheses. */
#define FIELD_STATE 0
#define FIELD_START 19

HvProcess hv_process_identify(const HvRoot *root, gint64 pid)
{
    HvProcess none = {0};
    if (pid <= 0)
        return none;
    g_autofree char *path = g_strdup_printf("/proc/%" G_GINT64_FORMAT "/stat", pid);
    g_autofree char *text = hv_root_read_text(root, path, STAT_MAX_BYTES, NULL);
    const char *behind_name = text != NULL ? strrchr(text, ')') : NULL;
    if (behind_name == NULL || behind_name[1] != ' ')
        return none;
    g_auto(GStrv) fields = g_strsplit(behind_name + 2, " ", FIELD_START + 2);
    HvProcess process = {.pid = pid};
    if (g_strv_length(fields) <= FIELD_START || strchr("ZXx", fields[FIELD_STATE][0]) != NULL ||
        !hv_parse_u64(fields[FIELD_START], &process.start_ticks))
        return none;
    return process;
}

gboolean hv_process_is_alive(const HvRoot *root, const HvProcess *process)
{
    HvProcess now = hv_process_identify(root, process->pid);
    return now.pid != 0 && now.start_ticks == process->start_ticks;
}

/*
 * Does a command line (words ended by NUL) run this VM? Whatever the emulator is
 * called: to overlook one means giving away the pages of a VM that runs.
 */
static gboolean is_qemu_of(const char *words, gsize n, const char *uuid)
{
    const char *end = words + n;
    for (const char *word = words; word < end; word += strlen(word) + 1) {
        const char *value = word + strlen(word) + 1;
        if (strcmp(word, "-uuid") == 0 && value < end)
            return g_ascii_strcasecmp(value, uuid) == 0;
    }
    return FALSE;
}

HvProcess hv_process_find_qemu(const HvRoot *root, const char *uuid)
{
    HvProcess none = {0};
    g_auto(GStrv) names = hv_root_list(root, "/proc", NULL);
    for (guint i = 0; names != NULL && names[i] != NULL; i++) {
        guint64 pid;
        if (!hv_parse_u64(names[i], &pid))
            continue;
        g_autofree char *path = g_strdup_printf("/proc/%s/cmdline", names[i]);
        g_autofree char *real = hv_root_path(root, path);
        g_autofree char *words = NULL;
        gsize n = 0;
        /* GLib ends the bytes with a NUL of its own, so the last word always ends */
        if (!g_file_get_contents(real, &words, &n, NULL) || n > CMDLINE_MAX_BYTES)
            continue;
        if (is_qemu_of(words, n, uuid)) {
            HvProcess process = hv_process_identify(root, (gint64)pid);
            if (process.pid != 0)
                return process;
        }
    }
    return none;
}

gboolean hv_process_wait_end(const HvRoot *root, const HvProcess *process, guint64 timeout_ms)
{
    gint64 deadline_us = g_get_monotonic_time() + (gint64)timeout_ms * 1000;
    while (hv_process_is_alive(root, process)) {
        if (g_get_monotonic_time() >= deadline_us)
            return FALSE;
        g_usleep(POLL_US);
    }
    return TRUE;
}
