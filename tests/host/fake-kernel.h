/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A kernel behind a fixture tree: takes every pool write of the code under test
 * (linked with --wrap=hv_root_write_u64) and does what Linux does with it:
 * grants what its memory allows and says nothing of the rest, frees only pages
 * that are free and unpromised, makes the rest surplus, frees surplus when its
 * user ends. Everything else stays plain files below the root.
 */
#pragma once

#include "tree.h"

#include "error.h"
#include "root.h"

#define FAKE_MAX_NODES 4
#define FAKE_MAX_WRITES 256

typedef struct {
    char *path; /* below the root */
    guint64 value;
} FakeWrite;

typedef struct {
    char *directory;
    HvRoot *root;
    guint64 room_kib[FAKE_MAX_NODES];      /* memory that pages can still be made of */
    guint64 compacted_kib[FAKE_MAX_NODES]; /* what compaction adds to it, once */
    guint64 compaction_kib;                /* so much of that in one pass; 0: all */
    guint64 cached_kib[FAKE_MAX_NODES];    /* what dropping caches adds, once */
    const char *broken;                    /* part of a path whose write fails */
    FakeWrite writes[FAKE_MAX_WRITES];
    guint n_writes;
    void (*before_write)(void); /* NULL: none */
    void (*after_write)(void);
} FakeKernel;

static FakeKernel fake;

gboolean __real_hv_root_write_u64(const HvRoot *root, const char *path, guint64 value,
                                  GError **error);
gboolean __wrap_hv_root_write_u64(const HvRoot *root, const char *path, guint64 value,
                                  GError **error);

static inline guint64 fake_get(int node, guint64 size_kib, const char *name)
{
    return tree_pool_get(fake.directory, node, size_kib, name);
}

static inline void fake_add(int node, guint64 size_kib, const char *name, gint64 change)
{
    tree_pool_add(fake.directory, node, size_kib, name, change);
}

/* node -1: a kernel without NUMA */
static inline guint64 *fake_room(int node)
{
    return &fake.room_kib[MAX(node, 0)];
}

/* New persistent pages, as far as there is memory. */
static inline void fake_grow(int node, guint64 size_kib, guint64 pages)
{
    guint64 got = MIN(pages, *fake_room(node) / size_kib);
    *fake_room(node) -= got * size_kib;
    fake_add(node, size_kib, "nr_hugepages", (gint64)got);
    fake_add(node, size_kib, "free_hugepages", (gint64)got);
}

static inline void fake_shrink(int node, guint64 size_kib, guint64 pages)
{
    guint64 resv = fake_get(-1, size_kib, "resv_hugepages");
    guint64 all_free = fake_get(-1, size_kib, "free_hugepages");
    guint64 unpromised = all_free > resv ? all_free - resv : 0;
    guint64 freed = MIN(pages, MIN(unpromised, fake_get(node, size_kib, "free_hugepages")));
    *fake_room(node) += freed * size_kib;
    fake_add(node, size_kib, "nr_hugepages", -(gint64)freed);
    fake_add(node, size_kib, "free_hugepages", -(gint64)freed);
    fake_add(node, size_kib, "surplus_hugepages", (gint64)(pages - freed));
}

/* A write of a new persistent count to one node. */
static inline void fake_resize_node(int node, guint64 size_kib, guint64 target)
{
    guint64 surplus = fake_get(node, size_kib, "surplus_hugepages");
    guint64 persistent = fake_get(node, size_kib, "nr_hugepages") - surplus;
    guint64 pinned = MIN(surplus, target > persistent ? target - persistent : 0);
    fake_add(node, size_kib, "surplus_hugepages", -(gint64)pinned);
    persistent += pinned;
    if (target > persistent)
        fake_grow(node, size_kib, target - persistent);
    else if (target < persistent)
        fake_shrink(node, size_kib, persistent - target);
}

/* A write to the file of all nodes: surplus first, wherever it is; the rest on node 0. */
static inline void fake_resize_all(guint64 size_kib, guint64 target)
{
    guint64 surplus = fake_get(-1, size_kib, "surplus_hugepages");
    guint64 persistent = fake_get(-1, size_kib, "nr_hugepages") - surplus;
    guint64 left = target > persistent ? target - persistent : 0;
    if (!tree_has(fake.directory, TREE_NODES "/node0")) {
        fake_resize_node(-1, size_kib, target);
        return;
    }
    for (int node = 0; node < FAKE_MAX_NODES && left > 0; node++) {
        g_autofree char *path = tree_pool_path(node, size_kib, "nr_hugepages");
        if (!tree_has(fake.directory, path))
            continue;
        guint64 pinned = MIN(left, fake_get(node, size_kib, "surplus_hugepages"));
        fake_add(node, size_kib, "surplus_hugepages", -(gint64)pinned);
        left -= pinned;
    }
    g_assert_cmpuint(target, >=, persistent); /* the code under test only pins here */
    if (left > 0)
        fake_grow(0, size_kib, left);
}

