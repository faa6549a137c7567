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

#include "domain-value.h"
#include "error.h"
#include "page-size.h"

#include <string.h>

/* Far above what QEMU takes (128 cells, 256 slots); keeps look-ups between lists cheap. */
#define MAX_LIST ((guint)HV_MAX_NODES)

typedef enum { ACCESS_UNSET, ACCESS_PRIVATE, ACCESS_SHARED } Access;

typedef struct {
    guint64 size_kib;
    gboolean has_nodeset;
    HvNodeSet nodeset; /* guest cells; without the attribute empty */
} PageRule;

/* <memnode>: the host nodes of one cell. */
typedef struct {
    guint64 cell;
    HvNodeSet nodes;
} CellBinding;

typedef struct {
    HvDomain *domain;
    const HvDom *dom;
    GArray *page_rules; /* PageRule, in the order of the document */
    GArray *bindings;   /* CellBinding */
    HvNodeSet cell_ids;
    HvNodeSet default_nodes;
    Access access;
    guint64 devices_kib; /* sum of the devices' full sizes */
} Walk;

static gboolean read_access(const xmlNode *node, const char *attribute, Access *out_access,
                            GError **error)
{
    g_autofree char *mode = hv_dom_attribute(node, attribute);
    if (mode == NULL)
        return TRUE;
    if (strcmp(mode, "shared") != 0 && strcmp(mode, "private") != 0) {
        g_autofree char *quoted = hv_quote(mode);
        return hv_domain_bad(error, "%s of <%s> is %s; it can be shared or private", attribute,
                             (const char *)node->name, quoted);
    }
    *out_access = strcmp(mode, "shared") == 0 ? ACCESS_SHARED : ACCESS_PRIVATE;
    return TRUE;
}

static gboolean has_room(const GArray *list, const char *what, GError **error)
{
    return list->len < MAX_LIST || hv_domain_bad(error, "more than %u of <%s>", MAX_LIST, what);
}

static gboolean read_page_rule(Walk *walk, const xmlNode *page, GError **error)
{
    PageRule rule = {0};
    g_autofree char *nodeset = hv_dom_attribute(page, "nodeset");
    if (!has_room(walk->page_rules, "page", error) ||
        !hv_domain_scaled_attribute(page, "size", "the size of <page>", &rule.size_kib, error))
        return FALSE;
    if (rule.size_kib == 0)
        return hv_domain_bad(error, "the size of <page> is 0");
    if (nodeset != NULL) {
        rule.has_nodeset = TRUE;
        if (!hv_domain_nodeset(nodeset, "the nodeset of <page>", &rule.nodeset, error))
            return FALSE;
    }
    g_array_append_val(walk->page_rules, rule);
    return TRUE;
}

static gboolean read_hugepages(Walk *walk, const xmlNode *backing, GError **error)
{
    xmlNode *hugepages;
    if (!hv_dom_only_child(backing, "hugepages", &hugepages, error))
        return FALSE;
    walk->domain->has_hugepages = hugepages != NULL;
    walk->domain->span_hugepages = hv_dom_span(walk->dom, hugepages);
    for (xmlNode *page = hv_dom_child(hugepages, "page"); page != NULL;
         page = hv_dom_next(page, "page"))
        if (!read_page_rule(walk, page, error))
            return FALSE;
    return TRUE;
}

static gboolean read_backing(Walk *walk, const xmlNode *root, GError **error)
{
    HvDomain *domain = walk->domain;
    xmlNode *backing, *access, *source;
    if (!hv_dom_only_child(root, "memoryBacking", &backing, error) ||
        !hv_dom_only_child(backing, "access", &access, error) ||
        !hv_dom_only_child(backing, "source", &source, error) ||
        !read_access(access, "mode", &walk->access, error) || !read_hugepages(walk, backing, error))
        return FALSE;
    domain->span_memory_backing = hv_dom_span(walk->dom, backing);
    domain->span_access = hv_dom_span(walk->dom, access);
    domain->access_shared = walk->access == ACCESS_SHARED;
    domain->is_memfd = hv_dom_attribute_is(source, "type", "memfd");
    return TRUE;
}

/* Nodes of a <memory> or <memnode> of <numatune>, where its mode binds to them. */
static gboolean read_binding(const xmlNode *node, HvNodeSet *out_nodes, GError **error)
{
    HvNodeSet nodes = {0};
    g_autofree char *nodeset = hv_dom_attribute(node, "nodeset");
    g_autofree char *mode = hv_dom_attribute(node, "mode");
    if (nodeset == NULL)
        return TRUE;
    if (!hv_domain_nodeset(nodeset, "a nodeset of <numatune>", &nodes, error))
        return FALSE;
    if (mode == NULL || strcmp(mode, "strict") == 0 || strcmp(mode, "restrictive") == 0) {
        *out_nodes = nodes;
        return TRUE;
    }
    if (strcmp(mode, "preferred") == 0 || strcmp(mode, "interleave") == 0)
        return TRUE;
    g_autofree char *quoted = hv_quote(mode);
    return hv_domain_bad(error, "<numatune> has the unknown mode %s", quoted);
}

