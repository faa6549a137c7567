/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "domain-locality.h"

#include "domain-rules.h"
#include "page-size.h"

#include <string.h>

/* CPUs with numbers from HV_MAX_NODES on are not looked for: the set is empty then. */
static HvNodeSet read_cpus(const xmlNode *node)
{
    HvNodeSet cpus = {0};
    g_autofree char *text = hv_dom_attribute(node, "cpuset");
    hv_node_set_parse(text, &cpus);
    return cpus;
}

static void read_pins(HvDomain *domain, const xmlNode *root)
{
    const xmlNode *vcpu = hv_dom_child(root, "vcpu");
    if (!hv_dom_attribute_is(vcpu, "placement", "auto"))
        domain->cpus = read_cpus(vcpu);
    const xmlNode *node = hv_dom_child(hv_dom_child(root, "cputune"), "vcpupin");
    for (; node != NULL && domain->vcpu_pins->len < HV_DOMAIN_MAX_LIST;
         node = hv_dom_next(node, "vcpupin")) {
        HvVcpuPin pin = {.cpus = read_cpus(node)};
        g_autofree char *number = hv_dom_attribute(node, "vcpu");
        if (hv_parse_u64(number, &pin.vcpu))
            g_array_append_val(domain->vcpu_pins, pin);
    }
}

/* "0x1f" or "31", at most max; FALSE for anything else. */
static gboolean read_part(const xmlNode *address, const char *name, guint64 max, guint *out)
{
    guint64 value;
    g_autofree char *text = hv_dom_attribute(address, name);
    gboolean is_hex = text != NULL && g_ascii_strncasecmp(text, "0x", 2) == 0;
    if (text == NULL || !g_ascii_string_to_unsigned(is_hex ? text + 2 : text, is_hex ? 16 : 10, 0,
                                                    max, &value, NULL))
        return FALSE;
    *out = (guint)value;
    return TRUE;
}

static char *format_address(const xmlNode *address)
{
    guint domain = 0, bus, slot, function;
    read_part(address, "domain", 0xffff, &domain);
    return read_part(address, "bus", 0xff, &bus) && read_part(address, "slot", 0x1f, &slot) &&
                   read_part(address, "function", 7, &function)
               ? g_strdup_printf("%04x:%02x:%02x.%x", domain, bus, slot, function)
               : NULL;
}

static gboolean is_pci_device(const xmlNode *node)
{
    return (hv_dom_is(node, "hostdev", NULL) && hv_dom_attribute_is(node, "type", "pci")) ||
           (hv_dom_is(node, "interface", NULL) && hv_dom_attribute_is(node, "type", "hostdev"));
}

void hv_domain_read_locality(HvDomain *domain, const xmlNode *root)
{
    read_pins(domain, root);
    const xmlNode *devices = hv_dom_child(root, "devices");
    for (const xmlNode *node = devices != NULL ? devices->children : NULL;
         node != NULL && domain->pci_devices->len < HV_DOMAIN_MAX_LIST; node = node->next) {
        char *address = is_pci_device(node)
                            ? format_address(hv_dom_child(hv_dom_child(node, "source"), "address"))
                            : NULL;
        if (address != NULL)
            g_ptr_array_add(domain->pci_devices, address);
    }
}
