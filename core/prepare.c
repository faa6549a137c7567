/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The first half of a start, which takes nothing: parse the XML -> (no huge pages:
 * done) -> settings, snapshot -> request -> may this host start it so? The dry run
 * and the start share it.
 */
#include "lifecycle-private.h"

#include "error.h"
#include "file-backed.h"
#include "mounts.h"
#include "sharing.h"
#include "topology.h"

#include <string.h>

void hv_outcome_free(HvOutcome *outcome)
{
    if (outcome == NULL)
        return;
    g_free(outcome->xml);
    hv_request_free(outcome->request);
    hv_plan_free(outcome->plan);
    g_clear_pointer(&outcome->table, g_ptr_array_unref);
    g_free(outcome->uuid);
    g_free(outcome->name);
    g_clear_pointer(&outcome->warnings, g_ptr_array_unref);
    g_free(outcome);
}

static void add_warnings(GPtrArray *to, const GPtrArray *from)
{
    for (guint i = 0; i < from->len; i++)
        g_ptr_array_add(to, g_strdup(g_ptr_array_index(from, i)));
}

HvOutcome *hv_outcome_new(const HvVm *vm, const HvDomain *domain, GError **error)
{
    g_autoptr(HvOutcome) outcome = g_new0(HvOutcome, 1);
    outcome->warnings = g_ptr_array_new_with_free_func(g_free);
    outcome->uuid = g_strdup(domain->uuid != NULL ? domain->uuid : vm->uuid);
    outcome->name = g_strdup(domain->name);
    outcome->xml = g_try_malloc(vm->xml_bytes + 1);
    if (outcome->xml == NULL) {
        hv_set_error(error, HV_ERROR_SYSTEM, NULL, "no memory for a copy of the domain XML");
        return NULL;
    }
    memcpy(outcome->xml, vm->xml, vm->xml_bytes);
    outcome->xml[vm->xml_bytes] = '\0';
    outcome->xml_bytes = vm->xml_bytes;
    return g_steal_pointer(&outcome);
}

void hv_start_clear(HvStart *start)
{
    hv_domain_free(start->domain);
    hv_settings_free(start->settings);
    hv_snapshot_free(start->snapshot);
    hv_request_free(start->asked);
    g_clear_pointer(&start->spent, g_array_unref);
    hv_outcome_free(start->outcome);
}

/* A host that starts its own XML must have in it what the properties ask for. */
static gboolean check_no_edit_needed(const HvStart *start, GError **error)
{
    const HvDomainEdit *edit = &start->outcome->request->edit;
    if (!start->vm->cannot_edit)
        return TRUE;
    if (start->asked->open.sizes->len > 0) {
        hv_set_error(error, HV_ERROR_CONFLICT,
                     "add <memoryBacking><hugepages/></memoryBacking> to the domain, with the "
                     "sizes that it is to have, as hugevmctl set does",
                     "property hugepages leaves the page size to hugevm, but the domain XML names "
                     "none and cannot be edited here");
        return FALSE;
    }
    if (edit->add_hugepages_kib != 0) {
        g_autofree char *hint = g_strdup_printf(
            "add <memoryBacking><hugepages><page size='%" G_GUINT64_FORMAT
            "' unit='KiB'/></hugepages></memoryBacking> to the domain, as hugevmctl set "
            "does",
            edit->add_hugepages_kib);
        hv_set_error(error, HV_ERROR_CONFLICT, hint,
                     "property hugepages asks for huge pages, but the domain XML has none and "
                     "cannot be edited here");
        return FALSE;
    }
    if (edit->back_by_files && !hv_domain_says_files(start->domain)) {
        hv_set_error(error, HV_ERROR_CONFLICT,
                     "add <source type='file'/>, <access mode='shared'/> and <allocation "
                     "mode='immediate'/> to <memoryBacking> of the domain, as hugevmctl set does",
                     "this host keeps the memory of VMs in files (file_backed_memory), but the "
                     "domain XML says only a part of what that takes and cannot be edited here");
        return FALSE;
    }
    if (edit->add_uuid != NULL) {
        hv_set_error(error, HV_ERROR_XML, "add <uuid> to the domain",
                     "the domain XML has no <uuid> and cannot be edited here");
        return FALSE;
    }
    if (edit->make_shared) {
        g_autofree char *who = start->domain->sharers->len > 0
                                   ? hv_domain_format_sharers(start->domain)
                                   : g_strdup("the VM property hugepages_shared");
        hv_set_error(
            error, HV_ERROR_CONFLICT,
            start->domain->has_cells
                ? "set memAccess='shared' on each <cell> of the domain, as hugevmctl set does"
                : "add <access mode='shared'/> to <memoryBacking> of the domain, as "
                  "hugevmctl set does",
            "shared memory is needed by %s, but the domain XML does not share the guest's and "
            "cannot be edited here",
            who);
        return FALSE;
    }
    return TRUE;
}

