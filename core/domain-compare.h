/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Proof that an edit left alone what is not ours. Private to domain-*.c. */
#pragma once

#include "domain-dom.h"
#include "domain-edit.h"

/*
 * TRUE if both trees say the same outside of what the edit may add. Prunes our
 * elements and attributes from both trees, which are of no other use afterwards.
 */
gboolean hv_domain_equal_but_for(const HvDomainEdit *edit, HvDom *original, HvDom *edited);

/* Trims the text directly inside an element (NULL: none), and drops it where nothing is left. */
void hv_dom_trim(xmlNode *node);
