/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "left-files.h"

#include "backing.h"
#include "mounts.h"

#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define FILES_MAX 4096 /* looked for in the mappings of all processes */
#define BLOCK_BYTES 512

static void left_files_free(gpointer data)
{
    HvLeftFiles *left = data;
    g_free(left->directory);
    g_free(left->name);
    g_free(left);
}

/* "rtemap_0" */
static gboolean is_dpdks(const char *name)
{
    const char *number = g_strrstr(name, "map_");
    if (number == NULL)
        return FALSE;
    number += strlen("map_");
    return *number != '\0' && number[strspn(number, "0123456789")] == '\0';
}

static void add_file(HvLeftFiles *left, GArray *files, const char *name, const struct stat *st)
{
    HvFileId id = {major(st->st_dev), minor(st->st_dev), st->st_ino};
    if (left->name == NULL)
        left->name = g_strdup(name);
    left->n_files++;
    left->pages += (guint64)st->st_blocks * BLOCK_BYTES / 1024 / left->size_kib;
    g_array_append_val(files, id);
}

/* NULL: there are none, or somebody maps them. */
static HvLeftFiles *find_in(const HvRoot *root, const HvHugetlbfs *mount)
{
    g_autoptr(GArray) files = g_array_new(FALSE, TRUE, sizeof(HvFileId));
    g_auto(GStrv) names = hv_root_list(root, mount->directory, NULL);
    HvLeftFiles *left = g_new0(HvLeftFiles, 1);
    left->directory = g_strdup(mount->directory);
    left->size_kib = mount->size_kib;
    for (guint i = 0; names != NULL && names[i] != NULL && files->len < FILES_MAX; i++) {
        struct stat st;
        g_autofree char *path = g_strdup_printf("%s/%s", mount->directory, names[i]);
        g_autofree char *real = hv_root_path(root, path);
        if (is_dpdks(names[i]) && lstat(real, &st) == 0 && S_ISREG(st.st_mode))
            add_file(left, files, names[i], &st);
    }
    g_autoptr(GPtrArray) holders = hv_backing_holders(root, files);
    if (left->pages > 0 && holders->len == 0)
        return left;
    left_files_free(left);
    return NULL;
}

GPtrArray *hv_left_files_find(const HvRoot *root)
{
    GPtrArray *found = g_ptr_array_new_with_free_func(left_files_free);
    g_autoptr(GPtrArray) mounts = geteuid() == 0 ? hv_mounts_list(root) : NULL;
    for (guint i = 0; mounts != NULL && i < mounts->len; i++) {
        const HvHugetlbfs *mount = g_ptr_array_index(mounts, i);
        HvLeftFiles *left = mount->size_kib > 0 ? find_in(root, mount) : NULL;
        if (left != NULL)
            g_ptr_array_add(found, left);
    }
    return found;
}
