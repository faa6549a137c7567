/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Links and strange files under the names that the store uses. Whatever is refused,
 * and whatever is replaced: what a link points to stays as it is, and is not made.
 */
#include "store-fixture.h"

#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

#define SIZE_LOCK "size-2048.lock"
#define LIMIT_US (5 * G_USEC_PER_SEC)

static char *ledger_text(guint64 generation)
{
    g_autoptr(HvLedger) ledger = hv_ledger_new();
    ledger->last_generation = generation;
    return hv_ledger_to_json(ledger, BOOT_ID);
}

/* An error that names the file where it is refused; else none. */
static void assert_outcome(const GError *error, gboolean is_refused, const char *name)
{
    if (!is_refused) {
        g_assert_no_error(error);
        return;
    }
    g_autofree char *path = g_strconcat("/run/hugevm/", name, NULL);
    g_assert_error(error, HV_ERROR, HV_ERROR_LEDGER);
    if (strstr(error->message, path) == NULL)
        g_error("'%s' does not name %s", error->message, path);
}

/* A name, whether the ledger itself is there too, and who refuses a link or strange file there. */
typedef struct {
    const char *name;
    gboolean has_ledger;
    gboolean read_refused;
    gboolean begin_refused;
    gboolean size_lock_refused;
} Place;

static const Place places[] = {
    {LEDGER, FALSE, TRUE, TRUE, FALSE},        {LEDGER_COPY, FALSE, TRUE, TRUE, FALSE},
    {LEDGER_COPY, TRUE, FALSE, FALSE, FALSE}, /* a commit replaces it */
    {"ledger.new", TRUE, FALSE, FALSE, FALSE}, {"ledger.lock", TRUE, FALSE, TRUE, FALSE},
    {SIZE_LOCK, TRUE, FALSE, FALSE, TRUE},
};

/* Does all that a store does, with something planted at that place. */
static void use_store(const StoreFixture *fixture, const Place *place)
{
    g_autoptr(GError) read_error = NULL;
    g_autoptr(GError) begin_error = NULL;
    g_autoptr(GError) lock_error = NULL;
    g_autoptr(HvStore) store = open_store(fixture);
    gint64 start_us = g_get_monotonic_time();
    g_autoptr(HvLedger) ledger = hv_store_read(store, &read_error);
    assert_outcome(read_error, place->read_refused, place->name);
    g_assert_true(ledger == NULL || ledger->last_generation == 7);
    g_auto(HvFd) lock = hv_store_lock_size(store, 2048, seconds_from_now(1), &lock_error);
    assert_outcome(lock_error, place->size_lock_refused, place->name);
    {
        g_autoptr(HvTransaction) transaction =
            hv_transaction_begin(store, seconds_from_now(1), &begin_error);
        assert_outcome(begin_error, place->begin_refused, place->name);
        if (transaction != NULL) {
            g_assert_cmpuint(transaction->ledger->last_generation, ==, 7);
            g_assert_null(transaction->warning);
            transaction->ledger->last_generation = 8;
            commit(transaction);
            g_assert_cmpuint(read_generation(store), ==, 8);
        }
    }
    g_assert_cmpint(g_get_monotonic_time() - start_us, <, LIMIT_US);
}

static void make_store(const StoreFixture *fixture, const Place *place)
{
    {
        g_autoptr(HvStore) store = open_store(fixture);
    }
    g_autofree char *text = ledger_text(7);
    if (place->has_ledger)
        set_store_text(fixture, LEDGER, text);
}

/* The target would do as a ledger: were the link followed, the number would show it. */
static void test_link_is_not_followed(void)
{
    for (guint i = 0; i < G_N_ELEMENTS(places); i++) {
        g_auto(StoreFixture) fixture;
        fixture_init(&fixture);
        make_store(&fixture, &places[i]);
        g_autofree char *target = hv_root_path(fixture.root, "/outside");
        g_autofree char *path = store_path(&fixture, places[i].name);
        g_autofree char *text = ledger_text(99);
        g_autofree char *now = NULL;
        make_text(target, text);
        g_assert_cmpint(g_chmod(target, 0640), ==, 0);
        g_assert_cmpint(symlink(target, path), ==, 0);
        g_test_message("%s -> %s", path, target);
        use_store(&fixture, &places[i]);
        struct stat st;
        g_assert_cmpint(lstat(target, &st), ==, 0);
        g_assert_cmpuint(st.st_mode & 07777, ==, 0640);
        g_assert_true(g_file_get_contents(target, &now, NULL, NULL));
        g_assert_cmpstr(now, ==, text);
    }
}

