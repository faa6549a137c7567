/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The memory part of a domain XML: cells, devices, page rules, binding. Private to domain-*.c. */
#pragma once

#include "domain-dom.h"

/* Fills the memory facts and their spans. HV_ERROR_XML names the element at fault. */
gboolean hv_domain_read_memory(HvDomain *domain, const HvDom *dom, GError **error);
