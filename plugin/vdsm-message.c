/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vdsm-message.h"

#define REQUEST_TYPE "(sxmsmsay)"
#define REPLY_TYPE "(msasmay)"

static GVariant *text_variant(const char *text, gsize n)
{
    return g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, text, n, 1);
}

static char *text_from(GVariant *variant, gsize *out_bytes)
{
    gsize n = 0;
    const char *bytes = g_variant_get_fixed_array(variant, &n, 1);
    *out_bytes = n;
    return g_strndup(bytes != NULL ? bytes : "", n);
}

/* NULL: the bytes are no value of the type. No bytes at all are what a program that has nothing to
 * say leaves, and GVariant's default value too. */
static GVariant *decode(const char *type, GBytes *bytes)
{
    if (g_bytes_get_size(bytes) == 0)
        return NULL;
    g_autoptr(GVariant) variant =
        g_variant_ref_sink(g_variant_new_from_bytes(G_VARIANT_TYPE(type), bytes, FALSE));
    return g_variant_is_normal_form(variant) ? g_steal_pointer(&variant) : NULL;
}

static GBytes *encode(GVariant *variant)
{
    g_autoptr(GVariant) owned = g_variant_ref_sink(variant);
    return g_variant_get_data_as_bytes(owned);
}

GBytes *vdsm_request_encode(const VdsmRequest *request)
{
    return encode(g_variant_new("(sxmsms@ay)", request->uuid, request->owner_pid,
                                request->hugepages, request->shared,
                                text_variant(request->xml, request->xml_bytes)));
}

gboolean vdsm_request_decode(VdsmRequest *out_request, GBytes *bytes)
{
    g_autoptr(GVariant) variant = decode(REQUEST_TYPE, bytes);
    g_autoptr(GVariant) xml = NULL;
    if (variant == NULL)
        return FALSE;
    g_variant_get(variant, "(sxmsms@ay)", &out_request->uuid, &out_request->owner_pid,
                  &out_request->hugepages, &out_request->shared, &xml);
    out_request->xml = text_from(xml, &out_request->xml_bytes);
    return TRUE;
}

void vdsm_request_clear(VdsmRequest *request)
{
    g_free(request->uuid);
    g_free(request->hugepages);
    g_free(request->shared);
    g_free(request->xml);
    *request = (VdsmRequest){0};
}

GBytes *vdsm_reply_encode(const VdsmReply *reply)
{
    const char *const none[] = {NULL};
    const char *const *warnings = (const char *const *)reply->warnings;
    GVariant *xml = reply->changed_xml != NULL
                        ? text_variant(reply->changed_xml, reply->changed_xml_bytes)
                        : NULL;
    return encode(
        g_variant_new("(ms^asm@ay)", reply->problem, warnings != NULL ? warnings : none, xml));
}

gboolean vdsm_reply_decode(VdsmReply *out_reply, GBytes *bytes)
{
    g_autoptr(GVariant) variant = decode(REPLY_TYPE, bytes);
    g_autoptr(GVariant) xml = NULL;
    if (variant == NULL)
        return FALSE;
    g_variant_get(variant, "(ms^asm@ay)", &out_reply->problem, &out_reply->warnings, &xml);
    if (xml != NULL)
        out_reply->changed_xml = text_from(xml, &out_reply->changed_xml_bytes);
    return TRUE;
}

void vdsm_reply_clear(VdsmReply *reply)
{
    g_free(reply->problem);
    g_strfreev(reply->warnings);
    g_free(reply->changed_xml);
    *reply = (VdsmReply){0};
}
