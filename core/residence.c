/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * numa_maps has the nodes, smaps the sizes of mappings.
 * They are read one after the other, and a mapping may come and go in between. So each
 * is good for itself, and only for normal memory is the one looked up in the other.
 */
#include "residence.h"

#include "error.h"
#include "page-size.h"
#include "platform.h"

/* Some 20 000 mappings: a QEMU has hundreds, and the ledger may be locked meanwhile. */
#define MAPS_MAX_BYTES (16 * 1024 * 1024)

/* QEMU's own heaps and stacks are smaller as a rule, guest memory is larger. */
#define LARGE_KIB ((guint64)64 * 1024)

HvResidence *hv_residence_new(void)
{
    HvResidence *residence = g_new0(HvResidence, 1);
    residence->knows_nodes = TRUE;
    residence->placed = g_array_new(FALSE, TRUE, sizeof(HvPlacedPages));
    residence->mapped = g_array_new(FALSE, TRUE, sizeof(HvPlacedPages));
    residence->reserved = g_array_new(FALSE, TRUE, sizeof(HvPlacedPages));
    residence->unreserved = g_array_new(FALSE, TRUE, sizeof(HvPlacedPages));
    residence->normal = g_array_new(FALSE, TRUE, sizeof(HvPlacedPages));
    return residence;
}

void hv_residence_free(HvResidence *residence)
{
    if (residence == NULL)
        return;
    g_array_unref(residence->placed);
    g_array_unref(residence->mapped);
    g_array_unref(residence->reserved);
    g_array_unref(residence->unreserved);
    g_array_unref(residence->normal);
    g_free(residence);
}

/* --- sums ------------------------------------------------------------------------------------ */

void hv_placed_add(GArray *placed, int node, guint64 size_kib, guint64 pages)
{
    guint i = 0;
    if (pages == 0)
        return;
    for (; i < placed->len; i++) {
        HvPlacedPages *one = &g_array_index(placed, HvPlacedPages, i);
        if (one->node == node && one->size_kib == size_kib) {
            one->pages = hv_plus(one->pages, pages);
            return;
        }
        if (one->node > node || (one->node == node && one->size_kib > size_kib))
            break;
    }
    HvPlacedPages one = {node, size_kib, pages};
    g_array_insert_val(placed, i, one);
}

guint64 hv_placed_pages(const GArray *placed, guint64 size_kib)
{
    guint64 pages = 0;
    for (guint i = 0; i < placed->len; i++) {
        const HvPlacedPages *one = &g_array_index(placed, HvPlacedPages, i);
        if (one->size_kib == size_kib)
            pages = hv_plus(pages, one->pages);
    }
    return pages;
}

guint64 hv_placed_kib(const GArray *placed)
{
    guint64 sum_kib = 0;
    for (guint i = 0; i < placed->len; i++) {
        const HvPlacedPages *one = &g_array_index(placed, HvPlacedPages, i);
        guint64 kib = G_MAXUINT64;
        hv_checked_mul(one->pages, one->size_kib, &kib);
        sum_kib = hv_plus(sum_kib, kib);
    }
    return sum_kib;
}

/* --- smaps ----------------------------------------------------------------------------------- */

static gboolean may_be_guest_memory(const HvSmap *mapping)
{
    return !mapping->is_huge && mapping->is_data && mapping->size_kib >= LARGE_KIB;
}

static void add_huge(HvResidence *residence, const HvSmap *mapping)
{
    guint64 pages = mapping->size_kib / mapping->page_kib;
    guint64 touched_kib = hv_plus(mapping->hugetlb_kib[0], mapping->hugetlb_kib[1]);
    hv_placed_add(residence->mapped, HV_NODE_UNKNOWN, mapping->page_kib, pages);
    if (!mapping->is_unreserved) {
        hv_placed_add(residence->reserved, HV_NODE_UNKNOWN, mapping->page_kib, pages);
        return;
    }
    /* virtio-mem maps all that it may become, and has what it has touched */
    hv_placed_add(residence->unreserved, HV_NODE_UNKNOWN, mapping->page_kib,
                  touched_kib / mapping->page_kib);
    residence->unreserved_kib = hv_plus(residence->unreserved_kib, mapping->size_kib);
    residence->n_unreserved++;
}

static void add_mappings(HvResidence *residence, const GArray *mappings)
{
    for (guint i = 0; i < mappings->len; i++) {
        const HvSmap *mapping = &g_array_index(mappings, HvSmap, i);
        if (mapping->is_huge && mapping->page_kib > 0)
            add_huge(residence, mapping);
        if (!may_be_guest_memory(mapping))
            continue;
        residence->normal_mapped_kib = hv_plus(residence->normal_mapped_kib, mapping->size_kib);
        for (guint k = 0; k < G_N_ELEMENTS(mapping->transparent_kib); k++)
            residence->normal_transparent_kib =
                hv_plus(residence->normal_transparent_kib, mapping->transparent_kib[k]);
    }
}

/* Without numa_maps: what is there, on the only node that there can be. */
static void place_on(HvResidence *residence, const GArray *mappings, int node)
{
    residence->knows_nodes = node != HV_NODE_UNKNOWN;
    for (guint i = 0; i < mappings->len; i++) {
        const HvSmap *mapping = &g_array_index(mappings, HvSmap, i);
        guint64 hugetlb_kib = hv_plus(mapping->hugetlb_kib[0], mapping->hugetlb_kib[1]);
        if (mapping->page_kib == 0)
            continue;
        if (mapping->is_huge)
            hv_placed_add(residence->placed, node, mapping->page_kib,
                          hugetlb_kib / mapping->page_kib);
        else if (may_be_guest_memory(mapping))
            hv_placed_add(residence->normal, node, mapping->page_kib,
                          mapping->rss_kib / mapping->page_kib);
    }
}

