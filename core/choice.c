/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation. In this order:
 *
 *   near    where the VM's CPUs or devices are, since each remote access costs
 *   local   on a node with CPUs; memory without is slow for all of them
 *   whole   all of the pages on one node: a VM on few nodes has few remote accesses
 *   joined  beside the pages that the VM is going to use anyway
 *   tight   of several that would do, the one with the least to spare, so that a node
 *           with much contiguous memory stays whole for a large VM, or for large pages
 *
 * Where no node has all of them the roomiest gives most, and few others the rest.
 */
#include "choice.h"

gboolean hv_place_is_better(const HvPlace *a, const HvPlace *b, guint64 pages)
{
    gboolean a_fits = a->growable_pages >= pages, b_fits = b->growable_pages >= pages;
    if (a->distance != b->distance)
        return a->distance < b->distance;
    if (a->is_cpuless != b->is_cpuless)
        return b->is_cpuless;
    if (a_fits != b_fits)
        return a_fits;
    if (a->joined_pages != b->joined_pages)
        return a->joined_pages > b->joined_pages;
    return a_fits ? a->growable_pages < b->growable_pages : a->growable_pages > b->growable_pages;
}
