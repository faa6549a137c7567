/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A VM that comes from another host, or from a file, names page sizes that were
 * there. Where the configuration says so (incoming_page_sizes = adapt), those that
 * this host lacks are replaced by the size that a VM property would fall back to:
 * QEMU's stream of memory knows bytes, not pages.
 *
 * Whether memory is in files nobody can change on the way: libvirt compares <source> of both XMLs.
 *
 * Only the XML is made here. Nothing is planned or taken: whether there is room is
 * decided by the claim, which follows with the XML that came of this.
 */
#include "lifecycle-private.h"

#include "error.h"
#include "file-backed.h"
#include "page-size.h"

#include <string.h>

#define CELL_STEP_KIB 1024u /* libvirt's, before QEMU sees it */

/* What is to be replaced; all borrowed but the list. */
typedef struct {
    const HvDomain *domain;
    const HvSnapshot *snapshot;
    GArray *lacking_kib; /* guint64: sizes that the XML names and the host does not offer */
    guint64 to_kib;
} Adaptation;

static gboolean is_lacking(const Adaptation *a, guint64 size_kib)
{
    return size_kib != 0 && size_kib != a->snapshot->base_page_kib &&
           hv_snapshot_size(a->snapshot, size_kib) == NULL;
}

static void note_if_lacking(Adaptation *a, guint64 size_kib)
{
    for (guint i = 0; i < a->lacking_kib->len; i++)
        if (g_array_index(a->lacking_kib, guint64, i) == size_kib)
            return;
    if (is_lacking(a, size_kib))
        g_array_append_val(a->lacking_kib, size_kib);
}

static void find_lacking(Adaptation *a)
{
    note_if_lacking(a, a->domain->page_kib);
    for (guint i = 0; i < a->domain->cells->len; i++)
        note_if_lacking(a, g_array_index(a->domain->cells, HvCell, i).page_kib);
    for (guint i = 0; i < a->domain->devices->len; i++) {
        const HvMemoryDevice *device = &g_array_index(a->domain->devices, HvMemoryDevice, i);
        if (device->model != HV_MEMORY_NOT_COUNTED)
            note_if_lacking(a, device->page_kib);
    }
}

static char *format_lacking(const Adaptation *a)
{
    GString *out = g_string_new(NULL);
    for (guint i = 0; i < a->lacking_kib->len; i++) {
        g_autofree char *size = hv_format_kib(g_array_index(a->lacking_kib, guint64, i));
        g_string_append_printf(out, "%s%s", i > 0 ? ", " : "", size);
    }
    return g_string_free(out, FALSE);
}

/* In QEMU: memfd takes whole pages only, a file the last one in part, and none less than one. */
static gboolean fits(const Adaptation *a, guint64 memory_kib)
{
    guint64 aligned_kib = memory_kib;
    return memory_kib == 0 ||
           (hv_round_up(memory_kib, CELL_STEP_KIB, &aligned_kib) && aligned_kib >= a->to_kib &&
            (a->domain->traits.source != HV_SOURCE_MEMFD || aligned_kib % a->to_kib == 0));
}

static const HvCell *find_misfit(const Adaptation *a)
{
    for (guint i = 0; i < a->domain->cells->len; i++) {
        const HvCell *cell = &g_array_index(a->domain->cells, HvCell, i);
        if (is_lacking(a, cell->page_kib) && !fits(a, cell->memory_kib))
            return cell;
    }
    return NULL;
}

static gboolean choose_size(Adaptation *a, GError **error)
{
    static const char hint[] = "migrate or restore it to a host that offers them, or change "
                               "<hugepages> in its XML";
    g_autofree char *lacking = format_lacking(a);
    g_autofree char *offered = hv_snapshot_format_sizes(a->snapshot);
    a->to_kib = hv_fallback_page_kib(a->snapshot);
    if (a->to_kib == 0) {
        hv_set_error(error, HV_ERROR_SHORTAGE, hint,
                     "the VM has pages of %s; this host offers %s, and none of them is its default",
                     lacking, offered);
        return FALSE;
    }
    const HvCell *misfit = find_misfit(a);
    if (misfit == NULL)
        return TRUE;
    g_autofree char *name = hv_cell_name(misfit->id);
    g_autofree char *memory = hv_format_kib(misfit->memory_kib);
    g_autofree char *to = hv_format_kib(a->to_kib);
    hv_set_error(error, HV_ERROR_SHORTAGE, hint,
                 "the VM has pages of %s, this host offers %s; but %s has %s, which pages of %s do "
                 "not fit",
                 lacking, offered, name, memory, to);
    return FALSE;
}

static gboolean replace_sizes(const Adaptation *a, const HvVm *vm, HvOutcome *outcome,
                              GError **error)
{
    const HvPageReplacement replacement = {a->lacking_kib, a->to_kib};
    const HvDomainEdit edit = {.replace_pages = &replacement};
    gsize bytes = 0;
    char *edited = hv_domain_edit(a->domain, vm->xml, vm->xml_bytes, &edit, &bytes, error);
    if (edited == NULL)
        return FALSE;
    g_free(outcome->xml);
    outcome->xml = edited;
    outcome->xml_bytes = bytes;
    outcome->xml_changed = TRUE;
    g_autofree char *lacking = format_lacking(a);
    g_autofree char *offered = hv_snapshot_format_sizes(a->snapshot);
    g_autofree char *to = hv_format_kib(a->to_kib);
    g_ptr_array_add(outcome->warnings,
                    g_strdup_printf("the incoming VM has pages of %s, this host offers %s: using "
                                    "%s (incoming_page_sizes = adapt)",
                                    lacking, offered, to));
    return TRUE;
}

static gboolean adapt(const HvAgent *agent, const HvVm *vm, const HvDomain *domain,
                      HvOutcome *outcome, GError **error)
{
    g_autoptr(HvSnapshot) snapshot = hv_snapshot_read(agent->root, error);
    if (snapshot == NULL)
        return FALSE;
    g_autoptr(GArray) lacking_kib = g_array_new(FALSE, FALSE, sizeof(guint64));
    Adaptation a = {.domain = domain, .snapshot = snapshot, .lacking_kib = lacking_kib};
    find_lacking(&a);
    return lacking_kib->len == 0 ||
           (choose_size(&a, error) && replace_sizes(&a, vm, outcome, error));
}

HvOutcome *hv_lifecycle_adapt_incoming(const HvAgent *agent, const HvVm *vm, GError **error)
{
    g_autoptr(HvDomain) domain = hv_domain_parse(vm->xml, vm->xml_bytes, error);
    if (domain == NULL)
        return NULL;
    g_autoptr(HvOutcome) outcome = hv_outcome_new(vm, domain, error);
    g_autoptr(HvSettings) settings =
        outcome != NULL
            ? hv_settings_load(agent->root, (const char *const *)agent->conf_files, error)
            : NULL;
    if (settings == NULL)
        return NULL;
    /* what has huge pages is for the claim to refuse */
    if (settings->enabled && !domain->has_hugepages &&
        !hv_files_check_incoming(settings, domain, error))
        return NULL;
    if (settings->enabled && settings->adapts_incoming && !adapt(agent, vm, domain, outcome, error))
        return NULL;
    return g_steal_pointer(&outcome);
}
