/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation: an edit of a domain XML must leave every byte that is
 * not ours alone, and libxml2's serializer cannot do that (it rewrites the
 * declaration, quotes, entities and blanks inside tags). So the text is parsed
 * once, libxml2's own SAX2 handlers build the tree, and handlers of ours around
 * them note where in the bytes each element stands.
 *
 * Positions: libxml2 calls startElementNs with its cursor on the '>' or '/>'
 * that closes the start tag, and endElementNs with it behind the end tag. A '<'
 * cannot stand inside a tag's attributes, so the tag's start is found by looking
 * back. That is libxml2's habit and no promise of its interface: each position
 * is compared with the bytes, and a mismatch refuses the document.
 *
 * Offsets are those of the original only while libxml2 converts nothing, which
 * is why UTF-8 is the one encoding accepted. That is decided before libxml2 sees
 * the text: its converters report errors to the process, not to the parser. A
 * document type is refused where it begins, so no entity is ever defined, and
 * none expanded.
 */
#include "domain-dom.h"

#include "error.h"

#include <libxml/parser.h>
#include <libxml/parserInternals.h>
#include <string.h>

/* Bounds what a hostile text of the permitted length makes us allocate. */
#define MAX_ELEMENTS (128u * 1024)

/* libxml2 compares each attribute of a tag with all others. */
#define MAX_ATTRIBUTES 512u

typedef struct {
    const char *xml;
    gsize xml_bytes;
    const char *root_name;
    GArray *spans;
    const xmlSAXHandler *builder; /* libxml2's own handlers, which make the tree */
    GError *refusal;              /* the first reason of ours to stop */
} Parse;

G_DEFINE_AUTOPTR_CLEANUP_FUNC(xmlParserCtxt, xmlFreeParserCtxt)

static void refuse(xmlParserCtxt *ctxt, const char *hint, const char *message)
{
    Parse *parse = ctxt->_private;
    if (parse->refusal == NULL)
        hv_set_error(&parse->refusal, HV_ERROR_XML, hint, "%s", message);
    xmlStopParser(ctxt);
}

/* Errors are read from the context afterwards; a handler keeps them from the
 * host's own global handlers and from stderr. */
static void ignore_error(void *data, xmlErrorPtr error)
{
    (void)data;
    (void)error;
}

static void on_document_type(void *data, const xmlChar *name, const xmlChar *external_id,
                             const xmlChar *system_id)
{
    (void)name;
    (void)external_id;
    (void)system_id;
    refuse(data, "remove <!DOCTYPE ...>; libvirt's domain XML needs none",
           "document type declarations are not accepted in a domain XML");
}

/* TRUE if the tag that starts at xml[start] has this name. */
static gboolean is_tag_at(const Parse *parse, gsize start, const xmlChar *name,
                          const xmlChar *prefix)
{
    gsize prefix_bytes = prefix != NULL ? strlen((const char *)prefix) : 0;
    gsize name_bytes = strlen((const char *)name);
    gsize at = start + 1;
    if (at + prefix_bytes + 1 + name_bytes > parse->xml_bytes)
        return FALSE;
    if (prefix != NULL) {
        if (memcmp(parse->xml + at, prefix, prefix_bytes) != 0 ||
            parse->xml[at + prefix_bytes] != ':')
            return FALSE;
        at += prefix_bytes + 1;
    }
    return memcmp(parse->xml + at, name, name_bytes) == 0;
}

/* The last '<' before a position; FALSE if there is none. */
static gboolean find_tag_start(const Parse *parse, gsize before, gsize *out_start)
{
    gsize at = before;
    while (at > 0 && parse->xml[at - 1] != '<')
        at--;
    if (at == 0)
        return FALSE;
    *out_start = at - 1;
    return TRUE;
}

/* FALSE if the bytes at libxml2's cursor are not a start tag of that name. */
static gboolean locate_start_tag(xmlParserCtxt *ctxt, const xmlChar *name, const xmlChar *prefix,
                                 HvSpan *out_span)
{
    const Parse *parse = ctxt->_private;
    long cursor = xmlByteConsumed(ctxt);
    if (cursor <= 0 || (gsize)cursor >= parse->xml_bytes)
        return FALSE;
    gsize at = (gsize)cursor;
    gboolean is_empty_tag = parse->xml[at] == '/' && at + 1 < parse->xml_bytes;
    gsize close = at + (is_empty_tag ? 1 : 0);
    gsize start;
    if (parse->xml[close] != '>' || !find_tag_start(parse, at, &start) ||
        !is_tag_at(parse, start, name, prefix))
        return FALSE;
    *out_span = (HvSpan){.start = start,
                         .start_end = close + 1,
                         .end_start = close + 1,
                         .is_empty_tag = is_empty_tag};
    return TRUE;
}

