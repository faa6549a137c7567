/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation: QEMU makes one file for each guest cell and memory device that has normal
 * pages, as large as that, and allocates it when it starts. So a VM's need is a number of KiB,
 * as libvirt aligns them; nothing can be got for it, and nothing keeps it but the ledger.
 *
 * Files are shared by their nature. What asks for private memory, or for memory from elsewhere,
 * is refused: the agreements say why.
 */
#include "file-backed.h"

#include "error.h"
#include "page-size.h"

gboolean hv_domain_is_file_backed(const HvDomain *domain)
{
    return domain->traits.source == HV_SOURCE_FILE;
}

gboolean hv_files_take_any_size(const HvBuild *build)
{
    return build->settings->file_backed_kib > 0 && build->properties->sizes == HV_SIZES_ANY &&
           !build->domain->has_hugepages;
}

/* As far as somebody has said which libvirt and QEMU it is. */
static gboolean can_discard(const HvVersions *versions)
{
    return versions->libvirt >= HV_DISCARD_LIBVIRT && versions->qemu >= HV_DISCARD_QEMU;
}

void hv_build_files(HvBuild *build)
{
    HvRequest *request = build->request;
    const HvMemoryDir *dir = build->snapshot->memory_dir;
    if (build->settings->file_backed_kib == 0 || dir == NULL || request->needs->len > 0 ||
        build->normal_kib == 0)
        return;
    request->file_kib = build->normal_kib;
    request->file_dir = g_strdup(dir->real_path != NULL ? dir->real_path : dir->path);
    request->shared = TRUE;
    request->edit.back_by_files = TRUE;
    request->edit.add_discard = can_discard(&build->snapshot->versions);
    if (dir->state == HV_MEMORY_DIR_THERE && hv_memory_dir_is_on_root(dir))
        hv_build_warn(build,
                      "no file system is mounted for the memory files of VMs in %s: they fill the "
                      "host's root file system",
                      dir->path);
}

gboolean hv_files_check_incoming(const HvSettings *settings, const HvDomain *domain, GError **error)
{
    gboolean is_host_in_files = settings->file_backed_kib > 0;
    g_autofree char *name = hv_quote(domain->name);
    if (is_host_in_files && !hv_domain_is_file_backed(domain)) {
        hv_set_error(error, HV_ERROR_CONFLICT, "take it to a host without file_backed_memory",
                     "VM %s comes with memory that is not in files, but this host keeps the "
                     "memory of all VMs there (file_backed_memory)",
                     name);
        return FALSE;
    }
    if (!is_host_in_files && hv_domain_says_files(domain)) {
        hv_set_error(error, HV_ERROR_CONFLICT, "take it to a host with file_backed_memory",
                     "VM %s comes with its memory in files, but this host has no "
                     "file_backed_memory: nothing says that there is room for them",
                     name);
        return FALSE;
    }
    return TRUE;
}

/* ---- agreements */

char *hv_files_find_device_pages(const HvBuild *build)
{
    for (guint i = 0; i < build->domain->cells->len; i++)
        if (hv_build_is_huge(build, g_array_index(build->domain->cells, HvCell, i).page_kib))
            return NULL;
    for (guint i = 0; build->settings->file_backed_kib > 0 && i < build->domain->devices->len; i++)
        if (hv_build_is_huge(build,
                             g_array_index(build->domain->devices, HvMemoryDevice, i).page_kib))
            return g_strdup_printf("memory device %u", i);
    return NULL;
}

char *hv_files_find_hugepages(const HvBuild *build)
{
    return build->settings->file_backed_kib > 0 ? hv_quote(build->domain->name) : NULL;
}

char *hv_files_find_old_version(const HvBuild *build)
{
    static const HvVersions needed = {.libvirt = HV_FILES_LIBVIRT, .qemu = HV_FILES_QEMU};
    return hv_versions_find_old(&build->snapshot->versions, &needed);
}

char *hv_files_find_source(const HvBuild *build)
{
    HvSource source = build->domain->traits.source;
    return source == HV_SOURCE_ANONYMOUS ? g_strdup("<source type='anonymous'/>")
           : source == HV_SOURCE_MEMFD   ? g_strdup("<source type='memfd'/>")
                                         : NULL;
}

char *hv_files_find_ondemand(const HvBuild *build)
{
    return build->domain->traits.allocation == HV_ALLOCATION_ONDEMAND
               ? hv_quote(build->domain->name)
               : NULL;
}

char *hv_files_find_private(const HvBuild *build)
{
    const HvDomain *domain = build->domain;
    for (guint i = 0; i < domain->cells->len; i++) {
        const HvCell *cell = &g_array_index(domain->cells, HvCell, i);
        if (!cell->is_access_written || cell->is_shared)
            continue;
        return domain->traits.access == HV_ACCESS_PRIVATE
                   ? g_strdup("<access mode='private'/>")
                   : g_strdup_printf("memAccess='private' of guest cell %d", cell->id);
    }
    for (guint i = 0; i < domain->devices->len; i++)
        if (g_array_index(domain->devices, HvMemoryDevice, i).access == HV_ACCESS_PRIVATE)
            return g_strdup_printf("access='private' of memory device %u", i);
    return domain->traits.access == HV_ACCESS_PRIVATE ? g_strdup("<access mode='private'/>") : NULL;
}

char *hv_files_find_private_wish(const HvBuild *build)
{
    return build->properties->shared == HV_SHARED_NO ? hv_quote(build->domain->name) : NULL;
}

char *hv_files_find_encryption(const HvBuild *build)
{
    return build->domain->traits.encryption != HV_ENCRYPTION_NONE ? hv_quote(build->domain->name)
                                                                  : NULL;
}

/* Of a domain that has been made for files already, whoever made it has decided. */
char *hv_files_find_no_discard(const HvBuild *build)
{
    static const HvVersions needed = {.libvirt = HV_DISCARD_LIBVIRT, .qemu = HV_DISCARD_QEMU};
    const HvTraits *traits = &build->domain->traits;
    const HvVersions *versions = &build->snapshot->versions;
    if (traits->has_discard || traits->source == HV_SOURCE_FILE || can_discard(versions))
        return NULL;
    g_autofree char *old = hv_versions_find_old(versions, &needed);
    return old != NULL ? g_strdup_printf("this is %s", old)
                       : g_strdup("nobody has said which versions start the VM");
}
