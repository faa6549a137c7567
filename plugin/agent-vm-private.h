/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What agent-vm.c and agent-attend.c share. */
#pragma once

#include "agent-vm.h"

#include "process.h"

struct AgentVm {
    const AgentShared *shared;
    const AgentDomain *domain;
    struct hugevm_handle *handle;
    struct hugevm_result *result; /* of the last slot that gives one */
    gint64 begin_us;
    char *name;
    char *uuid; /* NULL: the domain has none, until it is claimed or started */
    gboolean is_claimed;
    gboolean is_unsure;   /* whether it runs: to be looked at again and again */
    gboolean was_missing; /* at the last look */
    HvProcess qemu;       /* pid 0: not known */
    HvRoot *machine;
    GHashTable *memory; /* agent-memory.h: devices that the VM has */
    GThread *thread;    /* NULL: it has not started */
    gint status;        /* atomic: exit status of its end */
};

typedef int32_t (*EventSlot)(struct hugevm_handle *handle, const struct hugevm_vm_ref *vm,
                             struct hugevm_error *error);

/* HUGEVM_OK for a VM without claim, as there is nothing to tell. directories: at launch, or NULL.
 */
int32_t agent_vm_call(const AgentVm *vm, EventSlot slot, char **directories,
                      struct hugevm_error *error);

/* QEMU has its memory: the first one, or another that libvirt has put in its place. */
int agent_vm_tell_started(AgentVm *vm);

/* The thread: from the start of an AgentVm to its end. */
gpointer agent_vm_attend(gpointer vm);
