/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "json-span.h"

#include <string.h>

#define MAX_DEPTH 200

static void skip_blanks(JsonSpan *rest)
{
    while (rest->begin < rest->end && strchr(" \t\r\n", *rest->begin) != NULL && *rest->begin != 0)
        rest->begin++;
}

/* Steps over the character, and over blanks before it. */
static gboolean take(JsonSpan *rest, char c)
{
    skip_blanks(rest);
    if (rest->begin == rest->end || *rest->begin != c)
        return FALSE;
    rest->begin++;
    return TRUE;
}

static gboolean take_text(JsonSpan *rest)
{
    if (!take(rest, '"'))
        return FALSE;
    for (; rest->begin < rest->end; rest->begin++) {
        if (*rest->begin == '"') {
            rest->begin++;
            return TRUE;
        }
        if ((guchar)*rest->begin < 0x20)
            return FALSE;
        if (*rest->begin == '\\' && ++rest->begin == rest->end)
            return FALSE;
    }
    return FALSE;
}

/* Numbers, true, false, null, NaN, Infinity. What they are is nobody's business here. */
static gboolean take_word(JsonSpan *rest)
{
    const char *begin = rest->begin;
    while (rest->begin < rest->end &&
           (g_ascii_isalnum(*rest->begin) || strchr("+-.", *rest->begin) != NULL) &&
           *rest->begin != '\0')
        rest->begin++;
    return rest->begin > begin;
}

static gboolean take_value(JsonSpan *rest, guint depth);

/* "name": value, "name": value } or value, value ] */
static gboolean take_list(JsonSpan *rest, char end, guint depth)
{
    if (take(rest, end))
        return TRUE;
    do {
        if (end == '}' && (!take_text(rest) || !take(rest, ':')))
            return FALSE;
        if (!take_value(rest, depth))
            return FALSE;
    } while (take(rest, ','));
    return take(rest, end);
}

static gboolean take_value(JsonSpan *rest, guint depth)
{
    if (depth == MAX_DEPTH)
        return FALSE;
    skip_blanks(rest);
    if (take(rest, '{'))
        return take_list(rest, '}', depth + 1);
    if (take(rest, '['))
        return take_list(rest, ']', depth + 1);
    return rest->begin < rest->end && (*rest->begin == '"' ? take_text(rest) : take_word(rest));
}

static gboolean cut_value(JsonSpan *rest, JsonSpan *out_value)
{
    skip_blanks(rest);
    JsonSpan value = *rest;
    if (!take_value(rest, 0))
        return FALSE;
    value.end = rest->begin;
    *out_value = value;
    return TRUE;
}

gboolean json_span_whole(const char *text, gsize n, JsonSpan *out_value)
{
    JsonSpan rest = {text, text + n};
    JsonSpan value;
    if (!g_utf8_validate_len(text, n, NULL) || !cut_value(&rest, &value))
        return FALSE;
    skip_blanks(&rest);
    if (rest.begin != rest.end)
        return FALSE;
    *out_value = value;
    return TRUE;
}

static gboolean is_text(JsonSpan value, const char *text)
{
    gsize n = strlen(text);
    return (gsize)(value.end - value.begin) == n + 2 && memcmp(value.begin + 1, text, n) == 0;
}

gboolean json_span_member(JsonSpan object, const char *name, JsonSpan *out_value)
{
    JsonSpan key, value;
    if (!take(&object, '{'))
        return FALSE;
    do {
        if (!cut_value(&object, &key) || !json_span_is_text(key) || !take(&object, ':') ||
            !cut_value(&object, &value))
            return FALSE;
        if (is_text(key, name)) {
            *out_value = value;
            return TRUE;
        }
    } while (take(&object, ','));
    return FALSE;
}

gboolean json_span_next(JsonSpan *rest, JsonSpan *out_item)
{
    return (take(rest, '[') || take(rest, ',')) && cut_value(rest, out_item);
}

gboolean json_span_is_text(JsonSpan value)
{
    return value.end - value.begin >= 2 && *value.begin == '"';
}

gboolean json_span_is_true(JsonSpan value)
{
    return value.end - value.begin == 4 && memcmp(value.begin, "true", 4) == 0;
}

gboolean json_span_count(JsonSpan value, guint64 *out_count)
{
    gsize quotes = json_span_is_text(value) ? 1 : 0;
    g_autofree char *digits =
        g_strndup(value.begin + quotes, (gsize)(value.end - value.begin) - 2 * quotes);
    return g_ascii_string_to_unsigned(digits, 10, 0, G_MAXUINT64, out_count, NULL);
}
