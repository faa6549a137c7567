/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation: three questions, in this order.
 *
 * 1. Which page size do cells get that the XML gives none? The property's, if
 *    the host offers it; VDSM's fallback if it does not; the kernel's default
 *    for a bare <hugepages/>; otherwise none. Contradictions end here: VDSM
 *    went on, grew the pool of one size and started QEMU with the other.
 * 2. What does each backend (cell, memory device) take? Its memory as libvirt
 *    aligns it, rounded up to pages by itself, since each is a mapping of its own.
 * 3. Must the memory be shared, and does the XML say so (sharing.c)?
 *
 * Errors are for requests that make no sense; a sensible request that cannot be
 * served (here, or in QEMU) keeps its needs and carries a refusal, so that a dry
 * run can show both.
 */
#include "agreements.h"

#include "file-backed.h"
#include "page-size.h"
#include "sharing.h"

#include <stdarg.h>
#include <string.h>

void hv_build_warn(HvBuild *build, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_ptr_array_add(build->request->warnings, g_strdup_vprintf(format, args));
    va_end(args);
}

void hv_build_refuse(HvBuild *build, HvRefusal *refusal)
{
    if (build->request->refusal == NULL)
        build->request->refusal = refusal;
    else
        hv_refusal_free(refusal);
}

gboolean hv_build_is_ppc64(const HvBuild *build)
{
    return build->snapshot->arch != NULL && g_str_has_prefix(build->snapshot->arch, "ppc64");
}

gboolean hv_build_offers(const HvBuild *build, guint64 size_kib)
{
    return hv_snapshot_size(build->snapshot, size_kib) != NULL;
}

/* <hugepages> may name the size of a normal page, which is to say none. */
static gboolean is_huge_size(guint64 size_kib, guint64 base_page_kib)
{
    return size_kib != 0 && size_kib != base_page_kib;
}

gboolean hv_build_is_huge(const HvBuild *build, guint64 size_kib)
{
    return is_huge_size(size_kib, build->snapshot->base_page_kib);
}

/* The XML's own choice of a huge page size, 0 if it makes none. */
static guint64 size_named_by_xml(const HvBuild *build)
{
    const HvDomain *domain = build->domain;
    if (hv_build_is_huge(build, domain->page_kib))
        return domain->page_kib;
    for (guint i = 0; i < domain->cells->len; i++) {
        guint64 size_kib = g_array_index(domain->cells, HvCell, i).page_kib;
        if (hv_build_is_huge(build, size_kib))
            return size_kib;
    }
    return 0;
}

guint64 hv_fallback_page_kib(const HvSnapshot *snapshot)
{
    guint64 size_kib = 0;
    if (g_strcmp0(snapshot->arch, "x86_64") == 0)
        size_kib = 2048;
    else if (snapshot->arch != NULL && g_str_has_prefix(snapshot->arch, "ppc64"))
        size_kib = 16384;
    return hv_snapshot_size(snapshot, size_kib) != NULL ? size_kib
                                                        : hv_snapshot_default_size_kib(snapshot);
}

/* The size to use for a property whose size the host does not have. */
static gboolean replace_property_size(HvBuild *build, guint64 *size_kib, GError **error)
{
    g_autofree char *asked = hv_format_kib(*size_kib);
    g_autofree char *offered = hv_snapshot_format_sizes(build->snapshot);
    if (build->settings->strict_page_size) {
        hv_set_error(error, HV_ERROR_PROPERTY, "set hugepages to one of these, in KiB",
                     "the VM property hugepages asks for pages of %s; this host offers %s", asked,
                     offered);
        return FALSE;
    }
    guint64 named_kib = size_named_by_xml(build);
    *size_kib = named_kib != 0 ? named_kib : hv_fallback_page_kib(build->snapshot);
    if (*size_kib == 0) {
        hv_set_error(error, HV_ERROR_PROPERTY, "set hugepages to one of these, in KiB",
                     "the VM property hugepages asks for pages of %s; this host offers %s, and "
                     "none of them is its default",
                     asked, offered);
        return FALSE;
    }
    g_autofree char *taken = hv_format_kib(*size_kib);
    hv_build_warn(build,
                  "the VM property hugepages asks for pages of %s, this host offers %s: using %s",
                  asked, offered, taken);
    return TRUE;
}

