/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * File-backed memory: where file_backed_memory is set, the memory of each VM is in files of
 * libvirt's memory backing directory, and that setting is all that they may take together. What
 * a VM is asked for that, and whether there is room. Pure.
 */
#pragma once

#include "request-build.h"
#include "room.h"

/* Since when libvirt and QEMU do it at all, and since when they do <discard/>. */
#define HV_FILES_LIBVIRT HV_VERSION(4, 0, 0)
#define HV_FILES_QEMU HV_VERSION(2, 6, 0)
#define HV_DISCARD_LIBVIRT HV_VERSION(4, 4, 0)
#define HV_DISCARD_QEMU HV_VERSION(2, 10, 0)

/* Its memory belongs in files, and nowhere else: normal pages, where no huge ones are meant. */
gboolean hv_files_take_any_size(const HvBuild *build);

/* Fills file_kib and what follows from it; the needs must be there. */
void hv_build_files(HvBuild *build);

/* Is the memory of a domain that wants no huge pages in files of libvirt's directory? */
gboolean hv_domain_is_file_backed(const HvDomain *domain);

/*
 * Has a VM without huge pages that comes from another host its memory where this host's VMs have
 * theirs? HV_ERROR_CONFLICT: no, and on its way that cannot be changed.
 */
gboolean hv_files_check_incoming(const HvSettings *settings, const HvDomain *domain,
                                 GError **error);

/* For agreements.c: what is found, newly allocated, or NULL. */
char *hv_files_find_device_pages(const HvBuild *build);
char *hv_files_find_hugepages(const HvBuild *build);
char *hv_files_find_old_version(const HvBuild *build);
char *hv_files_find_source(const HvBuild *build);
char *hv_files_find_ondemand(const HvBuild *build);
char *hv_files_find_private(const HvBuild *build);
char *hv_files_find_private_wish(const HvBuild *build);
char *hv_files_find_encryption(const HvBuild *build);
char *hv_files_find_no_discard(const HvBuild *build);

/* The room in KiB. */
typedef struct {
    guint64 capacity_kib;    /* file_backed_memory */
    guint64 used_kib;        /* claimed, but by the VM that the world is looked at for */
    guint64 unallocated_kib; /* of that, what no QEMU has allocated as far as anybody has said */
    guint64 available_kib;   /* to one more VM */
} HvFileRoom;

HvFileRoom hv_file_room(const HvWorld *world);

/* What is wrong with the directory; NULL: nothing. *out_hint: what to do. Newly allocated. */
char *hv_file_directory_fault(const HvMemoryDir *dir, guint64 capacity_kib, char **out_hint);

/* Why there is no room for the VM's files; NULL: there is. */
HvRefusal *hv_file_refusal(const HvWorld *world, const HvRequest *request);

/* Room may come: VMs that start have claimed what their QEMU may have allocated by now. */
gboolean hv_file_room_may_come(const HvWorld *world, const HvRequest *request);
