/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who has started this program? A hook lives for milliseconds; the claims that it
 * makes belong to the daemon that ran it, which will report for the VM.
 */
#pragma once

#include <glib.h>

/* The nearest ancestor that is called one of names (NULL-terminated); 0: none. */
gint64 ancestor_find(const char *const *names);

/* Is this process among our ancestors? Process 1 never is: it is everybody's, and never ends. */
gboolean ancestor_is(gint64 pid);
