/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the values of each key mean; test-settings-files.c has the files' order. */
#include "settings-fixture.h"

static void assert_refused(const char *text, const char *message, const char *hint)
{
    g_auto(Fixture) fixture;
    fixture_init(&fixture);
    write_file(&fixture, HUGEVM_CONF, text);
    assert_load_refused(&fixture, message, hint);
}

/* One bad value of a key in line 2 of hugevm.conf. */
static void assert_bad_value(const char *section, const char *key, const char *value,
                             const char *allowed)
{
    g_autofree char *text = g_strdup_printf("[%s]\n%s = %s\n", section, key, value);
    g_autofree char *message = g_strdup_printf(HUGEVM_CONF ":2: [%s] %s is '%s'; allowed: %s",
                                               section, key, value, allowed);
    assert_refused(text, message, NULL);
}

static void test_built_in_values(void)
{
    g_autoptr(HvSettings) settings = hv_settings_new();
    assert_built_in_values(settings);
}

static void test_no_files_give_built_in_values(void)
{
    g_auto(Fixture) fixture;
    fixture_init(&fixture);
    g_autoptr(HvSettings) settings = load(&fixture);
    assert_built_in_values(settings);
}

static void test_free_accepts_null(void)
{
    hv_settings_free(NULL);
}

static void test_every_key_is_read(void)
{
    g_autoptr(HvSettings) settings =
        load_text("[performance]\nuse_dynamic_hugepages=true\nuse_preallocated_hugepages=false\n"
                  "[hugevm]\nstrict_page_size=true\nshared_memory=explicit\n"
                  "host_memory_floor=1G,20%\nallocation_timeout=90\ndrop_caches=true\n"
                  "compact=false\ndemote=any\nreserved=size:2M,count:3\nhook_timeout=7\n"
                  "enabled=false\n");
    g_assert_false(settings->enabled);
    g_assert_true(settings->use_dynamic_hugepages);
    g_assert_false(settings->use_preallocated_hugepages);
    g_assert_true(settings->strict_page_size);
    g_assert_false(settings->shared_memory_auto);
    g_assert_cmpuint(settings->floor_host_kib, ==, 1024 * 1024);
    g_assert_cmpuint(settings->floor_node_percent, ==, 20);
    g_assert_cmpuint(settings->allocation_timeout_ms, ==, 90000);
    g_assert_cmpuint(settings->hook_timeout_ms, ==, 7000);
    g_assert_true(settings->drop_caches);
    g_assert_false(settings->compact);
    g_assert_cmpint(settings->demote, ==, HV_DEMOTE_ANY);
    g_assert_cmpuint(settings->reserved->len, ==, 1);
}

static void test_booleans_as_configparser_reads_them(void)
{
    static const char *const words[] = {"1", "yes", "True", "ON", "0", "no", "FALSE", "Off"};
    for (guint i = 0; i < G_N_ELEMENTS(words); i++) {
        g_autofree char *text = g_strconcat("[hugevm]\ndrop_caches=", words[i], NULL);
        g_autoptr(HvSettings) settings = load_text(text);
        g_assert_cmpint(settings->drop_caches, ==, i < 4);
    }
}

static void test_other_words_are_no_booleans(void)
{
    static const char *const words[] = {"maybe", "2", "", "y", "true false"};
    for (guint i = 0; i < G_N_ELEMENTS(words); i++)
        assert_bad_value("hugevm", "compact", words[i], "true or false");
}

static void test_bad_value_of_vdsm_key_is_refused(void)
{
    assert_bad_value("performance", "use_dynamic_hugepages", "sure", "true or false");
    assert_bad_value("performance", "use_preallocated_hugepages", "2", "true or false");
    assert_bad_value("performance", "reserved_hugepages_count", "-1", "a number of pages");
    assert_bad_value("performance", "reserved_hugepage_size", "0",
                     "a page size in KiB, or with a suffix as in 2M or 1G, or none");
}

