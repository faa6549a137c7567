/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The connection of a run, from any thread: the embedded driver in a slot of its own
 * (agent-slot.h), or a daemon, which may go away and come back while its VMs go on.
 */
#pragma once

#include "agent-events.h"
#include "platform.h"

typedef struct AgentLibvirt AgentLibvirt;

/* uri NULL: the embedded driver, with its memory files in memory_dir (NULL: wherever it likes).
 * NULL: it has been said why. */
AgentLibvirt *agent_libvirt_open(const char *uri, const char *memory_dir, AgentEvents *events);
void agent_libvirt_close(AgentLibvirt *libvirt);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(AgentLibvirt, agent_libvirt_close)

/* What starts the VMs; libvirt NULL: not known yet. */
HvVersions agent_libvirt_versions(const AgentLibvirt *libvirt);

/* Starts a transient VM. NULL: libvirt's error. */
virDomainPtr agent_libvirt_create(AgentLibvirt *libvirt, const char *xml);

typedef enum {
    AGENT_LIBVIRT_HAS_IT,
    AGENT_LIBVIRT_HAS_IT_NOT,
    AGENT_LIBVIRT_IS_AWAY, /* it is tried again, once a second */
} AgentLibvirtWord;

/* Does libvirt run the VM? *out_domain (may be NULL) is set where it does. */
AgentLibvirtWord agent_libvirt_ask(AgentLibvirt *libvirt, const char *uuid,
                                   virDomainPtr *out_domain);

/* Ends the VM from outside. */
AgentLibvirtWord agent_libvirt_destroy(AgentLibvirt *libvirt, const char *uuid);

/* QEMU's process by the driver's own record; 0: not known. */
gint64 agent_libvirt_qemu_pid(const AgentLibvirt *libvirt, const char *name);

/*
 * Where QEMU of the VM that is started next makes its memory files; NULL: not known, as
 * only the daemon's hook knows it. All VMs of the slot share these directories: so one is
 * started after the other, from vm_launching to after_vm_start.
 */
char **agent_libvirt_memory_directories(const AgentLibvirt *libvirt);
