/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Files read (all below the injected root):
 *   /sys/devices/system/node/nodeN/{cpulist,distance}
 *   /sys/bus/pci/devices/ADDRESS/numa_node
 * These are hints: what cannot be read or understood is left out.
 */
#include "topology.h"

#include "page-size.h"

#include <string.h>

#define LIST_MAX_BYTES (16 * 1024)

static char *read_node_file(const HvRoot *root, int node, const char *name)
{
    g_autofree char *path = g_strdup_printf("/sys/devices/system/node/node%d/%s", node, name);
    char *text = hv_root_read_text(root, path, LIST_MAX_BYTES, NULL);
    return text != NULL ? g_strstrip(text) : NULL;
}

/* One row of the table, "10 21 31": a column per node. */
static void read_distances(const HvRoot *root, HvSnapshot *snapshot, int node)
{
    g_autofree char *text = read_node_file(root, node, "distance");
    g_auto(GStrv) words = g_strsplit(text != NULL ? text : "", " ", -1);
    for (guint i = 0; words[i] != NULL && i < snapshot->nodes->len; i++) {
        guint64 value;
        guint distance = hv_parse_u64(words[i], &value) && value <= 255 ? (guint)value : 255;
        g_array_append_val(snapshot->distances, distance);
    }
}

void hv_topology_read(const HvRoot *root, HvSnapshot *snapshot)
{
    g_array_set_size(snapshot->distances, 0);
    for (guint i = 0; i < snapshot->nodes->len; i++) {
        HvNode *node = &g_array_index(snapshot->nodes, HvNode, i);
        g_autofree char *cpus = read_node_file(root, node->id, "cpulist");
        hv_node_set_parse(cpus, &node->cpus);
        read_distances(root, snapshot, node->id);
    }
}

void hv_topology_read_for(const HvRoot *root, HvSnapshot *snapshot, const GArray *needs)
{
    gboolean is_wanted = FALSE;
    for (guint i = 0; i < needs->len; i++)
        is_wanted = is_wanted || !hv_node_set_is_any(&g_array_index(needs, HvNeed, i).near);
    if (is_wanted)
        hv_topology_read(root, snapshot);
}

static const HvNodeSet *cpus_of_vcpu(const HvDomain *domain, guint64 vcpu)
{
    for (guint i = 0; i < domain->vcpu_pins->len; i++) {
        const HvVcpuPin *pin = &g_array_index(domain->vcpu_pins, HvVcpuPin, i);
        if (pin->vcpu == vcpu && !hv_node_set_is_any(&pin->cpus))
            return &pin->cpus;
    }
    return &domain->cpus;
}

/* The host's CPUs of a cell; empty: any. */
static HvNodeSet cpus_of_cell(const HvDomain *domain, const HvCell *cell)
{
    HvNodeSet cpus = {0};
    if (!hv_node_set_is_any(&cell->vcpus)) {
        for (int vcpu = 0; vcpu < HV_MAX_NODES; vcpu++)
            if (hv_node_set_contains(&cell->vcpus, vcpu))
                hv_node_set_unite(&cpus, cpus_of_vcpu(domain, (guint64)vcpu));
        return cpus;
    }
    cpus = domain->cpus;
    for (guint i = 0; i < domain->vcpu_pins->len; i++)
        hv_node_set_unite(&cpus, &g_array_index(domain->vcpu_pins, HvVcpuPin, i).cpus);
    return cpus;
}

static HvNodeSet nodes_of_cpus(const HvSnapshot *snapshot, const HvNodeSet *cpus)
{
    HvNodeSet nodes = {0};
    for (guint i = 0; i < snapshot->nodes->len; i++) {
        const HvNode *node = &g_array_index(snapshot->nodes, HvNode, i);
        if (!hv_node_set_is_any(cpus) && !hv_node_set_is_any(&node->cpus) &&
            hv_node_set_overlaps(cpus, &node->cpus))
            hv_node_set_add(&nodes, node->id);
    }
    return nodes;
}

/* -1 in the file: the device is on no node in particular. */
static HvNodeSet nodes_of_devices(const HvRoot *root, const HvSnapshot *snapshot,
                                  const HvDomain *domain)
{
    HvNodeSet nodes = {0};
    for (guint i = 0; i < domain->pci_devices->len; i++) {
        const char *address = g_ptr_array_index(domain->pci_devices, i);
        g_autofree char *path = g_strdup_printf("/sys/bus/pci/devices/%s/numa_node", address);
        guint64 node;
        if (hv_root_read_u64(root, path, &node, NULL) && node < HV_MAX_NODES &&
            hv_snapshot_node(snapshot, (int)node) != NULL)
            hv_node_set_add(&nodes, (int)node);
    }
    return nodes;
}

/* Does anything say where the VM's memory should be rather than elsewhere? */
static gboolean has_wishes(const HvDomain *domain)
{
    for (guint i = 0; i < domain->cells->len; i++)
        if (g_array_index(domain->cells, HvCell, i).placement.policy != HV_POLICY_NONE)
            return TRUE;
    return domain->vcpu_pins->len > 0 || !hv_node_set_is_any(&domain->cpus) ||
           domain->pci_devices->len > 0;
}

void hv_topology_place(const HvRoot *root, HvSnapshot *snapshot, HvDomain *domain)
{
    if (snapshot->nodes->len < 2 || domain->is_auto_placed || !has_wishes(domain))
        return;
    hv_topology_read(root, snapshot);
    HvNodeSet devices = nodes_of_devices(root, snapshot, domain);
    for (guint i = 0; i < domain->cells->len; i++) {
        HvCell *cell = &g_array_index(domain->cells, HvCell, i);
        HvPlacement *placement = &cell->placement;
        if (!hv_node_set_is_any(&placement->nodes) || placement->policy != HV_POLICY_NONE)
            continue;
        HvNodeSet cpus = cpus_of_cell(domain, cell);
        placement->near = nodes_of_cpus(snapshot, &cpus);
        if (hv_node_set_is_any(&placement->near))
            placement->near = devices;
    }
}
