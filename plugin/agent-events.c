/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Signals come through a signalfd, the VM's end through an eventfd: both can be
 * waited for at once, and a signal during a growth is seen between its steps.
 */
#include "agent-events.h"

#include "error.h"
#include "fd.h"

#include <errno.h>
#include <libvirt/virterror.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>

struct AgentEvents {
    HvFd signals;
    HvFd ended;
    gboolean is_interrupted;
    int callback; /* -1: none */
    GThread *thread;
    gint stop; /* atomic */
    int wakeup_timer;
};

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
    g_autoptr(AgentEvents) events = g_new0(AgentEvents, 1);
    sigset_t set;
    events->callback = -1;
    /* a reader of our output that goes away must not end us: the VM would stay behind */
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    events->ended = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    events->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (events->ended < 0 || events->signals < 0 || sigprocmask(SIG_BLOCK, &set, NULL) != 0) {
        hv_set_error(error, HV_ERROR_SYSTEM, NULL, "cannot wait for signals: %s",
                     g_strerror(errno));
        return NULL;
    }
    if (virEventRegisterDefaultImpl() < 0) {
        hv_set_error(error, HV_ERROR_SYSTEM, NULL, "libvirt's event loop: %s",
                     virGetLastErrorMessage());
        return NULL;
    }
    /* a timer that the end of the loop can set off: the loop has no other way to be woken */
    events->wakeup_timer = virEventAddTimeout(-1, nothing, NULL, NULL);
    events->thread = g_thread_new("libvirt-events", run_loop, events);
    return g_steal_pointer(&events);
}

void agent_events_free(AgentEvents *events)
{
    if (events == NULL)
        return;
    if (events->thread != NULL) {
        g_atomic_int_set(&events->stop, 1);
        virEventUpdateTimeout(events->wakeup_timer, 0);
        g_thread_join(events->thread);
    }
    hv_fd_clear(&events->signals);
    hv_fd_clear(&events->ended);
    g_free(events);
}

static void on_lifecycle(virConnectPtr connection, virDomainPtr domain, int event, int detail,
                         void *opaque)
{
    AgentEvents *events = opaque;
    (void)connection, (void)domain, (void)detail;
    if (event == VIR_DOMAIN_EVENT_STOPPED)
        eventfd_write(events->ended, 1);
}

gboolean agent_events_watch(AgentEvents *events, virDomainPtr domain)
{
    events->callback = virConnectDomainEventRegisterAny(
        virDomainGetConnect(domain), domain, VIR_DOMAIN_EVENT_ID_LIFECYCLE,
        VIR_DOMAIN_EVENT_CALLBACK(on_lifecycle), events, NULL);
    if (events->callback < 0)
        return FALSE;
    if (virDomainIsActive(domain) != 1) /* it ended before anybody listened */
        eventfd_write(events->ended, 1);
    return TRUE;
}

void agent_events_unwatch(AgentEvents *events, virConnectPtr connection)
{
    if (events->callback >= 0)
        virConnectDomainEventDeregisterAny(connection, events->callback);
    events->callback = -1;
}

gboolean agent_events_interrupted(AgentEvents *events)
{
    struct signalfd_siginfo info;
    while (read(events->signals, &info, sizeof info) == (ssize_t)sizeof info)
        events->is_interrupted = TRUE;
    return events->is_interrupted;
}

AgentEvent agent_events_wait(AgentEvents *events, gint64 seconds)
{
    gint64 deadline_us = g_get_monotonic_time() + seconds * G_USEC_PER_SEC;
    for (;;) {
        gint64 left_ms = seconds > 0 ? (deadline_us - g_get_monotonic_time() + 999) / 1000 : -1;
        eventfd_t count;
        if (agent_events_interrupted(events))
            return AGENT_SIGNAL;
        if (eventfd_read(events->ended, &count) == 0)
            return AGENT_VM_ENDED;
        if (seconds > 0 && left_ms <= 0)
            return AGENT_TIME_IS_UP;
        struct pollfd fds[] = {{events->signals, POLLIN, 0}, {events->ended, POLLIN, 0}};
        poll(fds, G_N_ELEMENTS(fds), (int)MIN(left_ms, G_MAXINT));
    }
}
