/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Subscribed are the events of all VMs of a connection, before any is started: one that
 * ends at once has ended before its own could be asked for. Paused and resumed are not
 * among them: that moves no page.
 */
#include "agent-events.h"

#include "error.h"

#include <libvirt/virterror.h>

#define KINDS 5

struct AgentEvents {
    GMutex mutex;
    GHashTable *queues; /* char * UUID -> GAsyncQueue; grows only, under the mutex */
    int callbacks[KINDS];
    gint is_lost; /* atomic */
    GThread *thread;
    gint stop; /* atomic */
    int wakeup_timer;
};

void agent_event_free(AgentEvent *event)
{
    g_free(event->device);
    g_free(event);
}

static void queue_free(gpointer queue)
{
    g_async_queue_unref(queue);
}

/* NULL: of another's VM. */
static GAsyncQueue *queue_of(AgentEvents *events, const char *uuid)
{
    g_mutex_lock(&events->mutex);
    GAsyncQueue *queue = g_hash_table_lookup(events->queues, uuid);
    g_mutex_unlock(&events->mutex);
    return queue;
}

static void push(GAsyncQueue *queue, AgentEventKind kind, int detail, const char *device)
{
    AgentEvent *event = g_new0(AgentEvent, 1);
    *event = (AgentEvent){kind, detail, g_strdup(device)};
    g_async_queue_push(queue, event);
}

/* --- what libvirt calls ------------------------------------------------------------------- */

static void pass(AgentEvents *events, virDomainPtr domain, const AgentEvent *event)
{
    char uuid[VIR_UUID_STRING_BUFLEN];
    GAsyncQueue *queue = virDomainGetUUIDString(domain, uuid) == 0 ? queue_of(events, uuid) : NULL;
    if (queue != NULL)
        push(queue, event->kind, event->detail, event->device);
}

static void on_lifecycle(virConnectPtr connection, virDomainPtr domain, int event, int detail,
                         void *opaque)
{
    (void)connection;
    if (event == VIR_DOMAIN_EVENT_STOPPED)
        pass(opaque, domain, &(AgentEvent){.kind = AGENT_VM_STOPPED, .detail = detail});
    else if (event == VIR_DOMAIN_EVENT_STARTED)
        pass(opaque, domain, &(AgentEvent){.kind = AGENT_VM_STARTED});
}

static void on_reboot(virConnectPtr connection, virDomainPtr domain, void *opaque)
{
    (void)connection;
    pass(opaque, domain, &(AgentEvent){.kind = AGENT_VM_REBOOTED});
}

static void on_device_added(virConnectPtr connection, virDomainPtr domain, const char *alias,
                            void *opaque)
{
    (void)connection;
    pass(opaque, domain, &(AgentEvent){.kind = AGENT_DEVICE_ADDED, .device = (char *)alias});
}

static void on_device_removed(virConnectPtr connection, virDomainPtr domain, const char *alias,
                              void *opaque)
{
    (void)connection;
    pass(opaque, domain, &(AgentEvent){.kind = AGENT_DEVICE_REMOVED, .device = (char *)alias});
}

static void on_device_resized(virConnectPtr connection, virDomainPtr domain, const char *alias,
                              unsigned long long size_kib, void *opaque)
{
    (void)connection, (void)size_kib; /* the domain's XML has it */
    pass(opaque, domain, &(AgentEvent){.kind = AGENT_DEVICE_RESIZED, .device = (char *)alias});
}

static void on_close(virConnectPtr connection, int reason, void *opaque)
{
    AgentEvents *events = opaque;
    GHashTableIter iter;
    gpointer queue;
    (void)connection, (void)reason;
    g_atomic_int_set(&events->is_lost, 1);
    g_mutex_lock(&events->mutex);
    g_hash_table_iter_init(&iter, events->queues);
    while (g_hash_table_iter_next(&iter, NULL, &queue))
        push(queue, AGENT_LIBVIRT_LOST, 0, NULL);
    g_mutex_unlock(&events->mutex);
}

/* --- the connection ----------------------------------------------------------------------- */

typedef struct {
    int id;
    virConnectDomainEventGenericCallback callback;
} Wanted;

