/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "error.h"

#include <stdarg.h>
#include <string.h>

#define QUOTE_MAX_CHARS 64

GQuark hv_error_quark(void)
{
    return g_quark_from_static_string("hugevm-error");
}

void hv_set_error(GError **error, HvErrorCode code, const char *hint, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *message = g_strdup_vprintf(format, args);
    va_end(args);
    if (hint != NULL)
        g_set_error(error, HV_ERROR, (gint)code, "%s\n%s", message, hint);
    else
        g_set_error_literal(error, HV_ERROR, (gint)code, message);
}

const char *hv_error_code_name(HvErrorCode code)
{
    static const char *const names[] = {
        [HV_ERROR_INVALID] = "invalid-argument",
        [HV_ERROR_PROPERTY] = "bad-property",
        [HV_ERROR_XML] = "bad-xml",
        [HV_ERROR_CONFIG] = "bad-config",
        [HV_ERROR_CONFLICT] = "conflict",
        [HV_ERROR_SHORTAGE] = "shortage",
        [HV_ERROR_TIMEOUT] = "timeout",
        [HV_ERROR_CANCELLED] = "cancelled",
        [HV_ERROR_PERMISSION] = "permission",
        [HV_ERROR_LEDGER] = "ledger",
        [HV_ERROR_SYSTEM] = "system",
    };
    return (guint)code < G_N_ELEMENTS(names) ? names[code] : "system";
}

char *hv_error_message(const GError *error)
{
    return g_strndup(error->message, strcspn(error->message, "\n"));
}

const char *hv_error_hint(const GError *error)
{
    const char *end = strchr(error->message, '\n');
    return end != NULL && end[1] != '\0' ? end + 1 : NULL;
}

/* What cannot move a terminal's cursor, end a line, or hide text; inside quotes, nor end them. */
static gboolean is_plain(gunichar c, gboolean in_quotes)
{
    if (c == ' ')
        return TRUE;
    switch (g_unichar_type(c)) {
    case G_UNICODE_CONTROL:
    case G_UNICODE_FORMAT:
    case G_UNICODE_LINE_SEPARATOR:
    case G_UNICODE_PARAGRAPH_SEPARATOR:
    case G_UNICODE_PRIVATE_USE:
    case G_UNICODE_SPACE_SEPARATOR:
    case G_UNICODE_SURROGATE:
    case G_UNICODE_UNASSIGNED:
        return FALSE;
    default:
        return !(in_quotes && (c == '\'' || c == '\\'));
    }
}

static void append_escaped(GString *out, const char *bytes, gsize n)
{
    for (gsize i = 0; i < n; i++)
        g_string_append_printf(out, "\\x%02x", (guchar)bytes[i]);
}

/* One character of text, as it is or escaped. Returns what follows it. */
static const char *append_character(GString *out, const char *p, gboolean in_quotes)
{
    gunichar c = g_utf8_get_char_validated(p, -1);
    gboolean is_valid = c != (gunichar)-1 && c != (gunichar)-2;
    gsize n = is_valid ? (gsize)(g_utf8_next_char(p) - p) : 1;
    if (is_valid && is_plain(c, in_quotes))
        g_string_append_len(out, p, (gssize)n);
    else
        append_escaped(out, p, n);
    return p + n;
}

char *hv_quote(const char *text)
{
    if (text == NULL)
        return g_strdup("(none)");

    GString *out = g_string_new("'");
    guint chars = 0;
    for (const char *p = text; *p != '\0'; chars++) {
        if (chars == QUOTE_MAX_CHARS) {
            g_string_append(out, "...");
            break;
        }
        p = append_character(out, p, TRUE);
    }
    g_string_append_c(out, '\'');
    return g_string_free(out, FALSE);
}

char *hv_escape(const char *text)
{
    GString *out = g_string_new(NULL);
    for (const char *p = text; *p != '\0';)
        p = append_character(out, p, FALSE);
    return g_string_free(out, FALSE);
}