/* --- numa_maps ------------------------------------------------------------------------------- */

/* Is this large enough to be guest memory? mappings NULL: there is no smaps to tell. */
static gboolean is_large(const HvNumaLine *line, const GArray *mappings)
{
    guint64 kib = 0, pages = 0;
    if (mappings != NULL) {
        const HvSmap *mapping = hv_smaps_find(mappings, line->start);
        return mapping != NULL && may_be_guest_memory(mapping);
    }
    for (guint i = 0; i < line->counts->len; i++)
        pages = hv_plus(pages, g_array_index(line->counts, HvPlacedPages, i).pages);
    return !hv_checked_mul(pages, line->page_kib, &kib) || kib >= LARGE_KIB;
}

static gboolean parse_numa_maps(char *text, const GArray *mappings, HvResidence *residence)
{
    g_autoptr(GArray) counts = g_array_new(FALSE, TRUE, sizeof(HvPlacedPages));
    HvNumaLine line = {.counts = counts};
    for (char *one; (one = hv_next_line(&text)) != NULL;) {
        if (!hv_numa_line_parse(one, &line))
            return FALSE;
        GArray *sum = line.is_huge                ? residence->placed
                      : is_large(&line, mappings) ? residence->normal
                                                  : NULL;
        for (guint i = 0; sum != NULL && i < counts->len; i++) {
            const HvPlacedPages *count = &g_array_index(counts, HvPlacedPages, i);
            hv_placed_add(sum, count->node, line.page_kib, count->pages);
        }
    }
    return TRUE;
}

/* --- both ------------------------------------------------------------------------------------ */

/* *out_text stays NULL where there is no such file. */
static gboolean read_maps(const HvRoot *root, const HvProcess *process, const char *name,
                          char **out_text, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autofree char *path = g_strdup_printf("/proc/%" G_GINT64_FORMAT "/%s", process->pid, name);
    *out_text = hv_root_read_text(root, path, MAPS_MAX_BYTES, &local);
    if (*out_text != NULL || g_error_matches(local, G_FILE_ERROR, G_FILE_ERROR_NOENT))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

static void set_not_understood(const HvProcess *process, const char *name, GError **error)
{
    hv_set_error(error, HV_ERROR_SYSTEM, NULL,
                 "/proc/%" G_GINT64_FORMAT "/%s has a line that is not understood", process->pid,
                 name);
}

/* What has been touched is mapped, whatever was seen a moment before. */
static void correct_mapped(HvResidence *residence)
{
    for (guint i = 0; i < residence->placed->len; i++) {
        guint64 size_kib = g_array_index(residence->placed, HvPlacedPages, i).size_kib;
        guint64 touched = hv_placed_pages(residence->placed, size_kib);
        guint64 mapped = hv_placed_pages(residence->mapped, size_kib);
        hv_placed_add(residence->mapped, HV_NODE_UNKNOWN, size_kib, hv_minus(touched, mapped));
    }
    residence->normal_mapped_kib =
        MAX(residence->normal_mapped_kib, hv_placed_kib(residence->normal));
}

/* What the texts do not say. */
typedef struct {
    int only_node; /* HV_NODE_UNKNOWN: there are several */
    guint64 base_page_kib;
} Host;

static HvResidence *residence_of_texts(char *numa_maps, char *smaps, const HvProcess *process,
                                       const Host *host, GError **error)
{
    g_autoptr(HvResidence) residence = hv_residence_new();
    g_autoptr(GArray) mappings = g_array_new(FALSE, TRUE, sizeof(HvSmap));
    if (smaps != NULL && !hv_smaps_parse(smaps, host->base_page_kib, mappings)) {
        set_not_understood(process, "smaps", error);
        return NULL;
    }
    add_mappings(residence, mappings);
    residence->knows_mappings = smaps != NULL;
    if (numa_maps == NULL) {
        place_on(residence, mappings, host->only_node);
    } else if (!parse_numa_maps(numa_maps, smaps != NULL ? mappings : NULL, residence)) {
        set_not_understood(process, "numa_maps", error);
        return NULL;
    }
    correct_mapped(residence);
    return g_steal_pointer(&residence);
}

HvResidence *hv_residence_read(const HvRoot *root, const HvProcess *process, int only_node,
                               GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autofree char *numa_maps = NULL, *smaps = NULL;
    gboolean is_read = read_maps(root, process, "numa_maps", &numa_maps, &local) &&
                       read_maps(root, process, "smaps", &smaps, &local);
    /* its number may be another's by now */
    if (!hv_process_is_alive(root, process)) {
        hv_set_error(error, HV_ERROR_SYSTEM, NULL, "process %" G_GINT64_FORMAT " has ended",
                     process->pid);
        return NULL;
    }
    if (!is_read) {
        g_propagate_error(error, g_steal_pointer(&local));
        return NULL;
    }
    if (numa_maps == NULL && smaps == NULL) {
        hv_set_error(error, HV_ERROR_SYSTEM, NULL,
                     "this kernel shows neither numa_maps nor smaps of process %" G_GINT64_FORMAT,
                     process->pid);
        return NULL;
    }
    Host host = {only_node, hv_platform_base_page_kib(root)};
    return residence_of_texts(numa_maps, smaps, process, &host, error);
}
