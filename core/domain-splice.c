/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation: offsets come from the spans of a parse, so inside a start
 * tag the text is known to be well-formed and is read without looking for
 * errors; but a caller may pass the spans of another text, so nothing is read
 * or copied outside of the bounds given, whatever the spans say.
 */
#include "domain-splice.h"

#include "error.h"

#include <string.h>

typedef struct {
    gsize at;
    gsize n_bytes;
    guint order;
    char *text;
} Splice;

static void clear_splice(gpointer data)
{
    Splice *splice = data;
    g_free(splice->text);
}

HvSplices *hv_splices_new(void)
{
    GArray *splices = g_array_new(FALSE, FALSE, sizeof(Splice));
    g_array_set_clear_func(splices, clear_splice);
    return splices;
}

void hv_splices_add(HvSplices *splices, gsize at, gsize n_bytes, char *text)
{
    Splice splice = {.at = at, .n_bytes = n_bytes, .order = splices->len, .text = text};
    g_array_append_val(splices, splice);
}

static gint compare_splices(gconstpointer a, gconstpointer b)
{
    const Splice *left = a;
    const Splice *right = b;
    if (left->at != right->at)
        return left->at < right->at ? -1 : 1;
    /* What is inserted at an offset stands before the bytes that are replaced from there on. */
    if ((left->n_bytes == 0) != (right->n_bytes == 0))
        return left->n_bytes == 0 ? -1 : 1;
    return left->order < right->order ? -1 : 1;
}

/* Checks bounds and overlaps of the sorted list; gives the result's length. */
static gboolean measure(const HvSplices *splices, const HvText *text, gsize *out_bytes,
                        GError **error)
{
    gsize taken_to = 0;
    gsize total = text->length;
    for (guint i = 0; i < splices->len; i++) {
        const Splice *splice = &g_array_index(splices, Splice, i);
        if (splice->at < taken_to || splice->at > text->length ||
            splice->n_bytes > text->length - splice->at) {
            hv_set_error(error, HV_ERROR_INVALID, NULL, "the domain was read from another text");
            return FALSE;
        }
        taken_to = splice->at + splice->n_bytes;
        total = total - splice->n_bytes + strlen(splice->text);
    }
    *out_bytes = total;
    return TRUE;
}

static char *append(char *to, const char *bytes, gsize n_bytes)
{
    memcpy(to, bytes, n_bytes);
    return to + n_bytes;
}

char *hv_splices_apply(HvSplices *splices, const HvText *text, gsize *out_bytes, GError **error)
{
    gsize total;
    g_array_sort(splices, compare_splices);
    if (!measure(splices, text, &total, error))
        return NULL;
    char *result = g_try_malloc(total + 1);
    if (result == NULL) {
        hv_set_error(error, HV_ERROR_SYSTEM, NULL, "no memory to edit the domain XML");
        return NULL;
    }
    char *to = result;
    gsize from = 0;
    for (guint i = 0; i < splices->len; i++) {
        const Splice *splice = &g_array_index(splices, Splice, i);
        to = append(to, text->bytes + from, splice->at - from);
        to = append(to, splice->text, strlen(splice->text));
        from = splice->at + splice->n_bytes;
    }
    to = append(to, text->bytes + from, text->length - from);
    *to = '\0';
    *out_bytes = total;
    return result;
}

static gboolean is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static gboolean is_line_end(char c)
{
    return c == '\n' || c == '\r';
}

char *hv_lead_before(const HvText *text, gsize at)
{
    gsize start = at;
    while (start > 0 && is_blank(text->bytes[start - 1]))
        start--;
    /* The first line has no line ending before it. */
    if (start == 0)
        return g_strndup(text->bytes, at);
    if (!is_line_end(text->bytes[start - 1]))
        return g_strdup("");
    start--;
    if (start > 0 && text->bytes[start] == '\n' && text->bytes[start - 1] == '\r')
        start--;
    return g_strndup(text->bytes + start, at - start);
}

