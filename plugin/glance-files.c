/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "glance-files.h"

#include <string.h>

#define KEY "file_backed_memory"
#define BLANKS " \t\r"

/* A line "KEY = VALUE" or "KEY: VALUE"; keys are written in any case. */
static gboolean line_sets_key(const char *line, const char *end)
{
    const gsize n_key = strlen(KEY);
    while (line < end && strchr(BLANKS, *line) != NULL)
        line++;
    if ((gsize)(end - line) <= n_key || g_ascii_strncasecmp(line, KEY, n_key) != 0)
        return FALSE;
    for (line += n_key; line < end && strchr(BLANKS "=:", *line) != NULL; line++)
        continue;
    for (; line < end && *line == '0'; line++)
        continue;
    while (line < end && strchr(BLANKS, *line) != NULL)
        line++;
    return line < end;
}

gboolean glance_conf_keeps_files(const char *text, gsize n)
{
    const char *end = text + n;
    for (const char *line = text; line < end;) {
        const char *line_end = memchr(line, '\n', (gsize)(end - line));
        if (line_end == NULL)
            line_end = end;
        if (line_sets_key(line, line_end))
            return TRUE;
        line = line_end + 1;
    }
    return FALSE;
}

static gboolean file_keeps_files(const char *path)
{
    g_autofree char *text = NULL;
    gsize n = 0;
    return g_file_get_contents(path, &text, &n, NULL) && glance_conf_keeps_files(text, n);
}

static gboolean directory_keeps_files(const char *directory)
{
    gboolean found = FALSE;
    GDir *dir = g_dir_open(directory, 0, NULL);
    for (const char *name; dir != NULL && !found && (name = g_dir_read_name(dir)) != NULL;) {
        g_autofree char *path = g_build_filename(directory, name, NULL);
        found = g_str_has_suffix(name, ".conf") && file_keeps_files(path);
    }
    if (dir != NULL)
        g_dir_close(dir);
    return found;
}

gboolean glance_host_keeps_files(void)
{
    return file_keeps_files("/etc/hugevm/hugevm.conf") ||
           directory_keeps_files("/etc/hugevm/hugevm.conf.d") ||
           directory_keeps_files("/run/hugevm/hugevm.conf.d") ||
           directory_keeps_files("/usr/lib/hugevm/hugevm.conf.d");
}

static gboolean has_either(const char *xml, gsize n, const char *a, const char *b)
{
    return memmem(xml, n, a, strlen(a)) != NULL || memmem(xml, n, b, strlen(b)) != NULL;
}

gboolean glance_may_be_in_files(const char *xml, gsize n)
{
    return has_either(xml, n, "<source type='file'", "<source type=\"file\"");
}

gboolean glance_may_come_from_files(const char *xml, gsize n)
{
    return glance_may_be_in_files(xml, n) &&
           has_either(xml, n, "<allocation mode='immediate'", "<allocation mode=\"immediate\"");
}
