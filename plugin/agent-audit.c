/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which VMs libvirt runs, for `hugevmctl audit`. Another host's list would let go of
 * all claims of this one, so only a QEMU driver on this host is asked.
 */
#include "agent.h"

#include "error.h"

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <string.h>

static void silence(void *opaque, virErrorPtr error)
{
    (void)opaque, (void)error; /* libvirt would print to stderr what we report ourselves */
}

static char **fail_libvirt(const char *what, GError **error)
{
    g_autofree char *line = g_strdelimit(g_strdup(virGetLastErrorMessage()), "\r\n", ' ');
    g_autofree char *message = hv_escape(line);
    hv_set_error(error, HV_ERROR_SYSTEM, NULL, "%s: %s", what, message);
    return NULL;
}

/* "qemu:///system", "qemu+unix:///system": QEMU, no host name, no transport to elsewhere. */
static gboolean is_of_this_host(const char *uri)
{
    g_autoptr(GUri) parsed = g_uri_parse(uri, G_URI_FLAGS_PARSE_RELAXED, NULL);
    if (parsed == NULL)
        return FALSE;
    const char *scheme = g_uri_get_scheme(parsed);
    const char *host = g_uri_get_host(parsed);
    return (strcmp(scheme, "qemu") == 0 || strcmp(scheme, "qemu+unix") == 0) &&
           (host == NULL || host[0] == '\0');
}

static char **list_uuids(virConnectPtr connection, GError **error)
{
    virDomainPtr *domains = NULL;
    int n = virConnectListAllDomains(connection, &domains, VIR_CONNECT_LIST_DOMAINS_ACTIVE);
    if (n < 0)
        return fail_libvirt("cannot list the VMs of libvirt", error);
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
    virSetErrorFunc(NULL, silence);
    if (!is_of_this_host(uri)) {
        g_autofree char *quoted = hv_quote(uri);
        hv_set_error(error, HV_ERROR_INVALID, NULL,
                     "--connect takes a QEMU driver of this host, as qemu:///system, not %s",
                     quoted);
        return NULL;
    }
    virConnectPtr connection = virConnectOpenReadOnly(uri);
    if (connection == NULL)
        return fail_libvirt("cannot connect to libvirt", error);
    char **uuids = list_uuids(connection, error);
    virConnectClose(connection);
    return uuids;
}
