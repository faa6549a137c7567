/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which files are read, in which order, and who wins. */
#include "settings-fixture.h"

#include <unistd.h>

#define NOBODY 65534

static const HvSettingOrigin *find_origin(const HvSettings *settings, const char *key)
{
    for (guint i = 0; i < settings->origins->len; i++) {
        const HvSettingOrigin *origin = g_ptr_array_index(settings->origins, i);
        if (strcmp(origin->key, key) == 0)
            return origin;
    }
    g_assert_not_reached();
}

static void assert_origin(const Fixture *fixture, const HvSettings *settings, const char *key,
                          const char *value, const char *path, guint line)
{
    const HvSettingOrigin *origin = find_origin(settings, key);
    g_autofree char *real = path != NULL ? g_strconcat(fixture->directory, path, NULL) : NULL;
    g_assert_cmpstr(origin->value, ==, value);
    g_assert_cmpstr(origin->file, ==, real);
    g_assert_cmpuint(origin->line, ==, line);
}

/* Writes a file that sets the timeout. */
static void write_timeout(const Fixture *fixture, const char *path, guint seconds)
{
    g_autofree char *text = g_strdup_printf("[hugevm]\nallocation_timeout=%u\n", seconds);
    write_file(fixture, path, text);
}

static void assert_timeout(const Fixture *fixture, guint seconds)
{
    g_autoptr(HvSettings) settings = load(fixture);
    g_assert_cmpuint(settings->allocation_timeout_ms, ==, seconds * 1000);
}

static void test_drop_in_overrides_main_file(void)
{
    g_auto(Fixture) fixture;
    fixture_init(&fixture);
    write_timeout(&fixture, VDSM_CONF, 1);
    assert_timeout(&fixture, 1);
    write_timeout(&fixture, "/usr/lib/vdsm/vdsm.conf.d/00.conf", 2);
    assert_timeout(&fixture, 2);
}

static void test_drop_ins_are_sorted_by_name_not_directory(void)
{
    g_auto(Fixture) fixture;
    fixture_init(&fixture);
    write_timeout(&fixture, "/etc/vdsm/vdsm.conf.d/10.conf", 1);
    write_timeout(&fixture, "/run/vdsm/vdsm.conf.d/20.conf", 2);
    write_timeout(&fixture, "/usr/lib/vdsm/vdsm.conf.d/30.conf", 3);
    assert_timeout(&fixture, 3);
    write_timeout(&fixture, "/run/vdsm/vdsm.conf.d/40.conf", 4);
    assert_timeout(&fixture, 4);
}

static void test_equal_names_are_read_in_order_of_directories(void)
{
    g_auto(Fixture) fixture;
    fixture_init(&fixture);
    write_timeout(&fixture, "/usr/lib/vdsm/vdsm.conf.d/10.conf", 1);
    write_timeout(&fixture, "/run/vdsm/vdsm.conf.d/10.conf", 2);
    assert_timeout(&fixture, 2);
    write_timeout(&fixture, "/etc/vdsm/vdsm.conf.d/10.conf", 3);
    assert_timeout(&fixture, 3);
}

static void test_hugevm_files_override_those_of_vdsm(void)
{
    g_auto(Fixture) fixture;
    fixture_init(&fixture);
    write_timeout(&fixture, "/etc/vdsm/vdsm.conf.d/99.conf", 1);
    write_timeout(&fixture, HUGEVM_CONF, 2);
    assert_timeout(&fixture, 2);
    write_timeout(&fixture, "/usr/lib/hugevm/hugevm.conf.d/00.conf", 3);
    assert_timeout(&fixture, 3);
    write_timeout(&fixture, "/run/hugevm/hugevm.conf.d/00.conf", 4);
    assert_timeout(&fixture, 4);
    write_timeout(&fixture, "/etc/hugevm/hugevm.conf.d/00.conf", 5);
    assert_timeout(&fixture, 5);
}