/* A cell with normal pages beside cells of the property's size is no contradiction. */
static gboolean check_property_against_xml(const HvBuild *build, guint64 size_kib, GError **error)
{
    gboolean is_named = FALSE;
    guint64 other_kib = 0;
    for (guint i = 0; i < build->domain->cells->len; i++) {
        guint64 cell_kib = g_array_index(build->domain->cells, HvCell, i).page_kib;
        if (cell_kib == size_kib)
            is_named = TRUE;
        else if (hv_build_is_huge(build, cell_kib) || (cell_kib != 0 && other_kib == 0))
            other_kib = cell_kib;
    }
    if (other_kib == 0 || (is_named && !hv_build_is_huge(build, other_kib)))
        return TRUE;
    g_autofree char *asked = hv_format_kib(size_kib);
    g_autofree char *named = hv_format_kib(other_kib);
    hv_set_error(error, HV_ERROR_CONFLICT, "remove the property, or give both the same size",
                 "the VM property hugepages asks for pages of %s, but the domain XML names %s",
                 asked, named);
    return FALSE;
}

/* The plan is to choose a size for each cell, of those that the host has. */
static void open_page_size(HvBuild *build)
{
    HvOpen *open = &build->request->open;
    gboolean is_any = build->properties->sizes == HV_SIZES_ANY;
    const GArray *sizes = build->snapshot->sizes;
    for (guint i = sizes->len; i > 0; i--)
        g_array_append_val(open->sizes, g_array_index(sizes, HvPageSize, i - 1).size_kib);
    open->may_be_normal = is_any && !build->domain->has_hugepages && !hv_sharing_is_wanted(build);
    build->is_open = sizes->len > 0;
    build->default_kib = sizes->len > 0 ? g_array_index(open->sizes, guint64, 0) : 0;
    if (sizes->len > 0)
        return;
    if (open->may_be_normal)
        hv_build_warn(build, "this host has no huge pages: the VM gets normal ones");
    else
        hv_build_refuse(build, hv_refusal_new(HV_ERROR_SHORTAGE, "set hugepages to any, or to 0",
                                              "the VM property hugepages asks for huge pages, but "
                                              "this host has none"));
}

static gboolean settle_page_size(HvBuild *build, GError **error)
{
    guint64 size_kib = build->properties->hugepages_kib;
    gboolean is_bare = hv_domain_has_bare_hugepages(build->domain);
    gboolean is_named = build->domain->has_hugepages && !is_bare;
    if (hv_files_take_any_size(build))
        return TRUE;
    if (build->properties->sizes != HV_SIZES_NAMED && !is_named) {
        open_page_size(build);
        return TRUE;
    }
    if (size_kib == 0) {
        build->default_kib = is_bare ? hv_snapshot_default_size_kib(build->snapshot) : 0;
        return TRUE;
    }
    /* Without any huge page size every backend is refused below: nothing to choose from. */
    if (build->snapshot->sizes->len > 0) {
        if (!hv_build_offers(build, size_kib)) {
            if (!replace_property_size(build, &size_kib, error))
                return FALSE;
        } else if (is_named && !check_property_against_xml(build, size_kib, error)) {
            return FALSE;
        }
    }
    if (!is_named) {
        build->default_kib = size_kib;
        build->request->edit.add_hugepages_kib = size_kib;
    }
    return TRUE;
}

/* May the plan choose a node for this VM? Only if the XML says nothing at all about nodes, and all
 * of its memory is in huge pages. */
