/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Any bytes as a device by itself, and as a domain XML: parsed, and if that works, edited with each
 * of a few wishes. An edit that succeeds must give a text that parses, and the same edit of that
 * text must change nothing. Nothing reaches the host's libxml2 handler.
 */
#include "domain-edit.h"

#include <libxml/xmlerror.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(gboolean is_true)
{
    if (!is_true)
        abort();
}

static void on_host_error(void *data, xmlErrorPtr error)
{
    (void)data;
    (void)error;
    abort();
}

static char *edit(const char *xml, gsize xml_bytes, const HvDomainEdit *wish, gsize *out_bytes,
                  GError **error)
{
    g_autoptr(HvDomain) domain = hv_domain_parse(xml, xml_bytes, error);
    return domain != NULL ? hv_domain_edit(domain, xml, xml_bytes, wish, out_bytes, error) : NULL;
}

static void edit_twice(const char *xml, gsize xml_bytes, const HvDomainEdit *wish)
{
    gsize once_bytes = 0, twice_bytes = 0;
    g_autoptr(GError) error = NULL;
    g_autofree char *once = edit(xml, xml_bytes, wish, &once_bytes, &error);
    demand((once == NULL) == (error != NULL));
    if (once == NULL)
        return;
    g_autofree char *twice = edit(once, once_bytes, wish, &twice_bytes, NULL);
    demand(twice != NULL && twice_bytes == once_bytes && memcmp(once, twice, once_bytes) == 0);
}

static void replace_pages(const char *xml, gsize xml_bytes)
{
    static const guint64 sizes_kib[] = {2048, 1048576};
    g_autoptr(GArray) from_kib = g_array_new(FALSE, FALSE, sizeof(guint64));
    g_array_append_vals(from_kib, sizes_kib, G_N_ELEMENTS(sizes_kib));
    const HvPageReplacement replacement = {from_kib, 16384};
    const HvDomainEdit wish = {.replace_pages = &replacement};
    edit_twice(xml, xml_bytes, &wish);
}

/* What a device is called goes into messages. */
static void demand_printable(char *name)
{
    for (const char *p = name; p != NULL && *p != '\0'; p = g_utf8_next_char(p))
        demand(g_utf8_get_char_validated(p, -1) < (gunichar)-2 &&
               g_unichar_isprint(g_utf8_get_char(p)));
    g_free(name);
}

static void name_device(const char *xml, gsize xml_bytes)
{
    char *name = NULL;
    g_autoptr(GError) error = NULL;
    demand(hv_device_parse_sharer(xml, xml_bytes, &name, &error) == (error == NULL));
    demand_printable(name);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const HvDomainEdit wishes[] = {
        {NULL, 0, FALSE},
        {"c7a5fdbd-edaf-9455-926a-d65c16db1809", 2048, TRUE},
        {NULL, 0, TRUE},
        {NULL, 1048576, FALSE},
    };
    const char *xml = (const char *)data;
    xmlSetStructuredErrorFunc(NULL, on_host_error);
    name_device(xml, size);
    g_autoptr(HvDomain) domain = hv_domain_parse(xml, size, NULL);
    if (domain == NULL)
        return 0;
    demand_printable(hv_domain_format_sharers(domain));
    for (guint i = 0; i < G_N_ELEMENTS(wishes); i++)
        edit_twice(xml, size, &wishes[i]);
    replace_pages(xml, size);
    return 0;
}
