/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation: libvirt makes one backend per guest cell and per memory
 * device, each with a page size, an access mode and a host node binding of its
 * own, found by rules of precedence that are spread over four elements. This
 * file reads the elements in the order in which the rules need them
 * (<memoryBacking>, <numatune>, cells, devices) and settles each rule where the
 * cell is made, so that nobody behind it looks at the XML again.
 *
 * What libvirt would refuse is refused here as well where it would make our
 * numbers wrong; everything else is left to libvirt.
 */
#include "domain-memory.h"

#include "domain-device.h"
#include "domain-rules.h"
#include "domain-traits.h"
#include "domain-value.h"
#include "error.h"
#include "page-size.h"

#include <string.h>

typedef struct {
    HvDomain *domain;
    const HvDom *dom;
    HvRules *rules;
    HvNodeSet cell_ids;
    guint64 devices_kib; /* sum of the devices' full sizes */
} Walk;

static gboolean read_hugepages(Walk *walk, const xmlNode *backing, GError **error)
{
    xmlNode *hugepages;
    if (!hv_dom_only_child(backing, "hugepages", &hugepages, error))
        return FALSE;
    walk->domain->has_hugepages = hugepages != NULL;
    walk->domain->span_hugepages = hv_dom_span(walk->dom, hugepages);
    return hv_rules_read_hugepages(walk->rules, hugepages, error);
}

static gboolean read_backing(Walk *walk, const xmlNode *root, GError **error)
{
    HvDomain *domain = walk->domain;
    xmlNode *backing, *access, *source, *allocation;
    if (!hv_dom_only_child(root, "memoryBacking", &backing, error) ||
        !hv_dom_only_child(backing, "access", &access, error) ||
        !hv_dom_only_child(backing, "source", &source, error) ||
        !hv_dom_only_child(backing, "allocation", &allocation, error) ||
        !hv_domain_access(access, "mode", &domain->traits.access, error) ||
        !hv_domain_read_traits(&domain->traits, root, backing, error) ||
        !read_hugepages(walk, backing, error))
        return FALSE;
    domain->span_memory_backing = hv_dom_span(walk->dom, backing);
    domain->span_access = hv_dom_span(walk->dom, access);
    domain->span_source = hv_dom_span(walk->dom, source);
    domain->span_allocation = hv_dom_span(walk->dom, allocation);
    return TRUE;
}

/* Memory of which nothing else is said goes where numad puts the vCPUs. */
static gboolean follows_vcpus(const xmlNode *root, const xmlNode *memory)
{
    g_autofree char *nodeset = hv_dom_attribute(memory, "nodeset");
    g_autofree char *placement = hv_dom_attribute(memory, "placement");
    return hv_dom_attribute_is(hv_dom_child(root, "vcpu"), "placement", "auto") &&
           nodeset == NULL && placement == NULL;
}

static gboolean read_numatune(Walk *walk, const xmlNode *root, GError **error)
{
    xmlNode *numatune;
    if (!hv_dom_only_child(root, "numatune", &numatune, error) ||
        !hv_rules_read_numatune(walk->rules, numatune, error))
        return FALSE;
    walk->domain->span_numatune = hv_dom_span(walk->dom, numatune);
    walk->domain->is_auto_placed =
        walk->rules->is_auto_placed || follows_vcpus(root, hv_dom_child(numatune, "memory"));
    return TRUE;
}

static void set_access(const Walk *walk, HvAccess own, HvCell *cell)
{
    HvAccess access = own != HV_ACCESS_UNSET ? own : walk->domain->traits.access;
    cell->access = own;
    cell->is_access_written = access != HV_ACCESS_UNSET;
    /* QEMU shares a memfd unless told otherwise, and a file only when told. */
    cell->is_shared = access == HV_ACCESS_UNSET ? walk->domain->traits.source == HV_SOURCE_MEMFD
                                                : access == HV_ACCESS_SHARED;
}

/* The id attribute, else the position, as libvirt counts. */
static gboolean read_cell_id(const Walk *walk, const xmlNode *node, int *out_id, GError **error)
{
    g_autofree char *text = hv_dom_attribute(node, "id");
    guint64 id = walk->domain->cells->len;
    if (text != NULL && (!hv_parse_u64(text, &id) || id >= HV_DOMAIN_MAX_LIST)) {
        g_autofree char *quoted = hv_quote(text);
        return hv_domain_bad(error, "the id of <cell> is %s, which is no cell number", quoted);
    }
    if (hv_node_set_contains(&walk->cell_ids, (int)id))
        return hv_domain_bad(error, "two <cell> have the id %d", (int)id);
    *out_id = (int)id;
    return TRUE;
}

