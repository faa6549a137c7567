/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation: <metadata> belongs to many; our part of it is one direct child, known by
 * its namespace and never by its prefix:
 *
 *   <hugevm:vm xmlns:hugevm="urn:hugevm:vm:1">
 *     <hugevm:hugepages>2048</hugevm:hugepages>
 *     <hugevm:shared>true</hugevm:shared>
 *     <hugevm:added pages='2048' shared='access'/>
 *   </hugevm:vm>
 *
 * A property that is there has its text replaced, in the tags that its author chose; a new one
 * comes behind the last. As in domain-edit.c all is spliced into the original bytes, and the
 * result is parsed again and compared.
 */
#include "domain-metadata.h"

#include "domain-compare.h"
#include "error.h"
#include "properties.h"

#include <string.h>

#define OWN_ELEMENT "vm"
#define OWN_PREFIX "hugevm"

typedef struct {
    const HvDoc *doc;
    xmlNode *metadata; /* NULL: there is none */
    xmlNode *own;      /* NULL: there is none */
    HvSplices *splices;
    GHashTable *cuts; /* xmlNode *, of the doc */
    GPtrArray *news;  /* char *: start tags without '<' and prefix, and what follows */
    HvAdded gone;     /* what is taken out */
} Edit;

/* ---- finding it */

static gboolean find_own(const HvDoc *doc, xmlNode **out_metadata, xmlNode **out_own,
                         GError **error)
{
    xmlNode *own = NULL;
    if (!hv_dom_only_child(xmlDocGetRootElement(doc->dom->doc), "metadata", out_metadata, error))
        return FALSE;
    for (xmlNode *node = *out_metadata != NULL ? (*out_metadata)->children : NULL; node != NULL;
         node = node->next) {
        if (!hv_dom_is(node, OWN_ELEMENT, HV_HUGEVM_NAMESPACE))
            continue;
        if (own != NULL) {
            hv_set_error(error, HV_ERROR_XML, "remove one of them",
                         "the domain XML has hugevm's metadata element twice");
            return FALSE;
        }
        own = node;
    }
    *out_own = own;
    return TRUE;
}

static xmlNode *own_child(const xmlNode *own, const char *name)
{
    xmlNode *child = own != NULL ? own->children : NULL;
    while (child != NULL && !hv_dom_is(child, name, HV_HUGEVM_NAMESPACE))
        child = child->next;
    return child;
}

HvAdded hv_metadata_added(const HvDoc *doc)
{
    xmlNode *metadata, *own;
    if (!find_own(doc, &metadata, &own, NULL))
        return (HvAdded){0};
    const xmlNode *note = own_child(own, "added");
    return (HvAdded){hv_dom_attribute(note, "pages"), hv_dom_attribute(note, "shared"),
                     hv_dom_attribute(note, "numatune"), hv_dom_attribute(note, "files")};
}

/* ---- what is to change */

static void set_text(Edit *e, const xmlNode *node, const char *name, const char *value)
{
    HvSpan span = hv_dom_span(e->doc->dom, node);
    g_autofree char *text = g_markup_escape_text(value, -1);
    if (span.is_empty_tag) {
        g_hash_table_add(e->cuts, (xmlNode *)node);
        g_ptr_array_add(e->news, g_strdup_printf("%s>%s", name, text));
        return;
    }
    g_autofree char *old = hv_dom_text(node);
    if (g_strcmp0(old, value) != 0)
        hv_splices_add(e->splices, span.start_end, span.end_start - span.start_end,
                       g_steal_pointer(&text));
}

/* Of several elements for one property only the first is left. NULL: all as they are. */
static void set_property(Edit *e, const char *const *names, const char *value)
{
    gboolean is_done = value == NULL || value[0] == '\0';
    for (xmlNode *child = e->own != NULL && value != NULL ? e->own->children : NULL; child != NULL;
         child = child->next) {
        if (!hv_dom_is(child, names[0], HV_HUGEVM_NAMESPACE) &&
            (names[1] == NULL || !hv_dom_is(child, names[1], HV_HUGEVM_NAMESPACE)))
            continue;
        if (is_done)
            g_hash_table_add(e->cuts, child);
        else
            set_text(e, child, (const char *)child->name, value);
        is_done = TRUE;
    }
    if (!is_done) {
        g_autofree char *text = g_markup_escape_text(value, -1);
        g_ptr_array_add(e->news, g_strdup_printf("%s>%s", names[0], text));
    }
}

static void append_attribute(GString *out, const char *name, const char *value)
{
    if (value == NULL)
        return;
    g_autofree char *text = g_markup_escape_text(value, -1);
    g_string_append_printf(out, " %s='%s'", name, text);
}

static void add_note(Edit *e, const HvAdded *added)
{
    GString *out = g_string_new("added");
    append_attribute(out, "pages", added->pages);
    append_attribute(out, "shared", added->shared);
    append_attribute(out, "numatune", added->numatune);
    append_attribute(out, "files", added->files);
    g_ptr_array_add(e->news, g_string_free(out, FALSE));
}

