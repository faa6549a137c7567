/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Platform: what kind of machine and kernel a root is of. */
#pragma once

#include "root.h"

/* The size of a normal page. */
guint64 hv_platform_base_page_kib(const HvRoot *root);

/* "x86_64", "ppc64le", ...; "unknown" for a tree that does not say. Newly allocated. */
char *hv_platform_arch(const HvRoot *root);

/* Of libvirt and QEMU, as libvirt counts: major * 1000000 + minor * 1000 + release. */
#define HV_VERSION(major, minor, release) ((major)*1000000u + (minor)*1000u + (release))

/* What starts a VM; 0: not known. hugevm asks neither: whoever calls says so. */
typedef struct {
    guint libvirt;
    guint qemu;
    gboolean has_read_xml; /* it is that libvirt's text: what it refuses is not in it */
} HvVersions;

/* "9.0.0", "9.0" -> HV_VERSION; FALSE for anything else. */
gboolean hv_version_parse(const char *text, guint *out_version);

/* "QEMU 4.2.0": the one of both that is known to be older than needed; NULL: neither. Newly
 * allocated. */
char *hv_versions_find_old(const HvVersions *versions, const HvVersions *needed);

#define HV_KERNEL_VERSION(major, minor) ((major)*1000u + (minor))

/* HV_KERNEL_VERSION; 0: not known. */
guint hv_platform_kernel_version(const HvRoot *root);
