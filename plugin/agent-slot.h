/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Slots: directories for libvirt's embedded driver. The driver wants one root
 * directory per process, and a fresh one costs seconds of probing QEMU: so a few
 * are kept below /run/hugevm/embed and taken in turn.
 */
#pragma once

#include <glib.h>

typedef struct {
    char *directory;
    int lock;
} AgentSlot;

/* Ends what killed runs left (leftovers.h), then takes the first free slot. memory_dir: where its
 * driver makes memory files that are no huge pages; NULL: it may choose. */
AgentSlot *agent_slot_take(const char *memory_dir, GError **error);

/* Lets go; removes what the driver leaves in hugetlbfs mounts. */
void agent_slot_free(AgentSlot *slot);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(AgentSlot, agent_slot_free)

/* The process of a VM that runs in this slot, 0 where it is not known. */
gint64 agent_slot_qemu_pid(const AgentSlot *slot, const char *name);

/* Where QEMU will make its memory files, in each hugetlbfs mount: below these the driver makes a
 * directory for each VM. The slot starts one VM at a time: until that has its memory they are its
 * alone. */
char **agent_slot_memory_directories(const AgentSlot *slot);

char *agent_slot_uri(const AgentSlot *slot);
