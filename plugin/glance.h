/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Glance: what a hook must know of a VM before it loads the module: has it
 * anything to do with huge pages? Most VMs have not, and must neither wait for us
 * nor depend on us. Needs GLib only.
 *
 * It errs on the side of yes, and then the module decides: it does not look at
 * namespaces, nor at what <hugepages> holds.
 */
#pragma once

#include <glib.h>

typedef struct {
    gboolean wants_hugepages;
    char uuid[40]; /* the domain's, if written as libvirt does it; "": none */
    char id[12];   /* of a domain that libvirt is starting or runs; "": none */
} Glance;

/* Could the text be of such a VM? A search for words, no parsing. */
gboolean glance_may_want_hugepages(const char *xml, gsize n);

/* Of an XML that is not well-formed: wants_hugepages, and what was read of it until then. */
void glance_at_domain(const char *xml, gsize n, Glance *out_glance);

/* A property hugepages=VALUE that means "no huge pages" (NULL: not set). */
gboolean glance_is_off(const char *value);
