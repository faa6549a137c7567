/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * numa_maps has the nodes, smaps the sizes of mappings:
 *
 *   numa_maps   START POLICY [file=PATH] [huge] [N0=PAGES ...] [kernelpagesize_kB=KIB]
 *               in pages of that size; a mapping without a touched page has neither
 *               of the two last
 *   smaps       START-END PERMS OFFSET MAJOR:MINOR INODE [PATH], and lines "KEY: KIB kB"
 *
 * They are read one after the other, and a mapping may come and go in between. So each
 * is good for itself, and only for normal memory is the one looked up in the other.
 * A path is anybody's text: the kernel writes its blanks and newlines as octal escapes in
 * numa_maps, and its newlines in smaps, so that it ends a word there and a line here.
 */
#include "residence.h"

#include "error.h"
#include "node-set.h"
#include "page-size.h"
#include "platform.h"

#include <stdio.h>
#include <string.h>

/* Some 20 000 mappings: a QEMU has hundreds, and the ledger may be locked meanwhile. */
#define MAPS_MAX_BYTES (16 * 1024 * 1024)

/* QEMU's own heaps and stacks are smaller as a rule, guest memory is larger. */
#define LARGE_KIB ((guint64)64 * 1024)

/* One mapping as smaps shows it. */
typedef struct {
    guint64 start;
    guint64 size_kib;
    guint64 page_kib;
    guint64 rss_kib; /* without huge pages of hugetlb */
    guint64 transparent_kib[3];
    guint64 hugetlb_kib[2]; /* mapped by several, by this process alone */
    gboolean is_huge;
    gboolean is_unreserved; /* what it has not touched yet the kernel does not keep for it */
    gboolean is_data;       /* that a program reads and writes: no code, heap or stack */
} Mapping;

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

/* "START-END PERMS OFFSET MAJOR:MINOR INODE PATH" */
static gboolean parse_header(const char *text, Mapping *out_mapping)
{
    char line[160]; /* the name that matters is short; and sscanf looks at all of its input */
    unsigned long long start, end;
    char perms[5] = "", name[8] = "";
    snprintf(line, sizeof line, "%.*s", (int)strnlen(text, sizeof line - 1), text);
    if (sscanf(line, "%16llx-%16llx %4s %*x %*x:%*x %*u %7s", &start, &end, perms, name) < 3 ||
        end <= start)
        return FALSE;
    *out_mapping = (Mapping){
        .start = start,
        .size_kib = (end - start) / 1024,
        .is_data = strchr(perms, 'w') != NULL && strchr(perms, 'x') == NULL &&
                   !g_str_has_prefix(name, "[heap]") && !g_str_has_prefix(name, "[stack"),
    };
    return TRUE;
}

static const struct {
    const char *key;
    gsize offset;
} keys[] = {
    {"KernelPageSize:", G_STRUCT_OFFSET(Mapping, page_kib)},
    {"Rss:", G_STRUCT_OFFSET(Mapping, rss_kib)},
    {"AnonHugePages:", G_STRUCT_OFFSET(Mapping, transparent_kib[0])},
    {"ShmemPmdMapped:", G_STRUCT_OFFSET(Mapping, transparent_kib[1])},
    {"FilePmdMapped:", G_STRUCT_OFFSET(Mapping, transparent_kib[2])},
    {"Shared_Hugetlb:", G_STRUCT_OFFSET(Mapping, hugetlb_kib[0])},
    {"Private_Hugetlb:", G_STRUCT_OFFSET(Mapping, hugetlb_kib[1])},
};

/* "KEY:   123 kB"; FALSE: such a line, but not with a number. */
static gboolean parse_number(char *line, guint64 base_page_kib, Mapping *mapping)
{
    for (guint i = 0; i < G_N_ELEMENTS(keys); i++) {
        if (!g_str_has_prefix(line, keys[i].key))
            continue;
        char *digits = g_strchug(line + strlen(keys[i].key));
        digits[strspn(digits, "0123456789")] = '\0';
        if (!hv_parse_u64(digits, &G_STRUCT_MEMBER(guint64, mapping, keys[i].offset)))
            return FALSE;
        mapping->is_huge = mapping->page_kib > base_page_kib;
        return TRUE;
    }
    /* the last line: device memory has large pages too, and only this flag says hugetlb */
    if (g_str_has_prefix(line, "VmFlags:")) {
        mapping->is_huge = strstr(line, " ht") != NULL;
        mapping->is_unreserved = strstr(line, " nr") != NULL;
    }
    return TRUE;
}

