/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a run waits for: signals, the end of its VMs, the time. */
#pragma once

#include <glib.h>

typedef struct AgentSignals AgentSignals;

typedef enum { AGENT_TIME_IS_UP, AGENT_VMS_ENDED, AGENT_INTERRUPTED } AgentReason;

/* Blocks SIGINT, SIGTERM and SIGHUP for this process. Before any thread is made. */
AgentSignals *agent_signals_new(GError **error);
void agent_signals_free(AgentSignals *signals);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(AgentSignals, agent_signals_free)

/* Has one of the signals come? Does not wait; the answer stays yes. From any thread. */
gboolean agent_signals_came(AgentSignals *signals);

/* A VM has ended. From any thread. */
void agent_signals_count_end(AgentSignals *signals);

/* Waits until so many VMs have ended, for a signal, or for the time; seconds 0: without end. */
AgentReason agent_signals_wait(AgentSignals *signals, guint vm_count, gint64 seconds);
