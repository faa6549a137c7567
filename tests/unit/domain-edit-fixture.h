/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Domain XML as text, and the text that an edit makes of it. */
#pragma once

#include "domain-edit.h"

#include <string.h>

#define UUID "c7a5fdbd-edaf-9455-926a-d65c16db1809"

static inline char *edit_text(const char *xml, const HvDomainEdit *edit, GError **error)
{
    gsize xml_bytes = strlen(xml), result_bytes = 0;
    g_autoptr(HvDomain) domain = hv_domain_parse(xml, xml_bytes, error);
    if (domain == NULL)
        return NULL;
    char *result = hv_domain_edit(domain, xml, xml_bytes, edit, &result_bytes, error);
    if (result != NULL)
        g_assert_cmpuint(result_bytes, ==, strlen(result));
    return result;
}

#define ADD(test) g_test_add_func("/domain-edit/" #test, test)
