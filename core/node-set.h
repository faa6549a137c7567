/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A set of host NUMA nodes, as a plain value. The empty set means "any node". */
#pragma once

#include <glib.h>

#define HV_MAX_NODES 1024 /* the kernel's largest CONFIG_NODES_SHIFT */

typedef struct {
    guint64 bits[HV_MAX_NODES / 64];
} HvNodeSet;

void hv_node_set_add(HvNodeSet *set, int node);
gboolean hv_node_set_contains(const HvNodeSet *set, int node);
gboolean hv_node_set_is_any(const HvNodeSet *set);

/* The one node of a set that has exactly one, else -1. */
int hv_node_set_single(const HvNodeSet *set);

/* Number of nodes in the set; 0 is "any". */
int hv_node_set_count(const HvNodeSet *set);

/* True where some node is in both; "any" overlaps with everything. */
gboolean hv_node_set_overlaps(const HvNodeSet *a, const HvNodeSet *b);

/*
 * Parses libvirt's and the kernel's list syntax: "0", "0-3,7", "0-3,^2".
 * FALSE (output unchanged) if malformed, empty, or a node is >= HV_MAX_NODES.
 */
gboolean hv_node_set_parse(const char *text, HvNodeSet *out_set);

/* Adds the nodes of another set. */
void hv_node_set_unite(HvNodeSet *set, const HvNodeSet *other);

/* "0-3,7", or "any". Newly allocated. */
char *hv_node_set_format(const HvNodeSet *set);
