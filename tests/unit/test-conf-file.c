/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "conf-file.h"

#include "error.h"

#include <string.h>

static GPtrArray *parse(const char *text)
{
    g_autoptr(GError) error = NULL;
    GPtrArray *entries = hv_conf_entries_new();
    gboolean ok = hv_conf_parse(text, strlen(text), "t.conf", entries, &error);
    g_assert_no_error(error);
    g_assert_true(ok);
    return entries;
}

static void assert_entry(const GPtrArray *entries, guint i, const char *section, const char *key,
                         const char *value)
{
    g_assert_cmpuint(i, <, entries->len);
    const HvConfEntry *entry = g_ptr_array_index(entries, i);
    g_assert_cmpstr(entry->section, ==, section);
    g_assert_cmpstr(entry->key, ==, key);
    g_assert_cmpstr(entry->value, ==, value);
}

static void assert_only(const char *text, const char *section, const char *key, const char *value)
{
    g_autoptr(GPtrArray) entries = parse(text);
    g_assert_cmpuint(entries->len, ==, 1);
    assert_entry(entries, 0, section, key, value);
}

static void assert_refused_bytes(const char *text, gsize n, const char *message)
{
    g_autoptr(GPtrArray) entries = hv_conf_entries_new();
    g_autoptr(GError) error = NULL;
    g_assert_false(hv_conf_parse(text, n, "t.conf", entries, &error));
    g_assert_error(error, HV_ERROR, HV_ERROR_CONFIG);
    g_autofree char *first = hv_error_message(error);
    g_assert_cmpstr(first, ==, message);
    g_assert_cmpuint(entries->len, ==, 0);
}

static void assert_refused(const char *text, const char *message)
{
    assert_refused_bytes(text, strlen(text), message);
}

static void test_empty_text_has_no_entries(void)
{
    g_autoptr(GPtrArray) entries = parse("");
    g_assert_cmpuint(entries->len, ==, 0);
}

static void test_both_delimiters(void)
{
    g_autoptr(GPtrArray) entries = parse("[s]\na=1\nb: 2\nc = 3:4\nd := 5\n");
    g_assert_cmpuint(entries->len, ==, 4);
    assert_entry(entries, 0, "s", "a", "1");
    assert_entry(entries, 1, "s", "b", "2");
    assert_entry(entries, 2, "s", "c", "3:4");
    assert_entry(entries, 3, "s", "d", "= 5");
}

static void test_keys_become_lower_case(void)
{
    assert_only("[s]\nUse_IT = Yes\n", "s", "use_it", "Yes");
}

static void test_sections_keep_their_case(void)
{
    g_autoptr(GPtrArray) entries = parse("[S]\na=1\n[s]\na=2\n");
    assert_entry(entries, 0, "S", "a", "1");
    assert_entry(entries, 1, "s", "a", "2");
}

static void test_comments_are_whole_lines(void)
{
    assert_only("# c\n[s]\n  ; c = 1\na=1\n# b=2\n", "s", "a", "1");
}

static void test_comment_signs_inside_a_value_belong_to_it(void)
{
    assert_only("[s]\na = 1 # x ; y\n", "s", "a", "1 # x ; y");
}

static void test_deeper_lines_continue_a_value(void)
{
    assert_only("[s]\na =\n  one\n\ttwo = 2\n [three]\n", "s", "a", "\none\ntwo = 2\n[three]");
}

static void test_equally_deep_line_is_a_new_key(void)
{
    g_autoptr(GPtrArray) entries = parse("[s]\n  a=1\n  b=2\n");
    g_assert_cmpuint(entries->len, ==, 2);
    assert_entry(entries, 1, "s", "b", "2");
}

static void test_empty_lines_inside_a_value_stay(void)
{
    assert_only("[s]\na = 1\n\n   \n  2\n", "s", "a", "1\n\n\n2");
}

static void test_empty_lines_behind_a_value_go(void)
{
    assert_only("[s]\na = 1\n\n\n", "s", "a", "1");
}

static void test_comments_inside_a_value_leave_no_trace(void)
{
    assert_only("[s]\na = 1\n  # c\n  2\n", "s", "a", "1\n2");
}

static void test_header_cannot_be_continued(void)
{
    assert_only("[s]\n    a=1\n", "s", "a", "1");
}

static void test_header_reaches_to_the_last_bracket(void)
{
    assert_only("[a]b] c\nk=1\n", "a]b", "k", "1");
}

static void test_all_line_ends_count(void)
{
    g_autoptr(GPtrArray) entries = parse("[s]\r\na=1\rb=2\nc=3");
    g_assert_cmpuint(entries->len, ==, 3);
    const HvConfEntry *last = g_ptr_array_index(entries, 2);
    g_assert_cmpuint(last->line, ==, 4);
    assert_entry(entries, 1, "s", "b", "2");
}

