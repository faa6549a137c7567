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

/*
 * Takes the first free slot, and ends VMs that a killed `hugevmctl run` left in
 * any free one: a VM lives no longer than its run. Says on stderr what it ends.
 */
AgentSlot *agent_slot_take(GError **error);

/* Lets go; removes what the driver leaves in hugetlbfs mounts. */
void agent_slot_free(AgentSlot *slot);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(AgentSlot, agent_slot_free)

char *agent_slot_uri(const AgentSlot *slot);
