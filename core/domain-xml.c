/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation: hv_domain_parse() has the text checked and made a tree
 * (domain-dom.c: safety and byte positions), then reads from it who the VM is,
 * what memory it has (domain-memory.c: everything that page counts depend on),
 * which devices need that memory shared, and the properties its metadata holds.
 * Elements count only in the namespace libvirt looks for them in: none, except
 * for metadata, where the namespace is the element's whole identity.
 */
#include "domain-xml.h"

#include "domain-locality.h"
#include "domain-memory.h"
#include "domain-sharers.h"
#include "domain-value.h"
#include "error.h"

#include <string.h>

#define UUID_BYTES 16

static void skip_blanks(const char **text)
{
    while (g_ascii_isspace(**text))
        (*text)++;
}

char *hv_uuid_normalize(const char *text)
{
    GString *uuid = g_string_new(NULL);
    int n_bytes = 0;
    skip_blanks(&text);
    while (n_bytes < UUID_BYTES) {
        if (*text == '-' || *text == ' ') {
            text++;
            continue;
        }
        if (!g_ascii_isxdigit(text[0]) || !g_ascii_isxdigit(text[1]))
            break;
        if (n_bytes == 4 || n_bytes == 6 || n_bytes == 8 || n_bytes == 10)
            g_string_append_c(uuid, '-');
        g_string_append_c(uuid, g_ascii_tolower(text[0]));
        g_string_append_c(uuid, g_ascii_tolower(text[1]));
        text += 2;
        n_bytes++;
    }
    skip_blanks(&text);
    return g_string_free(uuid, n_bytes < UUID_BYTES || *text != '\0');
}

static gboolean read_identity(HvDomain *domain, const HvDom *dom, GError **error)
{
    const xmlNode *root = xmlDocGetRootElement(dom->doc);
    xmlNode *name, *uuid;
    if (!hv_dom_only_child(root, "name", &name, error) ||
        !hv_dom_only_child(root, "uuid", &uuid, error))
        return FALSE;
    domain->span_domain = hv_dom_span(dom, root);
    domain->span_name = hv_dom_span(dom, name);
    domain->span_uuid = hv_dom_span(dom, uuid);
    domain->name = hv_dom_text(name);
    g_autofree char *text = hv_dom_text(uuid);
    /* libvirt takes <uuid/> for none and makes one up. */
    if (text == NULL || text[0] == '\0')
        return TRUE;
    domain->uuid = hv_uuid_normalize(text);
    if (domain->uuid != NULL)
        return TRUE;
    g_autofree char *quoted = hv_quote(text);
    return hv_domain_bad(error, "<uuid> is %s, which is no UUID", quoted);
}

/* libvirt adds a balloon where the XML is silent about it. */
static gboolean may_discard(const xmlNode *root)
{
    const xmlNode *devices = hv_dom_child(root, "devices");
    const xmlNode *balloon = devices != NULL ? hv_dom_child(devices, "memballoon") : NULL;
    if (balloon == NULL || !hv_dom_attribute_is(balloon, "model", "none"))
        return TRUE;
    for (const xmlNode *node = devices->children; node != NULL; node = node->next)
        if (hv_dom_is(node, "memory", NULL) && hv_dom_attribute_is(node, "model", "virtio-mem"))
            return TRUE;
    return FALSE;
}

/* The first child of that name and namespace. */
static const xmlNode *child_in(const xmlNode *parent, const char *name, const char *name_space)
{
    const xmlNode *node = parent != NULL ? parent->children : NULL;
    while (node != NULL && !hv_dom_is(node, name, name_space))
        node = node->next;
    return node;
}

/* Children in one namespace as name -> text; of two with one name the first counts. */
static void read_custom(const xmlNode *parent, const char *name_space, GHashTable *custom)
{
    for (const xmlNode *node = parent != NULL ? parent->children : NULL; node != NULL;
         node = node->next) {
        const char *name = (const char *)node->name;
        if (node->type == XML_ELEMENT_NODE && hv_dom_is(node, name, name_space) &&
            !g_hash_table_contains(custom, name))
            g_hash_table_insert(custom, g_strdup(name), hv_dom_text(node));
    }
}

