/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The reference in-process agent: an object of its own (hugevm-agent.so), the
 * only one that links libvirt. hugevmctl loads it for `run`.
 */
#pragma once

#include <glib.h>

#define HUGEVM_AGENT_RUN_SYMBOL "hugevm_agent_run"

typedef struct {
    const char *module_path; /* hugevm.so */
    const char *root;        /* NULL: the machine */
    char **conf_files;       /* NULL: the standard ones */
    const char *xml;
    gsize xml_bytes;
    const char *uri;        /* NULL: libvirt's embedded driver */
    GHashTable *properties; /* char * -> char * */
    gint64 for_seconds;     /* 0: until the VM ends */
} AgentRun;

/* Runs one VM from start to end; the exit status of hugevmctl. Prints to stdout and stderr. */
typedef int (*AgentRunFunction)(const AgentRun *run);
int hugevm_agent_run(const AgentRun *run);
