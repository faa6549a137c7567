/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent-connection.h"

#include "agent-check.h"
#include "agent-libvirt.h"
#include "agent-say.h"
#include "agent-slot.h"

#include <libvirt/virterror.h>

#define LEFTOVER_WAIT_US (10 * G_USEC_PER_SEC)
#define RETRY_US G_USEC_PER_SEC

struct AgentLibvirt {
    char *uri;
    AgentSlot *slot; /* NULL: a URI was given */
    AgentEvents *events;
    HvVersions versions;
    GMutex mutex;             /* of what follows */
    virConnectPtr connection; /* NULL: there is none now */
    gint64 retry_us;          /* not before; monotonic clock */
};

/* The driver is still taking note that a killed run's VM has been ended; a VM of the same name
 * could not start meanwhile. */
static void wait_for_leftovers(virConnectPtr connection)
{
    gint64 give_up_us = g_get_monotonic_time() + LEFTOVER_WAIT_US;
    while (virConnectListAllDomains(connection, NULL, 0) > 0 && g_get_monotonic_time() < give_up_us)
        g_usleep(20 * 1000);
}

static virConnectPtr open_connection(const AgentLibvirt *libvirt)
{
    virConnectPtr connection = virConnectOpen(libvirt->uri);
    if (connection == NULL)
        return NULL;
    if (libvirt->slot != NULL)
        wait_for_leftovers(connection);
    if (agent_events_subscribe(libvirt->events, connection))
        return connection;
    virConnectClose(connection);
    return NULL;
}

AgentLibvirt *agent_libvirt_open(const char *uri, const char *memory_dir, AgentEvents *events)
{
    g_autoptr(AgentLibvirt) libvirt = g_new0(AgentLibvirt, 1);
    GError *error = NULL;
    g_mutex_init(&libvirt->mutex);
    agent_silence_libvirt();
    libvirt->events = events;
    libvirt->uri = g_strdup(uri);
    if (uri == NULL) {
        agent_check_kvm();
        libvirt->slot = agent_slot_take(memory_dir, &error);
        if (libvirt->slot == NULL) {
            agent_say_error(error);
            return NULL;
        }
        libvirt->uri = agent_slot_uri(libvirt->slot);
    }
    libvirt->connection = open_connection(libvirt);
    if (libvirt->connection != NULL) {
        libvirt->versions = agent_versions(libvirt->connection);
        return g_steal_pointer(&libvirt);
    }
    agent_say_libvirt_error(NULL, "cannot connect to libvirt");
    return NULL;
}

static void close_connection(AgentLibvirt *libvirt)
{
    if (libvirt->connection == NULL)
        return;
    agent_events_unsubscribe(libvirt->events, libvirt->connection);
    virConnectClose(libvirt->connection);
    libvirt->connection = NULL;
}

void agent_libvirt_close(AgentLibvirt *libvirt)
{
    if (libvirt == NULL)
        return;
    close_connection(libvirt);
    agent_slot_free(libvirt->slot);
    g_mutex_clear(&libvirt->mutex);
    g_free(libvirt->uri);
    g_free(libvirt);
}

HvVersions agent_libvirt_versions(const AgentLibvirt *libvirt)
{
    return libvirt != NULL ? libvirt->versions : (HvVersions){0};
}

static void reconnect(AgentLibvirt *libvirt)
{
    if (g_get_monotonic_time() < libvirt->retry_us)
        return;
    close_connection(libvirt);
    libvirt->connection = open_connection(libvirt);
    libvirt->retry_us = g_get_monotonic_time() + RETRY_US;
}

/* To be closed by the caller; NULL: there is none now. */
static virConnectPtr take_connection(AgentLibvirt *libvirt)
{
    virConnectPtr connection = NULL;
    g_mutex_lock(&libvirt->mutex);
    if (agent_events_are_lost(libvirt->events))
        reconnect(libvirt);
    if (!agent_events_are_lost(libvirt->events) && virConnectRef(libvirt->connection) == 0)
        connection = libvirt->connection;
    g_mutex_unlock(&libvirt->mutex);
    return connection;
}

virDomainPtr agent_libvirt_create(AgentLibvirt *libvirt, const char *xml)
{
    virConnectPtr connection = take_connection(libvirt);
    if (connection == NULL)
        return NULL;
    virDomainPtr domain = virDomainCreateXML(connection, xml, 0);
    virConnectClose(connection);
    return domain;
}

AgentLibvirtWord agent_libvirt_ask(AgentLibvirt *libvirt, const char *uuid,
                                   virDomainPtr *out_domain)
{
    virConnectPtr connection = take_connection(libvirt);
    if (connection == NULL)
        return AGENT_LIBVIRT_IS_AWAY;
    virDomainPtr domain = virDomainLookupByUUIDString(connection, uuid);
    int is_active = domain != NULL ? virDomainIsActive(domain) : -1;
    gboolean is_unknown = is_active < 0 && virGetLastErrorCode() == VIR_ERR_NO_DOMAIN;
    virConnectClose(connection);
    if (is_active == 1 && out_domain != NULL)
        *out_domain = domain;
    else if (domain != NULL)
        virDomainFree(domain);
    return is_active == 1                 ? AGENT_LIBVIRT_HAS_IT
           : is_active == 0 || is_unknown ? AGENT_LIBVIRT_HAS_IT_NOT
                                          : AGENT_LIBVIRT_IS_AWAY;
}

AgentLibvirtWord agent_libvirt_destroy(AgentLibvirt *libvirt, const char *uuid)
{
    virDomainPtr domain = NULL;
    AgentLibvirtWord word = agent_libvirt_ask(libvirt, uuid, &domain);
    if (word != AGENT_LIBVIRT_HAS_IT)
        return word;
    int result = virDomainDestroy(domain);
    virDomainFree(domain);
    return result == 0 ? AGENT_LIBVIRT_HAS_IT_NOT : agent_libvirt_ask(libvirt, uuid, NULL);
}

gint64 agent_libvirt_qemu_pid(const AgentLibvirt *libvirt, const char *name)
{
    return libvirt->slot != NULL ? agent_slot_qemu_pid(libvirt->slot, name) : 0;
}

char **agent_libvirt_memory_directories(const AgentLibvirt *libvirt)
{
    return libvirt->slot != NULL ? agent_slot_memory_directories(libvirt->slot) : NULL;
}
