/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Domain XML as libxml2's tree, with the byte position of every element. Private to domain-*.c. */
#pragma once

#include "domain-xml.h"

#include <libxml/tree.h>

typedef struct {
    xmlDoc *doc;
    GArray *spans; /* HvSpan; node->_private is the index + 1 */
} HvDom;

/* Every refusal named at hv_domain_parse() that does not need the meaning of an element. */
HvDom *hv_dom_parse(const char *xml, gsize xml_bytes, GError **error);

/* The same for another root element than <domain>; NULL: for any. */
HvDom *hv_dom_parse_as(const char *xml, gsize xml_bytes, const char *root_name, GError **error);
void hv_dom_free(HvDom *dom);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvDom, hv_dom_free)

/* All 0 for a NULL node. */
HvSpan hv_dom_span(const HvDom *dom, const xmlNode *node);

/* An element of that local name and namespace; namespace NULL: in none. */
gboolean hv_dom_is(const xmlNode *node, const char *name, const char *name_space);

/* First child, next sibling: elements in no namespace with that name. */
xmlNode *hv_dom_child(const xmlNode *parent, const char *name);
xmlNode *hv_dom_next(const xmlNode *node, const char *name);

/*
 * The child of that name, NULL where there is none (or no parent). Two of them
 * are HV_ERROR_XML: libvirt would take facts from both, or from the first only.
 */
gboolean hv_dom_only_child(const xmlNode *parent, const char *name, xmlNode **out_child,
                           GError **error);

/* Text without blanks around it; NULL for a missing node or attribute. Newly allocated. */
char *hv_dom_text(const xmlNode *node);
char *hv_dom_attribute(const xmlNode *node, const char *name);
gboolean hv_dom_attribute_is(const xmlNode *node, const char *name, const char *value);