char *hv_lead_inside(const HvText *text, const HvSpan *span)
{
    gsize at = span->start_end;
    while (at < span->end_start && (is_blank(text->bytes[at]) || is_line_end(text->bytes[at])))
        at++;
    /* Blanks up to the end tag are the end tag's line, not a child's. */
    if (at >= span->end_start)
        return g_strdup("");
    return hv_lead_before(text, at);
}

char *hv_lead_deeper(const char *lead, const char *unit)
{
    return lead[0] != '\0' ? g_strconcat(lead, unit, NULL) : g_strdup("");
}

static const char *indentation(const char *lead)
{
    while (is_line_end(*lead))
        lead++;
    return lead;
}

char *hv_indent_step(const char *outer, const char *inner)
{
    const char *outer_indent = indentation(outer);
    const char *inner_indent = indentation(inner);
    gsize n = strlen(outer_indent);
    if (strncmp(inner_indent, outer_indent, n) == 0 && inner_indent[n] != '\0')
        return g_strdup(inner_indent + n);
    return g_strdup("  ");
}

/* An attribute in a start tag; value_end is where its closing quote stands. */
typedef struct {
    gsize name;
    gsize name_end;
    gsize value;
    gsize value_end;
} Attribute;

static gsize skip_while(const HvText *text, gsize at, gsize end, const char *set)
{
    while (at < end && text->bytes[at] != '\0' && strchr(set, text->bytes[at]) != NULL)
        at++;
    return at;
}

static gsize skip_until(const HvText *text, gsize at, gsize end, const char *set)
{
    while (at < end && (text->bytes[at] == '\0' || strchr(set, text->bytes[at]) == NULL))
        at++;
    return at;
}

#define XML_BLANKS " \t\r\n"

/* The next attribute from an offset in a start tag on; FALSE behind the last. */
static gboolean next_attribute(const HvText *text, gsize at, gsize end, Attribute *out_attribute)
{
    Attribute found;
    found.name = skip_while(text, at, end, XML_BLANKS);
    found.name_end = skip_until(text, found.name, end, XML_BLANKS "=/>");
    gsize quote = skip_while(text, found.name_end, end, XML_BLANKS "=");
    if (found.name_end == found.name || quote + 1 >= end)
        return FALSE;
    const char quote_set[] = {text->bytes[quote], '\0'};
    found.value = quote + 1;
    found.value_end = skip_until(text, found.value, end, quote_set);
    if (found.value_end >= end)
        return FALSE;
    *out_attribute = found;
    return TRUE;
}

static gboolean is_bytes(const HvText *text, gsize start, gsize end, const char *wanted)
{
    return end - start == strlen(wanted) && memcmp(text->bytes + start, wanted, end - start) == 0;
}

void hv_splices_set_attribute(HvSplices *splices, const HvText *text, const HvSpan *span,
                              const char *name, const char *value)
{
    Attribute attribute;
    gsize end = MIN(span->start_end, text->length);
    gsize at = skip_until(text, span->start, end, XML_BLANKS "/>");
    char quote = '\'';
    while (next_attribute(text, at, end, &attribute)) {
        if (is_bytes(text, attribute.name, attribute.name_end, name)) {
            if (!is_bytes(text, attribute.value, attribute.value_end, value))
                hv_splices_add(splices, attribute.value, attribute.value_end - attribute.value,
                               g_strdup(value));
            return;
        }
        quote = text->bytes[attribute.value_end];
        at = attribute.value_end + 1;
    }
    hv_splices_add(splices, at, 0, g_strdup_printf(" %s=%c%s%c", name, quote, value, quote));
}

void hv_splices_remove_attribute(HvSplices *splices, const HvText *text, const HvSpan *span,
                                 const char *name)
{
    Attribute attribute;
    gsize end = MIN(span->start_end, text->length);
    gsize at = skip_until(text, span->start, end, XML_BLANKS "/>");
    for (; next_attribute(text, at, end, &attribute); at = attribute.value_end + 1) {
        if (is_bytes(text, attribute.name, attribute.name_end, name)) {
            hv_splices_add(splices, at, attribute.value_end + 1 - at, g_strdup(""));
            return;
        }
    }
}
