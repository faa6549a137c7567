/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation: three may have a say. The XML: a memory device's access comes before its
 * cell's memAccess, and that before <access>. The VM property hugepages_shared. And the devices
 * that cannot work with private memory (domain-sharers.c): they reach all of the guest's, as a
 * buffer may be anywhere.
 *
 *   property  device  the XML makes some of it private   it says nothing
 *   true      -       refused                            shared
 *   unset     yes     refused                            auto: shared; explicit: refused
 *   unset     no      as it stands                       as it stands
 *   false     yes     refused                            refused
 *   false     no      as it stands                       as it stands
 *
 * What the XML says outright is never turned into its opposite: the edit only adds what is not
 * said. Memory from memfd QEMU shares by itself, but libvirt's own checks want it written.
 */
#include "sharing.h"

static gboolean is_device_shared(const HvDomain *domain, const HvMemoryDevice *device)
{
    const HvCell *cell = hv_domain_cell(domain, domain->has_cells ? device->cell : -1);
    if (device->access != HV_ACCESS_UNSET)
        return device->access == HV_ACCESS_SHARED;
    return cell != NULL ? cell->is_shared : domain->traits.access == HV_ACCESS_SHARED;
}

/* NVDIMM and the like hold files of their own, not what the guest runs in. */
static gboolean counts(const HvMemoryDevice *device)
{
    return device->model != HV_MEMORY_NOT_COUNTED;
}

gboolean hv_sharing_is_complete(const HvDomain *domain)
{
    gboolean is_complete = TRUE;
    for (guint i = 0; i < domain->cells->len; i++) {
        const HvCell *cell = &g_array_index(domain->cells, HvCell, i);
        is_complete = is_complete && (cell->memory_kib == 0 || cell->is_shared);
    }
    for (guint i = 0; i < domain->devices->len; i++) {
        const HvMemoryDevice *device = &g_array_index(domain->devices, HvMemoryDevice, i);
        is_complete = is_complete && (!counts(device) || is_device_shared(domain, device));
    }
    return is_complete;
}

/* As libvirt's checks want it, which look at cells alone. */
static gboolean is_written(const HvDomain *domain)
{
    for (guint i = 0; i < domain->cells->len; i++) {
        const HvCell *cell = &g_array_index(domain->cells, HvCell, i);
        if (!cell->is_shared || !cell->is_access_written)
            return FALSE;
    }
    return TRUE;
}

/* What the XML says outright about some of the memory, in words; NULL: nothing of that kind. */
static char *find_said(const HvDomain *domain, HvAccess access)
{
    const char *mode = access == HV_ACCESS_SHARED ? "shared" : "private";
    for (guint i = 0; i < domain->cells->len; i++) {
        const HvCell *cell = &g_array_index(domain->cells, HvCell, i);
        if (!cell->is_access_written || cell->is_shared != (access == HV_ACCESS_SHARED))
            continue;
        if (cell->access == HV_ACCESS_UNSET)
            return g_strdup_printf("the domain XML has <access mode='%s'/>", mode);
        return g_strdup_printf("guest cell %d has memAccess='%s'", cell->id, mode);
    }
    for (guint i = 0; i < domain->devices->len; i++) {
        const HvMemoryDevice *device = &g_array_index(domain->devices, HvMemoryDevice, i);
        if (counts(device) && device->access == access)
            return g_strdup_printf("memory device %u has access='%s'", i, mode);
    }
    return NULL;
}

static gboolean has_said(const HvDomain *domain, HvAccess access)
{
    g_autofree char *said = find_said(domain, access);
    return said != NULL;
}

gboolean hv_sharing_is_wanted(const HvBuild *build)
{
    for (guint i = 0; i < build->domain->cells->len; i++)
        if (g_array_index(build->domain->cells, HvCell, i).is_shared)
            return TRUE;
    return build->properties->shared == HV_SHARED_YES || build->domain->sharers->len > 0;
}

/* A device needs it, and nobody has decided. */
static gboolean is_undecided(const HvBuild *build)
{
    return build->properties->shared == HV_SHARED_UNSET && build->domain->sharers->len > 0 &&
           !has_said(build->domain, HV_ACCESS_PRIVATE);
}

void hv_sharing_settle(HvBuild *build)
{
    HvRequest *request = build->request;
    HvShared wish = build->properties->shared;
    gboolean shall_share = is_undecided(build) && (build->settings->shared_memory_auto ||
                                                   hv_sharing_is_complete(build->domain));
    if (wish == HV_SHARED_YES)
        shall_share = !has_said(build->domain, HV_ACCESS_PRIVATE);
    if (request->needs->len == 0 && wish == HV_SHARED_YES)
        hv_build_warn(build, "the VM property hugepages_shared has no effect without huge pages");
    request->edit.make_shared =
        request->needs->len > 0 && shall_share && !is_written(build->domain);
    request->shared = hv_sharing_is_complete(build->domain) || request->edit.make_shared;
}

/* --- the rows of the table ------------------------------------------------------------------- */

char *hv_sharing_find_auto(const HvBuild *build)
{
    return is_undecided(build) && build->settings->shared_memory_auto &&
                   !hv_sharing_is_complete(build->domain)
               ? hv_domain_format_sharers(build->domain)
               : NULL;
}

char *hv_sharing_find_explicit(const HvBuild *build)
{
    return is_undecided(build) && !build->settings->shared_memory_auto &&
                   !hv_sharing_is_complete(build->domain)
               ? hv_domain_format_sharers(build->domain)
               : NULL;
}

char *hv_sharing_find_private_part(const HvBuild *build)
{
    g_autofree char *said = find_said(build->domain, HV_ACCESS_PRIVATE);
    if (said == NULL || build->domain->sharers->len == 0 ||
        build->properties->shared == HV_SHARED_NO)
        return NULL;
    g_autofree char *sharers = hv_domain_format_sharers(build->domain);
    return g_strdup_printf("%s, but %s", sharers, said);
}

char *hv_sharing_find_denied(const HvBuild *build)
{
    return build->properties->shared == HV_SHARED_NO && build->domain->sharers->len > 0
               ? hv_domain_format_sharers(build->domain)
               : NULL;
}

char *hv_sharing_find_private_against_property(const HvBuild *build)
{
    return build->properties->shared == HV_SHARED_YES && build->domain->sharers->len == 0
               ? find_said(build->domain, HV_ACCESS_PRIVATE)
               : NULL;
}

char *hv_sharing_find_shared_against_property(const HvBuild *build)
{
    if (build->properties->shared != HV_SHARED_NO || build->domain->sharers->len > 0)
        return NULL;
    char *said = find_said(build->domain, HV_ACCESS_SHARED);
    return said == NULL && hv_sharing_is_complete(build->domain)
               ? g_strdup("QEMU shares memory from memfd")
               : said;
}
