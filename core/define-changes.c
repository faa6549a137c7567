/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "define-changes.h"

#include "error.h"
#include "page-size.h"
#include "properties.h"

#include <string.h>

/* "1048576:0-1" */
static void append_pages(GString *out, const char *word)
{
    g_auto(GStrv) parts = g_strsplit(word, ":", 2);
    guint64 size_kib = 0;
    hv_parse_u64(parts[0], &size_kib);
    g_autofree char *size = hv_format_kib(size_kib);
    g_string_append_printf(out, "%s%s", out->len > 0 ? " and " : "", size);
    if (parts[1] != NULL)
        g_string_append_printf(out, " for guest cells %s", parts[1]);
}

static char *pages_in_words(const char *pages)
{
    if (pages == NULL || strcmp(pages, "default") == 0)
        return g_strdup(pages == NULL ? "normal" : "default size");
    g_auto(GStrv) words = g_strsplit(pages, " ", -1);
    GString *out = g_string_new(NULL);
    for (guint i = 0; words[i] != NULL; i++)
        append_pages(out, words[i]);
    return g_string_free(out, FALSE);
}

static void note_change(GPtrArray *changes, const char *what, const char *was, const char *is)
{
    if (g_strcmp0(was, is) != 0)
        g_ptr_array_add(changes, g_strdup_printf("%s %s -> %s", what, was, is));
}

static const char *sharing_in_words(const HvDomain *domain)
{
    guint n_shared = 0;
    for (guint i = 0; i < domain->cells->len; i++)
        n_shared += g_array_index(domain->cells, HvCell, i).is_shared ? 1 : 0;
    if (n_shared == 0)
        return "private";
    return n_shared == domain->cells->len ? "shared" : "shared in part";
}

static char *or_word(const char *value, const char *word)
{
    return value != NULL && value[0] != '\0' ? hv_quote(value) : g_strdup(word);
}

char *hv_own_hugepages(const HvDomain *domain)
{
    return g_strdup(g_hash_table_lookup(domain->hugevm_custom, "hugepages"));
}

char *hv_own_shared(const HvDomain *domain)
{
    const char *value = g_hash_table_lookup(domain->hugevm_custom, HV_SHARED_SHORT_NAME);
    return g_strdup(value != NULL ? value
                                  : g_hash_table_lookup(domain->hugevm_custom, "hugepages_shared"));
}

static void note_words(GPtrArray *changes, const char *what, const char *was, const char *is)
{
    const char *unset = strcmp(what, "property hugepages") == 0 ? "off" : "auto";
    g_autofree char *old_word = or_word(was, unset);
    g_autofree char *new_word = or_word(is, unset);
    note_change(changes, what, old_word, new_word);
}

GPtrArray *hv_define_changes(const HvDoc *before, const HvDoc *after)
{
    GPtrArray *changes = g_ptr_array_new_with_free_func(g_free);
    g_auto(HvAdded) was = hv_added_describe(before);
    g_auto(HvAdded) is = hv_added_describe(after);
    g_autofree char *old_hugepages = hv_own_hugepages(before->domain);
    g_autofree char *new_hugepages = hv_own_hugepages(after->domain);
    g_autofree char *old_shared = hv_own_shared(before->domain);
    g_autofree char *new_shared = hv_own_shared(after->domain);
    g_autofree char *old_pages = pages_in_words(was.pages);
    g_autofree char *new_pages = pages_in_words(is.pages);
    note_words(changes, "property hugepages", old_hugepages, new_hugepages);
    note_words(changes, "property shared", old_shared, new_shared);
    note_change(changes, "pages", old_pages, new_pages);
    note_change(changes, "memory", sharing_in_words(before->domain),
                sharing_in_words(after->domain));
    note_words(changes, "host nodes", was.numatune, is.numatune);
    note_change(changes, "memory in files", was.files != NULL ? was.files : "no",
                is.files != NULL ? is.files : "no");
    return changes;
}