static void on_start_element(void *data, const xmlChar *name, const xmlChar *prefix,
                             const xmlChar *uri, int n_namespaces, const xmlChar **namespaces,
                             int n_attributes, int n_defaulted, const xmlChar **attributes)
{
    xmlParserCtxt *ctxt = data;
    Parse *parse = ctxt->_private;
    HvSpan span;
    if (parse->spans->len >= MAX_ELEMENTS) {
        refuse(ctxt, NULL, "the domain XML has too many elements");
        return;
    }
    if (!locate_start_tag(ctxt, name, prefix, &span)) {
        refuse(ctxt, NULL, "the domain XML's elements could not be found in its text");
        return;
    }
    parse->builder->startElementNs(ctxt, name, prefix, uri, n_namespaces, namespaces, n_attributes,
                                   n_defaulted, attributes);
    /* The builder may have failed and left the parent as the current node. */
    if (ctxt->node == NULL || ctxt->node->_private != NULL)
        return;
    g_array_append_val(parse->spans, span);
    ctxt->node->_private = GUINT_TO_POINTER(parse->spans->len);
}

/* FALSE if the bytes before libxml2's cursor are not the end of that element. */
static gboolean locate_end_tag(xmlParserCtxt *ctxt, HvSpan *span)
{
    const Parse *parse = ctxt->_private;
    long cursor = xmlByteConsumed(ctxt);
    if (cursor <= 0 || (gsize)cursor > parse->xml_bytes || parse->xml[cursor - 1] != '>')
        return FALSE;
    gsize end = (gsize)cursor;
    if (span->is_empty_tag) {
        span->end = end;
        return end == span->start_end;
    }
    gsize start;
    if (!find_tag_start(parse, end, &start) || start < span->start_end ||
        parse->xml[start + 1] != '/')
        return FALSE;
    span->end_start = start;
    span->end = end;
    return TRUE;
}

static void on_end_element(void *data, const xmlChar *name, const xmlChar *prefix,
                           const xmlChar *uri)
{
    xmlParserCtxt *ctxt = data;
    Parse *parse = ctxt->_private;
    guint index = ctxt->node != NULL ? GPOINTER_TO_UINT(ctxt->node->_private) : 0;
    if (index == 0 || !locate_end_tag(ctxt, &g_array_index(parse->spans, HvSpan, index - 1))) {
        refuse(ctxt, NULL, "the domain XML's elements could not be found in its text");
        return;
    }
    parse->builder->endElementNs(ctxt, name, prefix, uri);
}

/* Counts the quoted values in each tag. A '<' cannot stand in a value, so it begins anew. */
static gboolean check_tags(const char *xml, gsize xml_bytes, GError **error)
{
    gboolean is_in_tag = FALSE;
    char quote = '\0';
    guint n_values = 0;
    for (gsize i = 0; i < xml_bytes; i++) {
        char c = xml[i];
        if (c == '<') {
            is_in_tag = i + 1 < xml_bytes && strchr("!?/", xml[i + 1]) == NULL;
            quote = '\0';
            n_values = 0;
        } else if (quote != '\0') {
            quote = c == quote ? '\0' : quote;
        } else if (c == '>') {
            is_in_tag = FALSE;
        } else if (is_in_tag && (c == '"' || c == '\'')) {
            quote = c;
            n_values++;
        }
        if (n_values > MAX_ATTRIBUTES) {
            hv_set_error(error, HV_ERROR_XML, NULL, "the domain XML has too many attributes");
            return FALSE;
        }
    }
    return TRUE;
}

/* TRUE if what follows the word "encoding" of an XML declaration is ="UTF-8". */
static gboolean names_utf8(const char *text, const char *end)
{
    static const char *const names[] = {"UTF-8", "UTF8", "US-ASCII", "ASCII"};
    const char *at = text + strspn(text, " \t\r\n");
    if (at >= end || *at != '=')
        return FALSE;
    at++;
    at += strspn(at, " \t\r\n");
    if (at >= end || (*at != '"' && *at != '\''))
        return FALSE;
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        gsize n = strlen(names[i]);
        if (g_ascii_strncasecmp(at + 1, names[i], n) == 0 && at[1 + n] == *at)
            return TRUE;
    }
    return FALSE;
}