static void test_hidden_and_other_files_are_no_drop_ins(void)
{
    g_auto(Fixture) fixture;
    fixture_init(&fixture);
    write_timeout(&fixture, "/etc/hugevm/hugevm.conf.d/.50.conf", 1);
    write_timeout(&fixture, "/etc/hugevm/hugevm.conf.d/50.conf.rpmsave", 2);
    write_timeout(&fixture, "/etc/hugevm/hugevm.conf.d/README", 3);
    assert_timeout(&fixture, 60);
}

static void test_keys_of_several_files_add_up(void)
{
    g_auto(Fixture) fixture;
    fixture_init(&fixture);
    write_file(&fixture, HUGEVM_CONF, "[hugevm]\ndemote=any\ncompact=false\n");
    write_file(&fixture, "/etc/hugevm/hugevm.conf.d/1.conf", "[hugevm]\ncompact=true\n");
    g_autoptr(HvSettings) settings = load(&fixture);
    g_assert_cmpint(settings->demote, ==, HV_DEMOTE_ANY);
    g_assert_true(settings->compact);
}

static void test_overridden_bad_value_is_no_error(void)
{
    g_auto(Fixture) fixture;
    fixture_init(&fixture);
    write_file(&fixture, HUGEVM_CONF, "[hugevm]\ncompact=perhaps\n");
    write_file(&fixture, "/etc/hugevm/hugevm.conf.d/1.conf", "[hugevm]\ncompact=no\n");
    g_autoptr(HvSettings) settings = load(&fixture);
    g_assert_false(settings->compact);
}

static void test_empty_and_dangling_drop_ins_set_nothing(void)
{
    g_auto(Fixture) fixture;
    fixture_init(&fixture);
    write_file(&fixture, "/etc/hugevm/hugevm.conf.d/1.conf", "");
    g_autofree char *link = make_parent(&fixture, "/etc/hugevm/hugevm.conf.d/2.conf");
    g_assert_cmpint(symlink("/nonexistent/x", link), ==, 0);
    g_autoptr(HvSettings) settings = load(&fixture);
    assert_built_in_values(settings);
}

static void test_directory_in_place_of_a_file_is_refused(void)
{
    g_auto(Fixture) fixture;
    fixture_init(&fixture);
    write_timeout(&fixture, HUGEVM_CONF "/x", 1);
    g_autoptr(GError) error = NULL;
    g_assert_null(hv_settings_load(fixture.root, NULL, &error));
    g_assert_error(error, HV_ERROR, HV_ERROR_CONFIG);
    g_assert_nonnull(strstr(error->message, HUGEVM_CONF));
}

static void test_file_in_place_of_a_directory_is_refused(void)
{
    g_auto(Fixture) fixture;
    fixture_init(&fixture);
    write_timeout(&fixture, "/run/vdsm/vdsm.conf.d", 1);
    g_autoptr(GError) error = NULL;
    g_assert_null(hv_settings_load(fixture.root, NULL, &error));
    g_assert_error(error, HV_ERROR, HV_ERROR_CONFIG);
    g_assert_nonnull(strstr(error->message, "/run/vdsm/vdsm.conf.d"));
}

static void test_unreadable_file_is_refused(void)
{
    g_auto(Fixture) fixture;
    fixture_init(&fixture);
    write_timeout(&fixture, HUGEVM_CONF, 1);
    g_autofree char *real = g_strconcat(fixture.directory, HUGEVM_CONF, NULL);
    g_assert_cmpint(g_chmod(fixture.directory, 0755), ==, 0);
    g_assert_cmpint(g_chmod(real, 0), ==, 0);

    gboolean is_root = geteuid() == 0; /* whom no file mode stops */
    g_assert_cmpint(is_root ? seteuid(NOBODY) : 0, ==, 0);
    g_autoptr(GError) error = NULL;
    HvSettings *settings = hv_settings_load(fixture.root, NULL, &error);
    g_assert_cmpint(is_root ? seteuid(0) : 0, ==, 0);

    g_assert_null(settings);
    g_assert_error(error, HV_ERROR, HV_ERROR_PERMISSION);
    g_assert_nonnull(strstr(error->message, HUGEVM_CONF));
}