static void test_target_of_a_dangling_link_is_not_made(void)
{
    for (guint i = 0; i < G_N_ELEMENTS(places); i++) {
        g_auto(StoreFixture) fixture;
        fixture_init(&fixture);
        make_store(&fixture, &places[i]);
        g_autofree char *target = hv_root_path(fixture.root, "/outside");
        g_autofree char *path = store_path(&fixture, places[i].name);
        g_assert_cmpint(symlink(target, path), ==, 0);
        g_test_message("%s -> %s", path, target);
        use_store(&fixture, &places[i]);
        g_assert_false(g_file_test(target, G_FILE_TEST_EXISTS));
    }
}

static void test_link_to_a_directory_is_not_followed(void)
{
    for (guint i = 0; i < G_N_ELEMENTS(places); i++) {
        g_auto(StoreFixture) fixture;
        fixture_init(&fixture);
        make_store(&fixture, &places[i]);
        g_autofree char *target = hv_root_path(fixture.root, "/outside");
        g_autofree char *path = store_path(&fixture, places[i].name);
        g_assert_cmpint(g_mkdir(target, 0755), ==, 0);
        g_assert_cmpint(symlink(target, path), ==, 0);
        g_test_message("%s -> %s", path, target);
        use_store(&fixture, &places[i]);
        g_assert_cmpint(g_rmdir(target), ==, 0); /* still a directory, and empty */
        g_assert_cmpint(g_mkdir(target, 0755), ==, 0);
    }
}

/* --- files that are none --------------------------------------------------------------------- */

static void plant_fifo(const char *path)
{
    g_assert_cmpint(mkfifo(path, 0644), ==, 0);
}

static void plant_socket(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    g_auto(HvFd) fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_assert_cmpuint(g_strlcpy(address.sun_path, path, sizeof address.sun_path), <,
                     sizeof address.sun_path);
    g_assert_cmpint(bind(fd, (struct sockaddr *)&address, sizeof address), ==, 0);
}

/* /dev/zero: to be read for ever. */
static void plant_device(const char *path)
{
    if (mknod(path, S_IFCHR | 0644, makedev(1, 5)) != 0)
        plant_fifo(path); /* not ours to make: all the others are tried */
}

static void plant_directory(const char *path)
{
    g_assert_cmpint(g_mkdir(path, 0755), ==, 0);
}

static void test_ledger_and_copy_that_are_no_files_are_refused(void)
{
    static void (*const plants[])(const char *) = {plant_fifo, plant_socket, plant_device,
                                                   plant_directory};
    for (guint i = 0; i < 2; i++)
        for (guint k = 0; k < G_N_ELEMENTS(plants); k++) {
            g_auto(StoreFixture) fixture;
            fixture_init(&fixture);
            make_store(&fixture, &places[i]);
            g_autofree char *path = store_path(&fixture, places[i].name);
            struct stat before, after;
            plants[k](path);
            g_assert_cmpint(lstat(path, &before), ==, 0);
            g_test_message("%s: %u", path, k);
            use_store(&fixture, &places[i]);
            g_assert_cmpint(lstat(path, &after), ==, 0);
            g_assert_cmpuint(after.st_ino, ==, before.st_ino);
            g_assert_cmpuint(after.st_mode, ==, before.st_mode);
        }
}

/* A directory cannot be replaced. The error must name it, and not the ledger, which is good. */
static void test_directory_in_the_way_of_a_commit_is_named(void)
{
    static const char *const names[] = {LEDGER_COPY, "ledger.new"};
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        g_auto(StoreFixture) fixture;
        g_autoptr(GError) error = NULL;
        fixture_init(&fixture);
        make_store(&fixture, &places[2]);
        g_autoptr(HvStore) store = open_store(&fixture);
        g_autofree char *path = store_path(&fixture, names[i]);
        plant_directory(path);
        g_autoptr(HvTransaction) transaction = begin(store);
        transaction->ledger->last_generation = 8;
        transaction->is_changed = TRUE;
        g_assert_false(hv_transaction_commit(transaction, &error));
        g_assert_cmpuint(read_generation(store), ==, 7);
        assert_outcome(error, TRUE, names[i]);
        g_assert_nonnull(hv_error_hint(error));
    }
}

