/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A store that was tampered with, or whose files are damaged. */
#include "store-fixture.h"

/* Opens a store whose directory was put there by the caller. */
static void assert_open_refused(const StoreFixture *fixture, HvErrorCode code, const char *said)
{
    for (int create = 0; create <= 1; create++) {
        g_autoptr(GError) error = NULL;
        g_assert_null(hv_store_open(fixture->root, create, &error));
        g_assert_error(error, HV_ERROR, (gint)code);
        g_assert_nonnull(strstr(error->message, "/run/hugevm"));
        g_assert_nonnull(strstr(error->message, said));
    }
}

static void test_symlinked_directory_is_refused(void)
{
    g_auto(StoreFixture) fixture;
    fixture_init(&fixture);
    g_autofree char *path = store_path(&fixture, "");
    g_assert_cmpint(symlink(fixture.directory, path), ==, 0);
    assert_open_refused(&fixture, HV_ERROR_LEDGER, "");
}

static void test_file_in_place_of_the_directory_is_refused(void)
{
    g_auto(StoreFixture) fixture;
    fixture_init(&fixture);
    g_autofree char *path = store_path(&fixture, "");
    make_text(path, "");
    assert_open_refused(&fixture, HV_ERROR_LEDGER, "");
}

static void test_directory_that_others_may_write_is_refused(void)
{
    static const guint modes[] = {0757, 0775, 0777, 01777};
    for (guint i = 0; i < G_N_ELEMENTS(modes); i++) {
        g_auto(StoreFixture) fixture;
        fixture_init(&fixture);
        g_autofree char *path = store_path(&fixture, "");
        g_assert_cmpint(g_mkdir(path, 0755), ==, 0);
        g_assert_cmpint(g_chmod(path, (int)modes[i]), ==, 0);
        assert_open_refused(&fixture, HV_ERROR_LEDGER, "not safe");
    }
}

static void test_directory_of_another_user_is_refused(void)
{
    if (geteuid() != 0) {
        g_test_skip("only root can give a directory away");
        return;
    }
    g_auto(StoreFixture) fixture;
    fixture_init(&fixture);
    g_autofree char *path = store_path(&fixture, "");
    g_assert_cmpint(g_mkdir(path, 0755), ==, 0);
    g_assert_cmpint(chown(path, 12345, 12345), ==, 0);
    assert_open_refused(&fixture, HV_ERROR_LEDGER, "owner 12345");
}

static void test_missing_run_is_an_error_when_creating(void)
{
    g_auto(StoreFixture) fixture;
    g_autoptr(GError) error = NULL;
    fixture_init(&fixture);
    g_autofree char *run = hv_root_path(fixture.root, "/run");
    g_assert_cmpint(g_rmdir(run), ==, 0);
    g_assert_null(hv_store_open(fixture.root, TRUE, &error));
    g_assert_error(error, HV_ERROR, HV_ERROR_LEDGER);
}

typedef void (*Plant)(const char *path);

static void plant_symlink(const char *path)
{
    g_assert_cmpint(symlink("/etc/hostname", path), ==, 0);
}

static void plant_dangling_symlink(const char *path)
{
    g_assert_cmpint(symlink("nowhere", path), ==, 0);
}

static void plant_fifo(const char *path)
{
    g_assert_cmpint(mkfifo(path, 0644), ==, 0);
}

static void plant_directory(const char *path)
{
    g_assert_cmpint(g_mkdir(path, 0755), ==, 0);
}

static void assert_ledger_refused(HvStore *store)
{
    g_autoptr(GError) read_error = NULL;
    g_autoptr(GError) begin_error = NULL;
    g_assert_null(hv_store_read(store, &read_error));
    g_assert_error(read_error, HV_ERROR, HV_ERROR_LEDGER);
    g_assert_nonnull(strstr(read_error->message, LEDGER));
    g_assert_null(hv_transaction_begin(store, seconds_from_now(5), &begin_error));
    g_assert_error(begin_error, HV_ERROR, HV_ERROR_LEDGER);
}

/* Must be an error, and must not hang (a FIFO would, opened without O_NONBLOCK). */
static void test_ledger_that_is_no_file_is_refused(void)
{
    static const Plant plants[] = {plant_symlink, plant_dangling_symlink, plant_fifo,
                                   plant_directory};
    for (guint i = 0; i < G_N_ELEMENTS(plants); i++) {
        g_auto(StoreFixture) fixture;
        fixture_init(&fixture);
        g_autoptr(HvStore) store = open_store(&fixture);
        g_autofree char *path = store_path(&fixture, LEDGER);
        plants[i](path);
        assert_ledger_refused(store);
    }
}

static void test_lock_that_is_no_file_is_refused(void)
{
    static const Plant plants[] = {plant_symlink, plant_dangling_symlink, plant_directory};
    for (guint i = 0; i < G_N_ELEMENTS(plants); i++) {
        g_auto(StoreFixture) fixture;
        g_autoptr(GError) error = NULL;
        fixture_init(&fixture);
        g_autoptr(HvStore) store = open_store(&fixture);
        g_autofree char *path = store_path(&fixture, "ledger.lock");
        plants[i](path);
        g_assert_null(hv_transaction_begin(store, seconds_from_now(5), &error));
        g_assert_error(error, HV_ERROR, HV_ERROR_LEDGER);
        g_assert_nonnull(strstr(error->message, "ledger.lock"));
    }
}

