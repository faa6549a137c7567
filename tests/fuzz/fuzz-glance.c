/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Any bytes as a domain XML, looked at as the hooks do and parsed as the module
 * does. A VM with huge pages must never be taken for one without: it would start
 * without a claim. The other way round costs time only.
 */
#include "glance.h"
#include "request.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(gboolean is_true)
{
    if (!is_true)
        abort();
}

/* What the module says; a property that it would refuse is a reason to ask it too. */
static gboolean wants_hugepages(const HvDomain *domain)
{
    g_autoptr(HvProperties) properties = hv_properties_read(NULL, domain, NULL);
    return properties == NULL ? g_hash_table_contains(domain->ovirt_custom, "hugepages") ||
                                    g_hash_table_contains(domain->hugevm_custom, "hugepages")
                              : hv_request_wants_hugepages(domain, properties, 4);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *xml = (const char *)data;
    Glance glance;
    glance_at_domain(xml, size, &glance);
    demand(strlen(glance.uuid) == 0 || strlen(glance.uuid) == 36);
    g_autoptr(HvDomain) domain = hv_domain_parse(xml, size, NULL);
    if (domain == NULL)
        return 0;
    demand(glance.uuid[0] == '\0' || domain->uuid == NULL ||
           g_ascii_strcasecmp(glance.uuid, domain->uuid) == 0);
    if (wants_hugepages(domain))
        demand(glance.wants_hugepages && glance_may_want_hugepages(xml, size));
    return 0;
}
