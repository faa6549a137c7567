/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What happens to the VMs, as libvirt tells it on a thread of its own: put in order into one
 * queue for each VM, so that nothing waits for what is done about another VM.
 */
#pragma once

#include <glib.h>
#include <libvirt/libvirt.h>

typedef enum {
    AGENT_VM_STOPPED,     /* detail: virDomainEventStoppedDetailType */
    AGENT_VM_STARTED,     /* by libvirt itself, as for a snapshot */
    AGENT_VM_REBOOTED,    /* the guest starts anew, on the same memory */
    AGENT_DEVICE_ADDED,   /* device */
    AGENT_DEVICE_REMOVED, /* device */
    AGENT_DEVICE_RESIZED, /* device: a virtio-mem */
    AGENT_LIBVIRT_LOST,   /* the daemon is gone: nothing more will be told */
    AGENT_END_WANTED,     /* detail: AgentWish */
} AgentEventKind;

/* Why this run wants a VM to end. */
typedef enum { AGENT_WISH_TIME_IS_UP, AGENT_WISH_INTERRUPTED, AGENT_WISH_OTHER_FAILED } AgentWish;

typedef struct {
    AgentEventKind kind;
    int detail;
    char *device; /* alias */
} AgentEvent;

void agent_event_free(AgentEvent *event);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(AgentEvent, agent_event_free)

typedef struct AgentEvents AgentEvents;

/* Starts libvirt's event loop. Before any connection is opened. */
AgentEvents *agent_events_new(GError **error);
/* After the last connection is closed. */
void agent_events_free(AgentEvents *events);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(AgentEvents, agent_events_free)

/* From now on what happens to the VM is queued. */
void agent_events_follow(AgentEvents *events, const char *uuid);

/* To one connection at a time. FALSE: libvirt's error. */
gboolean agent_events_subscribe(AgentEvents *events, virConnectPtr connection);
void agent_events_unsubscribe(AgentEvents *events, virConnectPtr connection);

/* Has that connection been lost? */
gboolean agent_events_are_lost(AgentEvents *events);

/* Puts one in behind those that wait. */
void agent_events_send(AgentEvents *events, const char *uuid, AgentEventKind kind, int detail);

/* The next one of a VM that is followed; timeout_ms 0: waits without end. NULL: none came. */
AgentEvent *agent_events_next(AgentEvents *events, const char *uuid, guint64 timeout_ms);
