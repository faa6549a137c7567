/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Connections to libvirt, for the commands of hugevmctl that ask it something. */
#pragma once

#include "platform.h"

#include <glib.h>
#include <libvirt/libvirt.h>

G_DEFINE_AUTO_CLEANUP_FREE_FUNC(virConnectPtr, virConnectClose, NULL)
G_DEFINE_AUTO_CLEANUP_FREE_FUNC(virDomainPtr, virDomainFree, NULL)

/* libvirt shall not print its errors by itself. */
void agent_silence_libvirt(void);

/* "WHAT: libvirt's last error" as HV_ERROR_SYSTEM. */
void agent_set_libvirt_error(const char *what, GError **error);

/* A QEMU driver of this host; INVALID for any other connection. */
virConnectPtr agent_connect(const char *uri, gboolean is_read_only, GError **error);

/* Of this libvirt and of the QEMU that it uses by itself; 0: it does not say. */
HvVersions agent_versions(virConnectPtr connection);
