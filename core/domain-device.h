/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A memory device: one <memory> element below <devices>, or by itself. Private to domain-*.c. */
#pragma once

#include "domain-dom.h"

/* HV_ERROR_XML names the element at fault. */
gboolean hv_domain_read_device(const xmlNode *node, HvMemoryDevice *device, GError **error);
