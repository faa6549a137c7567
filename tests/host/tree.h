/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fixture trees: a host's /proc and /sys, made from a few lines of text.
 *
 *   arch x86_64
 *   page KIB                                     a normal page; before any node; else 4
 *   mem available=KIB default=KIB [total=KIB free=KIB]   default: huge page size, 0: none
 *   size KIB resv=N overcommit=N demote=KIB      one huge page size
 *   node ID total=KIB free=KIB file=KIB slab=KIB low=KIB
 *   pool ID KIB total=N free=N surplus=N         ID "-": a kernel without NUMA
 *   file PATH TEXT                               any other file; \n and \0 are escapes
 *
 * Sums over the nodes are made here. A missing number is 0; '#' begins a comment line.
 */
#pragma once

#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>

#define TREE_NODES "/sys/devices/system/node"
#define TREE_SIZES "/sys/kernel/mm/hugepages"

static inline void tree_write(const char *directory, const char *path, const char *text)
{
    g_autofree char *real = g_strconcat(directory, path, NULL);
    g_autofree char *parent = g_path_get_dirname(real);
    g_assert_cmpint(g_mkdir_with_parents(parent, 0755), ==, 0);
    g_assert_true(g_file_set_contents(real, text, -1, NULL));
}

G_GNUC_PRINTF(3, 4)
static inline void tree_printf(const char *directory, const char *path, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    tree_write(directory, path, text);
}

static inline guint64 tree_read(const char *directory, const char *path)
{
    g_autofree char *real = g_strconcat(directory, path, NULL);
    g_autofree char *text = NULL;
    g_assert_true(g_file_get_contents(real, &text, NULL, NULL));
    return g_ascii_strtoull(text, NULL, 10);
}

static inline void tree_set(const char *directory, const char *path, guint64 value)
{
    tree_printf(directory, path, "%" G_GUINT64_FORMAT "\n", value);
}

/* The counter of a pool: node -1 is the file of all nodes. Newly allocated. */
static inline char *tree_pool_path(int node, guint64 size_kib, const char *name)
{
    if (node < 0)
        return g_strdup_printf(TREE_SIZES "/hugepages-%" G_GUINT64_FORMAT "kB/%s", size_kib, name);
    return g_strdup_printf(TREE_NODES "/node%d/hugepages/hugepages-%" G_GUINT64_FORMAT "kB/%s",
                           node, size_kib, name);
}

static inline guint64 tree_pool_get(const char *directory, int node, guint64 size_kib,
                                    const char *name)
{
    g_autofree char *path = tree_pool_path(node, size_kib, name);
    return tree_read(directory, path);
}

static inline void tree_pool_set(const char *directory, int node, guint64 size_kib,
                                 const char *name, guint64 value)
{
    g_autofree char *path = tree_pool_path(node, size_kib, name);
    tree_set(directory, path, value);
}

static inline gboolean tree_has(const char *directory, const char *path)
{
    g_autofree char *real = g_strconcat(directory, path, NULL);
    return g_file_test(real, G_FILE_TEST_EXISTS);
}

/* Changes a counter of a pool, and the sum of all nodes with it. */
static inline void tree_pool_add(const char *directory, int node, guint64 size_kib,
                                 const char *name, gint64 change)
{
    for (int where = node; where >= -1; where = where == -1 ? -2 : -1) {
        g_autofree char *path = tree_pool_path(where, size_kib, name);
        guint64 old = tree_has(directory, path) ? tree_read(directory, path) : 0;
        tree_set(directory, path, old + (guint64)change);
    }
}

/* The number of "KEY=" among the words of a line; 0: none. */
static inline guint64 tree_number(char **words, const char *key)
{
    gsize n = strlen(key);
    for (; *words != NULL; words++)
        if (strncmp(*words, key, n) == 0 && (*words)[n] == '=')
            return g_ascii_strtoull(*words + n + 1, NULL, 10);
    return 0;
}

/* Memory of the host: the sum of its nodes, or for a kernel without nodes the line "mem". */
typedef struct {
    guint64 total_kib;
    guint64 free_kib;
    guint64 file_kib;
    guint64 slab_kib;
    guint64 available_kib;
    guint64 default_kib;
    guint64 page_kib;
    gboolean has_nodes;
} TreeMemory;

static inline void tree_add_memory(TreeMemory *memory, char **words)
{
    memory->available_kib = tree_number(words, "available");
    memory->default_kib = tree_number(words, "default");
    if (memory->has_nodes)
        return;
    memory->total_kib = tree_number(words, "total");
    memory->free_kib = tree_number(words, "free");
}