static void take_out(Edit *e, gboolean replaces_pages)
{
    const HvDoc *doc = e->doc;
    g_auto(HvAdded) now = hv_added_describe(doc);
    e->gone = hv_metadata_added(doc);
    if (replaces_pages && now.pages != NULL && !hv_added_is_by_cell(&now)) {
        g_free(e->gone.pages);
        e->gone.pages = g_strdup(now.pages);
    }
    hv_added_take_out(&e->gone, doc, e->cuts, e->splices);
    for (xmlNode *child = e->own != NULL ? e->own->children : NULL; child != NULL;
         child = child->next)
        if (hv_dom_is(child, "added", HV_HUGEVM_NAMESPACE))
            g_hash_table_add(e->cuts, child);
}

/* ---- new elements */

/* "h:hugepages>2048" as an element, with its lead. */
static void append_new(GString *out, const char *lead, const char *prefix, const char *text)
{
    gsize name_bytes = strcspn(text, " >");
    g_autofree char *name = g_strndup(text, name_bytes);
    const char *colon = prefix != NULL ? ":" : "";
    prefix = prefix != NULL ? prefix : "";
    g_string_append_printf(out, "%s<%s%s%s", lead, prefix, colon, text);
    if (strchr(text, '>') != NULL)
        g_string_append_printf(out, "</%s%s%s>", prefix, colon, name);
    else
        g_string_append(out, "/>");
}

static char *new_children(const Edit *e, const char *lead, const char *prefix)
{
    GString *out = g_string_new(NULL);
    for (guint i = 0; i < e->news->len; i++)
        append_new(out, lead, prefix, g_ptr_array_index(e->news, i));
    return g_string_free(out, FALSE);
}

/* Behind the last thing in an element; close_lead is for an end tag that has no line yet. */
static void insert_into(Edit *e, const xmlNode *parent, const char *children,
                        const char *close_lead)
{
    const HvText *text = &e->doc->text;
    HvSpan span = hv_dom_span(e->doc->dom, parent);
    if (span.is_empty_tag) {
        const char *name = text->bytes + span.start + 1;
        g_autofree char *tag = g_strndup(name, strcspn(name, " \t\r\n/>"));
        hv_splices_add(e->splices, span.start_end - 2, 2,
                       g_strdup_printf(">%s%s</%s>", children, close_lead, tag));
        return;
    }
    gsize at = span.end_start;
    while (at > span.start_end && g_ascii_isspace(text->bytes[at - 1]))
        at--;
    hv_splices_add(e->splices, at, 0,
                   g_strconcat(children, at == span.end_start ? close_lead : "", NULL));
}

static char *unit_of(const Edit *e)
{
    HvSpan domain = e->doc->domain->span_domain;
    g_autofree char *outer = hv_lead_before(&e->doc->text, domain.start);
    g_autofree char *inner = hv_lead_inside(&e->doc->text, &domain);
    return hv_indent_step(outer, inner);
}

/* The lead of a new child: as its siblings have, or a step deeper than the parent's. */
static char *child_lead(const Edit *e, const xmlNode *parent)
{
    HvSpan span = hv_dom_span(e->doc->dom, parent);
    g_autofree char *found = hv_lead_inside(&e->doc->text, &span);
    if (found[0] != '\0' || xmlChildElementCount((xmlNode *)parent) > 0)
        return g_steal_pointer(&found);
    g_autofree char *unit = unit_of(e);
    g_autofree char *own = hv_lead_before(&e->doc->text, span.start);
    return hv_lead_deeper(own, unit);
}

static char *new_own(const Edit *e, const char *lead)
{
    g_autofree char *unit = unit_of(e);
    g_autofree char *inner = hv_lead_deeper(lead, unit);
    g_autofree char *children = new_children(e, inner, OWN_PREFIX);
    return g_strdup_printf("%s<" OWN_PREFIX ":" OWN_ELEMENT " xmlns:" OWN_PREFIX
                           "=\"" HV_HUGEVM_NAMESPACE "\">%s%s</" OWN_PREFIX ":" OWN_ELEMENT ">",
                           lead, children, lead);
}

static void add_metadata(Edit *e)
{
    const HvDomain *domain = e->doc->domain;
    const HvSpan *anchor = domain->span_uuid.end != 0 ? &domain->span_uuid : &domain->span_name;
    g_autofree char *lead = anchor->end != 0 ? hv_lead_before(&e->doc->text, anchor->start)
                                             : hv_lead_inside(&e->doc->text, &domain->span_domain);
    g_autofree char *unit = unit_of(e);
    g_autofree char *inner = hv_lead_deeper(lead, unit);
    g_autofree char *own = new_own(e, inner);
    hv_splices_add(e->splices, anchor->end != 0 ? anchor->end : domain->span_domain.start_end, 0,
                   g_strdup_printf("%s<metadata>%s%s</metadata>", lead, own, lead));
}

