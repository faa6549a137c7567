/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "mounts.h"

#include "error.h"
#include "page-size.h"

#include <string.h>

#define MOUNTS_MAX_BYTES (4 * 1024 * 1024)

typedef enum { MOUNT_NONE, MOUNT_UNKNOWN, MOUNT_KNOWN } MountState;

/* The kernel always shows the page size of a hugetlbfs among its options: "rw,pagesize=2M". */
static gboolean find_page_size(const char *options, guint64 *out_kib)
{
    g_auto(GStrv) list = g_strsplit(options, ",", -1);
    for (guint i = 0; list[i] != NULL; i++)
        if (g_str_has_prefix(list[i], "pagesize=") &&
            hv_parse_size_kib(list[i] + strlen("pagesize="), 1, out_kib))
            return TRUE;
    return FALSE;
}

static void hugetlbfs_free(gpointer data)
{
    HvHugetlbfs *one = data;
    g_free(one->directory);
    g_free(one);
}

GPtrArray *hv_mounts_list(const HvRoot *root)
{
    g_autofree char *text = hv_root_read_text(root, "/proc/self/mounts", MOUNTS_MAX_BYTES, NULL);
    if (text == NULL)
        return NULL;
    GPtrArray *mounts = g_ptr_array_new_with_free_func(hugetlbfs_free);
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (guint i = 0; lines[i] != NULL; i++) {
        g_auto(GStrv) fields = g_strsplit(lines[i], " ", 5);
        guint64 size_kib;
        if (g_strv_length(fields) < 4 || strcmp(fields[2], "hugetlbfs") != 0 ||
            !find_page_size(fields[3], &size_kib))
            continue;
        HvHugetlbfs *one = g_new0(HvHugetlbfs, 1);
        one->directory = g_strcompress(fields[1]); /* the kernel writes a blank as \040 */
        one->size_kib = size_kib;
        g_ptr_array_add(mounts, one);
    }
    return mounts;
}

static MountState best_state(const HvRoot *root, guint64 size_kib)
{
    g_autoptr(GPtrArray) mounts = hv_mounts_list(root);
    MountState best = mounts == NULL ? MOUNT_KNOWN : MOUNT_NONE;
    for (guint i = 0; mounts != NULL && i < mounts->len && best != MOUNT_KNOWN; i++) {
        const HvHugetlbfs *one = g_ptr_array_index(mounts, i);
        g_autofree char *of_daemon = g_strconcat(one->directory, "/libvirt/qemu", NULL);
        if (one->size_kib == size_kib)
            best = hv_root_exists(root, of_daemon) ? MOUNT_KNOWN : MOUNT_UNKNOWN;
    }
    return best;
}

/* "mkdir ... && mount ..." */
static char *mount_command(guint64 size_kib)
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

gboolean hv_mounts_check(const HvRoot *root, guint64 size_kib, HvLibvirt libvirt, GError **error)
{
    MountState state = best_state(root, size_kib);
    gboolean is_daemon = libvirt == HV_LIBVIRT_DAEMON;
    g_autofree char *size = hv_format_kib(size_kib);
    if (state == MOUNT_NONE) {
        g_autofree char *command = mount_command(size_kib);
        g_autofree char *hint =
            g_strconcat(command, is_daemon ? ", then restart libvirtd (or virtqemud)" : NULL, NULL);
        hv_set_error(error, HV_ERROR_CONFLICT, hint,
                     "no hugetlbfs for pages of %s is mounted, and libvirt needs one", size);
        return FALSE;
    }
    if (state == MOUNT_UNKNOWN && is_daemon) {
        hv_set_error(error, HV_ERROR_CONFLICT, "restart libvirtd (or virtqemud): running VMs go on",
                     "libvirtd does not know the hugetlbfs for pages of %s: it was mounted after "
                     "libvirtd had started",
                     size);
        return FALSE;
    }
    return TRUE;
}