static void read_metadata(HvDomain *domain, const xmlNode *root)
{
    const xmlNode *metadata = hv_dom_child(root, "metadata");
    const xmlNode *ovirt = child_in(metadata, "vm", HV_OVIRT_VM_NAMESPACE);
    read_custom(child_in(ovirt, "custom", HV_OVIRT_VM_NAMESPACE), HV_OVIRT_VM_NAMESPACE,
                domain->ovirt_custom);
    read_custom(child_in(metadata, "vm", HV_HUGEVM_NAMESPACE), HV_HUGEVM_NAMESPACE,
                domain->hugevm_custom);
}

HvDomain *hv_domain_new(void)
{
    HvDomain *domain = g_new0(HvDomain, 1);
    domain->cells = g_array_new(FALSE, TRUE, sizeof(HvCell));
    domain->devices = g_array_new(FALSE, TRUE, sizeof(HvMemoryDevice));
    domain->sharers = g_ptr_array_new_with_free_func(g_free);
    domain->vcpu_pins = g_array_new(FALSE, TRUE, sizeof(HvVcpuPin));
    domain->pci_devices = g_ptr_array_new_with_free_func(g_free);
    domain->ovirt_custom = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    domain->hugevm_custom = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    return domain;
}

HvDomain *hv_domain_parse(const char *xml, gsize xml_bytes, GError **error)
{
    g_autoptr(HvDom) dom = hv_dom_parse(xml, xml_bytes, error);
    if (dom == NULL)
        return NULL;
    g_autoptr(HvDomain) domain = hv_domain_new();
    const xmlNode *root = xmlDocGetRootElement(dom->doc);
    if (!read_identity(domain, dom, error) || !hv_domain_read_memory(domain, dom, error))
        return NULL;
    hv_domain_read_sharers(domain->sharers, root);
    domain->may_discard = may_discard(root);
    hv_domain_read_locality(domain, root);
    read_metadata(domain, root);
    return g_steal_pointer(&domain);
}

HvDomain *hv_domain_parse_identity(const char *xml, gsize xml_bytes, GError **error)
{
    g_autoptr(HvDom) dom = hv_dom_parse(xml, xml_bytes, error);
    g_autoptr(HvDomain) domain = hv_domain_new();
    return dom != NULL && read_identity(domain, dom, error) ? g_steal_pointer(&domain) : NULL;
}

void hv_domain_free(HvDomain *domain)
{
    if (domain == NULL)
        return;
    g_free(domain->uuid);
    g_free(domain->name);
    g_ptr_array_unref(domain->sharers);
    g_array_unref(domain->cells);
    g_array_unref(domain->devices);
    g_array_unref(domain->vcpu_pins);
    g_ptr_array_unref(domain->pci_devices);
    g_hash_table_unref(domain->ovirt_custom);
    g_hash_table_unref(domain->hugevm_custom);
    g_free(domain);
}

gboolean hv_domain_has_bare_hugepages(const HvDomain *domain)
{
    if (!domain->has_hugepages || domain->page_kib != 0)
        return FALSE;
    for (guint i = 0; i < domain->cells->len; i++)
        if (g_array_index(domain->cells, HvCell, i).page_kib != 0)
            return FALSE;
    return TRUE;
}

const HvCell *hv_domain_cell(const HvDomain *domain, int id)
{
    for (guint i = 0; i < domain->cells->len; i++) {
        const HvCell *cell = &g_array_index(domain->cells, HvCell, i);
        if (cell->id == id)
            return cell;
    }
    return NULL;
}

gboolean hv_domain_has_virtio_mem(const HvDomain *domain)
{
    for (guint i = 0; i < domain->devices->len; i++)
        if (g_array_index(domain->devices, HvMemoryDevice, i).model == HV_MEMORY_VIRTIO_MEM)
            return TRUE;
    return FALSE;
}
