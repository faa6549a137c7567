/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The directory belongs to the user that QEMU runs as: it is opened once, without
 * following a symbolic link, and everything after that goes by the descriptor.
 */
#include "launch-mount.h"

#include "page-size.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#define MOUNTINFO_MAX_BYTES (16 * 1024 * 1024)

#ifndef O_PATH
#define O_PATH 010000000
#endif

void hv_launch_mount_free(gpointer mount)
{
    HvLaunchMount *m = mount;
    if (m == NULL)
        return;
    g_free(m->path);
    g_free(m->uuid);
    g_free(m);
}

int hv_launch_mount_find(const char *const *directories, guint64 size_kib, int *out_fd)
{
    for (int i = 0; directories != NULL && directories[i] != NULL; i++) {
        struct statfs fs;
        int fd = open(directories[i], O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd >= 0 && fstatfs(fd, &fs) == 0 && (guint32)fs.f_type == HUGETLBFS_MAGIC &&
            (guint64)fs.f_bsize == size_kib * 1024) {
            *out_fd = fd;
            return i;
        }
        if (fd >= 0)
            close(fd);
    }
    return -1;
}

char *hv_launch_mount_options(int fd, guint64 size_kib, guint64 bytes)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return NULL;
    return g_strdup_printf("pagesize=%" G_GUINT64_FORMAT "K,min_size=%" G_GUINT64_FORMAT
                           ",uid=%u,gid=%u,mode=%04o",
                           size_kib, bytes, st.st_uid, st.st_gid, st.st_mode & 07777);
}

int hv_launch_mount_make(int fd, const char *uuid, guint64 generation, const char *options)
{
    g_autofree char *target = g_strdup_printf("/proc/self/fd/%d", fd);
    g_autofree char *source =
        g_strdup_printf(HV_LAUNCH_MOUNT_PREFIX "%s:%" G_GUINT64_FORMAT, uuid, generation);
    int result = mount(source, target, "hugetlbfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, options);
    return result == 0 ? 0 : errno;
}

/* "hugevm:UUID:GENERATION"; NULL: not one of ours. */
static HvLaunchMount *parse_source(const char *source)
{
    g_auto(GStrv) parts = g_strsplit(source, ":", 4);
    guint64 generation;
    if (g_strv_length(parts) != 3 || !g_str_has_prefix(source, HV_LAUNCH_MOUNT_PREFIX) ||
        !hv_parse_u64(parts[2], &generation))
        return NULL;
    HvLaunchMount *found = g_new0(HvLaunchMount, 1);
    found->uuid = g_strdup(parts[1]);
    found->generation = generation;
    return found;
}

/* The mount of this number: what is unmounted below it is unmounted in its copies, too. */
static gboolean is_shared(char **lines, const char *id)
{
    g_autofree char *begin = g_strconcat(id, " ", NULL);
    for (guint i = 0; lines[i] != NULL; i++) {
        if (!g_str_has_prefix(lines[i], begin))
            continue;
        const char *dash = strstr(lines[i], " - ");
        const char *field = strstr(lines[i], " shared:");
        return dash != NULL && field != NULL && field < dash;
    }
    return FALSE;
}

/* "ID PARENT MAJOR:MINOR ROOT PATH OPTIONS [FIELD]... - TYPE SOURCE OPTIONS" */
static HvLaunchMount *parse_line(const char *line, char **lines)
{
    const char *dash = strstr(line, " - hugetlbfs ");
    if (dash == NULL)
        return NULL;
    g_auto(GStrv) head = g_strsplit(line, " ", 6);
    g_auto(GStrv) tail = g_strsplit(dash + strlen(" - hugetlbfs "), " ", 2);
    if (g_strv_length(head) < 6 || g_strv_length(tail) < 2)
        return NULL;
    HvLaunchMount *found = parse_source(tail[0]);
    if (found != NULL)
        found->path = g_strcompress(head[4]); /* the kernel writes a blank as \040 */
    if (found != NULL)
        found->is_propagated = is_shared(lines, head[1]);
    return found;
}

GPtrArray *hv_launch_mount_list_of(const HvRoot *root, const char *mountinfo)
{
    GPtrArray *mounts = g_ptr_array_new_with_free_func(hv_launch_mount_free);
    g_autofree char *text = hv_root_read_text(root, mountinfo, MOUNTINFO_MAX_BYTES, NULL);
    if (text == NULL || strstr(text, " " HV_LAUNCH_MOUNT_PREFIX) == NULL)
        return mounts;
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (guint i = 0; lines[i] != NULL; i++) {
        HvLaunchMount *found = parse_line(lines[i], lines);
        if (found != NULL)
            g_ptr_array_add(mounts, found);
    }
    return mounts;
}

GPtrArray *hv_launch_mount_list(const HvRoot *root)
{
    return hv_launch_mount_list_of(root, "/proc/self/mountinfo");
}

int hv_launch_mount_detach(const char *path)
{
    return umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) == 0 ? 0 : errno;
}