static const Wanted wanted[KINDS] = {
    {VIR_DOMAIN_EVENT_ID_LIFECYCLE, VIR_DOMAIN_EVENT_CALLBACK(on_lifecycle)},
    {VIR_DOMAIN_EVENT_ID_REBOOT, VIR_DOMAIN_EVENT_CALLBACK(on_reboot)},
    {VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, VIR_DOMAIN_EVENT_CALLBACK(on_device_added)},
    {VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, VIR_DOMAIN_EVENT_CALLBACK(on_device_removed)},
    {VIR_DOMAIN_EVENT_ID_MEMORY_DEVICE_SIZE_CHANGE, VIR_DOMAIN_EVENT_CALLBACK(on_device_resized)},
};

gboolean agent_events_subscribe(AgentEvents *events, virConnectPtr connection)
{
    gboolean is_good = TRUE;
    for (guint i = 0; i < KINDS; i++) {
        events->callbacks[i] = virConnectDomainEventRegisterAny(connection, NULL, wanted[i].id,
                                                                wanted[i].callback, events, NULL);
        is_good = is_good && events->callbacks[i] >= 0;
    }
    if (!is_good) {
        agent_events_unsubscribe(events, connection);
        return FALSE;
    }
    g_atomic_int_set(&events->is_lost, 0);
    virConnectRegisterCloseCallback(connection, on_close, events, NULL); /* embedded: has none */
    if (virConnectIsAlive(connection) == 0) /* it went before anybody listened */
        on_close(connection, VIR_CONNECT_CLOSE_REASON_ERROR, events);
    return TRUE;
}

/* Each of them keeps the connection open. */
void agent_events_unsubscribe(AgentEvents *events, virConnectPtr connection)
{
    virConnectUnregisterCloseCallback(connection, on_close);
    for (guint i = 0; i < KINDS; i++)
        if (events->callbacks[i] >= 0)
            virConnectDomainEventDeregisterAny(connection, events->callbacks[i]);
}

gboolean agent_events_are_lost(AgentEvents *events)
{
    return g_atomic_int_get(&events->is_lost) != 0;
}

/* --- the queues --------------------------------------------------------------------------- */

void agent_events_follow(AgentEvents *events, const char *uuid)
{
    g_mutex_lock(&events->mutex);
    if (!g_hash_table_contains(events->queues, uuid))
        g_hash_table_insert(events->queues, g_strdup(uuid),
                            g_async_queue_new_full((GDestroyNotify)agent_event_free));
    g_mutex_unlock(&events->mutex);
}

void agent_events_send(AgentEvents *events, const char *uuid, AgentEventKind kind, int detail)
{
    push(queue_of(events, uuid), kind, detail, NULL);
}

AgentEvent *agent_events_next(AgentEvents *events, const char *uuid, guint64 timeout_ms)
{
    GAsyncQueue *queue = queue_of(events, uuid);
    return timeout_ms == 0 ? g_async_queue_pop(queue)
                           : g_async_queue_timeout_pop(queue, timeout_ms * 1000);
}

/* --- libvirt's event loop ----------------------------------------------------------------- */

static void nothing(int timer, void *opaque)
{
    (void)timer, (void)opaque;
}

static gpointer run_loop(gpointer data)
{
    AgentEvents *events = data;
    while (g_atomic_int_get(&events->stop) == 0)
        if (virEventRunDefaultImpl() < 0)
            break;
    return NULL;
}

AgentEvents *agent_events_new(GError **error)
{
    if (virEventRegisterDefaultImpl() < 0) {
        hv_set_error(error, HV_ERROR_SYSTEM, NULL, "libvirt's event loop: %s",
                     virGetLastErrorMessage());
        return NULL;
    }
    AgentEvents *events = g_new0(AgentEvents, 1);
    g_mutex_init(&events->mutex);
    events->queues = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, queue_free);
    /* a timer that the end of the loop can set off: the loop has no other way to be woken */
    events->wakeup_timer = virEventAddTimeout(-1, nothing, NULL, NULL);
    events->thread = g_thread_new("libvirt-events", run_loop, events);
    return events;
}

void agent_events_free(AgentEvents *events)
{
    if (events == NULL)
        return;
    g_atomic_int_set(&events->stop, 1);
    virEventUpdateTimeout(events->wakeup_timer, 0);
    g_thread_join(events->thread);
    g_hash_table_unref(events->queues);
    g_mutex_clear(&events->mutex);
    g_free(events);
}
