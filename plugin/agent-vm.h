/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One VM of a run. Each call gives an exit status; what failed has been said. */
#pragma once

#include "agent-connection.h"
#include "agent-signals.h"
#include "agent.h"
#include "memory-dir.h"

#include "hugevm/plugin.h"

/* What the VMs of a run have in common. */
typedef struct {
    const AgentRun *run;
    const struct hugevm_plugin *plugin;
    AgentSignals *signals;
    AgentEvents *events;
    HvMemoryDir *memory_dir; /* of memory files; NULL: there are none, or not connected yet */
    AgentLibvirt *libvirt;   /* NULL until it is connected */
} AgentShared;

typedef struct AgentVm AgentVm;

/* Both live longer than the VM. */
AgentVm *agent_vm_new(const AgentShared *shared, const AgentDomain *domain);
void agent_vm_free(AgentVm *vm);

/* What is asked, and with what it would be refused; changes nothing. */
int agent_vm_plan(AgentVm *vm);

/* Of two VMs with the same name or UUID libvirt could start only one. NULL: they differ. */
const char *agent_vm_likeness(const AgentVm *vm, const AgentVm *other);

/* Gets the pages, and keeps them for the VM. */
int agent_vm_claim(AgentVm *vm);

/* Starts it, and a thread that attends to it until its end. One VM after the other. */
int agent_vm_start(AgentVm *vm);

/* Whatever came before, after this there is no VM and no claim: ends what still runs. */
void agent_vm_want_end(AgentVm *vm, AgentWish why);
int agent_vm_wait_end(AgentVm *vm);
