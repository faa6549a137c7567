/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Topology: which CPUs and devices are on which node, for VMs whose place depends on it. */
#pragma once

#include "request.h"

/* Fills in CPUs and distances. A host that does not tell them has none. */
void hv_topology_read(const HvRoot *root, HvSnapshot *snapshot);

/* The same if any of these needs (HvNeed) is wanted near something. */
void hv_topology_read_for(const HvRoot *root, HvSnapshot *snapshot, const GArray *needs);

/*
 * Says of each guest cell that nothing in the XML places where it would be near its vCPUs, or else
 * near the VM's PCI devices. Reads nothing for a VM that may be anywhere, or on a host with one
 * node.
 */
void hv_topology_place(const HvRoot *root, HvSnapshot *snapshot, HvDomain *domain);
