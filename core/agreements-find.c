/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A version that nobody has told (0) is never called old: the XML itself is believed then.
 */
#include "agreements-find.h"

#include "file-backed.h"
#include "page-size.h"

#define NEVER_REPORTED_KIB (1024u * 1024) /* above the largest block of free pages in a kernel */

/* Rows whose message names the VM. */
static char *vm_if(const HvBuild *build, gboolean applies)
{
    return applies ? hv_quote(build->domain->name) : NULL;
}

static char *text_if(const char *text, gboolean applies)
{
    return applies ? g_strdup(text) : NULL;
}

/* Is <hugepages> in the XML that libvirt will see? Memory devices may have pages without it. */
static gboolean has_element(const HvBuild *build)
{
    return build->domain->has_hugepages || build->request->edit.add_hugepages_kib != 0 ||
           build->is_open;
}

static char *old_version(const HvBuild *build, HvVersions needed)
{
    return hv_versions_find_old(&build->snapshot->versions, &needed);
}

static gboolean has_elastic_pages(const HvBuild *build)
{
    const GArray *needs = build->request->needs;
    for (guint i = 0; i < needs->len; i++)
        if (g_array_index(needs, HvNeed, i).is_elastic)
            return TRUE;
    return FALSE;
}

/* --- where the pages come from --------------------------------------------------------------- */

char *hv_find_ondemand(const HvBuild *build)
{
    gboolean is_ondemand = build->domain->traits.allocation == HV_ALLOCATION_ONDEMAND;
    return vm_if(build, is_ondemand && has_element(build));
}

char *hv_find_anonymous(const HvBuild *build)
{
    gboolean is_anonymous = build->domain->traits.source == HV_SOURCE_ANONYMOUS;
    return vm_if(build, is_anonymous && has_element(build));
}

static gboolean is_memfd(const HvBuild *build)
{
    return build->domain->traits.source == HV_SOURCE_MEMFD;
}

char *hv_find_memfd_bare(const HvBuild *build)
{
    gboolean is_bare = hv_domain_has_bare_hugepages(build->domain) && !build->is_open &&
                       build->request->edit.add_hugepages_kib == 0;
    return vm_if(build, is_bare && is_memfd(build) && build->snapshot->lacks_default_mount);
}

char *hv_find_memfd_old(const HvBuild *build)
{
    HvVersions needed = {.libvirt = HV_VERSION(5, 3, 0), .qemu = HV_VERSION(2, 12, 0)};
    return is_memfd(build) ? old_version(build, needed) : NULL;
}

char *hv_find_memfd_unknown(const HvBuild *build)
{
    const HvVersions *versions = &build->snapshot->versions;
    return vm_if(build, is_memfd(build) && versions->libvirt == 0 && !versions->has_read_xml);
}

char *hv_find_shared_without_cells(const HvBuild *build)
{
    HvVersions needed = {.libvirt = HV_VERSION(6, 9, 0), .qemu = HV_VERSION(5, 0, 0)};
    return build->request->shared && !build->domain->has_cells ? old_version(build, needed) : NULL;
}

char *hv_find_file_source(const HvBuild *build)
{
    return vm_if(build, build->domain->traits.source == HV_SOURCE_FILE);
}

char *hv_find_file_cell(const HvBuild *build)
{
    const HvDomain *domain = build->domain;
    gboolean is_file = domain->traits.source == HV_SOURCE_FILE;
    for (guint i = 0; i < domain->cells->len && !is_memfd(build); i++) {
        const HvCell *cell = &g_array_index(domain->cells, HvCell, i);
        guint64 page_kib = cell->page_kib != 0 ? cell->page_kib : build->default_kib;
        if (cell->memory_kib > 0 && !hv_build_is_huge(build, page_kib) &&
            (is_file || cell->is_access_written))
            return hv_cell_name(cell->id);
    }
    return NULL;
}

/* --- what locks them ------------------------------------------------------------------------- */

char *hv_find_locked_limit(const HvBuild *build)
{
    const HvTraits *traits = &build->domain->traits;
    gboolean is_pinned = traits->is_locked || traits->encryption == HV_ENCRYPTION_SEV;
    if (!is_pinned || traits->hard_limit_kib == 0 ||
        traits->hard_limit_kib >= build->domain->parts_kib)
        return NULL;
    return hv_format_kib(traits->hard_limit_kib);
}

