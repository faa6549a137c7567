/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A root directory to put configuration files into, and what is asserted of them. */
#pragma once

#include "settings.h"

#include "error.h"

#include <glib/gstdio.h>
#include <string.h>

#define VDSM_CONF "/etc/vdsm/vdsm.conf"
#define HUGEVM_CONF "/etc/hugevm/hugevm.conf"

/* An empty root directory, gone at the end of its scope. */
typedef struct {
    char *directory;
    HvRoot *root;
} Fixture;

static inline void fixture_init(Fixture *fixture)
{
    fixture->directory = g_dir_make_tmp("hugevm-settings-XXXXXX", NULL);
    g_assert_nonnull(fixture->directory);
    fixture->root = hv_root_new(fixture->directory);
}

static inline void remove_tree(const char *path)
{
    GDir *dir = g_file_test(path, G_FILE_TEST_IS_SYMLINK) ? NULL : g_dir_open(path, 0, NULL);
    for (const char *name; dir != NULL && (name = g_dir_read_name(dir)) != NULL;) {
        g_autofree char *child = g_build_filename(path, name, NULL);
        remove_tree(child);
    }
    if (dir != NULL)
        g_dir_close(dir);
    g_assert_cmpint(g_remove(path), ==, 0);
}

static inline void fixture_clear(Fixture *fixture)
{
    remove_tree(fixture->directory);
    hv_root_free(fixture->root);
    g_free(fixture->directory);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Fixture, fixture_clear)

static inline char *make_parent(const Fixture *fixture, const char *path)
{
    char *real = g_strconcat(fixture->directory, path, NULL);
    g_autofree char *parent = g_path_get_dirname(real);
    g_assert_cmpint(g_mkdir_with_parents(parent, 0755), ==, 0);
    return real;
}

static inline void write_file(const Fixture *fixture, const char *path, const char *text)
{
    g_autofree char *real = make_parent(fixture, path);
    g_assert_true(g_file_set_contents(real, text, -1, NULL));
}

static inline HvSettings *load(const Fixture *fixture)
{
    g_autoptr(GError) error = NULL;
    HvSettings *settings = hv_settings_load(fixture->root, NULL, &error);
    g_assert_no_error(error);
    g_assert_nonnull(settings);
    return settings;
}

static inline HvSettings *load_text(const char *text)
{
    g_auto(Fixture) fixture;
    fixture_init(&fixture);
    write_file(&fixture, HUGEVM_CONF, text);
    return load(&fixture);
}

/* Asserts that loading fails; the expected message begins behind the fixture's directory. */
static inline void assert_load_refused(const Fixture *fixture, const char *message,
                                       const char *hint)
{
    g_autoptr(GError) error = NULL;
    g_assert_null(hv_settings_load(fixture->root, NULL, &error));
    g_assert_error(error, HV_ERROR, HV_ERROR_CONFIG);
    g_autofree char *first = hv_error_message(error);
    g_auto(GStrv) around = g_strsplit(first, fixture->directory, 2);
    g_autofree char *found = g_strjoinv("", around);
    g_assert_cmpstr(found, ==, message);
    g_assert_cmpstr(hv_error_hint(error), ==, hint);
}

static inline void assert_built_in_values(const HvSettings *settings)
{
    g_assert_true(settings->enabled);
    g_assert_false(settings->use_dynamic_hugepages);
    g_assert_true(settings->use_preallocated_hugepages);
    g_assert_cmpuint(settings->reserved->len, ==, 0);
    g_assert_false(settings->strict_page_size);
    g_assert_true(settings->shared_memory_auto);
    g_assert_cmpuint(settings->floor_host_kib, ==, 2 * 1024 * 1024);
    g_assert_cmpuint(settings->floor_node_percent, ==, 5);
    g_assert_cmpuint(settings->allocation_timeout_ms, ==, 60000);
    g_assert_cmpuint(settings->hook_timeout_ms, ==, 5000);
    g_assert_false(settings->drop_caches);
    g_assert_true(settings->compact);
    g_assert_cmpint(settings->demote, ==, HV_DEMOTE_OWN);
    g_assert_cmpuint(settings->file_backed_kib, ==, 0);
    g_assert_null(settings->memory_backing_dir);
    g_assert_cmpuint(settings->warnings->len, ==, 0);
}