static inline void tree_sum_node(TreeMemory *memory, char **words)
{
    if (!memory->has_nodes)
        memory->total_kib = memory->free_kib = 0;
    memory->has_nodes = TRUE;
    memory->total_kib += tree_number(words, "total");
    memory->free_kib += tree_number(words, "free");
    memory->file_kib += tree_number(words, "file");
    memory->slab_kib += tree_number(words, "slab");
}

static inline void tree_write_memory(const char *directory, const TreeMemory *memory)
{
    g_autofree char *huge =
        memory->default_kib == 0
            ? g_strdup("")
            : g_strdup_printf("Hugepagesize:   %" G_GUINT64_FORMAT " kB\n", memory->default_kib);
    tree_printf(directory, "/proc/meminfo",
                "MemTotal:       %" G_GUINT64_FORMAT " kB\n"
                "MemFree:        %" G_GUINT64_FORMAT " kB\n"
                "MemAvailable:   %" G_GUINT64_FORMAT " kB\n"
                "Active(anon):   77 kB\nInactive(anon): 77 kB\n"
                "Active(file):   0 kB\nInactive(file): %" G_GUINT64_FORMAT " kB\n"
                "KReclaimable:   77 kB\nSReclaimable:   %" G_GUINT64_FORMAT " kB\n%s",
                memory->total_kib, memory->free_kib, memory->available_kib, memory->file_kib,
                memory->slab_kib, huge);
}

/* The start of any process's map: its program, which is in normal pages. */
static inline void tree_write_page(const char *directory, guint64 page_kib)
{
    tree_printf(directory, "/proc/self/smaps",
                "aaaaaaaa0000-aaaaaaad0000 r-xp 00000000 fe:01 4711  /usr/bin/cat\n"
                "Size:                192 kB\n"
                "KernelPageSize:     %4" G_GUINT64_FORMAT " kB\n"
                "MMUPageSize:        %4" G_GUINT64_FORMAT " kB\n"
                "THPeligible:    0\n",
                page_kib, page_kib);
}

static inline void tree_add_size(const char *directory, char **words)
{
    guint64 size_kib = g_ascii_strtoull(words[1], NULL, 10);
    guint64 demote_kib = tree_number(words, "demote");
    static const char *const names[] = {"nr_hugepages", "free_hugepages", "surplus_hugepages"};
    for (guint i = 0; i < G_N_ELEMENTS(names); i++)
        tree_pool_set(directory, -1, size_kib, names[i], 0);
    tree_pool_set(directory, -1, size_kib, "resv_hugepages", tree_number(words, "resv"));
    tree_pool_set(directory, -1, size_kib, "nr_overcommit_hugepages",
                  tree_number(words, "overcommit"));
    if (demote_kib != 0) {
        g_autofree char *path = tree_pool_path(-1, size_kib, "demote_size");
        tree_printf(directory, path, "%" G_GUINT64_FORMAT "kB\n", demote_kib);
        tree_pool_set(directory, -1, size_kib, "demote", 0);
    }
}

static inline void tree_add_node(const char *directory, char **words, guint64 page_kib,
                                 GString *zones)
{
    int id = atoi(words[1]);
    g_autofree char *meminfo = g_strdup_printf(TREE_NODES "/node%d/meminfo", id);
    g_autofree char *compact = g_strdup_printf(TREE_NODES "/node%d/compact", id);
    guint64 file_kib = tree_number(words, "file");
    tree_printf(directory, meminfo,
                "Node %d MemTotal:       %" G_GUINT64_FORMAT " kB\n"
                "Node %d MemFree:        %" G_GUINT64_FORMAT " kB\n"
                "Node %d Active(anon):   77 kB\nNode %d Inactive(anon): 77 kB\n"
                "Node %d Active(file):   %" G_GUINT64_FORMAT " kB\n"
                "Node %d Inactive(file): %" G_GUINT64_FORMAT " kB\n"
                "Node %d KReclaimable:   77 kB\nNode %d SReclaimable:   %" G_GUINT64_FORMAT
                " kB\nNode %d SUnreclaim:     77 kB\n",
                id, tree_number(words, "total"), id, tree_number(words, "free"), id, id, id,
                file_kib / 2, id, file_kib - file_kib / 2, id, id, tree_number(words, "slab"), id);
    tree_write(directory, compact, "0\n");
    g_string_append_printf(zones,
                           "Node %d, zone   Normal\n  pages free     4711\n        boost    0\n"
                           "        min      12\n        low      %" G_GUINT64_FORMAT
                           "\n        high     99\n  pagesets\n    cpu: 0\n"
                           "              high:  378\n              low:   5\n",
                           id, tree_number(words, "low") / page_kib);
}

