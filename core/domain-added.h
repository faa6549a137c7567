/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What hugevm has put into the XML of a VM that libvirt keeps, so that it can be taken out again
 * and nothing else with it.
 */
#pragma once

#include "domain-dom.h"
#include "domain-splice.h"

/* A text, read in both ways. */
typedef struct {
    HvText text;
    HvDomain *domain;
    HvDom *dom;
} HvDoc;

gboolean hv_doc_parse(const char *xml, gsize xml_bytes, HvDoc *out_doc, GError **error);
void hv_doc_clear(HvDoc *doc);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(HvDoc, hv_doc_clear)

/* In words that do not depend on how the XML is written; NULL: nothing of the kind. */
typedef struct {
    char *pages;    /* "default" for a bare <hugepages/>, "2048", "1048576:0-1 2048:2" by cell */
    char *shared;   /* "access", or the cells with memAccess='shared' as "0-1" */
    char *numatune; /* "strict 1"; "other" for more than one <memory> can say */
    char *files;    /* what there is of "source access allocation discard" for memory in files */
} HvAdded;

void hv_added_clear(HvAdded *added);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(HvAdded, hv_added_clear)
gboolean hv_added_is_empty(const HvAdded *added);

/* All that there is of these, whoever wrote it. */
HvAdded hv_added_describe(const HvDoc *doc);

/* What one text has that the other had not, or had otherwise. */
HvAdded hv_added_between(const HvDoc *before, const HvDoc *after);

/* Do the pages name cells? */
gboolean hv_added_is_by_cell(const HvAdded *added);

/*
 * Elements (a set of xmlNode *) to take out of the text, each with its line, and with the parents
 * that they leave hollow; no such parent is kept (NULL: all may go) or <domain>.
 */
void hv_cuts_splice(GHashTable *cuts, const HvDoc *doc, const xmlNode *kept, HvSplices *splices);

/* Takes out what was added and is still as it was. */
void hv_added_take_out(const HvAdded *added, const HvDoc *doc, GHashTable *cuts,
                       HvSplices *splices);