static void test_bad_choices_are_refused(void)
{
    assert_bad_value("hugevm", "shared_memory", "yes", "auto or explicit");
    assert_bad_value("hugevm", "demote", "all", "never, own or any");
    assert_bad_value("hugevm", "bind_unbound", "strict", "none, single-node or prefer");
    assert_bad_value("hugevm", "handover", "always", "auto or never");
    assert_bad_value("hugevm", "incoming_page_sizes", "true", "keep or adapt");
}

static void test_file_backed_memory_is_in_mib(void)
{
    g_autoptr(HvSettings) settings = load_text("[hugevm]\nfile_backed_memory = 1048576\n");
    g_assert_cmpuint(settings->file_backed_kib, ==, (guint64)1048576 * 1024);
    g_assert_null(settings->memory_backing_dir);
}

static void test_bad_file_backed_memory_is_refused(void)
{
    static const char allowed[] = "a number of MiB, or 0";
    assert_bad_value("hugevm", "file_backed_memory", "-1", allowed);
    assert_bad_value("hugevm", "file_backed_memory", "4G", allowed);
    assert_bad_value("hugevm", "file_backed_memory", "yes", allowed);
    assert_bad_value("hugevm", "file_backed_memory", "17592186044416", allowed); /* 2^64 bytes */
}

static void test_memory_backing_dir_is_an_absolute_path(void)
{
    static const char allowed[] = "an absolute path, without quotes and backslashes";
    g_autoptr(HvSettings) settings = load_text("[hugevm]\nmemory_backing_dir = /srv//vm ram/\n");
    g_assert_cmpstr(settings->memory_backing_dir, ==, "/srv/vm ram");
    assert_bad_value("hugevm", "memory_backing_dir", "srv/ram", allowed);
    assert_bad_value("hugevm", "memory_backing_dir", "/srv/\"ram\"", allowed);
}

static void test_demote_words(void)
{
    g_autoptr(HvSettings) never = load_text("[hugevm]\ndemote=never\n");
    g_autoptr(HvSettings) own = load_text("[hugevm]\ndemote=own\n");
    g_assert_cmpint(never->demote, ==, HV_DEMOTE_NEVER);
    g_assert_cmpint(own->demote, ==, HV_DEMOTE_OWN);
}

static void assert_floor(const char *value, guint64 host_kib, guint node_percent)
{
    g_autofree char *text = g_strconcat("[hugevm]\nhost_memory_floor=", value, NULL);
    g_autoptr(HvSettings) settings = load_text(text);
    g_assert_cmpuint(settings->floor_host_kib, ==, host_kib);
    g_assert_cmpuint(settings->floor_node_percent, ==, node_percent);
}

static void test_floor_forms(void)
{
    assert_floor("4096", 4096, 5);
    assert_floor("512M", 512 * 1024, 5);
    assert_floor("0", 0, 5);
    assert_floor("0,0%", 0, 0);
    assert_floor("1G, 90%", 1024 * 1024, 90);
    assert_floor("1G,7%%", 1024 * 1024, 7);
}

static void test_bad_floors_are_refused(void)
{
    static const char *const values[] = {"",   "2G,91%", "2G,",    ",5%",    "5%",
                                         "-1", "2G,5%x", "2G,5,6", "2G,%5%", "2G,5%%%"};
    for (guint i = 0; i < G_N_ELEMENTS(values); i++)
        assert_bad_value("hugevm", "host_memory_floor", values[i],
                         "SIZE[,PERCENT%], SIZE in KiB or as in 2G, PERCENT from 0 to 90");
}

static void test_timeout_bounds(void)
{
    g_autoptr(HvSettings) shortest = load_text("[hugevm]\nallocation_timeout=1\n");
    g_autoptr(HvSettings) longest = load_text("[hugevm]\nallocation_timeout=3600s\n");
    g_assert_cmpuint(shortest->allocation_timeout_ms, ==, 1000);
    g_assert_cmpuint(longest->allocation_timeout_ms, ==, 3600000);
}

