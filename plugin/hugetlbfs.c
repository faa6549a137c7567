/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "hugetlbfs.h"

#include <mntent.h>
#include <stdio.h>
#include <string.h>

#define LAUNCH_PREFIX "hugevm:" /* of a launch mount's source, see core/launch-mount.h */

char **hugetlbfs_mounts(void)
{
    GPtrArray *paths = g_ptr_array_new();
    char buffer[16 * 1024];
    struct mntent entry;
    FILE *file = setmntent("/proc/self/mounts", "re");
    while (file != NULL && getmntent_r(file, &entry, buffer, sizeof buffer) != NULL)
        if (strcmp(entry.mnt_type, "hugetlbfs") == 0 &&
            !g_str_has_prefix(entry.mnt_fsname, LAUNCH_PREFIX))
            g_ptr_array_add(paths, g_strdup(entry.mnt_dir));
    if (file != NULL)
        endmntent(file);
    g_ptr_array_add(paths, NULL);
    return (char **)g_ptr_array_free(paths, FALSE);
}

char **hugetlbfs_directories(const char *name)
{
    GPtrArray *paths = g_ptr_array_new();
    g_auto(GStrv) mounts = hugetlbfs_mounts();
    for (guint i = 0; mounts[i] != NULL; i++) {
        g_autofree char *path = g_build_filename(mounts[i], name, NULL);
        if (g_file_test(path, G_FILE_TEST_IS_DIR))
            g_ptr_array_add(paths, g_steal_pointer(&path));
    }
    g_ptr_array_add(paths, NULL);
    return (char **)g_ptr_array_free(paths, FALSE);
}

/* How much of the VM's name the directory's has, less what it has besides, in bytes; it may be
 * below 0. G_MININT: it is of another id. */
static int likeness(const char *entry, const char *prefix, const char *name)
{
    if (!g_str_has_prefix(entry, prefix))
        return G_MININT;
    const char *rest = entry + strlen(prefix);
    int n = 0;
    while (rest[n] != '\0' && rest[n] == name[n])
        n++;
    return n - (int)strlen(rest + n);
}

/* The entry of a directory that is most like ID-NAME; NULL: there is none of that id. */
static char *find_entry(const char *directory, const char *prefix, const char *name)
{
    GDir *dir = g_dir_open(directory, 0, NULL);
    g_autofree char *best = NULL;
    int best_likeness = G_MININT;
    for (const char *entry; dir != NULL && (entry = g_dir_read_name(dir)) != NULL;) {
        int found = likeness(entry, prefix, name);
        if (found <= best_likeness)
            continue;
        g_free(best);
        best = g_build_filename(directory, entry, NULL);
        best_likeness = found;
    }
    if (dir != NULL)
        g_dir_close(dir);
    return g_steal_pointer(&best);
}

char **hugetlbfs_directories_of_vm(const char *id, const char *name)
{
    GPtrArray *paths = g_ptr_array_new();
    g_autofree char *prefix = g_strconcat(id, "-", NULL);
    g_auto(GStrv) parents = id[0] != '\0' ? hugetlbfs_directories("libvirt/qemu") : NULL;
    for (guint i = 0; parents != NULL && parents[i] != NULL; i++) {
        char *path = find_entry(parents[i], prefix, name);
        if (path != NULL)
            g_ptr_array_add(paths, path);
    }
    g_ptr_array_add(paths, NULL);
    return (char **)g_ptr_array_free(paths, FALSE);
}
