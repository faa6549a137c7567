/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent-libvirt.h"

#include "error.h"

#include <libvirt/virterror.h>
#include <string.h>

static void ignore(void *opaque, virErrorPtr error)
{
    (void)opaque, (void)error; /* libvirt would print to stderr what we report ourselves */
}

void agent_silence_libvirt(void)
{
    virSetErrorFunc(NULL, ignore);
}

void agent_set_libvirt_error(const char *what, GError **error)
{
    g_autofree char *line = g_strdelimit(g_strdup(virGetLastErrorMessage()), "\r\n", ' ');
    g_autofree char *message = hv_escape(line);
    hv_set_error(error, HV_ERROR_SYSTEM, NULL, "%s: %s", what, message);
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

virConnectPtr agent_connect(const char *uri, gboolean is_read_only, GError **error)
{
    agent_silence_libvirt();
    if (!is_of_this_host(uri)) {
        g_autofree char *quoted = hv_quote(uri);
        hv_set_error(error, HV_ERROR_INVALID, NULL,
                     "--connect takes a QEMU driver of this host, as qemu:///system, not %s",
                     quoted);
        return NULL;
    }
    virConnectPtr connection = is_read_only ? virConnectOpenReadOnly(uri) : virConnectOpen(uri);
    if (connection == NULL)
        agent_set_libvirt_error("cannot connect to libvirt", error);
    return connection;
}

HvVersions agent_versions(virConnectPtr connection)
{
    unsigned long libvirt = 0, qemu = 0;
    HvVersions versions = {0};
    if (virConnectGetLibVersion(connection, &libvirt) == 0)
        versions.libvirt = (guint)libvirt;
    if (virConnectGetVersion(connection, &qemu) == 0)
        versions.qemu = (guint)qemu;
    return versions;
}
