/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation: libvirt stores its own rendering of a domain, so nothing about bytes tells
 * whose element it is. What an edit added is therefore described in words and noted in hugevm's
 * metadata element (domain-metadata.c), and taken out only while the XML still says the same:
 * what somebody has changed since is his.
 */
#include "domain-added.h"

#include "domain-value.h"

#include <string.h>

gboolean hv_doc_parse(const char *xml, gsize xml_bytes, HvDoc *out_doc, GError **error)
{
    g_autoptr(HvDomain) domain = hv_domain_parse(xml, xml_bytes, error);
    HvDom *dom = domain != NULL ? hv_dom_parse(xml, xml_bytes, error) : NULL;
    if (dom == NULL)
        return FALSE;
    *out_doc = (HvDoc){{xml, xml_bytes}, g_steal_pointer(&domain), dom};
    return TRUE;
}

void hv_doc_clear(HvDoc *doc)
{
    hv_domain_free(doc->domain);
    hv_dom_free(doc->dom);
    *doc = (HvDoc){0};
}

void hv_added_clear(HvAdded *added)
{
    g_free(added->pages);
    g_free(added->shared);
    g_free(added->numatune);
    g_free(added->files);
    *added = (HvAdded){0};
}

gboolean hv_added_is_empty(const HvAdded *added)
{
    return added->pages == NULL && added->shared == NULL && added->numatune == NULL &&
           added->files == NULL;
}

gboolean hv_added_is_by_cell(const HvAdded *added)
{
    return added->pages != NULL && strpbrk(added->pages, ": ") != NULL;
}

/* ---- where it stands */

static xmlNode *child_of_domain(const HvDoc *doc, const char *name)
{
    return hv_dom_child(xmlDocGetRootElement(doc->dom->doc), name);
}

static xmlNode *hugepages_of(const HvDoc *doc)
{
    return hv_dom_child(child_of_domain(doc, "memoryBacking"), "hugepages");
}

static xmlNode *access_of(const HvDoc *doc)
{
    return hv_dom_child(child_of_domain(doc, "memoryBacking"), "access");
}

static xmlNode *first_cell_of(const HvDoc *doc)
{
    return hv_dom_child(hv_dom_child(child_of_domain(doc, "cpu"), "numa"), "cell");
}

/* ---- descriptions */

static char *describe_page(const xmlNode *page)
{
    guint64 size_kib = 0;
    HvNodeSet cells;
    g_autofree char *nodeset = hv_dom_attribute(page, "nodeset");
    hv_domain_scaled_attribute(page, "size", "the size of <page>", &size_kib, NULL);
    if (nodeset == NULL || !hv_domain_nodeset(nodeset, "the nodeset of <page>", &cells, NULL))
        return g_strdup_printf("%" G_GUINT64_FORMAT, size_kib);
    g_autofree char *list = hv_node_set_format(&cells);
    return g_strdup_printf("%" G_GUINT64_FORMAT ":%s", size_kib, list);
}

static char *describe_pages(const HvDoc *doc)
{
    g_autoptr(GString) out = g_string_new(NULL);
    const xmlNode *hugepages = hugepages_of(doc);
    if (hugepages == NULL)
        return NULL;
    for (const xmlNode *page = hv_dom_child(hugepages, "page"); page != NULL;
         page = hv_dom_next(page, "page")) {
        g_autofree char *text = describe_page(page);
        g_string_append_printf(out, "%s%s", out->len > 0 ? " " : "", text);
    }
    return g_strdup(out->len > 0 ? out->str : "default");
}

static HvNodeSet shared_cells(const HvDoc *doc)
{
    HvNodeSet cells = {0};
    const xmlNode *node = first_cell_of(doc);
    for (guint i = 0; node != NULL && doc->domain->has_cells && i < doc->domain->cells->len; i++) {
        if (hv_dom_attribute_is(node, "memAccess", "shared"))
            hv_node_set_add(&cells, g_array_index(doc->domain->cells, HvCell, i).id);
        node = hv_dom_next(node, "cell");
    }
    return cells;
}

static char *format_cells(const HvNodeSet *cells)
{
    return hv_node_set_is_any(cells) ? NULL : hv_node_set_format(cells);
}

static char *describe_shared(const HvDoc *doc)
{
    HvNodeSet cells = shared_cells(doc);
    if (doc->domain->has_cells)
        return format_cells(&cells);
    return hv_dom_attribute_is(access_of(doc), "mode", "shared") ? g_strdup("access") : NULL;
}

