/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whose files settings are taken from: what somebody else may write is not believed. */
#include "settings-fixture.h"
#include "trust.h"

#include <sys/stat.h>
#include <unistd.h>

#define VDSM_DROP_IN "/run/vdsm/vdsm.conf.d/x.conf"
#define HUGEVM_DROP_IN "/etc/hugevm/hugevm.conf.d/x.conf"
#define SETS_TIMEOUT "[hugevm]\nallocation_timeout=1\n"
#define BUILT_IN_MS 60000
#define NOBODY 65534

static void set_mode(const Fixture *fixture, const char *path, guint mode)
{
    g_autofree char *real = g_strconcat(fixture->directory, path, NULL);
    g_assert_cmpint(chmod(real, mode), ==, 0);
}

static void assert_left_out(const Fixture *fixture, const char *path, const char *why)
{
    g_autoptr(HvSettings) settings = load(fixture);
    g_assert_cmpuint(settings->allocation_timeout_ms, ==, BUILT_IN_MS);
    g_assert_cmpuint(settings->warnings->len, ==, 1);
    const char *warning = g_ptr_array_index(settings->warnings, 0);
    g_assert_nonnull(strstr(warning, path));
    g_assert_nonnull(strstr(warning, why));
}

static void assert_refused(const Fixture *fixture, const char *path, const char *why)
{
    g_autoptr(GError) error = NULL;
    g_assert_null(hv_settings_load(fixture->root, NULL, &error));
    g_assert_error(error, HV_ERROR, HV_ERROR_CONFIG);
    g_assert_nonnull(strstr(error->message, path));
    g_assert_nonnull(strstr(error->message, why));
}

static void test_vdsm_drop_in_that_others_may_write(void)
{
    g_auto(Fixture) fixture;
    fixture_init(&fixture);
    write_file(&fixture, VDSM_DROP_IN, SETS_TIMEOUT);
    set_mode(&fixture, VDSM_DROP_IN, 0646);
    assert_left_out(&fixture, VDSM_DROP_IN, "others may write");
}

static void test_vdsm_directory_above_the_drop_ins_that_others_may_write(void)
{
    g_auto(Fixture) fixture;
    fixture_init(&fixture);
    write_file(&fixture, VDSM_DROP_IN, SETS_TIMEOUT);
    set_mode(&fixture, "/run/vdsm", 0777);
    assert_left_out(&fixture, "/run/vdsm", "others may write");
}

/* As /nix/store: whose a name in it is, stays so. */
static void test_sticky_directory_on_the_way(void)
{
    g_auto(Fixture) fixture;
    fixture_init(&fixture);
    write_file(&fixture, HUGEVM_DROP_IN, SETS_TIMEOUT);
    set_mode(&fixture, "/etc/hugevm", 01777);
    g_autoptr(HvSettings) settings = load(&fixture);
    g_assert_cmpuint(settings->allocation_timeout_ms, ==, 1000);
}

static void test_sticky_directory_of_drop_ins(void)
{
    g_auto(Fixture) fixture;
    fixture_init(&fixture);
    write_file(&fixture, VDSM_DROP_IN, SETS_TIMEOUT);
    set_mode(&fixture, "/run/vdsm/vdsm.conf.d", 01777);
    assert_left_out(&fixture, "/run/vdsm/vdsm.conf.d", "others may write");
}

/* /run/vdsm is there on each VDSM host, and vdsm's. */
static void test_nothing_in_a_directory_that_others_may_write_is_no_matter(void)
{
    g_auto(Fixture) fixture;
    fixture_init(&fixture);
    g_autofree char *pid_file = make_parent(&fixture, "/run/vdsm/vdsmd.pid");
    set_mode(&fixture, "/run/vdsm", 0777);
    g_autoptr(HvSettings) settings = load(&fixture);
    assert_built_in_values(settings);
}

static void test_vdsm_directory_of_another_user(void)
{
    g_auto(Fixture) fixture;
    fixture_init(&fixture);
    if (geteuid() != 0) {
        g_test_skip("only root can give a directory away");
        return;
    }
    write_file(&fixture, VDSM_DROP_IN, SETS_TIMEOUT);
    g_autofree char *real = g_strconcat(fixture.directory, "/run/vdsm", NULL);
    g_assert_cmpint(chown(real, NOBODY, NOBODY), ==, 0);
    assert_left_out(&fixture, "/run/vdsm", "belongs to user 65534");
}

/* As another user's directory would be, for a test that any user can run. */
static void test_link_into_a_directory_that_others_may_write(void)
{
    g_auto(Fixture) fixture;
    fixture_init(&fixture);
    write_file(&fixture, "/srv/x.conf", SETS_TIMEOUT);
    set_mode(&fixture, "/srv", 0777);
    g_autofree char *link = make_parent(&fixture, VDSM_DROP_IN);
    g_assert_cmpint(symlink("../../../srv/x.conf", link), ==, 0);
    assert_left_out(&fixture, "/srv", "others may write");
}

