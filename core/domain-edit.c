/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation: an edit is a list of splices into the original bytes,
 * each "at this offset take away n bytes and put this text", found from the
 * spans of the parse. All bytes between them are copied. New elements take
 * indentation and line ending from the blanks before their neighbour; where the
 * neighbour has no line of its own, neither have they.
 *
 * Only what is missing is added, so an edit of an edited text changes nothing.
 * The result is never trusted: it is parsed, must now say what was asked, and
 * must equal the original in all else (domain-compare.c).
 */
#include "domain-edit.h"

#include "domain-compare.h"
#include "domain-pages.h"
#include "domain-splice.h"
#include "error.h"
#include "page-size.h"

#include <string.h>

/* What hv_domain_edit() works on; all borrowed but the splices. */
typedef struct {
    const HvDomain *domain;
    HvText text;
    HvDomainEdit edit; /* reduced to what the domain lacks */
    HvSplices *splices;
} Edit;

static gboolean needs_access_element(const Edit *e)
{
    return (e->edit.make_shared && !e->domain->has_cells) || e->edit.back_by_files;
}

static gboolean adds_pages(const HvDomainEdit *edit)
{
    return edit->add_hugepages_kib != 0 || edit->cell_pages != NULL;
}

static void append_page(GString *out, const char *lead, guint64 size_kib, const HvNodeSet *cells)
{
    g_string_append_printf(out, "%s<page size='%" G_GUINT64_FORMAT "' unit='KiB'", lead, size_kib);
    if (!hv_node_set_is_any(cells)) {
        g_autofree char *list = hv_node_set_format(cells);
        g_string_append_printf(out, " nodeset='%s'", list);
    }
    g_string_append(out, "/>");
}

/* The <page> of each size, where it is first named; cells with normal pages get none. */
static void append_cell_pages(GString *out, const char *lead, const GArray *pages)
{
    for (guint i = 0; i < pages->len; i++) {
        guint64 size_kib = g_array_index(pages, HvCellPages, i).size_kib;
        gboolean is_first = size_kib != 0;
        HvNodeSet cells = {0};
        for (guint k = 0; k < pages->len; k++) {
            const HvCellPages *other = &g_array_index(pages, HvCellPages, k);
            if (other->size_kib == size_kib && other->cell >= 0)
                hv_node_set_add(&cells, other->cell);
            is_first = is_first && (k >= i || other->size_kib != size_kib);
        }
        if (is_first)
            append_page(out, lead, size_kib, &cells);
    }
}

/* What is to stand in <hugepages>. */
static char *page_elements(const Edit *e, const char *lead)
{
    const HvNodeSet all = {0};
    GString *out = g_string_new(NULL);
    if (e->edit.cell_pages != NULL)
        append_cell_pages(out, lead, e->edit.cell_pages);
    else
        append_page(out, lead, e->edit.add_hugepages_kib, &all);
    return g_string_free(out, FALSE);
}

static void append_hugepages(GString *out, const Edit *e, const char *lead, const char *unit)
{
    g_autofree char *inner = hv_lead_deeper(lead, unit);
    g_autofree char *pages = page_elements(e, inner);
    g_string_append_printf(out, "%s<hugepages>%s%s</hugepages>", lead, pages, lead);
}

/* The children that <memoryBacking> lacks, each with its lead before it. */
static char *missing_children(const Edit *e, const char *lead, const char *unit)
{
    GString *out = g_string_new(NULL);
    if (adds_pages(&e->edit) && !e->domain->has_hugepages)
        append_hugepages(out, e, lead, unit);
    if (e->edit.back_by_files && e->domain->span_source.end == 0)
        g_string_append_printf(out, "%s<source type='file'/>", lead);
    if (needs_access_element(e) && e->domain->span_access.end == 0)
        g_string_append_printf(out, "%s<access mode='shared'/>", lead);
    if (e->edit.back_by_files && e->domain->span_allocation.end == 0)
        g_string_append_printf(out, "%s<allocation mode='immediate'/>", lead);
    if (e->edit.add_discard && !e->domain->traits.has_discard)
        g_string_append_printf(out, "%s<discard/>", lead);
    return g_string_free(out, FALSE);
}

