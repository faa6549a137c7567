/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation: a splice at a wrong offset (into a comment, a CDATA
 * section, another element) gives text that may still parse. So the original
 * and the result are both read again, everything the edit may have added is
 * taken out of both trees, and what is left must be equal in the sense of
 * canonical XML: names with namespace and prefix, namespace declarations,
 * attributes, text, comments, processing instructions.
 *
 * Blanks directly inside <domain>, <memoryBacking> and <hugepages> are the one
 * difference allowed: that is where an insertion brings its line breaks.
 *
 * Not by xmlC14N: it fails on a namespace name that is no absolute URI, which
 * libvirt accepts in metadata, and its cost grows with the product of
 * declarations and elements.
 */
#include "domain-compare.h"

#include "domain-pages.h"

#include <string.h>

static gboolean is_text(const xmlNode *node)
{
    return node->type == XML_TEXT_NODE;
}

/* Text as one node, without blanks at both ends; no node where nothing is left. */
static void trim_text_children(xmlNode *parent)
{
    for (xmlNode *node = parent->children, *next; node != NULL; node = next) {
        next = node->next;
        if (!is_text(node))
            continue;
        while (next != NULL && is_text(next)) {
            xmlNode *behind = next->next;
            xmlTextMerge(node, next);
            next = behind;
        }
        g_autofree char *text = hv_dom_text(node);
        if (text != NULL && text[0] != '\0') {
            xmlNodeSetContent(node, NULL);
            xmlNodeAddContent(node, (const xmlChar *)text);
        } else {
            xmlUnlinkNode(node);
            xmlFreeNode(node);
        }
    }
}

static void drop(xmlNode *node)
{
    if (node == NULL)
        return;
    xmlUnlinkNode(node);
    xmlFreeNode(node);
}

/* An element that holds nothing says nothing, in every case where we make one. */
void hv_dom_trim(xmlNode *node)
{
    if (node == NULL)
        return;
    trim_text_children(node);
    if (node->children == NULL && node->properties == NULL && node->nsDef == NULL)
        drop(node);
}

static void drop_attribute(xmlNode *node, const char *name)
{
    if (node != NULL)
        xmlUnsetProp(node, (const xmlChar *)name);
}

static void prune_sharing(xmlNode *root, xmlNode *backing)
{
    xmlNode *numa = hv_dom_child(hv_dom_child(root, "cpu"), "numa");
    xmlNode *cell = hv_dom_child(numa, "cell");
    if (cell == NULL) {
        xmlNode *access = hv_dom_child(backing, "access");
        drop_attribute(access, "mode");
        hv_dom_trim(access);
    }
    for (; cell != NULL; cell = hv_dom_next(cell, "cell"))
        drop_attribute(cell, "memAccess");
}

static void prune_child(xmlNode *backing, const char *name, const char *attribute)
{
    xmlNode *child = hv_dom_child(backing, name);
    if (attribute != NULL)
        drop_attribute(child, attribute);
    hv_dom_trim(child);
}

static void prune_files(xmlNode *backing)
{
    prune_child(backing, "source", "type");
    prune_child(backing, "access", "mode");
    prune_child(backing, "allocation", "mode");
    prune_child(backing, "discard", NULL);
}

static void prune(const HvDomainEdit *edit, xmlNode *root)
{
    xmlNode *backing = hv_dom_child(root, "memoryBacking");
    if (edit->make_shared)
        prune_sharing(root, backing);
    if (edit->add_hugepages_kib != 0 || edit->cell_pages != NULL) {
        xmlNode *hugepages = hv_dom_child(backing, "hugepages");
        while (hv_dom_child(hugepages, "page") != NULL)
            drop(hv_dom_child(hugepages, "page"));
        hv_dom_trim(hugepages);
    }
    if (edit->back_by_files)
        prune_files(backing);
    if (edit->replace_pages != NULL)
        hv_domain_prune_page_sizes(root);
    if (edit->bind != NULL)
        drop(hv_dom_child(root, "numatune"));
    if (edit->add_uuid != NULL)
        drop(hv_dom_child(root, "uuid"));
    hv_dom_trim(backing);
    trim_text_children(root);
}

static gboolean same_text(const xmlChar *a, const xmlChar *b)
{
    return g_strcmp0((const char *)a, (const char *)b) == 0;
}

static gboolean same_ns(const xmlNs *a, const xmlNs *b)
{
    if (a == NULL || b == NULL)
        return a == b;
    return same_text(a->href, b->href) && same_text(a->prefix, b->prefix);
}

static gboolean same_declarations(const xmlNs *a, const xmlNs *b)
{
    while (a != NULL && b != NULL && same_ns(a, b)) {
        a = a->next;
        b = b->next;
    }
    return a == b;
}

/* The order of attributes means nothing in XML, but an edit has no reason to change it. */
static gboolean same_attributes(const xmlAttr *a, const xmlAttr *b)
{
    for (; a != NULL && b != NULL; a = a->next, b = b->next) {
        if (!same_text(a->name, b->name) || !same_ns(a->ns, b->ns))
            return FALSE;
        xmlChar *a_value = xmlNodeGetContent((const xmlNode *)a);
        xmlChar *b_value = xmlNodeGetContent((const xmlNode *)b);
        gboolean is_same = same_text(a_value, b_value);
        xmlFree(a_value);
        xmlFree(b_value);
        if (!is_same)
            return FALSE;
    }
    return a == NULL && b == NULL;
}

static gboolean same_node(const xmlNode *a, const xmlNode *b)
{
    if (a->type != b->type || !same_text(a->name, b->name))
        return FALSE;
    if (a->type != XML_ELEMENT_NODE)
        return same_text(a->content, b->content);
    return same_ns(a->ns, b->ns) && same_declarations(a->nsDef, b->nsDef) &&
           same_attributes(a->properties, b->properties);
}

/* The parser bounds the depth (256), and with it this recursion. */
static gboolean same_siblings(const xmlNode *a, const xmlNode *b)
{
    for (; a != NULL && b != NULL; a = a->next, b = b->next)
        if (!same_node(a, b) ||
            (a->type == XML_ELEMENT_NODE && !same_siblings(a->children, b->children)))
            return FALSE;
    return a == NULL && b == NULL;
}

gboolean hv_domain_equal_but_for(const HvDomainEdit *edit, HvDom *original, HvDom *edited)
{
    prune(edit, xmlDocGetRootElement(original->doc));
    prune(edit, xmlDocGetRootElement(edited->doc));
    return same_siblings(original->doc->children, edited->doc->children);
}