static gboolean read_cell(Walk *walk, const xmlNode *node, GError **error)
{
    HvCell cell = {0};
    HvAccess access = HV_ACCESS_UNSET;
    if (!hv_domain_has_room(walk->domain->cells, "cell", error) ||
        !read_cell_id(walk, node, &cell.id, error) ||
        !hv_domain_scaled_attribute(node, "memory", "the memory of <cell>", &cell.memory_kib,
                                    error) ||
        !hv_domain_access(node, "memAccess", &access, error))
        return FALSE;
    guint64 own_kib = hv_rules_page_kib(walk->rules, cell.id);
    cell.page_kib = own_kib != 0 ? own_kib : walk->domain->page_kib;
    cell.placement = hv_rules_placement(walk->rules, cell.id);
    cell.span = hv_dom_span(walk->dom, node);
    g_autofree char *vcpus = hv_dom_attribute(node, "cpus");
    hv_node_set_parse(vcpus, &cell.vcpus);
    set_access(walk, access, &cell);
    hv_node_set_add(&walk->cell_ids, cell.id);
    g_array_append_val(walk->domain->cells, cell);
    return TRUE;
}

static gboolean read_cells(Walk *walk, const xmlNode *root, GError **error)
{
    xmlNode *cpu, *numa;
    if (!hv_dom_only_child(root, "cpu", &cpu, error) ||
        !hv_dom_only_child(cpu, "numa", &numa, error))
        return FALSE;
    xmlNode *first = hv_dom_child(numa, "cell");
    walk->domain->has_cells = first != NULL;
    walk->domain->page_kib = hv_rules_master_page_kib(walk->rules, walk->domain->has_cells);
    for (xmlNode *cell = first; cell != NULL; cell = hv_dom_next(cell, "cell"))
        if (!read_cell(walk, cell, error))
            return FALSE;
    return TRUE;
}

static gboolean check_device(Walk *walk, const HvMemoryDevice *device, GError **error)
{
    walk->devices_kib += device->size_kib; /* both are far from 64 bits */
    if (walk->devices_kib > HV_DOMAIN_MAX_KIB)
        return hv_domain_bad(error, "the memory devices are more memory than there can be");
    if (device->cell >= 0 && walk->domain->has_cells &&
        !hv_node_set_contains(&walk->cell_ids, device->cell))
        return hv_domain_bad(
            error, "a memory device is for the guest cell %d, which does not exist", device->cell);
    return TRUE;
}

static gboolean read_memory_devices(Walk *walk, const xmlNode *root, GError **error)
{
    xmlNode *devices;
    if (!hv_dom_only_child(root, "devices", &devices, error))
        return FALSE;
    for (xmlNode *node = hv_dom_child(devices, "memory"); node != NULL;
         node = hv_dom_next(node, "memory")) {
        HvMemoryDevice device = {0};
        if (!hv_domain_has_room(walk->domain->devices, "memory", error) ||
            !hv_domain_read_device(node, &device, error) || !check_device(walk, &device, error))
            return FALSE;
        g_array_append_val(walk->domain->devices, device);
    }
    return TRUE;
}

/* A guest without cells is one cell: <memory> counts the devices in, so they go off. */
static gboolean add_whole_guest(Walk *walk, guint64 memory_kib, GError **error)
{
    if (memory_kib <= walk->devices_kib)
        return hv_domain_bad(error,
                             "the memory devices are as large as <memory>, which counts them");
    HvCell cell = {.id = -1, .memory_kib = memory_kib - walk->devices_kib};
    cell.page_kib = walk->domain->page_kib;
    cell.placement = hv_rules_placement(walk->rules, cell.id);
    set_access(walk, HV_ACCESS_UNSET, &cell);
    g_array_append_val(walk->domain->cells, cell);
    return TRUE;
}

static gboolean add_up_cells(const Walk *walk, GError **error)
{
    guint64 sum_kib = 0;
    for (guint i = 0; i < walk->domain->cells->len; i++)
        sum_kib += g_array_index(walk->domain->cells, HvCell, i).memory_kib; /* within 54 bits */
    if (sum_kib > HV_DOMAIN_MAX_KIB)
        return hv_domain_bad(error, "the guest cells have more memory than there can be");
    walk->domain->parts_kib = sum_kib + walk->devices_kib;
    return sum_kib > 0 || hv_domain_bad(error, "the guest cells have no memory");
}

static gboolean read_total(Walk *walk, const xmlNode *root, GError **error)
{
    xmlNode *memory;
    guint64 memory_kib = 0;
    if (!hv_dom_only_child(root, "memory", &memory, error))
        return FALSE;
    walk->domain->span_memory = hv_dom_span(walk->dom, memory);
    if (memory != NULL && !hv_domain_scaled_text(memory, "<memory>", &memory_kib, error))
        return FALSE;
    walk->domain->memory_kib = walk->domain->parts_kib = memory_kib;
    if (walk->domain->has_cells)
        return add_up_cells(walk, error);
    if (memory == NULL)
        return hv_domain_bad(error, "it names no memory: <memory> is missing");
    if (memory_kib == 0)
        return hv_domain_bad(error, "<memory> is 0");
    return add_whole_guest(walk, memory_kib, error);
}

gboolean hv_domain_read_memory(HvDomain *domain, const HvDom *dom, GError **error)
{
    g_autoptr(HvRules) rules = hv_rules_new();
    Walk walk = {.domain = domain, .dom = dom, .rules = rules};
    const xmlNode *root = xmlDocGetRootElement(dom->doc);
    return read_backing(&walk, root, error) && read_numatune(&walk, root, error) &&
           read_cells(&walk, root, error) && hv_rules_check(rules, &walk.cell_ids, error) &&
           read_memory_devices(&walk, root, error) && read_total(&walk, root, error);
}
