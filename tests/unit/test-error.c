/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "error.h"

#include <string.h>

static void assert_quoted(const char *text, const char *expected)
{
    g_autofree char *quoted = hv_quote(text);
    g_assert_cmpstr(quoted, ==, expected);
}

static void test_ordinary_text_stays_readable(void)
{
    assert_quoted("web-01", "'web-01'");
    assert_quoted("", "''");
    assert_quoted("two words; $(x) `y` \"z\"", "'two words; $(x) `y` \"z\"'");
    assert_quoted("Grüße 中文 🙂", "'Grüße 中文 🙂'");
}

static void test_no_text_is_told_from_empty_text(void)
{
    assert_quoted(NULL, "(none)");
}

static void test_quotes_cannot_end_early(void)
{
    assert_quoted("a' b", "'a\\x27 b'");
    assert_quoted("a\\x41", "'a\\x5cx41'");
}

static void test_terminal_escapes_are_shown(void)
{
    assert_quoted("\x1b[31mred\x1b[0m", "'\\x1b[31mred\\x1b[0m'");
    assert_quoted("\x1b]0;title\x07", "'\\x1b]0;title\\x07'");
    assert_quoted("a\b\b\rb\x7f", "'a\\x08\\x08\\x0db\\x7f'");
    assert_quoted("\xc2\x9b"
                  "31m",
                  "'\\xc2\\x9b31m'"); /* CSI as one C1 character */
}

static void test_line_ends_of_any_kind_are_shown(void)
{
    assert_quoted("a\nb\tc\vd\fe", "'a\\x0ab\\x09c\\x0bd\\x0ce'");
    assert_quoted("a\xc2\x85"
                  "b",
                  "'a\\xc2\\x85b'"); /* NEL */
}

static void test_format_characters_are_shown(void)
{
    static const char *const texts[] = {
        "\xe2\x80\xae",     /* RIGHT-TO-LEFT OVERRIDE */
        "\xe2\x81\xa6",     /* LEFT-TO-RIGHT ISOLATE */
        "\xe2\x80\x8b",     /* ZERO WIDTH SPACE */
        "\xe2\x80\x8f",     /* RIGHT-TO-LEFT MARK */
        "\xef\xbb\xbf",     /* BYTE ORDER MARK */
        "\xc2\xad",         /* SOFT HYPHEN */
        "\xf3\xa0\x80\x81", /* LANGUAGE TAG */
    };
    for (guint i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autofree char *quoted = hv_quote(texts[i]);
        for (const char *p = quoted; *p != '\0'; p++)
            g_assert_true((guchar)*p < 0x80);
        g_assert_cmpuint(strlen(quoted), ==, 2 + 4 * strlen(texts[i]));
    }
}

static void test_bytes_that_are_no_utf8_are_shown(void)
{
    assert_quoted("a\xff\xfe"
                  "b",
                  "'a\\xff\\xfeb'");
    assert_quoted("\x80", "'\\x80'");
    assert_quoted("\xc0\xaf", "'\\xc0\\xaf'");                   /* overlong '/' */
    assert_quoted("\xed\xa0\x80", "'\\xed\\xa0\\x80'");          /* a surrogate */
    assert_quoted("\xf4\x90\x80\x80", "'\\xf4\\x90\\x80\\x80'"); /* beyond Unicode */
    assert_quoted("ok\xe2\x82", "'ok\\xe2\\x82'");               /* cut in a character */
    assert_quoted("\xc3", "'\\xc3'");
}

static void test_long_text_is_cut_at_64_characters(void)
{
    g_autofree char *exact = g_strnfill(64, 'x');
    g_autofree char *longer = g_strnfill(65, 'x');
    g_autofree char *huge = g_strnfill(1024 * 1024, '\x1b');
    g_autofree char *quoted = hv_quote(exact);
    g_assert_cmpuint(strlen(quoted), ==, 66);
    g_autofree char *cut = hv_quote(longer);
    g_assert_true(g_str_has_suffix(cut, "x...'"));
    g_assert_cmpuint(strlen(cut), ==, 64 + 3 + 2);
    g_autofree char *escaped = hv_quote(huge);
    g_assert_cmpuint(strlen(escaped), ==, 64 * 4 + 3 + 2);
}

static void test_cut_never_splits_a_character(void)
{
    g_autoptr(GString) text = g_string_new(NULL);
    for (int i = 0; i < 70; i++)
        g_string_append(text, "中");
    g_autofree char *quoted = hv_quote(text->str);
    g_assert_true(g_utf8_validate(quoted, -1, NULL));
    g_assert_cmpint(g_utf8_strlen(quoted, -1), ==, 64 + 3 + 2);
}

