/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where libvirt lets QEMU make its memory files: directories in the hugetlbfs mounts. Needs GLib
 * only. */
#pragma once

#include <glib.h>

/* Mount points of all hugetlbfs, but for those that hugevm itself has made for a launch. */
char **hugetlbfs_mounts(void);

/* The directory of this name below each mount ("libvirt/qemu-embed-1234"), where it exists. */
char **hugetlbfs_directories(const char *name);

/*
 * libvirtd's directories for a VM: MOUNT/libvirt/qemu/ID-NAME. libvirt shortens the
 * name and changes characters in it: so what counts is the id, and the name only
 * where an earlier daemon has left a directory of the same id.
 */
char **hugetlbfs_directories_of_vm(const char *id, const char *name);
