/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Values in a domain XML, as libvirt reads them. Private to domain-*.c. */
#pragma once

#include "domain-dom.h"

/* libvirt counts bytes in 63 bits. */
#define HV_DOMAIN_MAX_KIB (G_GUINT64_CONSTANT(1) << 53)

/* Sets HV_ERROR_XML "the domain XML: ..." and returns FALSE. */
gboolean hv_domain_bad(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);

/*
 * A memory size in KiB: the element's text, or one of its attributes, scaled by
 * its unit attribute (default KiB). A missing node or attribute is an error;
 * what names it in messages. The output is unchanged on failure.
 */
gboolean hv_domain_scaled_text(const xmlNode *node, const char *what, guint64 *out_kib,
                               GError **error);
gboolean hv_domain_scaled_attribute(const xmlNode *node, const char *attribute, const char *what,
                                    guint64 *out_kib, GError **error);

/* An attribute that says shared or private; without it *out_access stays as it is. */
gboolean hv_domain_access(const xmlNode *node, const char *attribute, HvAccess *out_access,
                          GError **error);

/* A list of nodes or cells that is not empty. */
gboolean hv_domain_nodeset(const char *text, const char *what, HvNodeSet *out_set, GError **error);
