/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "glance.h"

#include <string.h>

gboolean glance_may_want_hugepages(const char *xml, gsize n)
{
    static const char *const words[] = {"hugepages", "pagesize"};
    for (guint i = 0; i < G_N_ELEMENTS(words); i++)
        if (memmem(xml, n, words[i], strlen(words[i])) != NULL)
            return TRUE;
    return FALSE;
}

gboolean glance_is_off(const char *value)
{
    return value == NULL || value[strspn(value, " \t\r\n0")] == '\0';
}

static const char *without_prefix(const char *name)
{
    const char *colon = strchr(name, ':');
    return colon != NULL ? colon + 1 : name;
}

/* Is the current element this one? names: from the root to it. */
static gboolean is_at(GMarkupParseContext *context, const char *const *names)
{
    const GSList *element = g_markup_parse_context_get_element_stack(context);
    gsize depth = g_strv_length((char **)names);
    for (; element != NULL && depth > 0; element = element->next, depth--)
        if (strcmp(without_prefix(element->data), names[depth - 1]) != 0)
            return FALSE;
    return element == NULL && depth == 0;
}

#define AT(context, ...) is_at(context, (const char *const[]){__VA_ARGS__, NULL})

static gboolean is_at_property(GMarkupParseContext *context)
{
    return AT(context, "domain", "metadata", "vm", "custom", "hugepages") ||
           AT(context, "domain", "metadata", "vm", "hugepages");
}

/* As libvirt writes it. */
static gboolean is_plain_uuid(const char *text)
{
    return strlen(text) == 36 && text[strspn(text, "0123456789abcdefABCDEF-")] == '\0';
}

static void on_start(GMarkupParseContext *context, const char *name, const char **attribute_names,
                     const char **attribute_values, gpointer data, GError **error)
{
    (void)attribute_names, (void)attribute_values, (void)error;
    Glance *glance = data;
    if ((strcmp(name, "hugepages") == 0 && AT(context, "domain", "memoryBacking", "hugepages")) ||
        (strcmp(name, "pagesize") == 0 &&
         AT(context, "domain", "devices", "memory", "source", "pagesize")))
        glance->wants_hugepages = TRUE;
}

static void on_text(GMarkupParseContext *context, const char *text, gsize n, gpointer data,
                    GError **error)
{
    (void)error;
    Glance *glance = data;
    const char *name = g_markup_parse_context_get_element(context);
    g_autofree char *value = g_strndup(text, n);
    if (strcmp(without_prefix(name), "hugepages") == 0 && is_at_property(context) &&
        !glance_is_off(value))
        glance->wants_hugepages = TRUE;
    g_strstrip(value);
    if (strcmp(name, "uuid") == 0 && AT(context, "domain", "uuid") && is_plain_uuid(value))
        g_strlcpy(glance->uuid, value, sizeof glance->uuid);
}

/* A CDATA section is text too; comments and processing instructions come here as well. */
static void on_passthrough(GMarkupParseContext *context, const char *text, gsize n, gpointer data,
                           GError **error)
{
    if (g_str_has_prefix(text, "<![CDATA["))
        on_text(context, text + strlen("<![CDATA["), n - strlen("<![CDATA[]]>"), data, error);
}

void glance_at_domain(const char *xml, gsize n, Glance *out_glance)
{
    static const GMarkupParser parser = {
        .start_element = on_start, .text = on_text, .passthrough = on_passthrough};
    *out_glance = (Glance){0};
    GMarkupParseContext *context = g_markup_parse_context_new(&parser, 0, out_glance, NULL);
    if (!g_markup_parse_context_parse(context, xml, (gssize)n, NULL) ||
        !g_markup_parse_context_end_parse(context, NULL))
        out_glance->wants_hugepages = glance_may_want_hugepages(xml, n);
    g_markup_parse_context_free(context);
}
