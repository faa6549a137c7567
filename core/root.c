/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Kernel knobs are read whole and strictly, and written by one write(2): sysfs
 * treats each write as a command of its own.
 */
#include "root.h"

#include "error.h"
#include "fd.h"
#include "page-size.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

struct HvRoot {
    char *directory; /* "" for the machine itself */
};

HvRoot *hv_root_new(const char *directory)
{
    HvRoot *root = g_new0(HvRoot, 1);
    root->directory = g_strdup(directory != NULL ? directory : "");
    for (gsize n = strlen(root->directory); n > 0 && root->directory[n - 1] == '/'; n--)
        root->directory[n - 1] = '\0';
    return root;
}

void hv_root_free(HvRoot *root)
{
    if (root == NULL)
        return;
    g_free(root->directory);
    g_free(root);
}

gboolean hv_root_is_machine(const HvRoot *root)
{
    return root->directory[0] == '\0';
}

char *hv_root_path(const HvRoot *root, const char *path)
{
    return g_strconcat(root->directory, path, NULL);
}

gboolean hv_root_exists(const HvRoot *root, const char *path)
{
    g_autofree char *real = hv_root_path(root, path);
    return access(real, F_OK) == 0;
}

static void set_errno_error(GError **error, const char *action, const char *path, int errsv)
{
    if (errsv == ENOENT)
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NOENT, "cannot %s %s: %s", action, path,
                    g_strerror(errsv));
    else if (errsv == EACCES || errsv == EPERM || errsv == EROFS)
        hv_set_error(error, HV_ERROR_PERMISSION, errsv == EROFS ? NULL : "run it as root",
                     "cannot %s %s: %s", action, path, g_strerror(errsv));
    else
        hv_set_error(error, HV_ERROR_SYSTEM, NULL, "cannot %s %s: %s", action, path,
                     g_strerror(errsv));
}

/* Appends the file's bytes; stops with EFBIG above max_bytes. */
static gboolean read_all(int fd, gsize max_bytes, GString *out)
{
    char buffer[4096];
    for (;;) {
        ssize_t n = read(fd, buffer, sizeof buffer);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n == 0;
        if (out->len + (gsize)n > max_bytes) {
            errno = EFBIG;
            return FALSE;
        }
        g_string_append_len(out, buffer, n);
    }
}

char *hv_root_read_text(const HvRoot *root, const char *path, gsize max_bytes, GError **error)
{
    g_autofree char *real = hv_root_path(root, path);
    g_auto(HvFd) fd = open(real, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        set_errno_error(error, "open", real, errno);
        return NULL;
    }
    g_autoptr(GString) text = g_string_new(NULL);
    if (!read_all(fd, max_bytes, text)) {
        set_errno_error(error, "read", real, errno);
        return NULL;
    }
    if (strlen(text->str) != text->len) {
        hv_set_error(error, HV_ERROR_SYSTEM, NULL, "%s holds a NUL byte", real);
        return NULL;
    }
    return g_string_free(g_steal_pointer(&text), FALSE);
}

char *hv_next_line(char **text)
{
    char *line = *text;
    if (line == NULL || *line == '\0')
        return NULL;
    char *end = strchr(line, '\n');
    if (end != NULL)
        *end++ = '\0';
    *text = end;
    return line;
}

gboolean hv_root_read_u64(const HvRoot *root, const char *path, guint64 *out_value, GError **error)
{
    g_autofree char *text = hv_root_read_text(root, path, 64, error);
    if (text == NULL)
        return FALSE;
    gsize n = strlen(text);
    if (n > 0 && text[n - 1] == '\n')
        text[n - 1] = '\0';
    if (!hv_parse_u64(text, out_value)) {
        g_autofree char *quoted = hv_quote(text);
        g_autofree char *real = hv_root_path(root, path);
        hv_set_error(error, HV_ERROR_SYSTEM, NULL, "%s should hold a number, but holds %s", real,
                     quoted);
        return FALSE;
    }
    return TRUE;
}

gboolean hv_root_write_u64(const HvRoot *root, const char *path, guint64 value, GError **error)
{
    g_autofree char *real = hv_root_path(root, path);
    int flags = O_WRONLY | O_CLOEXEC | O_NONBLOCK;
    if (!hv_root_is_machine(root))
        flags |= O_TRUNC; /* a fixture's plain file would keep old digits */
    g_auto(HvFd) fd = open(real, flags);
    if (fd < 0) {
        set_errno_error(error, "open", real, errno);
        return FALSE;
    }
    g_autofree char *text = g_strdup_printf("%" G_GUINT64_FORMAT "\n", value);
    gsize n = strlen(text);
    ssize_t written = write(fd, text, n);
    if (written != (ssize_t)n) {
        set_errno_error(error, "write", real, written < 0 ? errno : EIO);
        return FALSE;
    }
    return TRUE;
}

static gint compare_names(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

char **hv_root_list(const HvRoot *root, const char *path, GError **error)
{
    g_autofree char *real = hv_root_path(root, path);
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    DIR *dir = opendir(real);
    if (dir == NULL && errno != ENOENT) {
        set_errno_error(error, "open", real, errno);
        return NULL;
    }
    for (struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            g_ptr_array_add(names, g_strdup(e->d_name));
    if (dir != NULL)
        closedir(dir);
    g_ptr_array_sort(names, compare_names);
    g_ptr_array_add(names, NULL);
    return (char **)g_ptr_array_free(g_steal_pointer(&names), FALSE);
}