static gboolean read_memnode(Walk *walk, const xmlNode *memnode, GError **error)
{
    CellBinding binding = {0};
    g_autofree char *cell = hv_dom_attribute(memnode, "cellid");
    if (!has_room(walk->bindings, "memnode", error))
        return FALSE;
    if (!hv_parse_u64(cell, &binding.cell)) {
        g_autofree char *quoted = hv_quote(cell);
        return hv_domain_bad(error, "the cellid of <memnode> is %s, which is no number", quoted);
    }
    if (!read_binding(memnode, &binding.nodes, error))
        return FALSE;
    g_array_append_val(walk->bindings, binding);
    return TRUE;
}

static gboolean read_numatune(Walk *walk, const xmlNode *root, GError **error)
{
    xmlNode *numatune, *memory;
    if (!hv_dom_only_child(root, "numatune", &numatune, error) ||
        !hv_dom_only_child(numatune, "memory", &memory, error))
        return FALSE;
    walk->domain->is_auto_placed = hv_dom_attribute_is(memory, "placement", "auto");
    /* libvirt ignores a nodeset beside placement='auto'. */
    if (memory != NULL && !walk->domain->is_auto_placed &&
        !read_binding(memory, &walk->default_nodes, error))
        return FALSE;
    for (xmlNode *memnode = hv_dom_child(numatune, "memnode"); memnode != NULL;
         memnode = hv_dom_next(memnode, "memnode"))
        if (!read_memnode(walk, memnode, error))
            return FALSE;
    return TRUE;
}

/* In a guest without cells libvirt drops a nodeset that names just cell 0. */
static gboolean is_master_rule(const PageRule *rule, gboolean has_cells)
{
    return !rule->has_nodeset || (!has_cells && hv_node_set_single(&rule->nodeset) == 0);
}

static guint64 master_page_kib(const Walk *walk)
{
    for (guint i = 0; i < walk->page_rules->len; i++) {
        const PageRule *rule = &g_array_index(walk->page_rules, PageRule, i);
        if (is_master_rule(rule, walk->domain->has_cells))
            return rule->size_kib;
    }
    return 0;
}

static guint64 page_kib_of_cell(const Walk *walk, int id)
{
    for (guint i = 0; i < walk->page_rules->len; i++) {
        const PageRule *rule = &g_array_index(walk->page_rules, PageRule, i);
        if (hv_node_set_contains(&rule->nodeset, id))
            return rule->size_kib;
    }
    return walk->domain->page_kib;
}

static HvNodeSet nodes_of_cell(const Walk *walk, int id)
{
    for (guint i = 0; i < walk->bindings->len; i++) {
        const CellBinding *binding = &g_array_index(walk->bindings, CellBinding, i);
        if (id >= 0 && binding->cell == (guint64)id)
            return binding->nodes;
    }
    return walk->default_nodes;
}

static void set_access(const Walk *walk, Access own, HvCell *cell)
{
    Access access = own != ACCESS_UNSET ? own : walk->access;
    cell->is_access_written = access != ACCESS_UNSET;
    /* QEMU shares a memfd unless told otherwise, and a file only when told. */
    cell->is_shared = access == ACCESS_UNSET ? walk->domain->is_memfd : access == ACCESS_SHARED;
}

