/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A fixture tree, and the root that the code under test reads it by. */
#pragma once

#include "tree.h"

#include "root.h"

typedef struct {
    char *directory;
    HvRoot *root;
} Tree;

static inline void tree_init(Tree *tree, const char *description)
{
    tree->directory = g_dir_make_tmp("hugevm-host-XXXXXX", NULL);
    g_assert_nonnull(tree->directory);
    tree_make(tree->directory, description);
    tree->root = hv_root_new(tree->directory);
}

static inline void tree_clear(Tree *tree)
{
    tree_remove(tree->directory);
    hv_root_free(tree->root);
    g_free(tree->directory);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Tree, tree_clear)
