/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is other in a VM's XML than before, in words. Private to define*.c. */
#pragma once

#include "domain-added.h"

/* Texts of hugevm's own metadata element, whatever they mean; NULL: not there. Newly allocated. */
char *hv_own_hugepages(const HvDomain *domain);
char *hv_own_shared(const HvDomain *domain);

/* char *: "pages normal -> 2 MiB". */
GPtrArray *hv_define_changes(const HvDoc *before, const HvDoc *after);
