/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a domain says about its memory besides pages and nodes. Private to domain-*.c. */
#pragma once

#include "domain-dom.h"

/*
 * Fills all but access. backing is <memoryBacking>, NULL: there is none. Words that libvirt does
 * not know are left to libvirt; HV_ERROR_XML only for numbers that are none.
 */
gboolean hv_domain_read_traits(HvTraits *traits, const xmlNode *root, const xmlNode *backing,
                               GError **error);
