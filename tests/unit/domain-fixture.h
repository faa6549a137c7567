/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Domain XML that is read, or refused. */
#pragma once

#include "domain-xml.h"

#include "error.h"

#include <libxml/xmlerror.h>
#include <string.h>

#define UUID "c7a5fdbd-edaf-9455-926a-d65c16db1809"

static inline HvDomain *parse(const char *xml)
{
    g_autoptr(GError) error = NULL;
    HvDomain *domain = hv_domain_parse(xml, strlen(xml), &error);
    g_assert_no_error(error);
    g_assert_nonnull(domain);
    return domain;
}

/* The text inside <domain>...</domain>. */
static inline HvDomain *parse_body(const char *body)
{
    g_autofree char *xml = g_strconcat("<domain type='kvm'>", body, "</domain>", NULL);
    return parse(xml);
}

static inline void assert_refused_bytes(const char *xml, gsize xml_bytes, const char *says)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(HvDomain) domain = hv_domain_parse(xml, xml_bytes, &error);
    g_assert_null(domain);
    g_assert_error(error, HV_ERROR, HV_ERROR_XML);
    if (strstr(error->message, says) == NULL)
        g_error("\"%s\" does not say \"%s\"", error->message, says);
    for (const char *p = error->message; *p != '\0'; p++)
        g_assert_true(*p == '\n' || (guchar)*p >= 0x20);
}

static inline void assert_refused(const char *xml, const char *says)
{
    assert_refused_bytes(xml, strlen(xml), says);
}

static inline void assert_body_refused(const char *body, const char *says)
{
    g_autofree char *xml = g_strconcat("<domain type='kvm'>", body, "</domain>", NULL);
    assert_refused(xml, says);
}

static inline const HvCell *cell_at(const HvDomain *domain, guint index)
{
    g_assert_cmpuint(index, <, domain->cells->len);
    return &g_array_index(domain->cells, HvCell, index);
}

static inline const HvMemoryDevice *device_at(const HvDomain *domain, guint index)
{
    g_assert_cmpuint(index, <, domain->devices->len);
    return &g_array_index(domain->devices, HvMemoryDevice, index);
}

static inline void assert_nodes(const HvNodeSet *nodes, const char *expected)
{
    g_autofree char *text = hv_node_set_format(nodes);
    g_assert_cmpstr(text, ==, expected);
}

static inline void assert_span(const char *xml, const HvSpan *span, const char *expected)
{
    g_autofree char *text = g_strndup(xml + span->start, span->end - span->start);
    g_assert_cmpstr(text, ==, expected);
}

/* A host's own handler: what a text of one VM does wrong is not its business. */
static inline void on_host_error(void *data, xmlErrorPtr error)
{
    (void)data;
    g_error("libxml2 told the host: %s", error->message);
}

static inline void domain_test_init(int *argc, char ***argv)
{
    g_test_init(argc, argv, NULL);
    xmlSetStructuredErrorFunc(NULL, on_host_error);
}

#define ADD(test) g_test_add_func("/domain-xml/" #test, test)