/* Both ends are ours; who made the link between may change it. */
static void test_link_through_a_directory_that_others_may_write(void)
{
    g_auto(Fixture) fixture;
    fixture_init(&fixture);
    write_file(&fixture, "/srv/x.conf", SETS_TIMEOUT);
    g_autofree char *between = make_parent(&fixture, "/run/vdsm/x");
    g_autofree char *link = make_parent(&fixture, HUGEVM_DROP_IN);
    g_assert_cmpint(symlink("../../srv/x.conf", between), ==, 0);
    g_assert_cmpint(symlink("../../../run/vdsm/x", link), ==, 0);
    g_autoptr(HvSettings) settings = load(&fixture);
    g_assert_cmpuint(settings->allocation_timeout_ms, ==, 1000);
    set_mode(&fixture, "/run/vdsm", 0777);
    assert_refused(&fixture, "/run/vdsm", "others may write");
}

static void test_links_in_a_circle(void)
{
    g_auto(Fixture) fixture;
    g_autoptr(GError) error = NULL;
    fixture_init(&fixture);
    g_autofree char *link = make_parent(&fixture, "/etc/a");
    g_assert_cmpint(symlink("a", link), ==, 0);
    g_assert_false(hv_trust_check(fixture.root, "/etc/a", &error));
    g_assert_nonnull(error);
}

static void test_link_to_a_file_of_our_own_is_followed(void)
{
    g_auto(Fixture) fixture;
    fixture_init(&fixture);
    write_file(&fixture, "/srv/x.conf", SETS_TIMEOUT);
    g_autofree char *link = make_parent(&fixture, HUGEVM_DROP_IN);
    g_assert_cmpint(symlink("../../../srv/x.conf", link), ==, 0);
    g_autoptr(HvSettings) settings = load(&fixture);
    g_assert_cmpuint(settings->allocation_timeout_ms, ==, 1000);
}

/* Reading one would wait for a writer. */
static void test_vdsm_fifo(void)
{
    g_auto(Fixture) fixture;
    fixture_init(&fixture);
    g_autofree char *fifo = make_parent(&fixture, VDSM_DROP_IN);
    g_assert_cmpint(mkfifo(fifo, 0600), ==, 0);
    assert_left_out(&fixture, VDSM_DROP_IN, "neither a file nor a directory");
}

static void test_hugevm_drop_in_that_others_may_write(void)
{
    g_auto(Fixture) fixture;
    fixture_init(&fixture);
    write_file(&fixture, HUGEVM_DROP_IN, SETS_TIMEOUT);
    set_mode(&fixture, HUGEVM_DROP_IN, 0666);
    assert_refused(&fixture, HUGEVM_DROP_IN, "others may write");
}

static void test_hugevm_directory_that_others_may_write(void)
{
    g_auto(Fixture) fixture;
    fixture_init(&fixture);
    write_file(&fixture, HUGEVM_CONF, SETS_TIMEOUT);
    set_mode(&fixture, "/etc/hugevm", 0777);
    assert_refused(&fixture, "/etc/hugevm", "others may write");
}

static void test_machine_itself(void)
{
    g_autoptr(HvRoot) machine = hv_root_new(NULL);
    g_autoptr(GError) error = NULL;
    g_assert_true(hv_trust_check(machine, "/etc/passwd", &error));
    g_assert_no_error(error);
    g_assert_false(hv_trust_check(machine, "/tmp", &error));
    g_assert_error(error, HV_ERROR, HV_ERROR_CONFIG);
    g_clear_error(&error);
    g_assert_false(hv_trust_check(machine, "/etc/hugevm-is-not-here/x", &error));
    g_assert_error(error, G_FILE_ERROR, G_FILE_ERROR_NOENT);
}

#define ADD(name) g_test_add_func("/trust/" #name, test_##name)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD(vdsm_drop_in_that_others_may_write);
    ADD(vdsm_directory_above_the_drop_ins_that_others_may_write);
    ADD(sticky_directory_on_the_way);
    ADD(sticky_directory_of_drop_ins);
    ADD(nothing_in_a_directory_that_others_may_write_is_no_matter);
    ADD(vdsm_directory_of_another_user);
    ADD(link_into_a_directory_that_others_may_write);
    ADD(link_through_a_directory_that_others_may_write);
    ADD(links_in_a_circle);
    ADD(link_to_a_file_of_our_own_is_followed);
    ADD(vdsm_fifo);
    ADD(hugevm_drop_in_that_others_may_write);
    ADD(hugevm_directory_that_others_may_write);
    ADD(machine_itself);
    return g_test_run();
}