/* An XML declaration is short, and stands at the very beginning or nowhere. */
#define MAX_DECLARATION_BYTES 256u

static gboolean check_declaration(const char *xml, gsize xml_bytes, GError **error)
{
    static const char bom[] = "\xef\xbb\xbf";
    gsize bom_bytes = xml_bytes >= 3 && memcmp(xml, bom, 3) == 0 ? 3 : 0;
    g_autofree char *head =
        g_strndup(xml + bom_bytes, MIN(xml_bytes - bom_bytes, MAX_DECLARATION_BYTES));
    if (!g_str_has_prefix(head, "<?xml") || !g_ascii_isspace(head[5]))
        return TRUE;
    const char *end = strstr(head, "?>");
    if (end == NULL) {
        hv_set_error(error, HV_ERROR_XML, NULL,
                     "the domain XML is not well-formed, line 1: its declaration has no end");
        return FALSE;
    }
    const char *encoding = g_strstr_len(head, end - head, "encoding");
    if (encoding == NULL || names_utf8(encoding + strlen("encoding"), end))
        return TRUE;
    hv_set_error(error, HV_ERROR_XML, NULL, "the domain XML declares an encoding other than UTF-8");
    return FALSE;
}

static gboolean check_bytes(const char *xml, gsize xml_bytes, GError **error)
{
    gsize blanks = 0;
    if (xml_bytes > HV_DOMAIN_XML_MAX_BYTES) {
        hv_set_error(error, HV_ERROR_XML, NULL,
                     "the domain XML has %" G_GSIZE_FORMAT " bytes; at most %u are accepted",
                     xml_bytes, HV_DOMAIN_XML_MAX_BYTES);
        return FALSE;
    }
    while (xml != NULL && blanks < xml_bytes && g_ascii_isspace(xml[blanks]))
        blanks++;
    if (xml == NULL || blanks == xml_bytes) {
        hv_set_error(error, HV_ERROR_XML, NULL, "the domain XML is empty");
        return FALSE;
    }
    const char *invalid = NULL;
    if (!g_utf8_validate_len(xml, xml_bytes, &invalid)) {
        hv_set_error(error, HV_ERROR_XML, NULL,
                     "the domain XML is not UTF-8 text: byte 0x%02x at offset %" G_GSIZE_FORMAT,
                     (guint)(guchar)*invalid, (gsize)(invalid - xml));
        return FALSE;
    }
    return TRUE;
}

static void set_parser_error(xmlParserCtxt *ctxt, GError **error)
{
    const xmlError *last = xmlCtxtGetLastError(ctxt);
    g_autofree char *text = g_strdup(last != NULL && last->message != NULL ? last->message : "");
    g_strstrip(text);
    g_autofree char *quoted = hv_quote(text);
    hv_set_error(error, HV_ERROR_XML, NULL, "the domain XML is not well-formed, line %d: %s",
                 last != NULL ? last->line : 0, quoted);
}

static gboolean check_root(const xmlDoc *doc, const char *root_name, GError **error)
{
    const xmlNode *root = xmlDocGetRootElement((xmlDoc *)doc);
    if (root_name == NULL || hv_dom_is(root, root_name, NULL))
        return TRUE;
    g_autofree char *name = hv_quote(root != NULL ? (const char *)root->name : NULL);
    hv_set_error(error, HV_ERROR_XML, NULL, "the XML describes no %s: its root element is %s%s",
                 root_name, name, root != NULL && root->ns != NULL ? " in a namespace" : "");
    return FALSE;
}

/* Parses with the handlers above; parse->refusal comes before libxml2's own errors. */
static xmlDoc *read_document(Parse *parse, GError **error)
{
    g_autoptr(xmlParserCtxt) ctxt = xmlNewParserCtxt();
    if (ctxt == NULL) {
        hv_set_error(error, HV_ERROR_SYSTEM, NULL, "no memory to read the domain XML");
        return NULL;
    }
    xmlSAXHandler builder = *ctxt->sax;
    parse->builder = &builder;
    ctxt->_private = parse;
    ctxt->sax->serror = ignore_error;
    ctxt->sax->internalSubset = on_document_type;
    ctxt->sax->startElementNs = on_start_element;
    ctxt->sax->endElementNs = on_end_element;

    xmlDoc *doc = xmlCtxtReadMemory(ctxt, parse->xml, (int)parse->xml_bytes, NULL, NULL,
                                    XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING |
                                        XML_PARSE_IGNORE_ENC);
    if (parse->refusal != NULL)
        g_propagate_error(error, g_steal_pointer(&parse->refusal));
    else if (doc == NULL)
        set_parser_error(ctxt, error);
    else if (check_root(doc, parse->root_name, error))
        return doc;
    if (doc != NULL)
        xmlFreeDoc(doc);
    return NULL;
}