static void test_bad_timeouts_are_refused(void)
{
    static const char *const values[] = {"0", "3601", "s", "", "5m", "1.5", "99999999999999999999"};
    for (guint i = 0; i < G_N_ELEMENTS(values); i++) {
        assert_bad_value("hugevm", "allocation_timeout", values[i], "seconds from 1 to 3600");
        assert_bad_value("hugevm", "hook_timeout", values[i], "seconds from 1 to 3600");
    }
}

static void assert_reserved(const HvSettings *settings, guint i, const char *name, guint64 size_kib,
                            guint64 count_pages, int node)
{
    g_assert_cmpuint(i, <, settings->reserved->len);
    const HvReserved *entry = &g_array_index(settings->reserved, HvReserved, i);
    g_assert_cmpstr(entry->name, ==, name);
    g_assert_cmpuint(entry->size_kib, ==, size_kib);
    g_assert_cmpuint(entry->count_pages, ==, count_pages);
    g_assert_cmpint(entry->node, ==, node);
}

static void test_reserved_entries_one_per_line(void)
{
    g_autoptr(HvSettings) settings = load_text("[hugevm]\nreserved =\n"
                                               "  ovs=size:1G,count:4,node:0\n"
                                               "\n"
                                               "  # SPDK\n"
                                               "  count:16,node:1023,size:2048\n"
                                               "  my-db.1 = size: 2M, count: 0\n");
    g_assert_cmpuint(settings->reserved->len, ==, 3);
    assert_reserved(settings, 0, "ovs", 1048576, 4, 0);
    assert_reserved(settings, 1, NULL, 2048, 16, 1023);
    assert_reserved(settings, 2, "my-db.1", 2048, 0, -1);
}

static void test_reserved_entry_in_the_key_line(void)
{
    g_autoptr(HvSettings) settings = load_text("[hugevm]\nreserved: a=size:2M,count:1\n");
    assert_reserved(settings, 0, "a", 2048, 1, -1);
}

static void test_reserved_entry_is_for_its_process_or_who_has_its_name(void)
{
    g_autoptr(HvSettings) settings = load_text("[hugevm]\nreserved =\n"
                                               "  ovs=size:2M,count:1,process: vswitchd_2\n"
                                               "  spdk=size:2M,count:1\n"
                                               "  size:2M,count:1\n");
    static const char *const processes[] = {"vswitchd_2", "spdk", NULL};
    for (guint i = 0; i < G_N_ELEMENTS(processes); i++)
        g_assert_cmpstr(g_array_index(settings->reserved, HvReserved, i).process, ==, processes[i]);
}

static void test_bad_reserved_entries_are_refused(void)
{
    static const char *const entries[] = {
        "size:2M",
        "count:64",
        "size:0,count:1",
        "size:2M,count:-1",
        "size:2M,count:",
        "size:2M,count:1,node:1024",
        "size:2M,count:1,node:0-1",
        "size:2M,count:1,node:0,node:1",
        "size:2M,count:1,count:2",
        "size:2M,size:1G,count:1",
        "size:2M,count:1,",
        "size:2M,count:1,pages:2",
        "size:2M,count",
        "=size:2M,count:1",
        "a b=size:2M,count:1",
        "a=b=size:2M,count:1",
        "size:2M,count:1,process:a",
        "a=size:2M,count:1,process:a b",
        "a=size:2M,count:1,process:",
        "a=size:2M,count:1,process:a,process:b",
        "size:2M,count:18446744073709551615",
    };
    for (guint i = 0; i < G_N_ELEMENTS(entries); i++) {
        g_autofree char *text =
            g_strdup_printf("[hugevm]\nreserved =\n  size:1G,count:1\n  %s\n", entries[i]);
        g_autofree char *message = g_strdup_printf(
            HUGEVM_CONF ":2: [hugevm] reserved has the entry '%s'; allowed: one entry per line, "
                        "[NAME=]size:SIZE,count:PAGES[,node:NODE][,process:PROCESS], SIZE above 0 "
                        "in KiB or as in 2M, NODE from 0 to 1023, NAME and PROCESS of letters, "
                        "digits, '.', '_' and '-', PROCESS only with a NAME",
            entries[i]);
        assert_refused(text, message, NULL);
    }
}