static void test_file_over_a_mebibyte_is_refused(void)
{
    g_auto(Fixture) fixture;
    fixture_init(&fixture);
    g_autofree char *text = g_strnfill(1024 * 1024 + 1, '#');
    write_file(&fixture, HUGEVM_CONF, text + 1);
    g_autoptr(HvSettings) settings = load(&fixture);
    assert_built_in_values(settings);
    write_file(&fixture, HUGEVM_CONF, text);
    g_autoptr(GError) error = NULL;
    g_assert_null(hv_settings_load(fixture.root, NULL, &error));
    g_assert_error(error, HV_ERROR, HV_ERROR_CONFIG);
}

static void test_control_characters_in_a_file_name_are_escaped(void)
{
    g_auto(Fixture) fixture;
    fixture_init(&fixture);
    write_file(&fixture, "/etc/hugevm/hugevm.conf.d/\n.conf", "x\n");
    g_autoptr(GError) error = NULL;
    g_assert_null(hv_settings_load(fixture.root, NULL, &error));
    g_assert_error(error, HV_ERROR, HV_ERROR_CONFIG);
    g_assert_nonnull(strstr(error->message, "stands before the first section header"));
    g_autofree char *first = hv_error_message(error);
    g_assert_nonnull(strstr(first, "stands before the first section header"));
}

static void test_named_files_replace_all_others(void)
{
    g_auto(Fixture) fixture;
    fixture_init(&fixture);
    write_file(&fixture, HUGEVM_CONF, "[hugevm]\ncompact=no\n");
    write_timeout(&fixture, "/one", 1);
    write_timeout(&fixture, "/two", 2);
    g_autofree char *one = g_strconcat(fixture.directory, "/one", NULL);
    g_autofree char *two = g_strconcat(fixture.directory, "/two", NULL);
    const char *files[] = {two, one, NULL};
    g_autoptr(HvSettings) settings = hv_settings_load(fixture.root, files, NULL);
    g_assert_nonnull(settings);
    g_assert_true(settings->compact);
    assert_origin(&fixture, settings, "allocation_timeout", "1", "/one", 2);
}

static void test_missing_named_file_is_refused(void)
{
    g_auto(Fixture) fixture;
    fixture_init(&fixture);
    const char *files[] = {"/nonexistent/hugevm.conf", NULL};
    g_autoptr(GError) error = NULL;
    g_assert_null(hv_settings_load(fixture.root, files, &error));
    g_assert_error(error, HV_ERROR, HV_ERROR_CONFIG);
    g_assert_cmpstr(error->message, ==, "there is no configuration file /nonexistent/hugevm.conf");
}

static void test_empty_list_of_files_gives_built_in_values(void)
{
    g_auto(Fixture) fixture;
    fixture_init(&fixture);
    write_file(&fixture, HUGEVM_CONF, "[hugevm]\ncompact=no\n");
    const char *files[] = {NULL};
    g_autoptr(HvSettings) settings = hv_settings_load(fixture.root, files, NULL);
    assert_built_in_values(settings);
}

static void test_every_key_has_one_origin(void)
{
    static const char *const names[] = {"use_dynamic_hugepages",
                                        "use_preallocated_hugepages",
                                        "reserved_hugepage_count",
                                        "reserved_hugepage_size",
                                        "enabled",
                                        "reserved",
                                        "strict_page_size",
                                        "shared_memory",
                                        "host_memory_floor",
                                        "allocation_timeout",
                                        "hook_timeout",
                                        "drop_caches",
                                        "compact",
                                        "demote",
                                        "bind_unbound",
                                        "handover",
                                        "incoming_page_sizes",
                                        "file_backed_memory",
                                        "memory_backing_dir"};
    g_autoptr(HvSettings) settings = hv_settings_new();
    g_assert_cmpuint(settings->origins->len, ==, G_N_ELEMENTS(names));
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        const HvSettingOrigin *origin = g_ptr_array_index(settings->origins, i);
        g_assert_cmpstr(origin->key, ==, names[i]);
        g_assert_cmpstr(origin->section, ==, i < 4 ? "performance" : "hugevm");
        g_assert_null(origin->file);
    }
}

