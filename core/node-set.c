/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "node-set.h"

#include "page-size.h"

#include <string.h>

static void set_bit(HvNodeSet *set, guint64 node, gboolean on)
{
    guint64 mask = G_GUINT64_CONSTANT(1) << (node % 64);
    if (on)
        set->bits[node / 64] |= mask;
    else
        set->bits[node / 64] &= ~mask;
}

void hv_node_set_add(HvNodeSet *set, int node)
{
    g_return_if_fail(node >= 0 && node < HV_MAX_NODES);
    set_bit(set, (guint64)node, TRUE);
}

gboolean hv_node_set_contains(const HvNodeSet *set, int node)
{
    return node >= 0 && node < HV_MAX_NODES && ((set->bits[node / 64] >> (node % 64)) & 1) != 0;
}

int hv_node_set_count(const HvNodeSet *set)
{
    int count = 0;
    for (guint i = 0; i < G_N_ELEMENTS(set->bits); i++)
        count += __builtin_popcountll(set->bits[i]);
    return count;
}

gboolean hv_node_set_is_any(const HvNodeSet *set)
{
    for (guint i = 0; i < G_N_ELEMENTS(set->bits); i++)
        if (set->bits[i] != 0)
            return FALSE;
    return TRUE;
}

int hv_node_set_single(const HvNodeSet *set)
{
    int node = -1;
    for (guint i = 0; i < G_N_ELEMENTS(set->bits); i++) {
        guint64 bits = set->bits[i];
        if (bits == 0)
            continue;
        if (node >= 0 || (bits & (bits - 1)) != 0)
            return -1;
        node = (int)i * 64 + __builtin_ctzll(bits);
    }
    return node;
}

void hv_node_set_unite(HvNodeSet *set, const HvNodeSet *other)
{
    for (guint i = 0; i < G_N_ELEMENTS(set->bits); i++)
        set->bits[i] |= other->bits[i];
}

gboolean hv_node_set_overlaps(const HvNodeSet *a, const HvNodeSet *b)
{
    if (hv_node_set_is_any(a) || hv_node_set_is_any(b))
        return TRUE;
    for (guint i = 0; i < G_N_ELEMENTS(a->bits); i++)
        if ((a->bits[i] & b->bits[i]) != 0)
            return TRUE;
    return FALSE;
}

/* One comma-separated part: "N", "N-M", or with a leading '^' to take out. */
static gboolean parse_part(const char *part, HvNodeSet *set)
{
    gboolean on = part[0] != '^';
    g_auto(GStrv) ends = g_strsplit(on ? part : part + 1, "-", 3);
    guint n = g_strv_length(ends);
    guint64 first, last;
    if (n < 1 || n > 2 || !hv_parse_u64(ends[0], &first) || !hv_parse_u64(ends[n - 1], &last))
        return FALSE;
    if (first > last || last >= HV_MAX_NODES)
        return FALSE;
    for (guint64 node = first; node <= last; node++)
        set_bit(set, node, on);
    return TRUE;
}

gboolean hv_node_set_parse(const char *text, HvNodeSet *out_set)
{
    HvNodeSet set = {0};
    g_auto(GStrv) parts = g_strsplit(text != NULL ? text : "", ",", -1);
    for (guint i = 0; parts[i] != NULL; i++)
        if (!parse_part(g_strstrip(parts[i]), &set))
            return FALSE;
    if (hv_node_set_is_any(&set))
        return FALSE;
    *out_set = set;
    return TRUE;
}

char *hv_node_set_format(const HvNodeSet *set)
{
    if (hv_node_set_is_any(set))
        return g_strdup("any");
    GString *out = g_string_new(NULL);
    for (int node = 0; node < HV_MAX_NODES; node++) {
        if (!hv_node_set_contains(set, node))
            continue;
        int last = node;
        while (hv_node_set_contains(set, last + 1))
            last++;
        g_string_append_printf(out, out->len > 0 ? ",%d" : "%d", node);
        if (last > node)
            g_string_append_printf(out, "-%d", last);
        node = last;
    }
    return g_string_free(out, FALSE);
}
