/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Devices that cannot work with private memory. Private to domain-*.c. */
#pragma once

#include "domain-dom.h"

/* Adds their names (char *), each as a person finds it again in the XML, in its order. */
void hv_domain_read_sharers(GPtrArray *sharers, const xmlNode *root);