/* Puts children into an element that is there, behind its start tag. */
static void add_children(Edit *e, const HvSpan *span, const char *tag, const char *children,
                         const char *close_lead)
{
    if (span->is_empty_tag) {
        hv_splices_add(e->splices, span->start_end - 2, 2,
                       g_strdup_printf(">%s%s</%s>", children, close_lead, tag));
    } else {
        gboolean is_hollow = span->start_end == span->end_start;
        hv_splices_add(e->splices, span->start_end, 0,
                       g_strconcat(children, is_hollow ? close_lead : "", NULL));
    }
}

/* Behind <memory>; a guest with cells may do without that element. */
static const HvSpan *backing_anchor(const HvDomain *domain)
{
    const HvSpan *const anchors[] = {&domain->span_memory, &domain->span_uuid, &domain->span_name};
    for (guint i = 0; i < G_N_ELEMENTS(anchors); i++)
        if (anchors[i]->end != 0)
            return anchors[i];
    return NULL;
}

/* A new child of <domain>: behind the anchor, or as the first child without one. */
static void add_to_domain(Edit *e, const HvSpan *anchor, const char *lead, const char *element)
{
    gsize at = anchor != NULL ? anchor->end : e->domain->span_domain.start_end;
    hv_splices_add(e->splices, at, 0, g_strconcat(lead, element, NULL));
}

static char *lead_in_domain(const Edit *e, const HvSpan *anchor)
{
    return anchor != NULL ? hv_lead_before(&e->text, anchor->start)
                          : hv_lead_inside(&e->text, &e->domain->span_domain);
}

/* One step of indentation: what separates <domain>'s children from <domain>. */
static char *indent_unit(const Edit *e)
{
    g_autofree char *outer = hv_lead_before(&e->text, e->domain->span_domain.start);
    g_autofree char *inner = lead_in_domain(e, backing_anchor(e->domain));
    return hv_indent_step(outer, inner);
}

static void add_backing(Edit *e, const char *unit)
{
    const HvSpan *anchor = backing_anchor(e->domain);
    g_autofree char *lead = lead_in_domain(e, anchor);
    g_autofree char *child_lead = hv_lead_deeper(lead, unit);
    g_autofree char *children = missing_children(e, child_lead, unit);
    if (children[0] == '\0')
        return;
    g_autofree char *element =
        g_strdup_printf("<memoryBacking>%s%s</memoryBacking>", children, lead);
    add_to_domain(e, anchor, lead, element);
}

static void extend_backing(Edit *e, const char *unit)
{
    const HvSpan *backing = &e->domain->span_memory_backing;
    g_autofree char *lead = hv_lead_before(&e->text, backing->start);
    g_autofree char *found = hv_lead_inside(&e->text, backing);
    g_autofree char *child_lead = found[0] != '\0' ? g_strdup(found) : hv_lead_deeper(lead, unit);
    g_autofree char *children = missing_children(e, child_lead, unit);
    if (children[0] != '\0')
        add_children(e, backing, "memoryBacking", children, lead);
}

/* A bare <hugepages/> gets the size in words. */
static void extend_hugepages(Edit *e, const char *unit)
{
    const HvSpan *hugepages = &e->domain->span_hugepages;
    g_autofree char *lead = hv_lead_before(&e->text, hugepages->start);
    g_autofree char *child_lead = hv_lead_deeper(lead, unit);
    g_autofree char *pages = page_elements(e, child_lead);
    add_children(e, hugepages, "hugepages", pages, lead);
}

static void add_numatune(Edit *e, const char *unit)
{
    const HvSpan *anchor = backing_anchor(e->domain);
    g_autofree char *lead = lead_in_domain(e, anchor);
    g_autofree char *inner = hv_lead_deeper(lead, unit);
    g_autofree char *element =
        g_strdup_printf("<numatune>%s<memory mode='%s' nodeset='%d'/>%s</numatune>", inner,
                        e->edit.bind->is_strict ? "strict" : "preferred", e->edit.bind->node, lead);
    add_to_domain(e, anchor, lead, element);
}

/* Of an element that is there. */
static void set_attribute(Edit *e, const HvSpan *span, const char *name, const char *value)
{
    if (span->end != 0)
        hv_splices_set_attribute(e->splices, &e->text, span, name, value);
}

static void back_by_files(Edit *e)
{
    set_attribute(e, &e->domain->span_source, "type", "file");
    set_attribute(e, &e->domain->span_allocation, "mode", "immediate");
    if (!e->edit.make_shared)
        set_attribute(e, &e->domain->span_access, "mode", "shared");
}

