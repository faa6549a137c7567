/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A memory device takes what its target says: a DIMM its size; virtio-mem what is
 * requested of it, whatever it may grow to. A live domain's XML also says what it has.
 */
#include "domain-device.h"

#include "domain-rules.h"
#include "domain-value.h"
#include "error.h"
#include "page-size.h"

#include <string.h>

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

static gboolean read_source(const xmlNode *node, HvMemoryDevice *device, GError **error)
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

static gboolean read_amounts(const xmlNode *target, HvMemoryDevice *device, GError **error)
{
    const xmlNode *current = hv_dom_child(target, "current");
    if (!hv_domain_scaled_text(hv_dom_child(target, "size"), "the size of a memory device",
                               &device->size_kib, error))
        return FALSE;
    device->memory_kib = device->size_kib;
    if (device->model != HV_MEMORY_VIRTIO_MEM)
        return TRUE;
    device->is_live = current != NULL;
    return hv_domain_scaled_text(hv_dom_child(target, "requested"),
                                 "the requested size of a memory device", &device->memory_kib,
                                 error) &&
           (current == NULL || hv_domain_scaled_text(current, "the current size of a memory device",
                                                     &device->current_kib, error));
}

static gboolean read_cell(const xmlNode *target, HvMemoryDevice *device, GError **error)
{
    g_autofree char *text = hv_dom_text(hv_dom_child(target, "node"));
    guint64 cell;
    device->cell = -1;
    if (text == NULL)
        return TRUE;
    if (!hv_parse_u64(text, &cell) || cell >= HV_DOMAIN_MAX_LIST) {
        g_autofree char *quoted = hv_quote(text);
        return hv_domain_bad(error, "the node of a memory device is %s, which is no cell number",
                             quoted);
    }
    device->cell = (int)cell;
    return TRUE;
}

gboolean hv_domain_read_device(const xmlNode *node, HvMemoryDevice *device, GError **error)
{
    const xmlNode *target = hv_dom_child(node, "target");
    return parse_model(node, &device->model, error) &&
           hv_domain_access(node, "access", &device->access, error) &&
           read_source(node, device, error) && read_amounts(target, device, error) &&
           read_cell(target, device, error);
}

gboolean hv_memory_device_parse(const char *xml, gsize xml_bytes, HvMemoryDevice *out_device,
                                GError **error)
{
    HvMemoryDevice device = {0};
    g_autoptr(HvDom) dom = hv_dom_parse_as(xml, xml_bytes, "memory", error);
    if (dom == NULL || !hv_domain_read_device(xmlDocGetRootElement(dom->doc), &device, error))
        return FALSE;
    *out_device = device;
    return TRUE;
}
