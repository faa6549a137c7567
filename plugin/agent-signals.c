/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Signals come through a signalfd, the ends of VMs through an eventfd: both can be
 * waited for at once, and a signal during a growth is seen between its steps.
 */
#include "agent-signals.h"

#include "error.h"
#include "fd.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>

struct AgentSignals {
    HvFd signals;
    HvFd ends;
    gint has_come; /* atomic */
};

AgentSignals *agent_signals_new(GError **error)
{
    g_autoptr(AgentSignals) signals = g_new0(AgentSignals, 1);
    sigset_t set;
    /* a reader of our output that goes away must not end us: the VMs would stay behind */
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    signals->ends = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    signals->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (signals->ends >= 0 && signals->signals >= 0 && sigprocmask(SIG_BLOCK, &set, NULL) == 0)
        return g_steal_pointer(&signals);
    hv_set_error(error, HV_ERROR_SYSTEM, NULL, "cannot wait for signals: %s", g_strerror(errno));
    return NULL;
}

void agent_signals_free(AgentSignals *signals)
{
    if (signals == NULL)
        return;
    hv_fd_clear(&signals->signals);
    hv_fd_clear(&signals->ends);
    g_free(signals);
}

gboolean agent_signals_came(AgentSignals *signals)
{
    struct signalfd_siginfo info;
    while (read(signals->signals, &info, sizeof info) == (ssize_t)sizeof info)
        g_atomic_int_set(&signals->has_come, 1);
    return g_atomic_int_get(&signals->has_come) != 0;
}

void agent_signals_count_end(AgentSignals *signals)
{
    eventfd_write(signals->ends, 1);
}

AgentReason agent_signals_wait(AgentSignals *signals, guint vm_count, gint64 seconds)
{
    gint64 deadline_us = g_get_monotonic_time() + seconds * G_USEC_PER_SEC;
    guint64 ended = 0;
    for (;;) {
        gint64 left_ms = seconds > 0 ? (deadline_us - g_get_monotonic_time() + 999) / 1000 : -1;
        eventfd_t count;
        if (agent_signals_came(signals))
            return AGENT_INTERRUPTED;
        if (eventfd_read(signals->ends, &count) == 0)
            ended += count;
        if (ended >= vm_count)
            return AGENT_VMS_ENDED;
        if (seconds > 0 && left_ms <= 0)
            return AGENT_TIME_IS_UP;
        struct pollfd fds[] = {{signals->signals, POLLIN, 0}, {signals->ends, POLLIN, 0}};
        poll(fds, G_N_ELEMENTS(fds), (int)MIN(left_ms, G_MAXINT));
    }
}