static void share(Edit *e)
{
    const HvDomain *domain = e->domain;
    if (needs_access_element(e))
        set_attribute(e, &domain->span_access, "mode", "shared");
    for (guint i = 0; domain->has_cells && i < domain->cells->len; i++) {
        const HvCell *cell = &g_array_index(domain->cells, HvCell, i);
        if (!cell->is_shared || !cell->is_access_written)
            hv_splices_set_attribute(e->splices, &e->text, &cell->span, "memAccess", "shared");
    }
}

static void add_uuid(Edit *e)
{
    const HvDomain *domain = e->domain;
    g_autofree char *element = g_strdup_printf("<uuid>%s</uuid>", e->edit.add_uuid);
    if (domain->span_uuid.end != 0) {
        hv_splices_add(e->splices, domain->span_uuid.start,
                       domain->span_uuid.end - domain->span_uuid.start, g_steal_pointer(&element));
        return;
    }
    const HvSpan *anchor = domain->span_name.end != 0 ? &domain->span_name : NULL;
    g_autofree char *lead = lead_in_domain(e, anchor);
    add_to_domain(e, anchor, lead, element);
}

static void collect_splices(Edit *e)
{
    g_autofree char *unit = indent_unit(e);
    if (e->edit.add_uuid != NULL)
        add_uuid(e);
    if (e->domain->span_memory_backing.end == 0)
        add_backing(e, unit);
    else
        extend_backing(e, unit);
    if (e->edit.bind != NULL)
        add_numatune(e, unit);
    if (adds_pages(&e->edit) && e->domain->has_hugepages)
        extend_hugepages(e, unit);
    if (e->edit.make_shared)
        share(e);
    if (e->edit.back_by_files)
        back_by_files(e);
}

gboolean hv_domain_says_files(const HvDomain *domain)
{
    const HvTraits *traits = &domain->traits;
    return traits->source == HV_SOURCE_FILE && traits->access == HV_ACCESS_SHARED &&
           traits->allocation == HV_ALLOCATION_IMMEDIATE;
}

static gboolean is_all_shared(const HvDomain *domain)
{
    for (guint i = 0; i < domain->cells->len; i++) {
        const HvCell *cell = &g_array_index(domain->cells, HvCell, i);
        if (!cell->is_shared || !cell->is_access_written)
            return FALSE;
    }
    return TRUE;
}

static gboolean names_page_size(const HvDomain *domain, guint64 size_kib)
{
    if (domain->page_kib == size_kib)
        return TRUE;
    for (guint i = 0; i < domain->cells->len; i++)
        if (g_array_index(domain->cells, HvCell, i).page_kib == size_kib)
            return TRUE;
    return FALSE;
}

static gboolean reduce_uuid(const HvDomain *domain, const char *uuid, HvDomainEdit *edit,
                            GError **error)
{
    edit->add_uuid = domain->uuid == NULL ? uuid : NULL;
    if (uuid == NULL || domain->uuid == NULL || strcmp(uuid, domain->uuid) == 0)
        return TRUE;
    hv_set_error(error, HV_ERROR_INVALID, NULL, "the domain XML has the UUID %s, not %s",
                 domain->uuid, uuid);
    return FALSE;
}

static gboolean reduce_hugepages(const HvDomain *domain, HvDomainEdit *edit, GError **error)
{
    guint64 size_kib = edit->add_hugepages_kib;
    if (size_kib == 0 || !domain->has_hugepages || hv_domain_has_bare_hugepages(domain))
        return TRUE;
    edit->add_hugepages_kib = 0;
    if (names_page_size(domain, size_kib))
        return TRUE;
    g_autofree char *size = hv_format_kib(size_kib);
    hv_set_error(error, HV_ERROR_CONFLICT, NULL,
                 "the domain XML's <hugepages> names other page sizes than %s", size);
    return FALSE;
}

static gboolean has_cell_pages(const HvDomain *domain, const GArray *pages)
{
    for (guint i = 0; i < domain->cells->len; i++) {
        const HvCell *cell = &g_array_index(domain->cells, HvCell, i);
        guint64 size_kib = 0;
        for (guint k = 0; k < pages->len; k++)
            if (g_array_index(pages, HvCellPages, k).cell == cell->id)
                size_kib = g_array_index(pages, HvCellPages, k).size_kib;
        if (cell->page_kib != size_kib)
            return FALSE;
    }
    return TRUE;
}