static void test_ledger_that_cannot_be_replaced_fails_the_commit(void)
{
    g_auto(StoreFixture) fixture;
    g_autoptr(GError) error = NULL;
    fixture_init(&fixture);
    g_autoptr(HvStore) store = open_store(&fixture);
    g_autofree char *path = store_path(&fixture, LEDGER_COPY);
    write_generation(store, 3);
    g_assert_cmpint(g_remove(path), ==, 0);
    plant_directory(path);
    g_autoptr(HvTransaction) transaction = begin(store);
    transaction->is_changed = TRUE;
    g_assert_false(hv_transaction_commit(transaction, &error));
    g_assert_error(error, HV_ERROR, HV_ERROR_LEDGER);
    g_assert_cmpuint(read_generation(store), ==, 3);
}

/* Names in the directory that begin so. */
static guint count_files(const StoreFixture *fixture, const char *prefix)
{
    guint count = 0;
    g_autofree char *path = store_path(fixture, "");
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    for (const char *name; (name = g_dir_read_name(dir)) != NULL;)
        count += g_str_has_prefix(name, prefix);
    return count;
}

static void test_damaged_ledger_is_set_aside_and_its_copy_used(void)
{
    g_auto(StoreFixture) fixture;
    fixture_init(&fixture);
    g_autoptr(HvStore) store = open_store(&fixture);
    write_generation(store, 7);
    set_store_text(&fixture, LEDGER, "{ half");
    {
        g_autoptr(HvTransaction) transaction = begin(store);
        g_assert_cmpuint(transaction->ledger->last_generation, ==, 7);
        g_assert_nonnull(transaction->warning);
        g_assert_nonnull(strstr(transaction->warning, "second copy is used"));
        g_assert_nonnull(strstr(transaction->warning, "ledger.json.damaged-"));
        g_assert_true(hv_transaction_commit(transaction, NULL));
    }
    g_assert_cmpuint(count_files(&fixture, "ledger.json.damaged-"), ==, 1);
    g_assert_cmpuint(read_generation(store), ==, 7);
    g_autoptr(HvTransaction) again = begin(store);
    g_assert_null(again->warning);
}

static void test_two_damaged_files_begin_an_empty_ledger_and_say_so(void)
{
    g_auto(StoreFixture) fixture;
    fixture_init(&fixture);
    g_autoptr(HvStore) store = open_store(&fixture);
    set_store_text(&fixture, LEDGER, "{ half");
    set_store_text(&fixture, LEDGER_COPY, "");
    {
        g_autoptr(HvTransaction) transaction = begin(store);
        g_assert_cmpuint(transaction->ledger->last_generation, ==, 0);
        g_assert_nonnull(strstr(transaction->warning, "no good copy"));
        g_assert_true(hv_transaction_commit(transaction, NULL));
    }
    g_assert_cmpuint(read_generation(store), ==, 0);
    g_autofree char *copy = store_text(&fixture, LEDGER_COPY);
    g_autofree char *ledger = store_text(&fixture, LEDGER);
    g_assert_cmpstr(copy, ==, ledger);
}

static void test_damaged_copy_alone_does_no_harm(void)
{
    g_auto(StoreFixture) fixture;
    fixture_init(&fixture);
    g_autoptr(HvStore) store = open_store(&fixture);
    write_generation(store, 7);
    set_store_text(&fixture, LEDGER_COPY, "{ half");
    g_autoptr(HvTransaction) transaction = begin(store);
    g_assert_null(transaction->warning);
    g_assert_cmpuint(transaction->ledger->last_generation, ==, 7);
}

static void test_readers_say_that_the_ledger_is_damaged(void)
{
    g_auto(StoreFixture) fixture;
    g_autoptr(GError) error = NULL;
    fixture_init(&fixture);
    g_autoptr(HvStore) store = open_store(&fixture);
    set_store_text(&fixture, LEDGER, "{ half");
    g_assert_null(hv_store_read(store, &error));
    g_assert_error(error, HV_ERROR, HV_ERROR_LEDGER);
    g_assert_nonnull(strstr(error->message, "damaged"));
    g_assert_cmpuint(count_files(&fixture, "ledger.json.damaged-"), ==, 0);
}

static void test_copy_is_used_where_the_ledger_is_missing(void)
{
    g_auto(StoreFixture) fixture;
    fixture_init(&fixture);
    g_autoptr(HvStore) store = open_store(&fixture);
    write_generation(store, 7);
    remove_from_store(&fixture, LEDGER);
    g_autoptr(HvTransaction) transaction = begin(store);
    g_assert_cmpuint(transaction->ledger->last_generation, ==, 7);
}