/* libxml2 sets itself up at its first use, which two threads must not do at once. */
static void ensure_libxml2(void)
{
    static gsize is_ready;
    if (g_once_init_enter(&is_ready)) {
        xmlInitParser();
        g_once_init_leave(&is_ready, 1);
    }
}

HvDom *hv_dom_parse(const char *xml, gsize xml_bytes, GError **error)
{
    return hv_dom_parse_as(xml, xml_bytes, "domain", error);
}

HvDom *hv_dom_parse_as(const char *xml, gsize xml_bytes, const char *root_name, GError **error)
{
    ensure_libxml2();
    if (!check_bytes(xml, xml_bytes, error) || !check_declaration(xml, xml_bytes, error) ||
        !check_tags(xml, xml_bytes, error))
        return NULL;
    g_autoptr(GArray) spans = g_array_new(FALSE, FALSE, sizeof(HvSpan));
    Parse parse = {.xml = xml, .xml_bytes = xml_bytes, .root_name = root_name, .spans = spans};
    xmlDoc *doc = read_document(&parse, error);
    if (doc == NULL)
        return NULL;
    HvDom *dom = g_new(HvDom, 1);
    dom->doc = doc;
    dom->spans = g_steal_pointer(&spans);
    return dom;
}

void hv_dom_free(HvDom *dom)
{
    if (dom == NULL)
        return;
    xmlFreeDoc(dom->doc);
    g_array_unref(dom->spans);
    g_free(dom);
}

HvSpan hv_dom_span(const HvDom *dom, const xmlNode *node)
{
    guint index = node != NULL ? GPOINTER_TO_UINT(node->_private) : 0;
    return index > 0 ? g_array_index(dom->spans, HvSpan, index - 1) : (HvSpan){0};
}

gboolean hv_dom_is(const xmlNode *node, const char *name, const char *name_space)
{
    if (node == NULL || node->type != XML_ELEMENT_NODE ||
        strcmp((const char *)node->name, name) != 0)
        return FALSE;
    return g_strcmp0(node->ns != NULL ? (const char *)node->ns->href : NULL, name_space) == 0;
}

static xmlNode *first_named(xmlNode *node, const char *name)
{
    while (node != NULL && !hv_dom_is(node, name, NULL))
        node = node->next;
    return node;
}

xmlNode *hv_dom_child(const xmlNode *parent, const char *name)
{
    return parent != NULL ? first_named(parent->children, name) : NULL;
}

xmlNode *hv_dom_next(const xmlNode *node, const char *name)
{
    return first_named(node->next, name);
}

gboolean hv_dom_only_child(const xmlNode *parent, const char *name, xmlNode **out_child,
                           GError **error)
{
    xmlNode *child = hv_dom_child(parent, name);
    if (child != NULL && hv_dom_next(child, name) != NULL) {
        hv_set_error(error, HV_ERROR_XML, NULL, "the domain XML has <%s> twice in <%s>", name,
                     (const char *)parent->name);
        return FALSE;
    }
    *out_child = child;
    return TRUE;
}

static char *take_stripped(xmlChar *text)
{
    if (text == NULL)
        return NULL;
    char *copy = g_strdup((const char *)text);
    xmlFree(text);
    return g_strstrip(copy);
}

char *hv_dom_text(const xmlNode *node)
{
    return node != NULL ? take_stripped(xmlNodeGetContent((xmlNode *)node)) : NULL;
}

char *hv_dom_attribute(const xmlNode *node, const char *name)
{
    return node != NULL ? take_stripped(xmlGetNoNsProp((xmlNode *)node, (const xmlChar *)name))
                        : NULL;
}

gboolean hv_dom_attribute_is(const xmlNode *node, const char *name, const char *value)
{
    g_autofree char *text = hv_dom_attribute(node, name);
    return g_strcmp0(text, value) == 0;
}