static gboolean is_bound(const HvDomain *domain, const HvBinding *bind)
{
    for (guint i = 0; i < domain->cells->len; i++) {
        const HvPlacement *placement = &g_array_index(domain->cells, HvCell, i).placement;
        const HvNodeSet *nodes = bind->is_strict ? &placement->nodes : &placement->near;
        if (hv_node_set_single(nodes) != bind->node)
            return FALSE;
    }
    return TRUE;
}

static gboolean says_what_was_asked(const HvDomain *domain, const HvDomainEdit *edit)
{
    return (edit->add_uuid == NULL || g_strcmp0(domain->uuid, edit->add_uuid) == 0) &&
           (edit->add_hugepages_kib == 0 || domain->page_kib == edit->add_hugepages_kib) &&
           (edit->cell_pages == NULL || has_cell_pages(domain, edit->cell_pages)) &&
           (edit->bind == NULL || is_bound(domain, edit->bind)) &&
           (edit->replace_pages == NULL ||
            !hv_domain_has_replaced_pages(domain, edit->replace_pages)) &&
           (!edit->back_by_files || hv_domain_says_files(domain)) &&
           (!edit->add_discard || domain->traits.has_discard) &&
           (!edit->make_shared || is_all_shared(domain));
}

static gboolean check_result(const Edit *e, const char *result, gsize result_bytes, GError **error)
{
    g_autoptr(HvDomain) domain = hv_domain_parse(result, result_bytes, error);
    g_autoptr(HvDom) edited = domain != NULL ? hv_dom_parse(result, result_bytes, error) : NULL;
    g_autoptr(HvDom) original =
        edited != NULL ? hv_dom_parse(e->text.bytes, e->text.length, error) : NULL;
    if (original == NULL) {
        g_prefix_error(error, "the edit was given up, its result would not be read: ");
        return FALSE;
    }
    if (says_what_was_asked(domain, &e->edit) &&
        hv_domain_equal_but_for(&e->edit, original, edited))
        return TRUE;
    hv_set_error(error, HV_ERROR_XML, NULL,
                 "the edit was given up: it would change the domain XML beyond what was asked");
    return FALSE;
}

static gboolean replace_pages(Edit *e, GError **error)
{
    g_autoptr(HvDom) dom = hv_dom_parse(e->text.bytes, e->text.length, error);
    if (dom != NULL)
        hv_domain_replace_pages(e->splices, &e->text, dom, e->edit.replace_pages);
    return dom != NULL;
}

static char *apply(Edit *e, gsize *out_bytes, GError **error)
{
    gsize result_bytes;
    collect_splices(e);
    if (e->edit.replace_pages != NULL && !replace_pages(e, error))
        return NULL;
    g_autofree char *result = hv_splices_apply(e->splices, &e->text, &result_bytes, error);
    if (result == NULL)
        return NULL;
    if (e->splices->len > 0 && !check_result(e, result, result_bytes, error))
        return NULL;
    *out_bytes = result_bytes;
    return g_steal_pointer(&result);
}

char *hv_domain_edit(const HvDomain *domain, const char *xml, gsize xml_bytes,
                     const HvDomainEdit *edit, gsize *out_bytes, GError **error)
{
    g_autofree char *uuid = edit->add_uuid != NULL ? hv_uuid_normalize(edit->add_uuid) : NULL;
    if (edit->add_uuid != NULL && uuid == NULL) {
        g_autofree char *quoted = hv_quote(edit->add_uuid);
        hv_set_error(error, HV_ERROR_INVALID, NULL, "%s is no UUID", quoted);
        return NULL;
    }
    if (domain->span_domain.end > xml_bytes) {
        hv_set_error(error, HV_ERROR_INVALID, NULL, "the domain was read from another text");
        return NULL;
    }
    g_autoptr(HvSplices) splices = hv_splices_new();
    Edit e = {.domain = domain, .text = {xml, xml_bytes}, .edit = *edit, .splices = splices};
    e.edit.make_shared = edit->make_shared && !is_all_shared(domain);
    if (!reduce_uuid(domain, uuid, &e.edit, error) || !reduce_hugepages(domain, &e.edit, error))
        return NULL;
    return apply(&e, out_bytes, error);
}
