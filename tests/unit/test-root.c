/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "store-fixture.h"

#include <sys/wait.h>

static void test_paths_begin_at_the_root(void)
{
    static const struct {
        const char *directory, *path;
        gboolean is_machine;
    } cases[] = {{NULL, "/proc/x", TRUE},
                 {"", "/proc/x", TRUE},
                 {"/", "/proc/x", TRUE},
                 {"//", "/proc/x", TRUE},
                 {"/tmp/t", "/tmp/t/proc/x", FALSE},
                 {"/tmp/t//", "/tmp/t/proc/x", FALSE},
                 {"rel", "rel/proc/x", FALSE}};
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(HvRoot) root = hv_root_new(cases[i].directory);
        g_autofree char *path = hv_root_path(root, "/proc/x");
        g_assert_cmpstr(path, ==, cases[i].path);
        g_assert_true(hv_root_is_machine(root) == cases[i].is_machine);
    }
    hv_root_free(NULL);
}

static char *knob_path(const StoreFixture *fixture)
{
    return hv_root_path(fixture->root, "/sys/knob");
}

static void set_knob(const StoreFixture *fixture, const char *text)
{
    g_autofree char *path = knob_path(fixture);
    make_text(path, text);
}

static void test_written_number_is_the_whole_file(void)
{
    static const guint64 values[] = {123456, 0, 7, G_MAXUINT64, 1};
    g_auto(StoreFixture) fixture;
    fixture_init(&fixture);
    set_knob(&fixture, "99999999\n");
    for (guint i = 0; i < G_N_ELEMENTS(values); i++) {
        guint64 value = 42;
        g_assert_true(hv_root_write_u64(fixture.root, "/sys/knob", values[i], NULL));
        g_assert_true(hv_root_read_u64(fixture.root, "/sys/knob", &value, NULL));
        g_assert_cmpuint(value, ==, values[i]);
    }
}

static void test_write_makes_no_new_file(void)
{
    g_auto(StoreFixture) fixture;
    g_autoptr(GError) error = NULL;
    fixture_init(&fixture);
    g_assert_false(hv_root_write_u64(fixture.root, "/run/none", 1, &error));
    g_assert_error(error, G_FILE_ERROR, G_FILE_ERROR_NOENT);
    g_assert_nonnull(strstr(error->message, fixture.directory));
    g_assert_false(hv_root_exists(fixture.root, "/run/none"));
}

/* Runs the body as an unprivileged user, whoever runs the tests. */
static void as_nobody(void (*body)(const StoreFixture *fixture), const StoreFixture *fixture)
{
    int status;
    pid_t child = fork();
    g_assert_cmpint(child, >=, 0);
    if (child == 0) {
        if (geteuid() == 0)
            g_assert_cmpint(setresuid(65534, 65534, 65534), ==, 0);
        body(fixture);
        _exit(0);
    }
    g_assert_cmpint(waitpid(child, &status, 0), ==, child);
    g_assert_cmpint(status, ==, 0);
}

static void write_read_only(const StoreFixture *fixture)
{
    g_autoptr(GError) error = NULL;
    g_assert_false(hv_root_write_u64(fixture->root, "/sys/knob", 1, &error));
    g_assert_error(error, HV_ERROR, HV_ERROR_PERMISSION);
    g_assert_nonnull(strstr(error->message, "/sys/knob"));
    g_assert_cmpstr(hv_error_hint(error), ==, "run it as root");
}

static void read_secret(const StoreFixture *fixture)
{
    g_autoptr(GError) error = NULL;
    guint64 value = 42;
    g_assert_false(hv_root_read_u64(fixture->root, "/sys/knob", &value, &error));
    g_assert_error(error, HV_ERROR, HV_ERROR_PERMISSION);
    g_assert_cmpuint(value, ==, 42);
}

static void test_missing_permission_is_told_from_other_errors(void)
{
    g_auto(StoreFixture) fixture;
    fixture_init(&fixture);
    g_autofree char *path = knob_path(&fixture);
    set_knob(&fixture, "5\n");
    g_assert_cmpint(g_chmod(fixture.directory, 0755), ==, 0);
    g_assert_cmpint(g_chmod(path, 0444), ==, 0);
    as_nobody(write_read_only, &fixture);
    g_assert_cmpint(g_chmod(path, 0000), ==, 0);
    as_nobody(read_secret, &fixture);
}

