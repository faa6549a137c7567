/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libvirt writes a page size in two places: as attributes of <page>, and as the text
 * of a memory device's <pagesize>. Devices that have no huge pages of the host's
 * (nvdimm) name the size of something else there, and are left alone.
 */
#include "domain-pages.h"

#include "domain-value.h"

static gboolean is_replaced(const HvPageReplacement *replacement, guint64 size_kib)
{
    for (guint i = 0; i < replacement->from_kib->len; i++)
        if (g_array_index(replacement->from_kib, guint64, i) == size_kib)
            return TRUE;
    return FALSE;
}

static xmlNode *first_page(const xmlNode *root)
{
    return hv_dom_child(hv_dom_child(hv_dom_child(root, "memoryBacking"), "hugepages"), "page");
}

static xmlNode *pagesize_of(const xmlNode *memory)
{
    if (!hv_dom_attribute_is(memory, "model", "dimm") &&
        !hv_dom_attribute_is(memory, "model", "virtio-mem"))
        return NULL;
    return hv_dom_child(hv_dom_child(memory, "source"), "pagesize");
}

void hv_domain_replace_pages(HvSplices *splices, const HvText *text, const HvDom *dom,
                             const HvPageReplacement *replacement)
{
    const xmlNode *root = xmlDocGetRootElement(dom->doc);
    const xmlNode *devices = hv_dom_child(root, "devices");
    g_autofree char *to = g_strdup_printf("%" G_GUINT64_FORMAT, replacement->to_kib);
    guint64 size_kib = 0;
    for (xmlNode *page = first_page(root); page != NULL; page = hv_dom_next(page, "page")) {
        HvSpan span = hv_dom_span(dom, page);
        if (!hv_domain_scaled_attribute(page, "size", "a page size", &size_kib, NULL) ||
            !is_replaced(replacement, size_kib))
            continue;
        hv_splices_set_attribute(splices, text, &span, "size", to);
        hv_splices_set_attribute(splices, text, &span, "unit", "KiB");
    }
    for (xmlNode *memory = hv_dom_child(devices, "memory"); memory != NULL;
         memory = hv_dom_next(memory, "memory")) {
        const xmlNode *pagesize = pagesize_of(memory);
        HvSpan span = hv_dom_span(dom, pagesize);
        if (pagesize == NULL || !hv_domain_scaled_text(pagesize, "a page size", &size_kib, NULL) ||
            !is_replaced(replacement, size_kib))
            continue;
        hv_splices_set_attribute(splices, text, &span, "unit", "KiB");
        hv_splices_add(splices, span.start_end, span.end_start - span.start_end, g_strdup(to));
    }
}

gboolean hv_domain_has_replaced_pages(const HvDomain *domain, const HvPageReplacement *replacement)
{
    gboolean has = is_replaced(replacement, domain->page_kib);
    for (guint i = 0; i < domain->cells->len; i++)
        has = has || is_replaced(replacement, g_array_index(domain->cells, HvCell, i).page_kib);
    for (guint i = 0; i < domain->devices->len; i++) {
        const HvMemoryDevice *device = &g_array_index(domain->devices, HvMemoryDevice, i);
        has = has || (device->model != HV_MEMORY_NOT_COUNTED &&
                      is_replaced(replacement, device->page_kib));
    }
    return has;
}

void hv_domain_prune_page_sizes(xmlNode *root)
{
    const xmlNode *devices = hv_dom_child(root, "devices");
    for (xmlNode *page = first_page(root); page != NULL; page = hv_dom_next(page, "page")) {
        xmlUnsetProp(page, (const xmlChar *)"size");
        xmlUnsetProp(page, (const xmlChar *)"unit");
    }
    for (xmlNode *memory = hv_dom_child(devices, "memory"); memory != NULL;
         memory = hv_dom_next(memory, "memory")) {
        xmlNode *pagesize = pagesize_of(memory);
        if (pagesize == NULL)
            continue;
        xmlUnsetProp(pagesize, (const xmlChar *)"unit");
        xmlNodeSetContent(pagesize, NULL);
    }
}