static inline void fake_demote(int node, guint64 size_kib, guint64 pages)
{
    guint64 to_kib = tree_pool_get(fake.directory, -1, size_kib, "demote_size");
    guint64 split = MIN(pages, fake_get(node, size_kib, "free_hugepages"));
    gint64 small = (gint64)(split * (size_kib / to_kib));
    fake_add(node, size_kib, "nr_hugepages", -(gint64)split);
    fake_add(node, size_kib, "free_hugepages", -(gint64)split);
    fake_add(node, to_kib, "nr_hugepages", small);
    fake_add(node, to_kib, "free_hugepages", small);
}

static inline void fake_apply(const char *path, guint64 value)
{
    int node = 0;
    guint64 size_kib = 0;
    if (sscanf(path, TREE_NODES "/node%d/hugepages/hugepages-%" G_GUINT64_FORMAT "kB", &node,
               &size_kib) == 2) {
        if (g_str_has_suffix(path, "/demote"))
            fake_demote(node, size_kib, value);
        else
            fake_resize_node(node, size_kib, value);
    } else if (sscanf(path, TREE_SIZES "/hugepages-%" G_GUINT64_FORMAT "kB", &size_kib) == 1) {
        fake_resize_all(size_kib, value);
    } else if (sscanf(path, TREE_NODES "/node%d/compact", &node) == 1) {
        guint64 all_kib = fake.compacted_kib[node];
        guint64 kib = fake.compaction_kib != 0 ? MIN(fake.compaction_kib, all_kib) : all_kib;
        fake.room_kib[node] += kib;
        fake.compacted_kib[node] -= kib;
    } else if (g_str_has_suffix(path, "/drop_caches")) {
        for (node = 0; node < FAKE_MAX_NODES; node++) {
            fake.room_kib[node] += fake.cached_kib[node];
            fake.cached_kib[node] = 0;
        }
    }
}

gboolean __wrap_hv_root_write_u64(const HvRoot *root, const char *path, guint64 value,
                                  GError **error)
{
    (void)root;
    g_assert_cmpuint(fake.n_writes, <, FAKE_MAX_WRITES);
    if (fake.before_write != NULL)
        fake.before_write();
    if (fake.broken != NULL && strstr(path, fake.broken) != NULL) {
        hv_set_error(error, HV_ERROR_PERMISSION, "run it as root", "cannot write %s: broken", path);
        return FALSE;
    }
    fake.writes[fake.n_writes++] = (FakeWrite){g_strdup(path), value};
    fake_apply(path, value);
    if (fake.after_write != NULL)
        fake.after_write();
    return TRUE;
}

static inline void fake_init(const char *description)
{
    fake = (FakeKernel){.directory = g_dir_make_tmp("hugevm-fake-XXXXXX", NULL)};
    g_assert_nonnull(fake.directory);
    fake.root = hv_root_new(fake.directory);
    for (int node = 0; node < FAKE_MAX_NODES; node++)
        fake.room_kib[node] = (guint64)1 << 40;
    tree_make(fake.directory, description);
}

static inline void fake_clear(void)
{
    for (guint i = 0; i < fake.n_writes; i++)
        g_free(fake.writes[i].path);
    tree_remove(fake.directory);
    g_free(fake.directory);
    hv_root_free(fake.root);
    fake = (FakeKernel){0};
}

/* Pages come into use, as by a VM that touches them. */
static inline void fake_use(int node, guint64 size_kib, guint64 pages)
{
    g_assert_cmpuint(fake_get(node, size_kib, "free_hugepages"), >=, pages);
    fake_add(node, size_kib, "free_hugepages", -(gint64)pages);
}

/* Their user ends: surplus pages go to the host, the others become free. */
static inline void fake_unuse(int node, guint64 size_kib, guint64 pages)
{
    guint64 gone = MIN(pages, fake_get(node, size_kib, "surplus_hugepages"));
    fake_add(node, size_kib, "surplus_hugepages", -(gint64)gone);
    fake_add(node, size_kib, "nr_hugepages", -(gint64)gone);
    fake_add(node, size_kib, "free_hugepages", (gint64)(pages - gone));
    fake.room_kib[node] += gone * size_kib;
}

static inline void assert_counts(int node, guint64 size_kib, guint64 total, guint64 free_pages,
                                 guint64 surplus)
{
    g_assert_cmpuint(fake_get(node, size_kib, "nr_hugepages"), ==, total);
    g_assert_cmpuint(fake_get(node, size_kib, "free_hugepages"), ==, free_pages);
    g_assert_cmpuint(fake_get(node, size_kib, "surplus_hugepages"), ==, surplus);
}

/* The write with this number went to a path that ends so. */
static inline void assert_write(guint index, const char *path_end, guint64 value)
{
    g_assert_cmpuint(index, <, fake.n_writes);
    g_test_message("write %u: %s", index, fake.writes[index].path);
    g_assert_true(g_str_has_suffix(fake.writes[index].path, path_end));
    g_assert_cmpuint(fake.writes[index].value, ==, value);
}

static inline guint count_writes(const char *part)
{
    guint count = 0;
    for (guint i = 0; i < fake.n_writes; i++)
        count += strstr(fake.writes[i].path, part) != NULL;
    return count;
}