static void test_fifo_does_not_hang(void)
{
    g_auto(StoreFixture) fixture;
    g_autoptr(GError) read_error = NULL;
    g_autoptr(GError) write_error = NULL;
    guint64 value = 42;
    fixture_init(&fixture);
    g_autofree char *path = hv_root_path(fixture.root, "/run/fifo");
    g_assert_cmpint(mkfifo(path, 0644), ==, 0);
    g_assert_false(hv_root_read_u64(fixture.root, "/run/fifo", &value, &read_error));
    g_assert_nonnull(read_error);
    g_assert_false(hv_root_write_u64(fixture.root, "/run/fifo", 1, &write_error));
    g_assert_nonnull(write_error);
}

static void test_text_is_bounded(void)
{
    g_auto(StoreFixture) fixture;
    g_autoptr(GError) error = NULL;
    fixture_init(&fixture);
    set_knob(&fixture, "12345678");
    g_autofree char *fits = hv_root_read_text(fixture.root, "/sys/knob", 8, NULL);
    g_assert_cmpstr(fits, ==, "12345678");
    g_assert_null(hv_root_read_text(fixture.root, "/sys/knob", 7, &error));
    g_assert_error(error, HV_ERROR, HV_ERROR_SYSTEM);
}

static void test_malformed_number_is_shown_in_quotes(void)
{
    g_auto(StoreFixture) fixture;
    g_autoptr(GError) error = NULL;
    guint64 value = 42;
    fixture_init(&fixture);
    set_knob(&fixture, "\x1b[2J");
    g_assert_false(hv_root_read_u64(fixture.root, "/sys/knob", &value, &error));
    g_assert_nonnull(strstr(error->message, "'\\x1b[2J'"));
    g_assert_cmpuint(value, ==, 42);
}

static void test_names_are_sorted(void)
{
    g_auto(StoreFixture) fixture;
    g_autoptr(GError) error = NULL;
    fixture_init(&fixture);
    static const char *const names[] = {"/d/node10", "/d/node2", "/d/.hidden", "/d/Z", "/d/a"};
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path = hv_root_path(fixture.root, names[i]);
        make_text(path, "");
    }
    g_auto(GStrv) found = hv_root_list(fixture.root, "/d", &error);
    g_assert_no_error(error);
    g_autofree char *all = g_strjoinv(" ", found);
    g_assert_cmpstr(all, ==, ".hidden Z a node10 node2");
}

static void test_missing_directory_is_empty(void)
{
    g_auto(StoreFixture) fixture;
    g_autoptr(GError) error = NULL;
    fixture_init(&fixture);
    g_auto(GStrv) found = hv_root_list(fixture.root, "/none", &error);
    g_assert_no_error(error);
    g_assert_cmpuint(g_strv_length(found), ==, 0);
    set_knob(&fixture, "");
    g_assert_null(hv_root_list(fixture.root, "/sys/knob", &error));
    g_assert_error(error, HV_ERROR, HV_ERROR_SYSTEM);
}

#define ADD(name, function) g_test_add_func("/root/" name, function)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("paths-begin-at-the-root", test_paths_begin_at_the_root);
    ADD("written-number-is-the-whole-file", test_written_number_is_the_whole_file);
    ADD("write-makes-no-new-file", test_write_makes_no_new_file);
    ADD("missing-permission-is-told-from-other-errors",
        test_missing_permission_is_told_from_other_errors);
    ADD("fifo-does-not-hang", test_fifo_does_not_hang);
    ADD("text-is-bounded", test_text_is_bounded);
    ADD("malformed-number-is-shown-in-quotes", test_malformed_number_is_shown_in_quotes);
    ADD("names-are-sorted", test_names_are_sorted);
    ADD("missing-directory-is-empty", test_missing_directory_is_empty);
    return g_test_run();
}