static void test_long_names_of_reserved_entries_are_refused(void)
{
    g_autofree char *name = g_strnfill(65, 'n');
    g_autofree char *text = g_strdup_printf("[hugevm]\nreserved = %s=size:2M,count:1", name);
    g_auto(Fixture) fixture;
    fixture_init(&fixture);
    write_file(&fixture, HUGEVM_CONF, text);
    g_autoptr(GError) error = NULL;
    g_assert_null(hv_settings_load(fixture.root, NULL, &error));
    g_assert_error(error, HV_ERROR, HV_ERROR_CONFIG);
}

static void test_performance_pair_is_one_reserved_entry(void)
{
    g_autoptr(HvSettings) settings =
        load_text("[performance]\nreserved_hugepage_count=9\nreserved_hugepage_size=1048576\n");
    g_assert_cmpuint(settings->reserved->len, ==, 1);
    assert_reserved(settings, 0, NULL, 1048576, 9, -1);
}

static void test_performance_size_takes_suffixes(void)
{
    g_autoptr(HvSettings) settings =
        load_text("[performance]\nreserved_hugepage_count=9\nreserved_hugepage_size=2M\n");
    assert_reserved(settings, 0, NULL, 2048, 9, -1);
}

static void test_performance_size_none_is_the_default_size(void)
{
    g_autoptr(HvSettings) settings =
        load_text("[performance]\nreserved_hugepage_count=9\nreserved_hugepage_size=None\n");
    assert_reserved(settings, 0, NULL, 0, 9, -1);
}

static void test_performance_count_of_zero_reserves_nothing(void)
{
    g_autoptr(HvSettings) settings = load_text("[performance]\nreserved_hugepage_size=2048\n");
    g_assert_cmpuint(settings->reserved->len, ==, 0);
}

static void test_later_spelling_of_a_pair_key_wins(void)
{
    g_autoptr(HvSettings) settings =
        load_text("[performance]\nreserved_hugepage_count=1\nreserved_hugepages_count=2\n"
                  "reserved_hugepages_size=4096\nreserved_hugepage_size=8192\n");
    assert_reserved(settings, 0, NULL, 8192, 2, -1);
}

static void test_reserved_replaces_the_pair_for_its_sizes(void)
{
    g_autoptr(HvSettings) settings =
        load_text("[performance]\nreserved_hugepage_count=9\nreserved_hugepage_size=2048\n"
                  "[hugevm]\nreserved=size:2M,count:1,node:0\n");
    g_assert_cmpuint(settings->reserved->len, ==, 1);
    assert_reserved(settings, 0, NULL, 2048, 1, 0);
}

static void test_reserved_keeps_the_pair_of_another_size(void)
{
    g_autoptr(HvSettings) settings =
        load_text("[performance]\nreserved_hugepage_count=9\nreserved_hugepage_size=2048\n"
                  "[hugevm]\nreserved=size:1G,count:1\n");
    g_assert_cmpuint(hv_settings_reserved_pages(settings, 2048, -1, 2048), ==, 9);
    g_assert_cmpuint(hv_settings_reserved_pages(settings, 1048576, -1, 2048), ==, 1);
}

static void test_reserved_pages_are_summed_per_size_and_node(void)
{
    g_autoptr(HvSettings) settings =
        load_text("[hugevm]\nreserved =\n size:2M,count:1\n size:2M,count:2\n"
                  " size:2M,count:4,node:0\n size:2M,count:8,node:1\n size:1G,count:16,node:0\n");
    g_assert_cmpuint(hv_settings_reserved_pages(settings, 2048, -1, 2048), ==, 3);
    g_assert_cmpuint(hv_settings_reserved_pages(settings, 2048, 0, 2048), ==, 4);
    g_assert_cmpuint(hv_settings_reserved_pages(settings, 2048, 1, 2048), ==, 8);
    g_assert_cmpuint(hv_settings_reserved_pages(settings, 2048, 2, 2048), ==, 0);
    g_assert_cmpuint(hv_settings_reserved_pages(settings, 1048576, 0, 2048), ==, 16);
}

