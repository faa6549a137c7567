/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a domain says of the host's CPUs and devices that it uses. Private to domain-*.c. */
#pragma once

#include "domain-dom.h"

/*
 * Fills in cpus, vcpu_pins and pci_devices. It says only where pages are better placed: what makes
 * no sense is left out, as libvirt refuses it anyway.
 */
void hv_domain_read_locality(HvDomain *domain, const xmlNode *root);
