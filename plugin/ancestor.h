/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who has started this program? A hook lives for milliseconds; the claims that it
 * makes belong to the daemon that ran it, which will report for the VM.
 */
#pragma once

#include <glib.h>

/* The nearest ancestor that is called one of names (NULL-terminated); else the parent. */
gint64 ancestor_find(const char *const *names);

/* Is this process among our ancestors? */
gboolean ancestor_is(gint64 pid);
