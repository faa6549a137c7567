/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Slots of the embedded driver (agent-slot.h) whose run was killed. A VM lives no
 * longer than its run: the next command ends what a killed one left. No libvirt.
 */
#pragma once

#include <glib.h>

#define SLOTS_DIRECTORY "/run/hugevm/embed"

/* The slot's lock, to be closed; -1: somebody has it, or an error is set. */
int slot_lock(const char *directory, GError **error);

/* Ends what was left in all slots that nobody has locked. Says on stderr what it ends. */
void slots_end_leftovers(void);

/* The processes that it would end (gint64); none for who may not try the locks. */
GArray *slots_list_leftovers(void);