static void test_entry_knows_file_and_line_of_its_key(void)
{
    g_autoptr(GPtrArray) entries = parse("\n[s]\n\na=1\n  2\n");
    const HvConfEntry *entry = g_ptr_array_index(entries, 0);
    g_assert_cmpstr(entry->file, ==, "t.conf");
    g_assert_cmpuint(entry->line, ==, 4);
}

static void test_long_lines_are_kept_whole(void)
{
    g_autofree char *value = g_strnfill(10 * 1024, 'v');
    g_autofree char *text = g_strconcat("[s]\na=", value, "\n", NULL);
    assert_only(text, "s", "a", value);
}

static void test_text_needs_no_terminator(void)
{
    g_autoptr(GPtrArray) entries = hv_conf_entries_new();
    g_assert_true(hv_conf_parse("[s]\na=1xxxx", 7, "t.conf", entries, NULL));
    assert_entry(entries, 0, "s", "a", "1");
}

static void test_second_file_is_appended(void)
{
    g_autoptr(GPtrArray) entries = parse("[s]\na=1\n");
    g_autoptr(GError) error = NULL;
    g_assert_true(hv_conf_parse("[s]\na=2\n", 8, "u.conf", entries, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(entries->len, ==, 2);
    assert_entry(entries, 1, "s", "a", "2");
}

static void test_failed_file_leaves_the_entries_alone(void)
{
    g_autoptr(GPtrArray) entries = parse("[s]\na=1\n");
    g_assert_false(hv_conf_parse("[s]\nb=2\nc\n", 10, "u.conf", entries, NULL));
    g_assert_cmpuint(entries->len, ==, 1);
}

static void test_key_before_a_header_is_refused(void)
{
    assert_refused("\na=1\n", "t.conf:2: 'a=1' stands before the first section header");
}

static void test_key_without_delimiter_is_refused(void)
{
    assert_refused("[s]\nalone\n",
                   "t.conf:2: 'alone' is no section header, comment or key = value");
}

static void test_value_without_key_is_refused(void)
{
    assert_refused("[s]\n = 1\n", "t.conf:2: '= 1' has no key in front of the delimiter");
}

static void test_empty_section_name_is_refused(void)
{
    assert_refused("[s]\n[]\n", "t.conf:2: '[]' is no section header, comment or key = value");
}

static void test_section_twice_in_a_file_is_refused(void)
{
    assert_refused("[s]\n[t]\n[s]\n",
                   "t.conf:3: section 's' occurs a second time, first in line 1");
}

static void test_key_twice_in_a_section_is_refused(void)
{
    assert_refused("[s]\nkey=1\nKEY=1\n",
                   "t.conf:3: key 'key' of section 's' occurs a second time, first in line 2");
}

static void test_default_section_may_occur_twice(void)
{
    g_autoptr(GPtrArray) entries = parse("[DEFAULT]\na=1\n[DEFAULT]\nb=2\n");
    g_assert_cmpuint(entries->len, ==, 2);
}

static void test_key_twice_in_default_is_refused(void)
{
    assert_refused("[DEFAULT]\na=1\n[DEFAULT]\na=1\n",
                   "t.conf:4: key 'a' of section 'DEFAULT' occurs a second time, first in line 2");
}

static void test_nul_byte_is_refused(void)
{
    assert_refused_bytes("[s]\r\na=1\rb=\0\n", 13, "t.conf:3: there is a NUL byte");
}

static void test_invalid_utf8_is_refused(void)
{
    assert_refused("[s]\na=\xff\n", "t.conf:2: the text is not valid UTF-8");
}

static void test_control_characters_do_not_reach_the_message(void)
{
    assert_refused("[s]\nx\033[2Jy\n",
                   "t.conf:2: 'x\\x1b[2Jy' is no section header, comment or key = value");
}

/* The value of a section's last key in the text. */
static char *interpolate_last(const char *text, GError **error)
{
    g_autoptr(GPtrArray) entries = parse(text);
    return hv_conf_interpolate(entries, g_ptr_array_index(entries, entries->len - 1), error);
}

static void assert_value(const char *text, const char *value)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *found = interpolate_last(text, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(found, ==, value);
}

static void assert_no_value(const char *text, const char *message)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *found = interpolate_last(text, &error);
    g_assert_null(found);
    g_assert_error(error, HV_ERROR, HV_ERROR_CONFIG);
    g_autofree char *first = hv_error_message(error);
    g_assert_cmpstr(first, ==, message);
}

static void test_double_percent_is_a_percent_sign(void)
{
    assert_value("[s]\na = 5%%, %%(b)s\n", "5%, %(b)s");
}

static void test_reference_gives_the_other_value(void)
{
    assert_value("[s]\nb=1\na = <%(B)s>%(b)s\n", "<1>1");
}

static void test_reference_falls_back_to_default(void)
{
    assert_value("[DEFAULT]\nb=1\n[s]\na = %(b)s\n", "1");
}

static void test_section_comes_before_default(void)
{
    assert_value("[s]\nb=2\n[DEFAULT]\nb=1\n[t]\nb=3\na = %(b)s\n", "3");
}

static void test_reference_takes_the_latest_value(void)
{
    g_autoptr(GPtrArray) entries = parse("[s]\nb=1\na=%(b)s\n");
    g_assert_true(hv_conf_parse("[s]\nb=2\n", 8, "u.conf", entries, NULL));
    g_autofree char *value = hv_conf_interpolate(entries, g_ptr_array_index(entries, 1), NULL);
    g_assert_cmpstr(value, ==, "2");
}

static void test_bad_percent_is_no_error_until_asked_for(void)
{
    g_autoptr(GPtrArray) entries = parse("[s]\na=%\nb=1\n");
    g_autofree char *value = hv_conf_interpolate(entries, g_ptr_array_index(entries, 1), NULL);
    g_assert_cmpstr(value, ==, "1");
}

static void test_lone_percent_is_refused(void)
{
    assert_no_value(
        "[s]\na = 5% of it\n",
        "t.conf:2: key 'a' of section 's' has a percent sign without a meaning at '% of it'");
}

static void test_reference_without_end_is_refused(void)
{
    assert_no_value(
        "[s]\nb=1\na = %(b)\n",
        "t.conf:3: key 'a' of section 's' has a percent sign without a meaning at '%(b)'");
}

static void test_reference_to_nothing_is_refused(void)
{
    assert_no_value("[t]\nb=1\n[s]\na = %(b)s\n",
                    "t.conf:4: key 'a' of section 's' refers to a key that is not set: 'b'");
}

static void test_reference_to_itself_is_refused(void)
{
    assert_no_value(
        "[s]\na = %(a)s\n",
        "t.conf:2: key 'a' of section 's' is more than ten references away from '%(a)s'");
}

/* Keys k1..kN, each ten references to the one before it. */
static char *make_explosion(guint n, const char *seed)
{
    GString *text = g_string_new("[s]\nk0=");
    g_string_append_printf(text, "%s\n", seed);
    for (guint i = 1; i <= n; i++) {
        g_string_append_printf(text, "k%u=", i);
        for (guint j = 0; j < 10; j++)
            g_string_append_printf(text, "%%(k%u)s", i - 1);
        g_string_append_c(text, '\n');
    }
    return g_string_free(text, FALSE);
}

static void test_explosive_references_are_refused(void)
{
    g_autofree char *text = make_explosion(4, "");
    assert_no_value(text,
                    "t.conf:6: key 'k4' of section 's' becomes too long by its references to 'k2'");
}

static void test_explosive_length_is_refused(void)
{
    g_autofree char *seed = g_strnfill(100 * 1024, 'x');
    g_autofree char *text = make_explosion(2, seed);
    assert_no_value(text,
                    "t.conf:4: key 'k2' of section 's' becomes too long by its references to 'k0'");
}

#define ADD(name) g_test_add_func("/conf-file/" #name, test_##name)

static void add_syntax_tests(void)
{
    ADD(empty_text_has_no_entries);
    ADD(both_delimiters);
    ADD(keys_become_lower_case);
    ADD(sections_keep_their_case);
    ADD(comments_are_whole_lines);
    ADD(comment_signs_inside_a_value_belong_to_it);
    ADD(deeper_lines_continue_a_value);
    ADD(equally_deep_line_is_a_new_key);
    ADD(empty_lines_inside_a_value_stay);
    ADD(empty_lines_behind_a_value_go);
    ADD(comments_inside_a_value_leave_no_trace);
    ADD(header_cannot_be_continued);
    ADD(header_reaches_to_the_last_bracket);
    ADD(all_line_ends_count);
    ADD(entry_knows_file_and_line_of_its_key);
    ADD(long_lines_are_kept_whole);
    ADD(text_needs_no_terminator);
    ADD(second_file_is_appended);
    ADD(default_section_may_occur_twice);
}

static void add_refusal_tests(void)
{
    ADD(failed_file_leaves_the_entries_alone);
    ADD(key_before_a_header_is_refused);
    ADD(key_without_delimiter_is_refused);
    ADD(value_without_key_is_refused);
    ADD(empty_section_name_is_refused);
    ADD(section_twice_in_a_file_is_refused);
    ADD(key_twice_in_a_section_is_refused);
    ADD(key_twice_in_default_is_refused);
    ADD(nul_byte_is_refused);
    ADD(invalid_utf8_is_refused);
    ADD(control_characters_do_not_reach_the_message);
}

static void add_interpolation_tests(void)
{
    ADD(double_percent_is_a_percent_sign);
    ADD(reference_gives_the_other_value);
    ADD(reference_falls_back_to_default);
    ADD(section_comes_before_default);
    ADD(reference_takes_the_latest_value);
    ADD(bad_percent_is_no_error_until_asked_for);
    ADD(lone_percent_is_refused);
    ADD(reference_without_end_is_refused);
    ADD(reference_to_nothing_is_refused);
    ADD(reference_to_itself_is_refused);
    ADD(explosive_references_are_refused);
    ADD(explosive_length_is_refused);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    add_syntax_tests();
    add_refusal_tests();
    add_interpolation_tests();
    return g_test_run();
}