static void test_ledger_of_another_boot_is_empty(void)
{
    g_auto(StoreFixture) fixture;
    fixture_init(&fixture);
    {
        g_autoptr(HvStore) store = open_store(&fixture);
        write_generation(store, 7);
    }
    g_autofree char *boot_id = hv_root_path(fixture.root, "/proc/sys/kernel/random/boot_id");
    make_text(boot_id, "0b6b6e4c-0000-4000-8000-000000000002\n");
    g_autoptr(HvStore) store = open_store(&fixture);
    g_assert_cmpuint(read_generation(store), ==, 0);
    g_autoptr(HvTransaction) transaction = begin(store);
    g_assert_null(transaction->warning);
    g_assert_cmpuint(transaction->ledger->last_generation, ==, 0);
}

static void test_newer_ledger_is_left_as_it_is(void)
{
    static const char newer[] = "{\"format\":2,\"boot_id\":\"" BOOT_ID "\"}";
    g_auto(StoreFixture) fixture;
    fixture_init(&fixture);
    g_autoptr(HvStore) store = open_store(&fixture);
    set_store_text(&fixture, LEDGER, newer);
    assert_ledger_refused(store);
    g_autofree char *text = store_text(&fixture, LEDGER);
    g_assert_cmpstr(text, ==, newer);
}

static void test_newer_copy_beside_a_damaged_ledger_is_left_as_it_is(void)
{
    static const char newer[] = "{\"format\":2,\"boot_id\":\"" BOOT_ID "\"}";
    g_auto(StoreFixture) fixture;
    g_autoptr(GError) error = NULL;
    fixture_init(&fixture);
    g_autoptr(HvStore) store = open_store(&fixture);
    set_store_text(&fixture, LEDGER, "{ half");
    set_store_text(&fixture, LEDGER_COPY, newer);
    g_assert_null(hv_transaction_begin(store, seconds_from_now(5), &error));
    g_assert_error(error, HV_ERROR, HV_ERROR_LEDGER);
    g_autofree char *text = store_text(&fixture, LEDGER_COPY);
    g_assert_cmpstr(text, ==, newer);
}

static void test_oversized_ledger_is_refused(void)
{
    g_auto(StoreFixture) fixture;
    fixture_init(&fixture);
    g_autoptr(HvStore) store = open_store(&fixture);
    g_autofree char *path = store_path(&fixture, LEDGER);
    make_text(path, "");
    g_assert_cmpint(truncate(path, (off_t)1 << 40), ==, 0); /* sparse */
    assert_ledger_refused(store);
}

/* A process that set a damaged ledger aside and was killed before it wrote the new one
 * leaves exactly this: what it knew must not be lost to those who only read. */
static void test_readers_see_the_copy_where_the_ledger_is_missing(void)
{
    g_auto(StoreFixture) fixture;
    fixture_init(&fixture);
    g_autoptr(HvStore) store = open_store(&fixture);
    write_generation(store, 7);
    remove_from_store(&fixture, LEDGER);
    g_assert_cmpuint(read_generation(store), ==, 7);
}

#define ADD(name, function) g_test_add_func("/store/damage/" name, function)

static void add_tests_of_places(void)
{
    ADD("symlinked-directory-is-refused", test_symlinked_directory_is_refused);
    ADD("file-in-place-of-the-directory-is-refused",
        test_file_in_place_of_the_directory_is_refused);
    ADD("directory-that-others-may-write-is-refused",
        test_directory_that_others_may_write_is_refused);
    ADD("directory-of-another-user-is-refused", test_directory_of_another_user_is_refused);
    ADD("missing-run-is-an-error-when-creating", test_missing_run_is_an_error_when_creating);
    ADD("ledger-that-is-no-file-is-refused", test_ledger_that_is_no_file_is_refused);
    ADD("lock-that-is-no-file-is-refused", test_lock_that_is_no_file_is_refused);
    ADD("ledger-that-cannot-be-replaced-fails-the-commit",
        test_ledger_that_cannot_be_replaced_fails_the_commit);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    add_tests_of_places();
    ADD("damaged-ledger-is-set-aside-and-its-copy-used",
        test_damaged_ledger_is_set_aside_and_its_copy_used);
    ADD("two-damaged-files-begin-an-empty-ledger-and-say-so",
        test_two_damaged_files_begin_an_empty_ledger_and_say_so);
    ADD("damaged-copy-alone-does-no-harm", test_damaged_copy_alone_does_no_harm);
    ADD("readers-say-that-the-ledger-is-damaged", test_readers_say_that_the_ledger_is_damaged);
    ADD("copy-is-used-where-the-ledger-is-missing", test_copy_is_used_where_the_ledger_is_missing);
    ADD("ledger-of-another-boot-is-empty", test_ledger_of_another_boot_is_empty);
    ADD("newer-ledger-is-left-as-it-is", test_newer_ledger_is_left_as_it_is);
    ADD("newer-copy-beside-a-damaged-ledger-is-left-as-it-is",
        test_newer_copy_beside_a_damaged_ledger_is_left_as_it_is);
    ADD("oversized-ledger-is-refused", test_oversized_ledger_is_refused);
    ADD("readers-see-the-copy-where-the-ledger-is-missing",
        test_readers_see_the_copy_where_the_ledger_is_missing);
    return g_test_run();
}