/* The id attribute, else the position, as libvirt counts. */
static gboolean read_cell_id(const Walk *walk, const xmlNode *node, int *out_id, GError **error)
{
    g_autofree char *text = hv_dom_attribute(node, "id");
    guint64 id = walk->domain->cells->len;
    if (text != NULL && (!hv_parse_u64(text, &id) || id >= MAX_LIST)) {
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
    Access access = ACCESS_UNSET;
    if (!has_room(walk->domain->cells, "cell", error) ||
        !read_cell_id(walk, node, &cell.id, error) ||
        !hv_domain_scaled_attribute(node, "memory", "the memory of <cell>", &cell.memory_kib,
                                    error) ||
        !read_access(node, "memAccess", &access, error))
        return FALSE;
    cell.page_kib = page_kib_of_cell(walk, cell.id);
    cell.nodes = nodes_of_cell(walk, cell.id);
    cell.span = hv_dom_span(walk->dom, node);
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
    walk->domain->page_kib = master_page_kib(walk);
    for (xmlNode *cell = first; cell != NULL; cell = hv_dom_next(cell, "cell"))
        if (!read_cell(walk, cell, error))
            return FALSE;
    return TRUE;
}

/* The first cell of a rule that the guest does not have; -1: it has them all. */
static int missing_cell(const Walk *walk, const PageRule *rule)
{
    for (int id = 0; id < HV_MAX_NODES; id++)
        if (hv_node_set_contains(&rule->nodeset, id) && !hv_node_set_contains(&walk->cell_ids, id))
            return id;
    return -1;
}

/* libvirt refuses a rule for a missing cell, too; and without such rules "no cell
 * has a size" can only mean a bare <hugepages/>. */
static gboolean check_page_rules(const Walk *walk, GError **error)
{
    for (guint i = 0; i < walk->page_rules->len; i++) {
        const PageRule *rule = &g_array_index(walk->page_rules, PageRule, i);
        int missing = is_master_rule(rule, walk->domain->has_cells) ? -1 : missing_cell(walk, rule);
        if (missing >= 0)
            return hv_domain_bad(error, "<page> names the guest cell %d, which does not exist",
                                 missing);
    }
    return TRUE;
}

static gboolean parse_model(const xmlNode *node, HvMemoryModel *out_model, GError **error)
{
    static const struct {
        const char *name;
        HvMemoryModel model;
    } models[] = {
        {"dimm", HV_MEMORY_DIMM},           {"virtio-mem", HV_MEMORY_VIRTIO_MEM},
        {"nvdimm", HV_MEMORY_NOT_COUNTED},  {"virtio-pmem", HV_MEMORY_NOT_COUNTED},
        {"sgx-epc", HV_MEMORY_NOT_COUNTED},
    };
    g_autofree char *text = hv_dom_attribute(node, "model");
    for (guint i = 0; i < G_N_ELEMENTS(models); i++) {
        if (g_strcmp0(text, models[i].name) == 0) {
            *out_model = models[i].model;
            return TRUE;
        }
    }
    g_autofree char *quoted = hv_quote(text);
    return hv_domain_bad(error, "a memory device has the unknown model %s", quoted);
}

static gboolean read_device_source(const xmlNode *node, HvMemoryDevice *device, GError **error)
{
    const xmlNode *source = hv_dom_child(node, "source");
    const xmlNode *pagesize = hv_dom_child(source, "pagesize");
    const xmlNode *nodemask = hv_dom_child(source, "nodemask");
    if (pagesize != NULL && !hv_domain_scaled_text(pagesize, "the pagesize of a memory device",
                                                   &device->page_kib, error))
        return FALSE;
    g_autofree char *nodes = hv_dom_text(nodemask);
    return nodes == NULL ||
           hv_domain_nodeset(nodes, "the nodemask of a memory device", &device->nodes, error);
}

static gboolean read_device_target(Walk *walk, const xmlNode *node, HvMemoryDevice *device,
                                   GError **error)
{
    const xmlNode *target = hv_dom_child(node, "target");
    guint64 size_kib, cell;
    if (!hv_domain_scaled_text(hv_dom_child(target, "size"), "the size of a memory device",
                               &size_kib, error))
        return FALSE;
    if (!hv_checked_add(walk->devices_kib, size_kib, &walk->devices_kib))
        return hv_domain_bad(error, "the sizes of the memory devices do not fit in 64 bits");
    device->memory_kib = size_kib;
    if (device->model == HV_MEMORY_VIRTIO_MEM &&
        !hv_domain_scaled_text(hv_dom_child(target, "requested"),
                               "the requested size of a memory device", &device->memory_kib, error))
        return FALSE;
    g_autofree char *text = hv_dom_text(hv_dom_child(target, "node"));
    device->cell = -1;
    if (text == NULL)
        return TRUE;
    if (!hv_parse_u64(text, &cell) || cell >= MAX_LIST) {
        g_autofree char *quoted = hv_quote(text);
        return hv_domain_bad(error, "the node of a memory device is %s, which is no cell number",
                             quoted);
    }
    device->cell = (int)cell;
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
        if (!has_room(walk->domain->devices, "memory", error) ||
            !parse_model(node, &device.model, error) || !read_device_source(node, &device, error) ||
            !read_device_target(walk, node, &device, error))
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
    cell.nodes = walk->default_nodes;
    set_access(walk, ACCESS_UNSET, &cell);
    g_array_append_val(walk->domain->cells, cell);
    return TRUE;
}

static gboolean check_cells_memory(const HvDomain *domain, GError **error)
{
    guint64 sum_kib = 0;
    for (guint i = 0; i < domain->cells->len; i++)
        if (!hv_checked_add(sum_kib, g_array_index(domain->cells, HvCell, i).memory_kib, &sum_kib))
            return hv_domain_bad(error, "the memory of the cells does not fit in 64 bits");
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
    if (walk->domain->has_cells)
        return check_cells_memory(walk->domain, error);
    if (memory == NULL)
        return hv_domain_bad(error, "it names no memory: <memory> is missing");
    if (memory_kib == 0)
        return hv_domain_bad(error, "<memory> is 0");
    return add_whole_guest(walk, memory_kib, error);
}

gboolean hv_domain_read_memory(HvDomain *domain, const HvDom *dom, GError **error)
{
    g_autoptr(GArray) page_rules = g_array_new(FALSE, FALSE, sizeof(PageRule));
    g_autoptr(GArray) bindings = g_array_new(FALSE, FALSE, sizeof(CellBinding));
    Walk walk = {.domain = domain, .dom = dom, .page_rules = page_rules, .bindings = bindings};
    const xmlNode *root = xmlDocGetRootElement(dom->doc);
    return read_backing(&walk, root, error) && read_numatune(&walk, root, error) &&
           read_cells(&walk, root, error) && check_page_rules(&walk, error) &&
           read_memory_devices(&walk, root, error) && read_total(&walk, root, error);
}