/* U+2028 and U+2029 end a line for whoever splits lines by Unicode's rules. */
static void test_unicode_line_separators_are_shown(void)
{
    assert_quoted("a\xe2\x80\xa8z", "'a\\xe2\\x80\\xa8z'");
    assert_quoted("a\xe2\x80\xa9z", "'a\\xe2\\x80\\xa9z'");
}

/* Whatever the bytes, the result is one line of valid UTF-8 without control characters. */
static void test_any_bytes_give_one_clean_line(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(11);
    for (int round = 0; round < 20000; round++) {
        char text[24];
        gsize n = (gsize)g_rand_int_range(rand, 0, sizeof text);
        for (gsize i = 0; i < n; i++)
            text[i] = (char)g_rand_int_range(rand, 1, 256);
        text[n] = '\0';
        g_autofree char *quoted = hv_quote(text);
        g_assert_true(g_utf8_validate(quoted, -1, NULL));
        for (const char *p = quoted; *p != '\0'; p = g_utf8_next_char(p)) {
            gunichar c = g_utf8_get_char(p);
            g_assert_false(g_unichar_iscntrl(c));
            g_assert_cmpint(g_unichar_type(c), !=, G_UNICODE_FORMAT);
        }
    }
}

static void test_message_and_hint_are_told_apart(void)
{
    g_autoptr(GError) error = NULL;
    hv_set_error(&error, HV_ERROR_SHORTAGE, "do that", "%d pages", 5);
    g_assert_error(error, HV_ERROR, HV_ERROR_SHORTAGE);
    g_autofree char *message = hv_error_message(error);
    g_assert_cmpstr(message, ==, "5 pages");
    g_assert_cmpstr(hv_error_hint(error), ==, "do that");
}

static void test_error_without_hint_has_none(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GError) foreign = g_error_new_literal(G_FILE_ERROR, 0, "line\n");
    hv_set_error(&error, HV_ERROR_SYSTEM, NULL, "100%% sure");
    g_autofree char *message = hv_error_message(error);
    g_assert_cmpstr(message, ==, "100% sure");
    g_assert_null(hv_error_hint(error));
    g_assert_null(hv_error_hint(foreign));
}

static void test_nobody_need_ask_for_the_error(void)
{
    hv_set_error(NULL, HV_ERROR_SYSTEM, "hint", "message");
}

static void test_every_code_has_its_own_name(void)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
    for (HvErrorCode code = HV_ERROR_INVALID; code <= HV_ERROR_SYSTEM; code++)
        g_assert_true(g_hash_table_add(seen, (gpointer)hv_error_code_name(code)));
    g_assert_cmpstr(hv_error_code_name(HV_ERROR_SHORTAGE), ==, "shortage");
    g_assert_cmpstr(hv_error_code_name((HvErrorCode)999), ==, "system");
    g_assert_cmpstr(hv_error_code_name((HvErrorCode)-1), ==, "system");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/error/ordinary-text-stays-readable", test_ordinary_text_stays_readable);
    g_test_add_func("/error/no-text-is-told-from-empty-text", test_no_text_is_told_from_empty_text);
    g_test_add_func("/error/quotes-cannot-end-early", test_quotes_cannot_end_early);
    g_test_add_func("/error/terminal-escapes-are-shown", test_terminal_escapes_are_shown);
    g_test_add_func("/error/line-ends-of-any-kind-are-shown", test_line_ends_of_any_kind_are_shown);
    g_test_add_func("/error/format-characters-are-shown", test_format_characters_are_shown);
    g_test_add_func("/error/bytes-that-are-no-utf8-are-shown",
                    test_bytes_that_are_no_utf8_are_shown);
    g_test_add_func("/error/long-text-is-cut-at-64-characters",
                    test_long_text_is_cut_at_64_characters);
    g_test_add_func("/error/cut-never-splits-a-character", test_cut_never_splits_a_character);
    g_test_add_func("/error/any-bytes-give-one-clean-line", test_any_bytes_give_one_clean_line);
    g_test_add_func("/error/message-and-hint-are-told-apart", test_message_and_hint_are_told_apart);
    g_test_add_func("/error/error-without-hint-has-none", test_error_without_hint_has_none);
    g_test_add_func("/error/nobody-need-ask-for-the-error", test_nobody_need_ask_for_the_error);
    g_test_add_func("/error/every-code-has-its-own-name", test_every_code_has_its_own_name);
    g_test_add_func("/error/unicode-line-separators-are-shown",
                    test_unicode_line_separators_are_shown);
    return g_test_run();
}
