/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a run says: results to standard output, all else to standard error. From any thread. */
#pragma once

#include "hugevm/plugin.h"

#include <glib.h>

enum { EXIT_DONE = 0, EXIT_REFUSED = 1, EXIT_SYSTEM = 3 };

/* "running: 'NAME'", or with why "ending: 'NAME': the guest has shut down". name: of a VM. */
void agent_say(const char *what, const char *name, const char *why);

void agent_say_warning(const char *text);

/* One line; the exit status is the caller's. */
void agent_say_failure(const char *message);

/* Each gives the exit status that fits. The first frees the error. */
int agent_say_error(GError *error);
int agent_say_plugin_error(const struct hugevm_error *error);

/* libvirt's last error of this thread, behind what could not be done; name: of a VM, or NULL. */
int agent_say_libvirt_error(const char *name, const char *what);

/* A line on a terminal that is written over; NULL removes it. */
void agent_say_progress(const char *what, guint64 done_pages, guint64 total_pages);
