/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a run waits for: signals, the VM's end, the time. */
#pragma once

#include <glib.h>
#include <libvirt/libvirt.h>

typedef struct AgentEvents AgentEvents;

typedef enum { AGENT_TIME_IS_UP, AGENT_VM_ENDED, AGENT_SIGNAL } AgentEvent;

/*
 * Blocks SIGINT, SIGTERM and SIGHUP for this process and starts libvirt's event
 * loop on a thread of its own. Before any connection is opened.
 */
AgentEvents *agent_events_new(GError **error);
void agent_events_free(AgentEvents *events);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(AgentEvents, agent_events_free)

/* From now on the end of this domain is an event, also one that has come already. */
gboolean agent_events_watch(AgentEvents *events, virDomainPtr domain);
void agent_events_unwatch(AgentEvents *events, virConnectPtr connection);

/* Has one of the signals come? Does not wait; the answer stays yes. */
gboolean agent_events_interrupted(AgentEvents *events);

/* Waits; seconds 0: without end. */
AgentEvent agent_events_wait(AgentEvents *events, gint64 seconds);