static char *describe_numatune(const HvDoc *doc)
{
    const xmlNode *numatune = child_of_domain(doc, "numatune");
    if (numatune == NULL)
        return NULL;
    const xmlNode *memory = hv_dom_child(numatune, "memory");
    g_autofree char *mode = hv_dom_attribute(memory, "mode");
    g_autofree char *nodeset = hv_dom_attribute(memory, "nodeset");
    if (xmlChildElementCount((xmlNode *)numatune) != 1 || mode == NULL || nodeset == NULL ||
        hv_dom_attribute_is(memory, "placement", "auto"))
        return g_strdup("other");
    return g_strdup_printf("%s %s", mode, nodeset);
}

/* Elements of <memoryBacking> as back_by_files writes them. */
static const struct {
    const char *name;
    const char *attribute; /* its only one; NULL: it has none */
    const char *value;
} file_elements[] = {
    {"source", "type", "file"},
    {"access", "mode", "shared"},
    {"allocation", "mode", "immediate"},
    {"discard", NULL, NULL},
};

/* The element, if it is as we would write it; NULL: it is another's, or there is none. */
static xmlNode *file_element(const HvDoc *doc, guint i)
{
    xmlNode *node = hv_dom_child(child_of_domain(doc, "memoryBacking"), file_elements[i].name);
    if (node == NULL || node->children != NULL)
        return NULL;
    if (file_elements[i].attribute == NULL)
        return node->properties == NULL ? node : NULL;
    gboolean is_ours =
        node->properties != NULL && node->properties->next == NULL &&
        hv_dom_attribute_is(node, file_elements[i].attribute, file_elements[i].value);
    return is_ours ? node : NULL;
}

/* Without <source type='file'/> the others belong to something else. */
static char *describe_files(const HvDoc *doc)
{
    g_autoptr(GString) out = g_string_new(NULL);
    if (doc->domain->traits.source != HV_SOURCE_FILE)
        return NULL;
    for (guint i = 0; i < G_N_ELEMENTS(file_elements); i++)
        if (file_element(doc, i) != NULL)
            g_string_append_printf(out, "%s%s", out->len > 0 ? " " : "", file_elements[i].name);
    return out->len > 0 ? g_strdup(out->str) : NULL;
}

HvAdded hv_added_describe(const HvDoc *doc)
{
    return (HvAdded){describe_pages(doc), describe_shared(doc), describe_numatune(doc),
                     describe_files(doc)};
}

static char *newly_shared(const HvDoc *before, const HvDoc *after)
{
    HvNodeSet had = shared_cells(before);
    HvNodeSet has = shared_cells(after);
    g_autofree char *was = describe_shared(before);
    if (!after->domain->has_cells)
        return was == NULL ? describe_shared(after) : NULL;
    for (gsize i = 0; i < G_N_ELEMENTS(has.bits); i++)
        has.bits[i] &= ~had.bits[i];
    return format_cells(&has);
}

static char *if_other(char *now, const char *was)
{
    if (g_strcmp0(now, was) == 0)
        g_clear_pointer(&now, g_free);
    return now;
}

/* Words that the other text has not; it may have them for something else. */
static char *new_file_elements(const HvDoc *before, const HvDoc *after)
{
    g_autoptr(GString) out = g_string_new(NULL);
    if (after->domain->traits.source != HV_SOURCE_FILE)
        return NULL;
    for (guint i = 0; i < G_N_ELEMENTS(file_elements); i++)
        if (file_element(after, i) != NULL && file_element(before, i) == NULL)
            g_string_append_printf(out, "%s%s", out->len > 0 ? " " : "", file_elements[i].name);
    return g_strdup(out->len > 0 ? out->str : NULL);
}

HvAdded hv_added_between(const HvDoc *before, const HvDoc *after)
{
    g_auto(HvAdded) was = hv_added_describe(before);
    return (HvAdded){if_other(describe_pages(after), was.pages), newly_shared(before, after),
                     if_other(describe_numatune(after), was.numatune),
                     new_file_elements(before, after)};
}

/* ---- taking it out */

/* A declaration of hugevm's own namespace is there for what is cut. */
static gboolean declares_nothing_else(const xmlNode *node)
{
    for (const xmlNs *ns = node->nsDef; ns != NULL; ns = ns->next)
        if (g_strcmp0((const char *)ns->href, HV_HUGEVM_NAMESPACE) != 0)
            return FALSE;
    return TRUE;
}