static void settle_binding(HvBuild *build)
{
    const HvDomain *domain = build->domain;
    const GArray *needs = build->request->needs;
    guint backends = 0;
    gboolean is_unbound = domain->span_numatune.end == 0 && !domain->is_auto_placed;
    for (guint i = 0; i < needs->len; i++)
        is_unbound = is_unbound && hv_node_set_is_any(&g_array_index(needs, HvNeed, i).nodes);
    for (guint i = 0; i < domain->cells->len; i++)
        backends += g_array_index(domain->cells, HvCell, i).memory_kib > 0;
    for (guint i = 0; i < domain->devices->len; i++) {
        const HvMemoryDevice *device = &g_array_index(domain->devices, HvMemoryDevice, i);
        backends += device->model != HV_MEMORY_NOT_COUNTED && device->memory_kib > 0;
    }
    /* nobody has counted whether its normal pages have room there */
    is_unbound = is_unbound && needs->len == backends;
    gboolean gets_normal =
        build->request->open.may_be_normal && build->request->open.sizes->len == 0;
    if (is_unbound && !gets_normal && build->snapshot->nodes->len > 1)
        build->request->open.bind = build->settings->bind_unbound;
}

static gboolean settle_uuid(HvBuild *build, const char *uuid, GError **error)
{
    const char *own = build->domain->uuid;
    HvRequest *request = build->request;
    if (uuid == NULL) {
        request->uuid = g_strdup(own);
        return TRUE;
    }
    request->uuid = hv_uuid_normalize(uuid);
    if (request->uuid == NULL) {
        g_autofree char *quoted = hv_quote(uuid);
        hv_set_error(error, HV_ERROR_INVALID, NULL, "the VM's UUID is given as %s, which is none",
                     quoted);
        return FALSE;
    }
    if (own != NULL && strcmp(own, request->uuid) != 0) {
        hv_set_error(error, HV_ERROR_INVALID, NULL,
                     "the VM's UUID is given as %s, but its domain XML has %s", request->uuid, own);
        return FALSE;
    }
    return TRUE;
}

static HvRequest *request_empty(const HvDomain *domain, const HvProperties *properties)
{
    HvRequest *request = g_new0(HvRequest, 1);
    request->name = g_strdup(domain->name);
    request->needs = g_array_new(FALSE, TRUE, sizeof(HvNeed));
    request->warnings = g_ptr_array_new_with_free_func(g_free);
    request->open.sizes = g_array_new(FALSE, TRUE, sizeof(guint64));
    request->cells = g_array_new(FALSE, TRUE, sizeof(HvCellRule));
    request->chosen = g_array_new(FALSE, TRUE, sizeof(HvCellPages));
    for (guint i = 0; i < properties->warnings->len; i++)
        g_ptr_array_add(request->warnings, g_strdup(g_ptr_array_index(properties->warnings, i)));
    return request;
}

gboolean hv_request_wants_hugepages(const HvDomain *domain, const HvProperties *properties,
                                    guint64 base_page_kib)
{
    if (properties->hugepages_kib != 0 || properties->sizes != HV_SIZES_NAMED ||
        hv_domain_has_bare_hugepages(domain) || is_huge_size(domain->page_kib, base_page_kib))
        return TRUE;
    for (guint i = 0; i < domain->cells->len; i++)
        if (is_huge_size(g_array_index(domain->cells, HvCell, i).page_kib, base_page_kib))
            return TRUE;
    for (guint i = 0; i < domain->devices->len; i++) {
        const HvMemoryDevice *device = &g_array_index(domain->devices, HvMemoryDevice, i);
        if (device->model != HV_MEMORY_NOT_COUNTED && is_huge_size(device->page_kib, base_page_kib))
            return TRUE;
    }
    return FALSE;
}

/*
 * virtio-mem takes and leaves pages while the VM runs. On a mount with min_size the kernel reserves
 * again what it leaves; and where it finds none, kernels 6.1 and 6.12 lose count: the pool's
 * reservations fall below 0, and it serves nobody any more (tests/kernel/FACTS.md).
 */
static gboolean may_mount(const HvRequest *request, const HvDomain *domain)
{
    return request->needs_mount && !hv_domain_has_virtio_mem(domain);
}