static void test_entry_without_size_counts_for_the_default_size(void)
{
    g_autoptr(HvSettings) settings = load_text("[performance]\nreserved_hugepage_count=9\n");
    g_assert_cmpuint(hv_settings_reserved_pages(settings, 2048, -1, 2048), ==, 9);
    g_assert_cmpuint(hv_settings_reserved_pages(settings, 1048576, -1, 2048), ==, 0);
    g_assert_cmpuint(hv_settings_reserved_pages(settings, 1048576, -1, 1048576), ==, 9);
}

static void test_entry_without_size_yields_to_one_that_names_it(void)
{
    g_autoptr(HvSettings) settings = load_text("[performance]\nreserved_hugepage_count=9\n"
                                               "[hugevm]\nreserved=size:2M,count:1,node:0\n");
    g_assert_cmpuint(hv_settings_reserved_pages(settings, 2048, -1, 2048), ==, 0);
    g_assert_cmpuint(hv_settings_reserved_pages(settings, 1048576, -1, 1048576), ==, 9);
}

static void test_overflowing_sum_of_reserved_pages_is_the_maximum(void)
{
    g_autoptr(HvSettings) settings = load_text("[hugevm]\nreserved =\n"
                                               " size:1,count:18446744073709551614\n"
                                               " size:1,count:2\n");
    g_assert_cmpuint(hv_settings_reserved_pages(settings, 1, -1, 2048), ==, G_MAXUINT64);
}

static void test_unknown_key_is_refused_with_the_known_ones(void)
{
    assert_refused("[hugevm]\n\nfrobnicate = 1\n",
                   HUGEVM_CONF
                   ":3: there is no key 'frobnicate' in [hugevm]; known: enabled, reserved, "
                   "strict_page_size, shared_memory, host_memory_floor, "
                   "allocation_timeout, hook_timeout, drop_caches, compact, demote, bind_unbound, "
                   "handover, incoming_page_sizes, file_backed_memory, memory_backing_dir",
                   NULL);
}

static void assert_hint(const char *text, const char *hint)
{
    g_auto(Fixture) fixture;
    fixture_init(&fixture);
    write_file(&fixture, HUGEVM_CONF, text);
    g_autoptr(GError) error = NULL;
    g_assert_null(hv_settings_load(fixture.root, NULL, &error));
    g_assert_cmpstr(hv_error_hint(error), ==, hint);
}

static void test_misspelt_key_gets_a_suggestion(void)
{
    assert_hint("[hugevm]\nstrict_pagesize=1\n", "did you mean strict_page_size?");
    assert_hint("[hugevm]\nreservd=1\n", "did you mean reserved?");
}

static void test_long_unknown_key_gets_no_suggestion(void)
{
    g_autofree char *key = g_strnfill(500, 'k');
    g_autofree char *text = g_strdup_printf("[hugevm]\n%s=1\n", key);
    assert_hint(text, NULL);
}

static void test_vdsm_key_in_our_section_is_sent_to_its_own(void)
{
    assert_hint("[hugevm]\nuse_dynamic_hugepages=1\n",
                "use_dynamic_hugepages belongs in the section [performance]");
}

static void test_foreign_keys_and_sections_are_ignored(void)
{
    g_autoptr(HvSettings) settings =
        load_text("[vars]\nssl=maybe\n[performance]\nother=%(x\n[Hugevm]\nfoo=1\n");
    assert_built_in_values(settings);
}