static void test_origins_name_file_line_and_value_as_written(void)
{
    g_auto(Fixture) fixture;
    fixture_init(&fixture);
    write_file(&fixture, VDSM_CONF, "[performance]\n\nuse_dynamic_hugepages = Yes\n");
    write_file(&fixture, HUGEVM_CONF, "[performance]\nreserved_hugepages_count=7\n");
    g_autoptr(HvSettings) settings = load(&fixture);
    assert_origin(&fixture, settings, "use_dynamic_hugepages", "Yes", VDSM_CONF, 3);
    assert_origin(&fixture, settings, "reserved_hugepage_count", "7", HUGEVM_CONF, 2);
    assert_origin(&fixture, settings, "host_memory_floor", "2G,5%", NULL, 0);
}

#define DYNAMIC "[performance]\nuse_dynamic_hugepages="

static void test_vdsm_file_switches_hugevm_where_vdsm_is_absent(void)
{
    g_auto(Fixture) fixture;
    fixture_init(&fixture);
    write_file(&fixture, VDSM_CONF, DYNAMIC "true\n");
    g_autoptr(HvSettings) settings = load(&fixture);
    g_assert_true(settings->use_dynamic_hugepages);
    g_assert_cmpuint(settings->warnings->len, ==, 0);
}

static void test_switch_of_an_installed_vdsm_is_its_own(void)
{
    g_auto(Fixture) fixture;
    fixture_init(&fixture);
    write_file(&fixture, "/usr/share/vdsm/x", "");
    write_file(&fixture, "/etc/vdsm/vdsm.conf.d/1.conf", DYNAMIC "true\n");
    g_autoptr(HvSettings) settings = load(&fixture);
    g_assert_false(settings->use_dynamic_hugepages);
    assert_origin(&fixture, settings, "use_dynamic_hugepages", "false", NULL, 0);
    g_assert_cmpuint(settings->warnings->len, ==, 1);
    const char *warning = g_ptr_array_index(settings->warnings, 0);
    g_assert_true(g_str_has_prefix(warning, fixture.directory));
    g_assert_true(g_str_has_prefix(
        warning + strlen(fixture.directory),
        "/etc/vdsm/vdsm.conf.d/1.conf:2: use_dynamic_hugepages = true makes VDSM resize"));
}

static void test_hugevm_file_switches_beside_an_installed_vdsm(void)
{
    g_auto(Fixture) fixture;
    fixture_init(&fixture);
    write_file(&fixture, "/usr/share/vdsm/x", "");
    write_file(&fixture, VDSM_CONF, DYNAMIC "false\n");
    write_file(&fixture, HUGEVM_CONF, DYNAMIC "true\n");
    g_autoptr(HvSettings) settings = load(&fixture);
    g_assert_true(settings->use_dynamic_hugepages);
    g_assert_cmpuint(settings->warnings->len, ==, 0);
}

static void test_other_keys_of_an_installed_vdsm_count(void)
{
    g_auto(Fixture) fixture;
    fixture_init(&fixture);
    write_file(&fixture, "/usr/share/vdsm/x", "");
    write_file(&fixture, VDSM_CONF, "[performance]\nuse_preallocated_hugepages=no\n");
    g_autoptr(HvSettings) settings = load(&fixture);
    g_assert_false(settings->use_preallocated_hugepages);
}

static void test_named_file_switches_beside_an_installed_vdsm(void)
{
    g_auto(Fixture) fixture;
    fixture_init(&fixture);
    write_file(&fixture, "/usr/share/vdsm/x", "");
    write_file(&fixture, VDSM_CONF, DYNAMIC "true\n");
    g_autofree char *path = g_strconcat(fixture.directory, VDSM_CONF, NULL);
    const char *files[] = {path, NULL};
    g_autoptr(HvSettings) settings = hv_settings_load(fixture.root, files, NULL);
    g_assert_true(settings->use_dynamic_hugepages);
    g_assert_cmpuint(settings->warnings->len, ==, 0);
}

/*
 * The example configuration without the comment sign before what begins with
 * prefix: "#" for its keys, "#   " for its example.
 */
