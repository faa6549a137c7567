/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation: QEMU maps each guest cell and each memory device by
 * itself, so each is rounded up to whole pages by itself, after libvirt's own
 * rounding (which knows nothing of huge pages). What QEMU is going to refuse
 * about such a mapping is refused here, before pages are taken for it; its need
 * is counted all the same.
 */
#include "request-build.h"

#include "page-size.h"

#define CELL_STEP_KIB 1024u
#define DIMM_STEP_KIB (2u * 1024)
#define PPC64_STEP_KIB (256u * 1024)

/* One mapping of QEMU's. */
typedef struct {
    const char *name; /* for messages */
    guint64 memory_kib;
    guint64 page_kib;
    HvPlacement placement;
    gboolean is_elastic; /* virtio-mem: the mapping is larger than what it takes now */
    gboolean is_open;    /* its page size is not settled yet */
    int cell;
} Backend;

static void refuse_unknown_size(HvBuild *build, const Backend *backend)
{
    g_autofree char *asked = hv_format_kib(backend->page_kib);
    g_autofree char *offered = hv_snapshot_format_sizes(build->snapshot);
    if (build->snapshot->sizes->len == 0)
        hv_build_refuse(build,
                        hv_refusal_new(HV_ERROR_SHORTAGE,
                                       "the kernel needs CONFIG_HUGETLBFS, and hugetlb pages must "
                                       "not be switched off on its command line",
                                       "%s needs huge pages of %s, but this host has no huge pages",
                                       backend->name, asked));
    else
        hv_build_refuse(build, hv_refusal_new(HV_ERROR_SHORTAGE, "name one of these in <hugepages>",
                                              "%s needs huge pages of %s; this host offers %s",
                                              backend->name, asked, offered));
}

/* What QEMU will say to this mapping. */
static void check_backend(HvBuild *build, const Backend *backend, guint64 pages)
{
    if (backend->is_elastic || backend->memory_kib % backend->page_kib == 0)
        return;
    g_autofree char *memory = hv_format_kib(backend->memory_kib);
    g_autofree char *page = hv_format_kib(backend->page_kib);
    if (backend->memory_kib < backend->page_kib) {
        hv_build_refuse(build,
                        hv_refusal_new(HV_ERROR_XML, "use smaller pages, or more memory",
                                       "%s has %s, less than one page of %s; QEMU cannot start so",
                                       backend->name, memory, page));
    } else if (build->domain->traits.source == HV_SOURCE_MEMFD) {
        hv_build_refuse(build,
                        hv_refusal_new(HV_ERROR_XML, "make it a multiple, or drop the memfd source",
                                       "%s has %s, which is no multiple of its pages of %s; QEMU "
                                       "cannot start so with memfd memory",
                                       backend->name, memory, page));
    } else {
        guint64 unused_kib = pages * backend->page_kib - backend->memory_kib;
        g_autofree char *unused = hv_format_kib(unused_kib);
        hv_build_warn(build, "%s has %s, which is no multiple of its pages of %s: %s stay unused",
                      backend->name, memory, page, unused);
    }
}

static HvNodeSet nodes_of_host(const HvSnapshot *snapshot)
{
    HvNodeSet nodes = {0};
    for (guint i = 0; i < snapshot->nodes->len; i++)
        hv_node_set_add(&nodes, g_array_index(snapshot->nodes, HvNode, i).id);
    return nodes;
}

/* Every node must be there, for libvirt; one must have memory, for the VM. */
static void check_nodes(HvBuild *build, const Backend *backend)
{
    const HvPlacement *placement = &backend->placement;
    gboolean is_bound = placement->policy == HV_POLICY_NONE;
    const char *verb = is_bound ? "is bound to" : "is wanted on";
    HvNodeSet named = placement->nodes;
    hv_node_set_unite(&named, &placement->near);
    gboolean has_memory = FALSE;
    for (int id = 0; id < HV_MAX_NODES; id++) {
        if (!hv_node_set_contains(&named, id))
            continue;
        const HvNode *node = hv_snapshot_node(build->snapshot, id);
        if (node == NULL) {
            HvNodeSet nodes = nodes_of_host(build->snapshot);
            g_autofree char *list = hv_node_set_format(&nodes);
            hv_build_refuse(build,
                            hv_refusal_new(HV_ERROR_XML, "bind it to nodes that are there",
                                           "%s %s host node %d, which does not exist; this host "
                                           "has %s",
                                           backend->name, verb, id, list));
            return;
        }
        has_memory = has_memory || node->mem_total_kib > 0;
    }
    if (has_memory || (is_bound && hv_node_set_is_any(&placement->nodes)))
        return;
    g_autofree char *list = hv_node_set_format(&named);
    hv_build_refuse(build, hv_refusal_new(HV_ERROR_XML, "name nodes that have memory",
                                          "%s %s host nodes without memory: %s", backend->name,
                                          verb, list));
}

static gboolean is_normal(const HvBuild *build, const Backend *backend)
{
    return !backend->is_open && !hv_build_is_huge(build, backend->page_kib);
}

static void add_need(HvBuild *build, const Backend *backend)
{
    if (is_normal(build, backend) || backend->memory_kib == 0)
        return;
    HvNeed need = {.nodes = backend->placement.nodes,
                   .near = backend->placement.near,
                   .policy = backend->placement.policy,
                   .size_kib = backend->page_kib};
    need.pages = hv_pages_for_kib(backend->memory_kib, backend->page_kib);
    need.is_elastic = backend->is_elastic;
    if (backend->is_open) {
        need.cell = backend->cell;
        need.memory_kib = backend->memory_kib;
    }
    g_array_append_val(build->request->needs, need);
    if (backend->is_open) {
        check_nodes(build, backend);
        return;
    }
    if (!hv_build_offers(build, backend->page_kib))
        refuse_unknown_size(build, backend);
    check_backend(build, backend, need.pages);
    check_nodes(build, backend);
}