static inline void tree_add_pool(const char *directory, char **words)
{
    static const char *const names[][2] = {
        {"nr_hugepages", "total"}, {"free_hugepages", "free"}, {"surplus_hugepages", "surplus"}};
    int node = strcmp(words[1], "-") == 0 ? -1 : atoi(words[1]);
    guint64 size_kib = g_ascii_strtoull(words[2], NULL, 10);
    g_autofree char *demote = tree_pool_path(-1, size_kib, "demote");
    for (guint i = 0; i < G_N_ELEMENTS(names); i++)
        tree_pool_add(directory, node, size_kib, names[i][0],
                      (gint64)tree_number(words, names[i][1]));
    if (tree_has(directory, demote))
        tree_pool_set(directory, node, size_kib, "demote", 0);
}

/* "PATH TEXT" */
static inline void tree_add_file(const char *directory, const char *rest)
{
    g_auto(GStrv) parts = g_strsplit(rest, " ", 2);
    g_autofree char *real = g_strconcat(directory, parts[0], NULL);
    g_autofree char *parent = g_path_get_dirname(real);
    g_autoptr(GString) text = g_string_new(NULL);
    for (const char *p = parts[1] != NULL ? parts[1] : ""; *p != '\0'; p++) {
        gboolean is_escape = p[0] == '\\' && (p[1] == 'n' || p[1] == '0');
        g_string_append_c(text, !is_escape ? *p : p[1] == 'n' ? '\n' : '\0');
        p += is_escape ? 1 : 0;
    }
    g_assert_cmpint(g_mkdir_with_parents(parent, 0755), ==, 0);
    g_assert_true(g_file_set_contents(real, text->str, (gssize)text->len, NULL));
}

static inline void tree_make(const char *directory, const char *description)
{
    g_auto(GStrv) lines = g_strsplit(description, "\n", -1);
    g_autoptr(GString) zones = g_string_new(NULL);
    TreeMemory memory = {.page_kib = 4};
    for (guint i = 0; lines[i] != NULL; i++) {
        g_auto(GStrv) words = g_strsplit_set(lines[i], " ", -1);
        const char *kind = words[0] != NULL ? words[0] : "";
        if (strcmp(kind, "mem") == 0)
            tree_add_memory(&memory, words);
        else if (strcmp(kind, "arch") == 0)
            tree_printf(directory, "/proc/sys/kernel/arch", "%s\n", words[1]);
        else if (strcmp(kind, "page") == 0)
            memory.page_kib = g_ascii_strtoull(words[1], NULL, 10);
        else if (strcmp(kind, "size") == 0)
            tree_add_size(directory, words);
        else if (strcmp(kind, "node") == 0) {
            tree_add_node(directory, words, memory.page_kib, zones);
            tree_sum_node(&memory, words);
        } else if (strcmp(kind, "pool") == 0)
            tree_add_pool(directory, words);
        else if (strcmp(kind, "file") == 0)
            tree_add_file(directory, lines[i] + strlen("file "));
        else if (kind[0] != '\0' && kind[0] != '#')
            g_error("tree: what is '%s'?", lines[i]);
    }
    tree_write_memory(directory, &memory);
    tree_write_page(directory, memory.page_kib);
    tree_write(directory, "/proc/zoneinfo", zones->str);
    tree_write(directory, "/proc/sys/kernel/random/boot_id",
               "0b6b6e4c-0000-4000-8000-000000000001\n");
    tree_write(directory, "/proc/sys/vm/drop_caches", "0\n");
    tree_write(directory, "/proc/sys/vm/compact_memory", "0\n");
    g_autofree char *run = g_strconcat(directory, "/run", NULL);
    g_assert_cmpint(g_mkdir_with_parents(run, 0755), ==, 0);
}

/* A description from tests/host/trees; G_TEST_SRCDIR is tests/host. */
static inline char *tree_description(const char *name)
{
    char *text = NULL;
    g_autofree char *path = g_test_build_filename(G_TEST_DIST, "trees", name, NULL);
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    return text;
}

static inline void tree_remove(const char *path)
{
    GDir *dir = g_file_test(path, G_FILE_TEST_IS_SYMLINK) ? NULL : g_dir_open(path, 0, NULL);
    for (const char *name; dir != NULL && (name = g_dir_read_name(dir)) != NULL;) {
        g_autofree char *child = g_build_filename(path, name, NULL);
        tree_remove(child);
    }
    if (dir != NULL)
        g_dir_close(dir);
    g_assert_cmpint(g_remove(path), ==, 0);
}
