/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Page sizes in a domain XML that are to be others. Private to domain-*.c. */
#pragma once

#include "domain-dom.h"
#include "domain-edit.h"
#include "domain-splice.h"

/* Adds the splices for each <page> and each memory device's <pagesize> that names such a size. */
void hv_domain_replace_pages(HvSplices *splices, const HvText *text, const HvDom *dom,
                             const HvPageReplacement *replacement);

/* Does any cell or memory device, or the whole guest, still have such a size? */
gboolean hv_domain_has_replaced_pages(const HvDomain *domain, const HvPageReplacement *replacement);

/* Takes all page sizes out of a tree, for a comparison of the rest. */
void hv_domain_prune_page_sizes(xmlNode *root);
