/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The directory in which libvirt makes the files that back guests' memory, and the room in its
 * file system: read here, judged elsewhere by the numbers alone.
 */
#pragma once

#include "root.h"

#define HV_MEMORY_DIR_DEFAULT "/var/lib/libvirt/qemu/ram" /* libvirt's */

typedef enum {
    HV_MEMORY_DIR_THERE,
    HV_MEMORY_DIR_MISSING,
    HV_MEMORY_DIR_IS_OTHER, /* there is something, but no directory */
    HV_MEMORY_DIR_READ_ONLY,
    HV_MEMORY_DIR_UNKNOWN, /* it cannot be looked at */
} HvMemoryDirState;

typedef struct HvMemoryDir {
    char *path;         /* as configured */
    char *real_path;    /* as mappings of its files show it; NULL: it is not there */
    char *libvirt_path; /* as libvirt's qemu.conf has it, or libvirt's own */
    char *mount_point;  /* of its file system; NULL: not known */
    HvMemoryDirState state;
    guint64 size_kib; /* of its file system; G_MAXUINT64 for both where a tree stands for a host */
    guint64 free_kib; /* of that, what users other than root may have */
} HvMemoryDir;

/* configured: memory_backing_dir of hugevm's own settings, or NULL. */
HvMemoryDir *hv_memory_dir_read(const HvRoot *root, const char *configured);
void hv_memory_dir_free(HvMemoryDir *dir);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvMemoryDir, hv_memory_dir_free)

/* Is it on the host's own root file system, which guests' memory would fill up? */
gboolean hv_memory_dir_is_on_root(const HvMemoryDir *dir);
