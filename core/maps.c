/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 *   maps        START-END PERMS OFFSET MAJOR:MINOR INODE [PATH]
 *   smaps       the same, and lines "KEY: KIB kB"
 *   numa_maps   START POLICY [file=PATH] [huge] [N0=PAGES ...] [kernelpagesize_kB=KIB]
 *               in pages of that size; a mapping without a touched page has neither
 *               of the two last
 *
 * A path is anybody's text: the kernel writes its blanks and newlines as octal escapes in
 * numa_maps, and its newlines in the others, so that it ends a word there and a line here.
 */
#include "maps.h"

#include "node-set.h"
#include "page-size.h"

#include <stdio.h>
#include <string.h>

gboolean hv_mapping_parse(const char *text, HvMapping *out_mapping)
{
    char line[160]; /* what stands before the path is shorter; and sscanf looks at all of its input
                     */
    unsigned long long start, end, offset, inode;
    unsigned major, minor;
    char perms[5] = "";
    int n = 0;
    snprintf(line, sizeof line, "%.*s", (int)strnlen(text, sizeof line - 1), text);
    if (sscanf(line, "%16llx-%16llx %4s %16llx %x:%x %20llu%n", &start, &end, perms, &offset,
               &major, &minor, &inode, &n) < 7 ||
        end <= start)
        return FALSE;
    *out_mapping = (HvMapping){.start = start, .end = end, .offset = offset};
    memcpy(out_mapping->perms, perms, sizeof perms);
    out_mapping->file = (HvFileId){major, minor, inode};
    out_mapping->path = text + n + strspn(text + n, " ");
    return TRUE;
}

gboolean hv_mapping_is_below(const HvMapping *mapping, const char *directory)
{
    gsize n = strlen(directory);
    return mapping->file.inode != 0 && strncmp(mapping->path, directory, n) == 0 &&
           mapping->path[n] == '/';
}

/* --- smaps ----------------------------------------------------------------------------------- */

static gboolean parse_first(const char *line, HvSmap *out_smap)
{
    HvMapping mapping;
    if (!hv_mapping_parse(line, &mapping))
        return FALSE;
    *out_smap = (HvSmap){
        .start = mapping.start,
        .size_kib = (mapping.end - mapping.start) / 1024,
        .offset = mapping.offset,
        .file = mapping.file,
        .path = mapping.path,
        .is_data = strchr(mapping.perms, 'w') != NULL && strchr(mapping.perms, 'x') == NULL &&
                   !g_str_has_prefix(mapping.path, "[heap]") &&
                   !g_str_has_prefix(mapping.path, "[stack"),
    };
    return TRUE;
}

static const struct {
    const char *key;
    gsize offset;
} keys[] = {
    {"KernelPageSize:", G_STRUCT_OFFSET(HvSmap, page_kib)},
    {"Rss:", G_STRUCT_OFFSET(HvSmap, rss_kib)},
    {"AnonHugePages:", G_STRUCT_OFFSET(HvSmap, transparent_kib[0])},
    {"ShmemPmdMapped:", G_STRUCT_OFFSET(HvSmap, transparent_kib[1])},
    {"FilePmdMapped:", G_STRUCT_OFFSET(HvSmap, transparent_kib[2])},
    {"Shared_Hugetlb:", G_STRUCT_OFFSET(HvSmap, hugetlb_kib[0])},
    {"Private_Hugetlb:", G_STRUCT_OFFSET(HvSmap, hugetlb_kib[1])},
};

/* "KEY:   123 kB"; FALSE: such a line, but not with a number. */
static gboolean parse_number(char *line, guint64 base_page_kib, HvSmap *smap)
{
    for (guint i = 0; i < G_N_ELEMENTS(keys); i++) {
        if (!g_str_has_prefix(line, keys[i].key))
            continue;
        char *digits = g_strchug(line + strlen(keys[i].key));
        digits[strspn(digits, "0123456789")] = '\0';
        if (!hv_parse_u64(digits, &G_STRUCT_MEMBER(guint64, smap, keys[i].offset)))
            return FALSE;
        smap->is_huge = smap->page_kib > base_page_kib;
        return TRUE;
    }
    /* the last line: device memory has large pages too, and only this flag says hugetlb */
    if (g_str_has_prefix(line, "VmFlags:")) {
        smap->is_huge = strstr(line, " ht") != NULL;
        smap->is_unreserved = strstr(line, " nr") != NULL;
    }
    return TRUE;
}

gboolean hv_smaps_parse(char *text, guint64 base_page_kib, GArray *smaps)
{
    HvSmap current;
    for (char *line; (line = hv_next_line(&text)) != NULL;) {
        if (parse_first(line, &current))
            g_array_append_val(smaps, current);
        else if (smaps->len == 0 ||
                 !parse_number(line, base_page_kib, &g_array_index(smaps, HvSmap, smaps->len - 1)))
            return FALSE;
    }
    return TRUE;
}

static gint compare_start(gconstpointer a, gconstpointer b)
{
    guint64 first = ((const HvSmap *)a)->start, second = ((const HvSmap *)b)->start;
    return (first > second) - (first < second);
}

const HvSmap *hv_smaps_find(const GArray *smaps, guint64 start)
{
    HvSmap wanted = {.start = start};
    guint index;
    return g_array_binary_search((GArray *)smaps, &wanted, compare_start, &index)
               ? &g_array_index(smaps, HvSmap, index)
               : NULL;
}

/* --- numa_maps ------------------------------------------------------------------------------- */

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

static gboolean parse_word(const char *word, HvNumaLine *line)
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

gboolean hv_numa_line_parse(char *text, HvNumaLine *line)
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
