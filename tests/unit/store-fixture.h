/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A root directory with a boot id and /run, and a store in it. */
#pragma once

#include "store.h"

#include "error.h"
#include "ledger-json.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>

#define BOOT_ID "0b6b6e4c-0000-4000-8000-000000000001"
#define LEDGER "ledger.json"
#define LEDGER_COPY "ledger.copy.json"

typedef struct {
    char *directory;
    HvRoot *root;
} StoreFixture;

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

static inline void make_text(const char *path, const char *text)
{
    g_autofree char *parent = g_path_get_dirname(path);
    g_assert_cmpint(g_mkdir_with_parents(parent, 0755), ==, 0);
    g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

static inline void fixture_init(StoreFixture *fixture)
{
    fixture->directory = g_dir_make_tmp("hugevm-store-XXXXXX", NULL);
    g_assert_nonnull(fixture->directory);
    fixture->root = hv_root_new(fixture->directory);
    g_autofree char *boot_id = hv_root_path(fixture->root, "/proc/sys/kernel/random/boot_id");
    g_autofree char *run = hv_root_path(fixture->root, "/run");
    make_text(boot_id, BOOT_ID "\n");
    g_assert_cmpint(g_mkdir(run, 0755), ==, 0);
}

static inline void fixture_clear(StoreFixture *fixture)
{
    remove_tree(fixture->directory);
    hv_root_free(fixture->root);
    g_free(fixture->directory);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(StoreFixture, fixture_clear)

/* A path in /run/hugevm; "" is the directory itself. */
static inline char *store_path(const StoreFixture *fixture, const char *name)
{
    g_autofree char *path = g_strconcat("/run/hugevm", name[0] != '\0' ? "/" : "", name, NULL);
    return hv_root_path(fixture->root, path);
}

static inline guint mode_of(const StoreFixture *fixture, const char *name)
{
    struct stat st;
    g_autofree char *path = store_path(fixture, name);
    g_assert_cmpint(lstat(path, &st), ==, 0);
    return st.st_mode & 07777;
}

static inline char *store_text(const StoreFixture *fixture, const char *name)
{
    char *text = NULL;
    g_autofree char *path = store_path(fixture, name);
    g_file_get_contents(path, &text, NULL, NULL);
    return text;
}

static inline void set_store_text(const StoreFixture *fixture, const char *name, const char *text)
{
    g_autofree char *path = store_path(fixture, name);
    make_text(path, text);
}

static inline void remove_from_store(const StoreFixture *fixture, const char *name)
{
    g_autofree char *path = store_path(fixture, name);
    g_assert_cmpint(g_remove(path), ==, 0);
}

static inline HvStore *open_store(const StoreFixture *fixture)
{
    g_autoptr(GError) error = NULL;
    HvStore *store = hv_store_open(fixture->root, TRUE, &error);
    g_assert_no_error(error);
    g_assert_nonnull(store);
    return store;
}

static inline gint64 seconds_from_now(int seconds)
{
    return g_get_monotonic_time() + seconds * G_USEC_PER_SEC;
}

static inline HvTransaction *begin(HvStore *store)
{
    g_autoptr(GError) error = NULL;
    HvTransaction *transaction = hv_transaction_begin(store, seconds_from_now(30), &error);
    g_assert_no_error(error);
    g_assert_nonnull(transaction);
    return transaction;
}

static inline void commit(HvTransaction *transaction)
{
    g_autoptr(GError) error = NULL;
    transaction->is_changed = TRUE;
    gboolean is_good = hv_transaction_commit(transaction, &error);
    g_assert_no_error(error);
    g_assert_true(is_good);
}

/* One transaction that leaves last_generation at this number. */
static inline void write_generation(HvStore *store, guint64 generation)
{
    g_autoptr(HvTransaction) transaction = begin(store);
    transaction->ledger->last_generation = generation;
    commit(transaction);
}

static inline guint64 read_generation(HvStore *store)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(HvLedger) ledger = hv_store_read(store, &error);
    g_assert_no_error(error);
    return ledger->last_generation;
}
