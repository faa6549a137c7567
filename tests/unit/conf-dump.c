/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Prints what core/conf-file.c reads, for the comparison with Python.
 *
 * A case is a list of files, merged in that order: either the arguments, or,
 * without arguments, each line of standard input (names separated by tabs; many
 * cases per process keep the comparison fast). The answer to a case is one line
 * per key of each section that has a key of its own, [DEFAULT] included in
 * each, and a line with a dot:
 *     value SECTION KEY VALUE      every field in URI escapes
 *     bad SECTION KEY              its interpolation failed
 * or only "error" and the dot if a file cannot be parsed.
 */
#include "conf-file.h"

#include <stdio.h>
#include <string.h>

static void print_field(const char *text)
{
    g_autofree char *escaped = g_uri_escape_string(text, NULL, FALSE);
    printf(" %s", escaped);
}

/* A key of [DEFAULT] is seen from each section: there its value may expand differently. */
static void print_entry(const GPtrArray *entries, const HvConfEntry *entry, const char *section)
{
    HvConfEntry seen = *entry;
    seen.section = (char *)section;
    g_autofree char *value = hv_conf_interpolate(entries, &seen, NULL);
    fputs(value != NULL ? "value" : "bad", stdout);
    print_field(section);
    print_field(seen.key);
    if (value != NULL)
        print_field(value);
    putchar('\n');
}

static void print_section(const GPtrArray *entries, const char *section)
{
    g_autoptr(GHashTable) last = g_hash_table_new(g_str_hash, g_str_equal);
    const char *const sources[] = {"DEFAULT", section};
    for (gsize s = 0; s < G_N_ELEMENTS(sources); s++)
        for (guint i = 0; i < entries->len; i++) {
            HvConfEntry *entry = g_ptr_array_index(entries, i);
            if (strcmp(entry->section, sources[s]) == 0)
                g_hash_table_insert(last, entry->key, entry);
        }

    GHashTableIter iter;
    gpointer entry;
    g_hash_table_iter_init(&iter, last);
    while (g_hash_table_iter_next(&iter, NULL, &entry))
        print_entry(entries, entry, section);
}

static void print_entries(const GPtrArray *entries)
{
    g_autoptr(GHashTable) done = g_hash_table_new(g_str_hash, g_str_equal);
    for (guint i = 0; i < entries->len; i++) {
        HvConfEntry *entry = g_ptr_array_index(entries, i);
        if (g_hash_table_add(done, entry->section))
            print_section(entries, entry->section);
    }
}

static void run_case(char **files)
{
    g_autoptr(GPtrArray) entries = hv_conf_entries_new();
    gboolean ok = TRUE;
    for (; ok && *files != NULL; files++) {
        g_autofree char *text = NULL;
        gsize n = 0;
        ok = g_file_get_contents(*files, &text, &n, NULL) &&
             hv_conf_parse(text, n, *files, entries, NULL);
    }
    if (ok)
        print_entries(entries);
    else
        puts("error");
    puts(".");
}

int main(int argc, char **argv)
{
    char line[4096];
    if (argc > 1)
        run_case(argv + 1);
    while (argc == 1 && fgets(line, sizeof line, stdin) != NULL) {
        g_auto(GStrv) files = g_strsplit(g_strchomp(line), "\t", -1);
        run_case(files);
    }
    return 0;
}
