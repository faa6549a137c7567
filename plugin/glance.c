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

typedef struct {
    Glance *glance;
    guint property_depth; /* elements open from the property's own inwards; 0: outside */
} Look;

static gboolean is_at_property(GMarkupParseContext *context)
{
    return AT(context, "domain", "metadata", "vm", "custom", "hugepages") ||
           AT(context, "domain", "metadata", "vm", "hugepages");
}

static gboolean is_number(const char *text)
{
    gsize n = strlen(text);
    return n > 0 && n < sizeof((Glance *)NULL)->id && strspn(text, "0123456789") == n;
}

static void on_start(GMarkupParseContext *context, const char *name, const char **attribute_names,
                     const char **attribute_values, gpointer data, GError **error)
{
    (void)error;
    Look *look = data;
    for (guint i = 0; AT(context, "domain") && attribute_names[i] != NULL; i++)
        if (strcmp(attribute_names[i], "id") == 0 && is_number(attribute_values[i]))
            g_strlcpy(look->glance->id, attribute_values[i], sizeof look->glance->id);
    if (look->property_depth > 0 ||
        (strcmp(without_prefix(name), "hugepages") == 0 && is_at_property(context)))
        look->property_depth++;
    if ((strcmp(name, "hugepages") == 0 && AT(context, "domain", "memoryBacking", "hugepages")) ||
        (strcmp(name, "pagesize") == 0 &&
         AT(context, "domain", "devices", "memory", "source", "pagesize")))
        look->glance->wants_hugepages = TRUE;
}

static void on_end(GMarkupParseContext *context, const char *name, gpointer data, GError **error)
{
    (void)context, (void)name, (void)error;
    Look *look = data;
    if (look->property_depth > 0)
        look->property_depth--;
}

static void on_text(GMarkupParseContext *context, const char *text, gsize n, gpointer data,
                    GError **error)
{
    (void)error;
    Look *look = data;
    Glance *glance = look->glance;
    g_autofree char *value = g_strndup(text, n);
    if (look->property_depth > 0 && !glance_is_off(value))
        glance->wants_hugepages = TRUE;
    g_strstrip(value);
    if (g_strcmp0(g_markup_parse_context_get_element(context), "uuid") == 0 &&
        AT(context, "domain", "uuid") && g_uuid_string_is_valid(value))
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
    static const GMarkupParser parser = {.start_element = on_start,
                                         .end_element = on_end,
                                         .text = on_text,
                                         .passthrough = on_passthrough};
    Look look = {.glance = out_glance};
    *out_glance = (Glance){0};
    GMarkupParseContext *context = g_markup_parse_context_new(&parser, 0, &look, NULL);
    if (!g_markup_parse_context_parse(context, xml, (gssize)n, NULL) ||
        !g_markup_parse_context_end_parse(context, NULL))
        out_glance->wants_hugepages = glance_may_want_hugepages(xml, n);
    g_markup_parse_context_free(context);
}