static gboolean parse_smaps(char *text, guint64 base_page_kib, GArray *mappings)
{
    Mapping current;
    for (char *line; (line = hv_next_line(&text)) != NULL;) {
        if (parse_header(line, &current))
            g_array_append_val(mappings, current);
        else if (mappings->len == 0 ||
                 !parse_number(line, base_page_kib,
                               &g_array_index(mappings, Mapping, mappings->len - 1)))
            return FALSE;
    }
    return TRUE;
}

static gint compare_start(gconstpointer a, gconstpointer b)
{
    guint64 first = ((const Mapping *)a)->start, second = ((const Mapping *)b)->start;
    return (first > second) - (first < second);
}

static gboolean may_be_guest_memory(const Mapping *mapping)
{
    return !mapping->is_huge && mapping->is_data && mapping->size_kib >= LARGE_KIB;
}

static void add_huge(HvResidence *residence, const Mapping *mapping)
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
        const Mapping *mapping = &g_array_index(mappings, Mapping, i);
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
        const Mapping *mapping = &g_array_index(mappings, Mapping, i);
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

/* One mapping as numa_maps shows it. */
typedef struct {
    guint64 start;
    guint64 page_kib; /* 0: nothing of it is there */
    gboolean is_huge;
    GArray *counts; /* HvPlacedPages, still without size */
} NumaLine;

/* "N12=345"; FALSE: it should be that, and is not. */
static gboolean parse_count(const char *word, GArray *counts)
{
    HvPlacedPages one = {0};
    guint64 node;
    const char *equals = strchr(word, '=');
    g_autofree char *digits = g_strndup(word + 1, (gsize)(equals - word - 1));
    if (!hv_parse_u64(digits, &node) || node >= HV_MAX_NODES ||
        !hv_parse_u64(equals + 1, &one.pages))
        return FALSE;
    one.node = (int)node;
    g_array_append_val(counts, one);
    return TRUE;
}

static gboolean parse_word(const char *word, NumaLine *line)
{
    static const char page_size[] = "kernelpagesize_kB=";
    if (strcmp(word, "huge") == 0)
        line->is_huge = TRUE;
    else if (g_str_has_prefix(word, page_size))
        return hv_parse_u64(word + strlen(page_size), &line->page_kib) && line->page_kib > 0;
    else if (word[0] == 'N' && g_ascii_isdigit(word[1]) && strchr(word, '=') != NULL)
        return parse_count(word, line->counts);
    return TRUE;
}

static gboolean parse_numa_line(char *text, NumaLine *line)
{
    char *end = NULL;
    line->start = g_ascii_strtoull(text, &end, 16);
    line->page_kib = 0;
    line->is_huge = FALSE;
    g_array_set_size(line->counts, 0);
    if (end == text || *end != ' ')
        return FALSE;
    for (char *word = end + 1, *next; word != NULL; word = next) {
        next = strchr(word, ' ');
        if (next != NULL)
            *next++ = '\0';
        if (!parse_word(word, line))
            return FALSE;
    }
    return line->page_kib > 0 || line->counts->len == 0;
}

/* Is this large enough to be guest memory? mappings NULL: there is no smaps to tell. */
static gboolean is_large(const NumaLine *line, const GArray *mappings)
{
    guint64 kib = 0, pages = 0;
    if (mappings != NULL) {
        Mapping wanted = {.start = line->start};
        guint index;
        return g_array_binary_search((GArray *)mappings, &wanted, compare_start, &index) &&
               may_be_guest_memory(&g_array_index(mappings, Mapping, index));
    }
    for (guint i = 0; i < line->counts->len; i++)
        pages = hv_plus(pages, g_array_index(line->counts, HvPlacedPages, i).pages);
    return !hv_checked_mul(pages, line->page_kib, &kib) || kib >= LARGE_KIB;
}

static gboolean parse_numa_maps(char *text, const GArray *mappings, HvResidence *residence)
{
    g_autoptr(GArray) counts = g_array_new(FALSE, TRUE, sizeof(HvPlacedPages));
    NumaLine line = {.counts = counts};
    for (char *one; (one = hv_next_line(&text)) != NULL;) {
        if (!parse_numa_line(one, &line))
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
    g_autoptr(GArray) mappings = g_array_new(FALSE, TRUE, sizeof(Mapping));
    if (smaps != NULL && !parse_smaps(smaps, host->base_page_kib, mappings)) {
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