static void test_bad_percent_in_our_value_is_refused(void)
{
    assert_refused("[hugevm]\ndemote = %any\n",
                   HUGEVM_CONF ":2: key 'demote' of section 'hugevm' has a percent sign without "
                               "a meaning at '%any'",
                   "write %% for a percent sign");
}

static void test_references_reach_default_and_built_in_values(void)
{
    g_autoptr(HvSettings) settings =
        load_text("[DEFAULT]\nwish=true\n[performance]\nuse_dynamic_hugepages=%(wish)s\n"
                  "[hugevm]\ndrop_caches=%(compact)s\n");
    g_assert_true(settings->use_dynamic_hugepages);
    g_assert_true(settings->drop_caches);
}

static void test_default_section_does_not_override_built_in_values(void)
{
    g_auto(Fixture) fixture;
    fixture_init(&fixture);
    write_file(&fixture, HUGEVM_CONF, "[DEFAULT]\ndrop_caches=true\nfoo=1\n");
    g_autoptr(HvSettings) settings = load(&fixture);
    g_assert_false(settings->drop_caches);
    g_assert_cmpuint(settings->warnings->len, ==, 1);
    g_assert_nonnull(strstr(g_ptr_array_index(settings->warnings, 0),
                            HUGEVM_CONF ":2: drop_caches has no effect in [DEFAULT]; "
                                        "set it in [hugevm]"));
}

static void test_syntax_error_names_file_and_line(void)
{
    assert_refused("[hugevm]\ncompact\n",
                   HUGEVM_CONF ":2: 'compact' is no section header, comment or key = value", NULL);
}

#define ADD(name) g_test_add_func("/settings/" #name, test_##name)

static void add_reserved_tests(void)
{
    ADD(reserved_entries_one_per_line);
    ADD(reserved_entry_in_the_key_line);
    ADD(reserved_entry_is_for_its_process_or_who_has_its_name);
    ADD(bad_reserved_entries_are_refused);
    ADD(long_names_of_reserved_entries_are_refused);
    ADD(performance_pair_is_one_reserved_entry);
    ADD(performance_size_takes_suffixes);
    ADD(performance_size_none_is_the_default_size);
    ADD(performance_count_of_zero_reserves_nothing);
    ADD(later_spelling_of_a_pair_key_wins);
    ADD(reserved_replaces_the_pair_for_its_sizes);
    ADD(reserved_keeps_the_pair_of_another_size);
    ADD(reserved_pages_are_summed_per_size_and_node);
    ADD(entry_without_size_counts_for_the_default_size);
    ADD(entry_without_size_yields_to_one_that_names_it);
    ADD(overflowing_sum_of_reserved_pages_is_the_maximum);
}

static void add_value_tests(void)
{
    ADD(built_in_values);
    ADD(no_files_give_built_in_values);
    ADD(free_accepts_null);
    ADD(every_key_is_read);
    ADD(booleans_as_configparser_reads_them);
    ADD(other_words_are_no_booleans);
    ADD(bad_value_of_vdsm_key_is_refused);
    ADD(bad_choices_are_refused);
    ADD(file_backed_memory_is_in_mib);
    ADD(bad_file_backed_memory_is_refused);
    ADD(memory_backing_dir_is_an_absolute_path);
    ADD(demote_words);
    ADD(floor_forms);
    ADD(bad_floors_are_refused);
    ADD(timeout_bounds);
    ADD(bad_timeouts_are_refused);
}

static void add_name_tests(void)
{
    ADD(unknown_key_is_refused_with_the_known_ones);
    ADD(misspelt_key_gets_a_suggestion);
    ADD(long_unknown_key_gets_no_suggestion);
    ADD(vdsm_key_in_our_section_is_sent_to_its_own);
    ADD(foreign_keys_and_sections_are_ignored);
    ADD(bad_percent_in_our_value_is_refused);
    ADD(references_reach_default_and_built_in_values);
    ADD(default_section_does_not_override_built_in_values);
    ADD(syntax_error_names_file_and_line);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    add_value_tests();
    add_reserved_tests();
    add_name_tests();
    return g_test_run();
}