/* libvirt rounds memory up before QEMU sees it, by other steps than pages. */
static gboolean align(const HvBuild *build, const char *name, guint64 step_kib, guint64 *memory_kib,
                      GError **error)
{
    if (hv_build_is_ppc64(build))
        step_kib = PPC64_STEP_KIB;
    if (hv_round_up(*memory_kib, step_kib, memory_kib))
        return TRUE;
    hv_set_error(error, HV_ERROR_XML, NULL, "the memory of %s does not fit in 64 bits", name);
    return FALSE;
}

static guint64 page_of_cell(const HvBuild *build, const HvCell *cell)
{
    return cell->page_kib != 0 ? cell->page_kib : build->default_kib;
}

static gboolean add_cell(HvBuild *build, const HvCell *cell, GError **error)
{
    g_autofree char *name = hv_cell_name(cell->id);
    Backend backend = {.name = name,
                       .memory_kib = cell->memory_kib,
                       .page_kib = page_of_cell(build, cell),
                       .placement = cell->placement,
                       .is_open = build->is_open && cell->page_kib == 0,
                       .cell = cell->id};
    if (!align(build, name, CELL_STEP_KIB, &backend.memory_kib, error))
        return FALSE;
    add_need(build, &backend);
    if (is_normal(build, &backend))
        build->normal_kib = hv_plus(build->normal_kib, backend.memory_kib);
    HvCellRule rule = {cell->id, 0, cell->placement.nodes};
    if (hv_build_is_huge(build, backend.page_kib))
        rule.page_kib = backend.page_kib;
    if (cell->id >= 0)
        g_array_append_val(build->request->cells, rule);
    return TRUE;
}

/* A device for a cell that is not there follows the rule for the whole guest. */
static guint64 page_of_no_cell(const HvBuild *build)
{
    return build->domain->page_kib != 0 ? build->domain->page_kib : build->default_kib;
}

/* A nodemask of its own replaces the nodes of its cell, but not what <numatune> makes of nodes. */
static HvPlacement device_placement(const HvMemoryDevice *device, const HvPlacement *cell)
{
    if (hv_node_set_is_any(&device->nodes))
        return *cell;
    if (cell->policy == HV_POLICY_NONE)
        return (HvPlacement){.nodes = device->nodes};
    return (HvPlacement){.near = device->nodes, .policy = cell->policy};
}

static gboolean add_device(HvBuild *build, guint index, GError **error)
{
    const HvMemoryDevice *device = &g_array_index(build->domain->devices, HvMemoryDevice, index);
    const HvCell *cell = hv_domain_cell(build->domain, device->cell);
    g_autofree char *name = g_strdup_printf("memory device %u", index);
    Backend backend = {
        .name = name, .memory_kib = device->memory_kib, .placement.nodes = device->nodes};
    if (device->model == HV_MEMORY_NOT_COUNTED)
        return TRUE;
    backend.is_elastic = device->model == HV_MEMORY_VIRTIO_MEM;
    backend.page_kib = device->page_kib;
    if (device->page_kib == 0)
        backend.page_kib = cell != NULL ? page_of_cell(build, cell) : page_of_no_cell(build);
    /* as its cell is settled, so is the device; where there are no cells, as the whole guest */
    gboolean is_whole = !build->domain->has_cells;
    backend.is_open = build->is_open && device->page_kib == 0 &&
                      (is_whole || (cell != NULL && cell->page_kib == 0));
    if (build->is_open && !backend.is_open && device->page_kib == 0 && cell == NULL)
        backend.page_kib = 0; /* it has no <page> of its own */
    backend.cell = is_whole ? -1 : device->cell;
    if (cell != NULL)
        backend.placement = device_placement(device, &cell->placement);
    /* libvirt demands that what virtio-mem requests is a multiple of its blocks already. */
    if (!backend.is_elastic && !align(build, name, DIMM_STEP_KIB, &backend.memory_kib, error))
        return FALSE;
    add_need(build, &backend);
    /* of normal pages virtio-mem may take all that it may become, and its backend is that large */
    guint64 normal_kib = backend.is_elastic ? device->size_kib : backend.memory_kib;
    if (is_normal(build, &backend) && !device->is_live)
        build->normal_kib = hv_plus(build->normal_kib, normal_kib);
    return TRUE;
}

gboolean hv_build_needs(HvBuild *build, GError **error)
{
    const HvDomain *domain = build->domain;
    if (hv_domain_has_bare_hugepages(domain) && build->default_kib == 0)
        hv_build_refuse(build,
                        hv_refusal_new(HV_ERROR_SHORTAGE, NULL, "this host has no huge pages"));
    for (guint i = 0; i < domain->cells->len; i++)
        if (!add_cell(build, &g_array_index(domain->cells, HvCell, i), error))
            return FALSE;
    for (guint i = 0; i < domain->devices->len; i++)
        if (!add_device(build, i, error))
            return FALSE;
    if (domain->memory_kib != 0 && domain->memory_kib != domain->parts_kib &&
        build->request->needs->len > 0) {
        g_autofree char *written = hv_format_kib(domain->memory_kib);
        g_autofree char *parts = hv_format_kib(domain->parts_kib);
        hv_build_warn(build,
                      "<memory> says %s, but the guest cells and memory devices have %s, which is "
                      "what libvirt counts",
                      written, parts);
    }
    if (domain->is_auto_placed && build->request->needs->len > 0)
        hv_build_warn(build,
                      "numatune placement='auto' chooses the host nodes only at start: the pages "
                      "found for this VM may be on others");
    return TRUE;
}