static void add_news(Edit *e)
{
    if (e->metadata == NULL) {
        add_metadata(e);
        return;
    }
    const xmlNode *parent = e->own != NULL ? e->own : e->metadata;
    HvSpan span = hv_dom_span(e->doc->dom, parent);
    g_autofree char *close_lead = hv_lead_before(&e->doc->text, span.start);
    g_autofree char *lead = child_lead(e, parent);
    const xmlNs *ns = e->own != NULL ? e->own->ns : NULL;
    g_autofree char *children =
        e->own != NULL ? new_children(e, lead, (const char *)ns->prefix) : new_own(e, lead);
    insert_into(e, parent, children, lead[0] != '\0' ? close_lead : "");
}

/* ---- the result */

static void prune_own(HvDom *dom)
{
    xmlNode *metadata = hv_dom_child(xmlDocGetRootElement(dom->doc), "metadata");
    for (xmlNode *node = metadata != NULL ? metadata->children : NULL, *next; node != NULL;
         node = next) {
        next = node->next;
        if (hv_dom_is(node, OWN_ELEMENT, HV_HUGEVM_NAMESPACE)) {
            xmlUnlinkNode(node);
            xmlFreeNode(node);
        }
    }
    hv_dom_trim(metadata);
}

/* A property of the result, by one of its names, and a value that was asked for. */
static gboolean says(const HvDoc *doc, const char *const *names, const char *value)
{
    const char *found = NULL;
    for (guint i = 0; i < 2 && names[i] != NULL && found == NULL; i++)
        found = g_hash_table_lookup(doc->domain->hugevm_custom, names[i]);
    return value == NULL || strcmp(found != NULL ? found : "", value) == 0;
}

static const char *const hugepages_names[] = {"hugepages", NULL};
static const char *const shared_names[] = {HV_SHARED_SHORT_NAME, "hugepages_shared", NULL};

static gboolean check_result(const Edit *e, const HvMetadataEdit *edit, const HvText *result,
                             GError **error)
{
    static const HvBinding any_binding;
    g_auto(HvDoc) edited = {0};
    const HvText *text = &e->doc->text;
    g_autoptr(HvDom) original = hv_dom_parse(text->bytes, text->length, error);
    if (original == NULL || !hv_doc_parse(result->bytes, result->length, &edited, error)) {
        g_prefix_error(error, "the edit was given up, its result would not be read: ");
        return FALSE;
    }
    gboolean is_said = says(&edited, hugepages_names, edit->hugepages) &&
                       says(&edited, shared_names, edit->shared);
    const HvDomainEdit mask = {.add_hugepages_kib = e->gone.pages != NULL ? 1 : 0,
                               .make_shared = e->gone.shared != NULL,
                               .back_by_files = e->gone.files != NULL,
                               .bind = e->gone.numatune != NULL ? &any_binding : NULL};
    prune_own(original);
    prune_own(edited.dom);
    if (is_said && hv_domain_equal_but_for(&mask, original, edited.dom))
        return TRUE;
    hv_set_error(error, HV_ERROR_XML, NULL,
                 "the edit was given up: it would change the domain XML beyond what was asked");
    return FALSE;
}

static void edit_clear(Edit *e)
{
    g_array_unref(e->splices);
    g_hash_table_unref(e->cuts);
    g_ptr_array_unref(e->news);
    hv_added_clear(&e->gone);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Edit, edit_clear)

char *hv_metadata_edit(const HvDoc *doc, const HvMetadataEdit *edit, gsize *out_bytes,
                       GError **error)
{
    g_auto(Edit) e = {.doc = doc,
                      .splices = hv_splices_new(),
                      .cuts = g_hash_table_new(NULL, NULL),
                      .news = g_ptr_array_new_with_free_func(g_free)};
    if (!find_own(doc, &e.metadata, &e.own, error))
        return NULL;
    if (edit->takes_out)
        take_out(&e, edit->replaces_pages);
    set_property(&e, hugepages_names, edit->hugepages);
    set_property(&e, shared_names, edit->shared);
    if (edit->added != NULL && !hv_added_is_empty(edit->added))
        add_note(&e, edit->added);
    const xmlNode *kept = e.own != NULL ? e.own : e.metadata;
    hv_cuts_splice(e.cuts, doc, e.news->len > 0 ? kept : NULL, e.splices);
    if (e.news->len > 0)
        add_news(&e);
    HvText result = {0};
    g_autofree char *text = hv_splices_apply(e.splices, &doc->text, &result.length, error);
    result.bytes = text;
    if (text == NULL || (e.splices->len > 0 && !check_result(&e, edit, &result, error)))
        return NULL;
    *out_bytes = result.length;
    return g_steal_pointer(&text);
}