static char *read_example(const char *pattern)
{
    g_autofree char *path =
        g_test_build_filename(G_TEST_DIST, "..", "..", "data", "hugevm.conf", NULL);
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;
    g_file_get_contents(path, &text, NULL, &error);
    g_assert_no_error(error);
    g_autoptr(GRegex) regex = g_regex_new(pattern, G_REGEX_MULTILINE, 0, NULL);
    g_assert_nonnull(regex);
    return g_regex_replace(regex, text, -1, 0, "\\1", 0, NULL);
}

static void test_example_configuration_shows_every_built_in_value(void)
{
    g_auto(Fixture) fixture;
    fixture_init(&fixture);
    g_autofree char *text = read_example("^#([a-z_]+ =)");
    write_file(&fixture, HUGEVM_CONF, text);
    g_autoptr(HvSettings) settings = load(&fixture);
    g_autoptr(HvSettings) built_in = hv_settings_new();
    assert_built_in_values(settings);
    for (guint i = 0; i < built_in->origins->len; i++) {
        const HvSettingOrigin *expected = g_ptr_array_index(built_in->origins, i);
        const HvSettingOrigin *origin = g_ptr_array_index(settings->origins, i);
        g_assert_cmpstr(origin->value, ==, expected->value);
        g_assert_nonnull(origin->file);
    }
}

static void test_example_configuration_sets_nothing_as_it_is(void)
{
    g_auto(Fixture) fixture;
    fixture_init(&fixture);
    g_autofree char *text = read_example("^(\\[)");
    write_file(&fixture, HUGEVM_CONF, text);
    g_autoptr(HvSettings) settings = load(&fixture);
    g_assert_null(find_origin(settings, "compact")->file);
}

static void test_example_of_reserved_pages_is_valid(void)
{
    g_auto(Fixture) fixture;
    fixture_init(&fixture);
    g_autofree char *text = read_example("^#   (reserved =|    )");
    write_file(&fixture, HUGEVM_CONF, text);
    g_autoptr(HvSettings) settings = load(&fixture);
    g_assert_cmpuint(settings->reserved->len, ==, 3);
    g_assert_cmpuint(hv_settings_reserved_pages(settings, 1048576, 1, 2048), ==, 4);
}

#define ADD(name) g_test_add_func("/settings-files/" #name, test_##name)

static void add_order_tests(void)
{
    ADD(drop_in_overrides_main_file);
    ADD(drop_ins_are_sorted_by_name_not_directory);
    ADD(equal_names_are_read_in_order_of_directories);
    ADD(hugevm_files_override_those_of_vdsm);
    ADD(hidden_and_other_files_are_no_drop_ins);
    ADD(keys_of_several_files_add_up);
    ADD(overridden_bad_value_is_no_error);
}

static void add_unreadable_tests(void)
{
    ADD(empty_and_dangling_drop_ins_set_nothing);
    ADD(directory_in_place_of_a_file_is_refused);
    ADD(file_in_place_of_a_directory_is_refused);
    ADD(unreadable_file_is_refused);
    ADD(file_over_a_mebibyte_is_refused);
    ADD(control_characters_in_a_file_name_are_escaped);
}

static void add_origin_tests(void)
{
    ADD(named_files_replace_all_others);
    ADD(missing_named_file_is_refused);
    ADD(empty_list_of_files_gives_built_in_values);
    ADD(every_key_has_one_origin);
    ADD(origins_name_file_line_and_value_as_written);
}

static void add_vdsm_tests(void)
{
    ADD(vdsm_file_switches_hugevm_where_vdsm_is_absent);
    ADD(switch_of_an_installed_vdsm_is_its_own);
    ADD(hugevm_file_switches_beside_an_installed_vdsm);
    ADD(other_keys_of_an_installed_vdsm_count);
    ADD(named_file_switches_beside_an_installed_vdsm);
}

static void add_example_tests(void)
{
    ADD(example_configuration_shows_every_built_in_value);
    ADD(example_configuration_sets_nothing_as_it_is);
    ADD(example_of_reserved_pages_is_valid);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    add_order_tests();
    add_unreadable_tests();
    add_origin_tests();
    add_vdsm_tests();
    add_example_tests();
    return g_test_run();
}