char *hv_find_locked_virtio_mem(const HvBuild *build)
{
    return vm_if(build, build->domain->traits.is_locked && hv_domain_has_virtio_mem(build->domain));
}

/* --- what gives them back -------------------------------------------------------------------- */

char *hv_find_virtio_mem(const HvBuild *build)
{
    return vm_if(build, has_elastic_pages(build));
}

char *hv_find_virtio_mem_old(const HvBuild *build)
{
    HvVersions needed = {.qemu = HV_VERSION(7, 0, 0)};
    return has_elastic_pages(build) ? old_version(build, needed) : NULL;
}

static guint64 smallest_page_kib(const HvBuild *build)
{
    const GArray *needs = build->request->needs;
    guint64 size_kib = G_MAXUINT64;
    for (guint i = 0; i < needs->len; i++)
        size_kib = MIN(size_kib, g_array_index(needs, HvNeed, i).size_kib);
    return size_kib;
}

/* QEMU passes over what is less than a page of its own; no guest reports so much at once. */
char *hv_find_free_page_reporting(const HvBuild *build)
{
    return vm_if(build, build->domain->traits.reports_free_pages &&
                            smallest_page_kib(build) < NEVER_REPORTED_KIB);
}

/*
 * Memory devices have no part in it: a balloon takes from what the guest starts with. Of less than
 * a page nothing goes back; libvirt's own rounding of the memory leaves so much.
 */
char *hv_find_balloon(const HvBuild *build)
{
    const HvTraits *traits = &build->domain->traits;
    const GArray *cells = build->domain->cells;
    guint64 memory_kib = 0;
    for (guint i = 0; i < cells->len; i++)
        memory_kib += g_array_index(cells, HvCell, i).memory_kib; /* as checked by the parser */
    return vm_if(build, traits->has_balloon && traits->current_kib != 0 &&
                            traits->current_kib < memory_kib &&
                            memory_kib - traits->current_kib >= smallest_page_kib(build));
}

/* --- encrypted guests ------------------------------------------------------------------------ */

char *hv_find_sev_unlocked(const HvBuild *build)
{
    const HvTraits *traits = &build->domain->traits;
    return vm_if(build, traits->encryption == HV_ENCRYPTION_SEV && !traits->is_locked &&
                            traits->hard_limit_kib == 0);
}

char *hv_find_guest_memfd(const HvBuild *build)
{
    HvEncryption encryption = build->domain->traits.encryption;
    return encryption == HV_ENCRYPTION_SEV_SNP ? g_strdup("SEV-SNP")
                                               : text_if("TDX", encryption == HV_ENCRYPTION_TDX);
}

char *hv_find_s390_pv(const HvBuild *build)
{
    return vm_if(build, build->domain->traits.encryption == HV_ENCRYPTION_S390_PV);
}

char *hv_find_unknown_encryption(const HvBuild *build)
{
    return vm_if(build, build->domain->traits.encryption == HV_ENCRYPTION_OTHER);
}

/* --- elements without effect, and devices with wishes ---------------------------------------- */

char *hv_find_discard_old(const HvBuild *build)
{
    HvVersions needed = {.libvirt = HV_DISCARD_LIBVIRT, .qemu = HV_DISCARD_QEMU};
    return build->domain->traits.has_discard ? old_version(build, needed) : NULL;
}

char *hv_find_discard_without_effect(const HvBuild *build)
{
    if (!build->domain->traits.has_discard)
        return NULL;
    return is_memfd(build) ? g_strdup("memory from a memfd")
                           : text_if("private memory", !build->request->shared);
}

/* An older libvirt passes the attribute over, and its QEMU is told nothing of it. */
char *hv_find_blob(const HvBuild *build)
{
    guint libvirt = build->snapshot->versions.libvirt;
    gboolean is_passed_over = libvirt != 0 && libvirt < HV_VERSION(9, 2, 0);
    return vm_if(build,
                 build->domain->traits.has_blob_video && !is_memfd(build) && !is_passed_over);
}
