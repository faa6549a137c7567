/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "json-parts.h"

JsonBuilder *hv_json_begin(void)
{
    JsonBuilder *builder = json_builder_new();
    json_builder_begin_object(builder);
    hv_json_add_number(builder, "version", 1);
    return builder;
}

/*
 * json-glib writes characters beyond ASCII as they are; those that a terminal would
 * obey or not show are written as \uXXXX, which JSON allows inside its strings. And
 * only there can they be.
 */
static char *escape_invisible(const char *text)
{
    GString *out = g_string_new(NULL);
    for (const char *p = text; *p != '\0'; p = g_utf8_next_char(p)) {
        gunichar c = g_utf8_get_char(p);
        GUnicodeType type = g_unichar_type(c);
        gboolean is_invisible =
            c > 0x7e && (type == G_UNICODE_CONTROL || type == G_UNICODE_FORMAT ||
                         type == G_UNICODE_LINE_SEPARATOR || type == G_UNICODE_PARAGRAPH_SEPARATOR);
        if (is_invisible && c <= 0xffff)
            g_string_append_printf(out, "\\u%04x", c);
        else if (!is_invisible)
            g_string_append_len(out, p, g_utf8_next_char(p) - p);
        else
            g_string_append_printf(out, "\\u%04x\\u%04x", 0xd800 + ((c - 0x10000) >> 10),
                                   0xdc00 + ((c - 0x10000) & 0x3ff));
    }
    return g_string_free(out, FALSE);
}

char *hv_json_end(JsonBuilder *builder)
{
    json_builder_end_object(builder);
    g_autoptr(JsonNode) root = json_builder_get_root(builder);
    g_autofree char *text = json_to_string(root, TRUE);
    return escape_invisible(text);
}

void hv_json_add_number(JsonBuilder *builder, const char *name, guint64 value)
{
    json_builder_set_member_name(builder, name);
    json_builder_add_int_value(builder, (gint64)MIN(value, (guint64)G_MAXINT64));
}

void hv_json_add_text(JsonBuilder *builder, const char *name, const char *value)
{
    json_builder_set_member_name(builder, name);
    if (value != NULL)
        json_builder_add_string_value(builder, value);
    else
        json_builder_add_null_value(builder);
}

void hv_json_add_node(JsonBuilder *builder, int node)
{
    json_builder_set_member_name(builder, "node");
    if (node >= 0)
        json_builder_add_int_value(builder, node);
    else
        json_builder_add_null_value(builder);
}

void hv_json_begin_array(JsonBuilder *builder, const char *name)
{
    json_builder_set_member_name(builder, name);
    json_builder_begin_array(builder);
}
