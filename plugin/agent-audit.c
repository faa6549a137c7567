/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which VMs libvirt runs, for `hugevmctl audit`. Another host's list would let go of
 * all claims of this one, so only a QEMU driver on this host is asked.
 */
#include "agent.h"

#include "agent-libvirt.h"

static char **list_uuids(virConnectPtr connection, GError **error)
{
    virDomainPtr *domains = NULL;
    int n = virConnectListAllDomains(connection, &domains, VIR_CONNECT_LIST_DOMAINS_ACTIVE);
    if (n < 0) {
        agent_set_libvirt_error("cannot list the VMs of libvirt", error);
        return NULL;
    }
    char **uuids = g_new0(char *, n + 1);
    guint count = 0;
    for (int i = 0; i < n; i++) {
        char uuid[VIR_UUID_STRING_BUFLEN];
        if (virDomainGetUUIDString(domains[i], uuid) == 0)
            uuids[count++] = g_strdup(uuid);
        virDomainFree(domains[i]);
    }
    free(domains);
    return uuids;
}

__attribute__((visibility("default"))) char **hugevm_agent_running(const char *uri, GError **error)
{
    g_auto(virConnectPtr) connection = agent_connect(uri, TRUE, error);
    return connection != NULL ? list_uuids(connection, error) : NULL;
}
