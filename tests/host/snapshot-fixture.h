/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a fixture tree is read as. */
#pragma once

#include "rooted-tree.h"

#include "snapshot.h"

static inline void tree_init_named(Tree *tree, const char *name)
{
    g_autofree char *description = tree_description(name);
    tree_init(tree, description);
}

static inline HvSnapshot *read_good(const Tree *tree)
{
    g_autoptr(GError) error = NULL;
    HvSnapshot *snapshot = hv_snapshot_read(tree->root, &error);
    g_assert_no_error(error);
    g_assert_nonnull(snapshot);
    return snapshot;
}

static inline void assert_pool(const HvSnapshot *snapshot, int node, guint64 size_kib,
                               guint64 total, guint64 free_pages, guint64 surplus)
{
    const HvPool *pool = hv_snapshot_pool(snapshot, node, size_kib);
    g_test_message("node %d, size %" G_GUINT64_FORMAT, node, size_kib);
    g_assert_nonnull(pool);
    g_assert_cmpuint(pool->total_pages, ==, total);
    g_assert_cmpuint(pool->free_pages, ==, free_pages);
    g_assert_cmpuint(pool->surplus_pages, ==, surplus);
}

static inline void assert_size(const HvSnapshot *snapshot, guint index, guint64 size_kib,
                               guint64 demote_kib, gboolean is_default)
{
    g_assert_cmpuint(index, <, snapshot->sizes->len);
    const HvPageSize *size = &g_array_index(snapshot->sizes, HvPageSize, index);
    g_assert_cmpuint(size->size_kib, ==, size_kib);
    g_assert_cmpuint(size->demote_size_kib, ==, demote_kib);
    g_assert_true(size->is_default == is_default);
}

#define ADD(name, function) g_test_add_func("/snapshot/" name, function)
