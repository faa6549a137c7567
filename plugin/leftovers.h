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

/* Ends what was left in a slot whose lock the caller holds. Says on stderr what it ends. */
void slot_end_leftovers(const char *directory);

/* The same for all slots that nobody has locked. */
void slots_end_leftovers(void);