static gboolean is_left_hollow(const xmlNode *node, GHashTable *cuts)
{
    if (node->properties != NULL || !declares_nothing_else(node))
        return FALSE;
    for (xmlNode *child = node->children; child != NULL; child = child->next)
        if (!xmlIsBlankNode(child) && !g_hash_table_contains(cuts, child))
            return FALSE;
    return TRUE;
}

static gboolean is_inside_cut(const xmlNode *node, GHashTable *cuts)
{
    for (const xmlNode *parent = node->parent; parent != NULL; parent = parent->parent)
        if (g_hash_table_contains(cuts, parent))
            return TRUE;
    return FALSE;
}

/* Parents that are left hollow go too, and theirs; each is looked at once, however many children
 * of it are cut. */
static void cut_hollow_parents(GHashTable *cuts, const xmlNode *root, const xmlNode *kept)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);
    g_autoptr(GList) nodes = g_hash_table_get_keys(cuts);
    for (const GList *item = nodes; item != NULL; item = item->next) {
        xmlNode *parent = ((xmlNode *)item->data)->parent;
        while (parent != root && parent != kept && g_hash_table_add(seen, parent) &&
               is_left_hollow(parent, cuts)) {
            g_hash_table_add(cuts, parent);
            parent = parent->parent;
        }
    }
}

void hv_cuts_splice(GHashTable *cuts, const HvDoc *doc, const xmlNode *kept, HvSplices *splices)
{
    GHashTableIter iter;
    gpointer node;
    cut_hollow_parents(cuts, xmlDocGetRootElement(doc->dom->doc), kept);
    g_hash_table_iter_init(&iter, cuts);
    while (g_hash_table_iter_next(&iter, &node, NULL)) {
        HvSpan span = hv_dom_span(doc->dom, node);
        if (is_inside_cut(node, cuts))
            continue;
        g_autofree char *lead = hv_lead_before(&doc->text, span.start);
        gsize start = span.start - strlen(lead);
        hv_splices_add(splices, start, span.end - start, g_strdup(""));
    }
}

static gboolean has_only_mode(const xmlNode *access)
{
    return access->children == NULL && access->properties != NULL &&
           access->properties->next == NULL;
}

static void take_out_sharing(const char *shared, const HvDoc *doc, GHashTable *cuts,
                             HvSplices *splices)
{
    HvNodeSet cells;
    xmlNode *access = access_of(doc);
    if (strcmp(shared, "access") == 0) {
        if (hv_dom_attribute_is(access, "mode", "shared") && has_only_mode(access))
            g_hash_table_add(cuts, access);
        return;
    }
    HvNodeSet now = shared_cells(doc);
    if (!hv_domain_nodeset(shared, "a note of hugevm's", &cells, NULL))
        return;
    for (guint i = 0; doc->domain->has_cells && i < doc->domain->cells->len; i++) {
        const HvCell *cell = &g_array_index(doc->domain->cells, HvCell, i);
        if (hv_node_set_contains(&cells, cell->id) && hv_node_set_contains(&now, cell->id))
            hv_splices_remove_attribute(splices, &doc->text, &cell->span, "memAccess");
    }
}

static void take_out_files(const char *files, const HvDoc *doc, GHashTable *cuts)
{
    g_auto(GStrv) words = g_strsplit(files, " ", -1);
    for (guint i = 0; i < G_N_ELEMENTS(file_elements); i++) {
        xmlNode *node = file_element(doc, i);
        if (node != NULL && g_strv_contains((const char *const *)words, file_elements[i].name))
            g_hash_table_add(cuts, node);
    }
}

void hv_added_take_out(const HvAdded *added, const HvDoc *doc, GHashTable *cuts, HvSplices *splices)
{
    g_auto(HvAdded) now = hv_added_describe(doc);
    if (added->pages != NULL && g_strcmp0(added->pages, now.pages) == 0)
        g_hash_table_add(cuts, hugepages_of(doc));
    if (added->numatune != NULL && g_strcmp0(added->numatune, now.numatune) == 0)
        g_hash_table_add(cuts, child_of_domain(doc, "numatune"));
    if (added->files != NULL)
        take_out_files(added->files, doc, cuts);
    if (added->shared != NULL)
        take_out_sharing(added->shared, doc, cuts, splices);
}