/* Can this VM have anything to do with huge pages? No parsing: whatever is wrong with it. */
static gboolean mentions_hugepages(const HvVm *vm)
{
    static const char *const words[] = {"hugepages", "pagesize"};
    const char *value =
        vm->properties != NULL ? g_hash_table_lookup(vm->properties, "hugepages") : NULL;
    if (value != NULL && value[0] != '\0')
        return TRUE;
    for (guint i = 0; i < G_N_ELEMENTS(words); i++)
        if (memmem(vm->xml, vm->xml_bytes, words[i], strlen(words[i])) != NULL)
            return TRUE;
    return FALSE;
}

/* A memory that we do not understand is an error only for a VM that may want huge pages. */
static HvDomain *parse(const HvVm *vm, GError **error)
{
    g_autoptr(GError) local = NULL;
    HvDomain *domain = hv_domain_parse(vm->xml, vm->xml_bytes, &local);
    if (domain == NULL && !mentions_hugepages(vm))
        domain = hv_domain_parse_identity(vm->xml, vm->xml_bytes, NULL);
    if (domain == NULL)
        g_propagate_error(error, g_steal_pointer(&local));
    return domain;
}

/* Of the sizes to choose from those that libvirt can use. */
static gboolean check_open_mounts(const HvStart *start, GError **error)
{
    HvLibvirt libvirt = start->vm->by_libvirtd ? HV_LIBVIRT_DAEMON : HV_LIBVIRT_EMBEDDED;
    GArray *sizes = start->asked->open.sizes;
    g_autoptr(GError) local = NULL;
    gboolean was_open = sizes->len > 0;
    for (guint i = sizes->len; i > 0; i--) /* the smallest first: what will do for any VM */
        if (!hv_mounts_check(start->agent->root, g_array_index(sizes, guint64, i - 1), libvirt,
                             local == NULL ? &local : NULL))
            g_array_remove_index(sizes, i - 1);
    if (!was_open || sizes->len > 0)
        return TRUE;
    if (start->asked->open.may_be_normal) {
        g_autofree char *message = hv_error_message(local);
        g_ptr_array_add(start->outcome->warnings, g_steal_pointer(&message));
        return TRUE;
    }
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

/* Of the host's side: where libvirt maps the memory from. A size that the VM must have is checked
 * for the daemon alone: others may mount it yet. */
static gboolean check_mounts(const HvStart *start, GError **error)
{
    const HvRequest *request = start->outcome->request;
    if (!request->needs_mount)
        return TRUE;
    for (guint i = 0; start->vm->by_libvirtd && i < request->needs->len; i++) {
        const HvNeed *need = &g_array_index(request->needs, HvNeed, i);
        if (need->memory_kib == 0 &&
            !hv_mounts_check(start->agent->root, need->size_kib, HV_LIBVIRT_DAEMON, error))
            return FALSE;
    }
    return check_open_mounts(start, error);
}

/* What the request has to know of this machine, besides its pools, about whoever starts the VM. */
static void describe_starter(const HvStart *start)
{
    const HvVm *vm = start->vm;
    HvSnapshot *snapshot = start->snapshot;
    guint64 size_kib = hv_snapshot_default_size_kib(snapshot);
    snapshot->versions.has_read_xml = vm->by_libvirtd;
    if (hv_domain_has_bare_hugepages(start->domain) && size_kib != 0 && !vm->is_kept)
        snapshot->lacks_default_mount =
            !hv_mounts_check(start->agent->root, size_kib, HV_LIBVIRT_EMBEDDED, NULL);
}

static HvSettings *load_settings(const HvStart *start, GError **error)
{
    return hv_settings_load(start->agent->root, (const char *const *)start->agent->conf_files,
                            error);
}

/* Whoever has switched hugevm off does not want to hear what it thinks of a VM. */
static gboolean is_switched_off(const HvStart *start)
{
    g_autoptr(HvSettings) settings = load_settings(start, NULL);
    return settings != NULL && !settings->enabled;
}

static gboolean pass_switched_off(HvStart *start)
{
    g_ptr_array_add(start->outcome->warnings,
                    g_strdup("hugevm is switched off (enabled = false in [hugevm]): the VM gets "
                             "no pages from it"));
    return TRUE;
}

/* A VM that would be refused for what it is, but for the switch: only its name is looked at. */
static gboolean pass_unread(HvStart *start, GError **error)
{
    hv_domain_free(start->domain);
    start->domain = hv_domain_parse_identity(start->vm->xml, start->vm->xml_bytes, error);
    if (start->domain != NULL)
        start->outcome = hv_outcome_new(start->vm, start->domain, error);
    return start->outcome != NULL && pass_switched_off(start);
}

/* Normal pages for a VM that may have them: where another door may edit, it has looked for huge
 * ones before, in vain. What is shared without a word is shared. */
static void leave_as_it_stands(HvRequest *request, const HvDomain *domain)
{
    request->open.bind = HV_BIND_NONE;
    request->edit.add_discard = FALSE;
    if (hv_sharing_is_complete(domain))
        request->edit.make_shared = FALSE;
    if (request->open.may_be_normal)
        g_array_set_size(request->open.sizes, 0);
}

HvSnapshot *hv_start_look(const HvStart *start, GError **error)
{
    HvSnapshot *snapshot = hv_snapshot_read(start->agent->root, error);
    if (snapshot == NULL)
        return NULL;
    snapshot->versions = start->vm->versions;
    snapshot->memory_dir = hv_settings_memory_dir(start->settings, start->agent->root);
    return snapshot;
}

/* The VM may want huge pages: what exactly, and can this host start it so? */
static gboolean prepare_request(HvStart *start, HvProperties *properties, GError **error)
{
    if (start->vm->cannot_edit && start->domain->has_hugepages)
        properties->sizes = HV_SIZES_NAMED; /* the XML will be used as it is */
    if (start->settings == NULL)
        start->settings = load_settings(start, error);
    if (start->settings == NULL)
        return FALSE;
    if (!start->settings->enabled)
        return pass_switched_off(start);
    start->snapshot = hv_start_look(start, error);
    if (start->snapshot == NULL)
        return FALSE;
    describe_starter(start);
    hv_topology_place(start->agent->root, start->snapshot, start->domain);
    if (start->settings->bind_unbound != HV_BIND_NONE && start->snapshot->nodes->len > 1 &&
        start->snapshot->distances->len == 0)
        hv_topology_read(start->agent->root, start->snapshot);
    start->asked = hv_request_new(start->domain, properties, start->vm->uuid, start->settings,
                                  start->snapshot, error);
    if (start->asked == NULL)
        return FALSE;
    if (start->vm->cannot_edit)
        leave_as_it_stands(start->asked, start->domain);
    if (start->vm->is_incoming) /* libvirt takes no other <memoryBacking> for it */
        start->asked->edit.back_by_files = start->asked->edit.add_discard = FALSE;
    HvRequest *request = hv_request_copy(start->asked);
    start->outcome->request = request;
    add_warnings(start->outcome->warnings, start->settings->warnings);
    add_warnings(start->outcome->warnings, request->warnings);
    if (request->refusal != NULL && start->settings->file_backed_kib > 0)
        return TRUE; /* no other XML would do */
    return check_no_edit_needed(start, error) &&
           (request->refusal != NULL || check_mounts(start, error));
}

/*
 * A VM without huge pages concerns us on a host with file_backed_memory only. Settings that cannot
 * be read do not keep it from starting: whether they say so nobody knows.
 */
static gboolean prepare_normal(HvStart *start, HvProperties *properties, GError **error)
{
    start->settings = load_settings(start, NULL);
    gboolean is_on = start->settings != NULL && start->settings->enabled;
    gboolean is_coming = start->vm->is_incoming && !start->vm->is_restored;
    if (is_on && is_coming && !hv_files_check_incoming(start->settings, start->domain, error))
        return FALSE;
    gboolean is_in_files = is_on && start->settings->file_backed_kib > 0;
    gboolean is_settled = start->vm->cannot_edit || start->vm->is_restored; /* libvirt compares */
    if (is_in_files && (!is_settled || hv_domain_is_file_backed(start->domain)))
        return prepare_request(start, properties, error);
    add_warnings(start->outcome->warnings, properties->warnings);
    if (is_in_files)
        g_ptr_array_add(start->outcome->warnings,
                        g_strdup("this host keeps the memory of VMs in files (file_backed_memory), "
                                 "but the domain XML does not say so and cannot be edited here: "
                                 "it is not counted; hugevmctl set writes it into the XML"));
    return TRUE;
}

/* What the VM is, and what it wants. */
static HvProperties *read_wishes(HvStart *start, GError **error)
{
    start->domain = parse(start->vm, error);
    if (start->domain == NULL)
        return NULL;
    return start->vm->is_restored ? hv_properties_none()
                                  : hv_properties_read(start->vm->properties, start->domain, error);
}

gboolean hv_start_prepare(HvStart *start, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(HvProperties) properties = read_wishes(start, &local);
    if (properties == NULL && is_switched_off(start))
        return pass_unread(start, error);
    if (properties == NULL) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    start->outcome = hv_outcome_new(start->vm, start->domain, error);
    if (start->outcome == NULL)
        return FALSE;
    if (hv_request_wants_hugepages(start->domain, properties,
                                   hv_platform_base_page_kib(start->agent->root)))
        return prepare_request(start, properties, error);
    return prepare_normal(start, properties, error);
}