/* --- the directory --------------------------------------------------------------------------- */

static void assert_directory_refused(const StoreFixture *fixture)
{
    for (int create = 0; create <= 1; create++) {
        g_autoptr(GError) error = NULL;
        g_assert_null(hv_store_open(fixture->root, create, &error));
        g_assert_error(error, HV_ERROR, HV_ERROR_LEDGER);
        g_assert_nonnull(strstr(error->message, "/run/hugevm"));
    }
}

static void test_link_instead_of_the_directory_is_not_followed(void)
{
    for (int exists = 0; exists <= 1; exists++) {
        g_auto(StoreFixture) fixture;
        fixture_init(&fixture);
        g_autofree char *target = hv_root_path(fixture.root, "/outside");
        g_autofree char *path = store_path(&fixture, "");
        if (exists)
            g_assert_cmpint(g_mkdir(target, 0700), ==, 0);
        g_assert_cmpint(symlink(target, path), ==, 0);
        assert_directory_refused(&fixture);
        struct stat st;
        g_assert_cmpint(lstat(target, &st), ==, exists ? 0 : -1);
        if (exists) {
            g_assert_cmpuint(st.st_mode & 07777, ==, 0700);
            g_assert_cmpint(g_rmdir(target), ==, 0); /* and empty */
        }
    }
}

static void test_directory_that_is_not_safe_is_left_as_it_is(void)
{
    static const guint modes[] = {0720, 0702, 0770, 0707, 0775, 0757, 0777, 01777, 02775, 03777};
    for (guint i = 0; i < G_N_ELEMENTS(modes); i++) {
        g_auto(StoreFixture) fixture;
        fixture_init(&fixture);
        g_autofree char *path = store_path(&fixture, "");
        g_assert_cmpint(g_mkdir(path, 0755), ==, 0);
        g_assert_cmpint(g_chmod(path, (int)modes[i]), ==, 0);
        assert_directory_refused(&fixture);
        g_assert_cmpuint(mode_of(&fixture, ""), ==, modes[i]);
        g_assert_cmpint(g_rmdir(path), ==, 0); /* empty */
    }
}

static void test_directory_of_another_user_is_left_as_it_is(void)
{
    if (geteuid() != 0) {
        g_test_skip("only root can give a directory away");
        return;
    }
    g_auto(StoreFixture) fixture;
    fixture_init(&fixture);
    g_autofree char *path = store_path(&fixture, "");
    struct stat st;
    g_assert_cmpint(g_mkdir(path, 0700), ==, 0);
    g_assert_cmpint(chown(path, 12345, 0), ==, 0);
    assert_directory_refused(&fixture);
    g_assert_cmpint(lstat(path, &st), ==, 0);
    g_assert_cmpuint(st.st_uid, ==, 12345);
    g_assert_cmpint(g_rmdir(path), ==, 0);
}

#define ADD(name, function) g_test_add_func("/store/planted/" name, function)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("link-is-not-followed", test_link_is_not_followed);
    ADD("target-of-a-dangling-link-is-not-made", test_target_of_a_dangling_link_is_not_made);
    ADD("link-to-a-directory-is-not-followed", test_link_to_a_directory_is_not_followed);
    ADD("ledger-and-copy-that-are-no-files-are-refused",
        test_ledger_and_copy_that_are_no_files_are_refused);
    ADD("directory-in-the-way-of-a-commit-is-named",
        test_directory_in_the_way_of_a_commit_is_named);
    ADD("link-instead-of-the-directory-is-not-followed",
        test_link_instead_of_the_directory_is_not_followed);
    ADD("directory-that-is-not-safe-is-left-as-it-is",
        test_directory_that_is_not_safe_is_left_as_it_is);
    ADD("directory-of-another-user-is-left-as-it-is",
        test_directory_of_another_user_is_left_as_it_is);
    return g_test_run();
}
