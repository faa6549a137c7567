/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Glance at what file-backed memory takes to know before the module is loaded: does this host's
 * configuration speak of it, and does a VM have it? As glance.h it errs on the side of yes; but
 * what cannot be read says nothing, since a VM without huge pages must not depend on us.
 */
#pragma once

#include <glib.h>

/* Do hugevm's configuration files set file_backed_memory to anything but 0? */
gboolean glance_host_keeps_files(void);

/* The same of one file's text. */
gboolean glance_conf_keeps_files(const char *text, gsize n);

/* Could it be a VM whose memory is in files? Searches for words. */
gboolean glance_may_be_in_files(const char *xml, gsize n);

/* And one for which file_backed_memory has been at work? */
gboolean glance_may_come_from_files(const char *xml, gsize n);
