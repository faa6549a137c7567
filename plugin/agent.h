/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The reference in-process agent: an object of its own (hugevm-agent.so), the
 * only one that links libvirt. hugevmctl loads it for `run` and `audit --connect`.
 */
#pragma once

#include <glib.h>

#define HUGEVM_AGENT_RUN_SYMBOL "hugevm_agent_run"

typedef struct {
    char *xml;
    gsize xml_bytes;
} AgentDomain;

typedef struct {
    const char *module_path; /* hugevm.so */
    const char *root;        /* NULL: the machine */
    char **conf_files;       /* NULL: the standard ones */
    const AgentDomain *domains;
    guint domain_count;
    const char *uri;        /* NULL: libvirt's embedded driver */
    GHashTable *properties; /* char * -> char *, of all domains */
    gint64 for_seconds;     /* 0: until the VMs end */
} AgentRun;

/* Runs the VMs from start to end; the exit status of hugevmctl. Prints to stdout and stderr. */
typedef int (*AgentRunFunction)(const AgentRun *run);
int hugevm_agent_run(const AgentRun *run);

#define HUGEVM_AGENT_RUNNING_SYMBOL "hugevm_agent_running"

/*
 * UUIDs of the VMs that a libvirt of this host runs (agent-audit.c), NULL-terminated;
 * NULL: an error. INVALID for a connection that cannot speak for this host's VMs.
 */
typedef char **(*AgentRunningFunction)(const char *uri, GError **error);
char **hugevm_agent_running(const char *uri, GError **error);