HvRequest *hv_request_new(const HvDomain *domain, const HvProperties *properties, const char *uuid,
                          const HvSettings *settings, const HvSnapshot *snapshot, GError **error)
{
    g_autoptr(HvRequest) request = request_empty(domain, properties);
    HvBuild build = {.domain = domain,
                     .properties = properties,
                     .settings = settings,
                     .snapshot = snapshot,
                     .request = request};
    if (!settle_uuid(&build, uuid, error) || !settle_page_size(&build, error) ||
        !hv_build_needs(&build, error))
        return NULL;
    hv_build_files(&build);
    if (request->file_kib == 0)
        hv_sharing_settle(&build);
    hv_agreements_check(&build);
    settle_binding(&build);
    /* A VM without huge pages is none of our business: its text stays as it is. */
    if (domain->uuid == NULL && (request->needs->len > 0 || request->file_kib > 0))
        request->edit.add_uuid = request->uuid;
    /* libvirt takes the default size for a bare <hugepages/> from a mount, even for memfd */
    gboolean is_bare = hv_domain_has_bare_hugepages(domain) && !build.is_open &&
                       request->edit.add_hugepages_kib == 0;
    request->needs_mount =
        request->needs->len > 0 && (domain->traits.source != HV_SOURCE_MEMFD || is_bare);
    request->may_mount = may_mount(request, domain);
    request->keeps_pages = !domain->may_discard;
    return g_steal_pointer(&request);
}

gboolean hv_request_is_open(const HvRequest *request)
{
    return request->open.sizes->len > 0 || request->open.bind != HV_BIND_NONE;
}

gboolean hv_request_takes_anything(const HvRequest *request)
{
    return request->needs->len > 0 || request->file_kib > 0;
}

static gpointer copy_text(gconstpointer text, gpointer data)
{
    (void)data;
    return g_strdup(text);
}

HvRequest *hv_request_copy(const HvRequest *request)
{
    HvRequest *copy = g_new(HvRequest, 1);
    *copy = *request;
    copy->uuid = g_strdup(request->uuid);
    copy->name = g_strdup(request->name);
    copy->file_dir = g_strdup(request->file_dir);
    copy->needs = g_array_copy(request->needs);
    copy->open.sizes = g_array_copy(request->open.sizes);
    copy->cells = g_array_copy(request->cells);
    copy->chosen = g_array_copy(request->chosen);
    copy->warnings = g_ptr_array_copy(request->warnings, copy_text, NULL);
    g_ptr_array_set_free_func(copy->warnings, g_free);
    if (request->refusal != NULL)
        copy->refusal = hv_refusal_copy(request->refusal);
    if (request->edit.add_uuid != NULL)
        copy->edit.add_uuid = copy->uuid;
    if (request->edit.cell_pages != NULL)
        copy->edit.cell_pages = copy->chosen;
    if (request->edit.bind != NULL)
        copy->edit.bind = &copy->binding;
    return copy;
}

void hv_request_free(HvRequest *request)
{
    if (request == NULL)
        return;
    g_clear_pointer(&request->open.sizes, g_array_unref);
    g_clear_pointer(&request->cells, g_array_unref);
    g_clear_pointer(&request->chosen, g_array_unref);
    g_free(request->uuid);
    g_free(request->name);
    g_free(request->file_dir);
    g_array_unref(request->needs);
    g_ptr_array_unref(request->warnings);
    hv_refusal_free(request->refusal);
    g_free(request);
}

void hv_refusal_free(HvRefusal *refusal)
{
    if (refusal == NULL)
        return;
    g_free(refusal->message);
    g_free(refusal->hint);
    g_free(refusal);
}

HvRefusal *hv_refusal_new(HvErrorCode code, const char *hint, const char *format, ...)
{
    HvRefusal *refusal = g_new0(HvRefusal, 1);
    va_list args;
    va_start(args, format);
    refusal->message = g_strdup_vprintf(format, args);
    va_end(args);
    refusal->code = code;
    refusal->hint = g_strdup(hint);
    return refusal;
}

HvRefusal *hv_refusal_copy(const HvRefusal *refusal)
{
    HvRefusal *copy = g_new(HvRefusal, 1);
    *copy = *refusal;
    copy->message = g_strdup(refusal->message);
    copy->hint = g_strdup(refusal->hint);
    return copy;
}

char *hv_cell_name(int cell)
{
    return cell < 0 ? g_strdup("the guest") : g_strdup_printf("guest cell %d", cell);
}
