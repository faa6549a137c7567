/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "memory-dir.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#define QEMU_CONF "/etc/libvirt/qemu.conf"
#define QEMU_CONF_MAX_BYTES (1024 * 1024)
#define MOUNTS_MAX_BYTES (4 * 1024 * 1024)

/* The value of a line `KEY = "VALUE"`; NULL: it is another. */
static char *value_of_line(const char *line, const char *key)
{
    line += strspn(line, " \t");
    if (!g_str_has_prefix(line, key))
        return NULL;
    line += strlen(key);
    line += strspn(line, " \t");
    if (*line != '=')
        return NULL;
    line += 1 + strspn(line + 1, " \t");
    const char *quotes = g_str_has_prefix(line, "\"\"\"") ? "\"\"\"" : *line == '"' ? "\"" : "'";
    if (!g_str_has_prefix(line, quotes))
        return NULL;
    line += strlen(quotes);
    const char *end = strstr(line, quotes);
    return end != NULL ? g_strndup(line, (gsize)(end - line)) : NULL;
}

/* As libvirt reads it: of several the first one counts. */
static char *read_libvirt_path(const HvRoot *root)
{
    g_autofree char *text = hv_root_read_text(root, QEMU_CONF, QEMU_CONF_MAX_BYTES, NULL);
    char *path = NULL, *next = text, *line;
    while (text != NULL && path == NULL && (line = hv_next_line(&next)) != NULL)
        path = value_of_line(line, "memory_backing_dir");
    if (path != NULL && g_path_is_absolute(path) && g_utf8_validate(path, -1, NULL))
        return path;
    g_free(path);
    return g_strdup(HV_MEMORY_DIR_DEFAULT);
}

static gboolean is_below(const char *path, const char *directory)
{
    gsize n = strlen(directory);
    if (strcmp(directory, "/") == 0)
        return TRUE;
    return strncmp(path, directory, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

/* The longest that it is below; of two mounts on one place the later one lies on top. */
static char *find_mount_point(const HvRoot *root, const char *path)
{
    g_autofree char *text = hv_root_read_text(root, "/proc/self/mounts", MOUNTS_MAX_BYTES, NULL);
    char *best = NULL, *next = text, *line;
    while (text != NULL && (line = hv_next_line(&next)) != NULL) {
        g_auto(GStrv) fields = g_strsplit(line, " ", 3);
        if (g_strv_length(fields) < 3)
            continue;
        g_autofree char *point = g_strcompress(fields[1]); /* the kernel writes a blank as \040 */
        if (!is_below(path, point) || (best != NULL && strlen(point) < strlen(best)))
            continue;
        g_free(best);
        best = g_steal_pointer(&point);
    }
    return best;
}

static HvMemoryDirState look_at(const char *path)
{
    struct stat st;
    if (stat(path, &st) == 0)
        return S_ISDIR(st.st_mode) ? HV_MEMORY_DIR_THERE : HV_MEMORY_DIR_IS_OTHER;
    return errno == ENOENT    ? HV_MEMORY_DIR_MISSING
           : errno == ENOTDIR ? HV_MEMORY_DIR_IS_OTHER
                              : HV_MEMORY_DIR_UNKNOWN;
}

static guint64 to_kib(guint64 blocks, guint64 block_bytes)
{
    return blocks <= G_MAXUINT64 / block_bytes ? blocks * block_bytes / 1024 : G_MAXUINT64 / 1024;
}

static void read_room(HvMemoryDir *dir, const char *path)
{
    struct statvfs fs;
    if (statvfs(path, &fs) != 0 || fs.f_frsize == 0) {
        dir->state = HV_MEMORY_DIR_UNKNOWN;
        return;
    }
    if ((fs.f_flag & ST_RDONLY) != 0) /* as the kernel makes it after an error of the disk */
        dir->state = HV_MEMORY_DIR_READ_ONLY;
    dir->size_kib = to_kib(fs.f_blocks, fs.f_frsize);
    dir->free_kib = to_kib(fs.f_bavail, fs.f_frsize);
}

HvMemoryDir *hv_memory_dir_read(const HvRoot *root, const char *configured)
{
    HvMemoryDir *dir = g_new0(HvMemoryDir, 1);
    dir->libvirt_path = read_libvirt_path(root);
    dir->path = g_strdup(configured != NULL ? configured : dir->libvirt_path);
    g_autofree char *path = hv_root_path(root, dir->path);
    dir->state = look_at(path);
    if (dir->state != HV_MEMORY_DIR_THERE)
        return dir;
    if (hv_root_is_machine(root)) {
        char *real = realpath(path, NULL);
        dir->real_path = g_strdup(real != NULL ? real : dir->path);
        free(real);
        read_room(dir, path);
    } else {
        dir->real_path = g_strdup(dir->path);
        dir->size_kib = dir->free_kib = G_MAXUINT64;
    }
    dir->mount_point = find_mount_point(root, dir->real_path);
    return dir;
}

void hv_memory_dir_free(HvMemoryDir *dir)
{
    if (dir == NULL)
        return;
    g_free(dir->path);
    g_free(dir->real_path);
    g_free(dir->libvirt_path);
    g_free(dir->mount_point);
    g_free(dir);
}

gboolean hv_memory_dir_is_on_root(const HvMemoryDir *dir)
{
    return g_strcmp0(dir->mount_point, "/") == 0;
}
