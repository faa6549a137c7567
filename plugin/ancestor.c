/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ancestor.h"

#include <string.h>
#include <unistd.h>

#define MAX_GENERATIONS 32

/* A process's parent, and its name (as the kernel cuts it); 0, and no name: there is none. */
static gint64 parent_of(gint64 pid, char **out_name)
{
    g_autofree char *path = g_strdup_printf("/proc/%" G_GINT64_FORMAT "/stat", pid);
    g_autofree char *stat = NULL;
    g_file_get_contents(path, &stat, NULL, NULL);
    /* "PID (NAME) STATE PARENT ..."; the name may hold blanks and parentheses */
    const char *open = stat != NULL ? strchr(stat, '(') : NULL;
    const char *close = stat != NULL ? strrchr(stat, ')') : NULL;
    if (open == NULL || close == NULL || strlen(close) < strlen(") S 1"))
        return 0;
    *out_name = g_strndup(open + 1, (gsize)(close - open - 1));
    return g_ascii_strtoll(close + strlen(") S "), NULL, 10);
}

gint64 ancestor_find(const char *const *names)
{
    gint64 pid = getppid();
    for (int i = 0; pid > 0 && i < MAX_GENERATIONS; i++) { /* a container's daemon is process 1 */
        g_autofree char *name = NULL;
        gint64 parent = parent_of(pid, &name);
        if (parent != 0 && g_strv_contains(names, name))
            return pid;
        pid = parent;
    }
    return 0;
}

gboolean ancestor_is(gint64 wanted)
{
    gint64 pid = getppid();
    for (int i = 0; pid > 1 && i < MAX_GENERATIONS; i++) {
        g_autofree char *name = NULL;
        if (pid == wanted)
            return TRUE;
        pid = parent_of(pid, &name);
    }
    return FALSE;
}
