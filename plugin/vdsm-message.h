/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the two halves of VDSM's hook program say to each other: the half that runs
 * as vdsm asks on the other's standard input, root's half answers on its output.
 * Serialized GVariants, as reading them is safe whatever the bytes are.
 */
#pragma once

#include <glib.h>

#define VDSM_AS_ROOT "--as-root" /* the argument before the point's name */

typedef struct {
    char *uuid;       /* "": the XML's */
    gint64 owner_pid; /* VDSM */
    char *hugepages;  /* values of the VM's properties; NULL: not set */
    char *shared;
    char *xml; /* "": none */
    gsize xml_bytes;
} VdsmRequest;

typedef struct {
    char *problem; /* one line; NULL: all went well */
    char **warnings;
    char *changed_xml; /* NULL: the XML stays as it is */
    gsize changed_xml_bytes;
} VdsmReply;

GBytes *vdsm_request_encode(const VdsmRequest *request);
gboolean vdsm_request_decode(VdsmRequest *out_request, GBytes *bytes); /* FALSE: is none */
void vdsm_request_clear(VdsmRequest *request);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VdsmRequest, vdsm_request_clear)

GBytes *vdsm_reply_encode(const VdsmReply *reply);
gboolean vdsm_reply_decode(VdsmReply *out_reply, GBytes *bytes);
void vdsm_reply_clear(VdsmReply *reply);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VdsmReply, vdsm_reply_clear)
