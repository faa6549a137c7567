/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What <memoryBacking> and <numatune> say about cells: their page sizes, and the host
 * nodes that bind them. Private to domain-*.c.
 */
#pragma once

#include "domain-dom.h"

/* Far above what QEMU takes (128 cells, 256 slots); keeps look-ups between lists cheap. */
#define HV_DOMAIN_MAX_LIST ((guint)HV_MAX_NODES)

typedef struct {
    GArray *pages;           /* the <page>, in the order of the document */
    GArray *bindings;        /* the <memnode> */
    HvPlacement placement;   /* of <memory> */
    gboolean is_auto_placed; /* placement='auto': numad binds at start */
    gboolean is_restrictive; /* the mode of <memory> */
} HvRules;

HvRules *hv_rules_new(void);
void hv_rules_free(HvRules *rules);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvRules, hv_rules_free)

/* Called with each of them, NULL: it is not there. */
gboolean hv_rules_read_hugepages(HvRules *rules, const xmlNode *hugepages, GError **error);
gboolean hv_rules_read_numatune(HvRules *rules, const xmlNode *numatune, GError **error);

/* What is said for the whole guest, 0: nothing. */
guint64 hv_rules_master_page_kib(const HvRules *rules, gboolean has_cells);

/* What is said for the cell itself, 0: nothing. */
guint64 hv_rules_page_kib(const HvRules *rules, int cell);

/* Where the memory of the cell (-1: of the whole guest) goes. */
HvPlacement hv_rules_placement(const HvRules *rules, int cell);

/* HV_ERROR_XML where two of them contradict each other, or the cells (empty: there are none). */
gboolean hv_rules_check(const HvRules *rules, const HvNodeSet *cells, GError **error);

/* FALSE with HV_ERROR_XML: a list of this element is longer than any that works. */
gboolean hv_domain_has_room(const GArray *list, const char *element, GError **error);
