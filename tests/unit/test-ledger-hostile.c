/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Ledgers that no hugevm has written, and that cannot be one: each is set aside as it is. */
#include "hostile-ledger.h"

static const char *const numbers[] = {
    "last_generation", "node",         "size_kib",   "grown_pages", "persistent_pages",
    "before_pages",    "target_pages", "generation", "pid",         "start_ticks",
    "pages",           "major",        "minor",      "inode"};

/* The sound ledger is one: else everything below would be set aside whatever is in it. */
static void test_sound_ledger_is_not_set_aside(void)
{
    g_auto(StoreFixture) fixture;
    fixture_init(&fixture);
    g_autoptr(HvStore) store = open_store(&fixture);
    for (guint i = 0; i < G_N_ELEMENTS(numbers); i++) {
        g_autofree char *text = text_with(numbers[i], "1");
        set_store_text(&fixture, LEDGER, text);
        g_autoptr(HvTransaction) transaction = begin(store);
        g_assert_null(transaction->warning);
        g_assert_cmpuint(transaction->ledger->claims->len, ==, 1);
    }
}

static void test_number_that_is_none_is_set_aside(void)
{
    static const char *const values[] = {"-1",
                                         "-9223372036854775808",
                                         "9223372036854775808",
                                         "18446744073709551615",
                                         "18446744073709551616",
                                         "1e400",
                                         "7.0",
                                         "1e3",
                                         "\"7\"",
                                         "NaN",
                                         "-Infinity",
                                         "7 7",
                                         "+7"};
    for (guint i = 0; i < G_N_ELEMENTS(numbers); i++)
        for (guint k = 0; k < G_N_ELEMENTS(values); k++)
            assert_value_set_aside(numbers[i], values[k]);
}

/* A sign before more than 63 bits must not make a positive number of them. */
static void test_negative_number_beyond_all_is_set_aside(void)
{
    assert_value_set_aside("pages", "-9223372036854775809");
    assert_value_set_aside("grown_pages", "-18446744073709551615");
    assert_value_set_aside("generation", "-36893488147419103232");
}

static void test_uuid_that_is_none_is_set_aside(void)
{
    static const char *const values[] = {
        "",
        " ",
        "../../etc",
        "../../../../../../../../../../etc/passwd",
        "..",
        "/",
        "%s%n%s%n",
        "{" A "}",
        " " A,
        A " ",
        A "\\n",
        A "\\t",
        A "/../x",
        "00000000-0000-4000-8000-00000000000A",
        "0000000000004000800000000000000a",
        "00000000 0000 4000 8000 00000000000a",
        "00000000-0000-4000-8000-00000000000",
        "00000000-0000-4000-8000-00000000000a0",
        "00000000-0000-4000-8000-00000000000g",
        "00000000-0000-4000-8000-0000000\\u0007000a",
        "\\u0000" A,
        "\\u001b[31m" A,
        "\\uff10" A,
    };
    g_autofree char *long_one = g_strnfill(1024 * 1024, 'a');
    g_autofree char *quoted_long_one = g_strdup_printf("\"%s\"", long_one);
    for (guint i = 0; i < G_N_ELEMENTS(values); i++) {
        g_autofree char *quoted = g_strdup_printf("\"%s\"", values[i]);
        assert_value_set_aside("uuid", quoted);
    }
    assert_value_set_aside("uuid", quoted_long_one);
}

static void test_state_that_is_none_is_set_aside(void)
{
    static const char *const values[] = {"\"\"",         "\"unknown\"",  "\"CLAIMED\"",
                                         "\"claimed \"", "\"\\u0000\"",  "4",
                                         "null",         "[\"running\"]"};
    for (guint i = 0; i < G_N_ELEMENTS(values); i++)
        assert_value_set_aside("state", values[i]);
}

static void test_list_of_nonsense_is_set_aside(void)
{
    static const char *const lists[] = {"files", "needs", "grown", "intents", "claims"};
    static const char *const elements[] = {
        "0",   "null",    "\"/etc/passwd\"", "[]",  "{}", "[[],[]]", "-1",
        "1.5", "{},{},1", "{\"inode\":77}",  "true"};
    for (guint i = 0; i < G_N_ELEMENTS(lists); i++)
        for (guint k = 0; k < G_N_ELEMENTS(elements); k++) {
            /* what was in the list goes to a member that nobody reads */
            g_autofree char *value = g_strdup_printf("[%s], \"was_%s\" : [", elements[k], lists[i]);
            assert_value_set_aside(lists[i], value);
        }
}

static void repeat_uuid(HvLedger *ledger)
{
    add_claim(ledger, A, HV_CLAIM_CLAIMED, 1);
}

static void repeat_generation(HvLedger *ledger)
{
    add_claim(ledger, B, HV_CLAIM_CLAIMED, 1);
    hv_ledger_claim(ledger, B)->generation = hv_ledger_claim(ledger, A)->generation;
}

static void repeat_generation_of_one_that_drains(HvLedger *ledger)
{
    repeat_generation(ledger);
    hv_ledger_claim(ledger, A)->state = HV_CLAIM_DRAINING;
}

static void repeat_grown(HvLedger *ledger)
{
    add_grown(ledger, 0, 7, 96);
}

static void repeat_grown_with_others_between(HvLedger *ledger)
{
    add_grown(ledger, 1, 7, 96);
    add_grown(ledger, 2, 7, 96);
    add_grown(ledger, 0, MOST, MOST);
}

static void repeat_intent(HvLedger *ledger)
{
    add_intent(ledger, 0, 0, MOST);
}

static void test_repeated_entry_is_set_aside(void)
{
    static void (*const repeats[])(HvLedger *) = {repeat_uuid,
                                                  repeat_generation,
                                                  repeat_generation_of_one_that_drains,
                                                  repeat_grown,
                                                  repeat_grown_with_others_between,
                                                  repeat_intent};
    for (guint i = 0; i < G_N_ELEMENTS(repeats); i++) {
        g_autoptr(HvLedger) ledger = sound_ledger();
        repeats[i](ledger);
        g_autofree char *text = hv_ledger_to_json(ledger, BOOT_ID);
        g_test_message("repeat %u", i);
        assert_text_set_aside(text);
    }
}

/* A VM that starts again while others still map its old memory has two claims, and may. */
static void test_second_claim_beside_one_that_drains_is_sound(void)
{
    g_auto(StoreFixture) fixture;
    fixture_init(&fixture);
    g_autoptr(HvLedger) ledger = sound_ledger();
    hv_ledger_claim(ledger, A)->state = HV_CLAIM_DRAINING;
    repeat_uuid(ledger);
    g_autofree char *text = hv_ledger_to_json(ledger, BOOT_ID);
    g_autoptr(HvStore) store = open_store(&fixture);
    set_store_text(&fixture, LEDGER, text);
    g_autoptr(HvTransaction) transaction = begin(store);
    g_assert_null(transaction->warning);
    g_assert_cmpuint(transaction->ledger->claims->len, ==, 2);
}

/* --- bytes that are no text ------------------------------------------------------------------ */

static void test_nul_bytes_are_set_aside(void)
{
    g_autofree char *text = text_with("pages", "40");
    gsize size = strlen(text);
    const gsize places[] = {0, 1, size / 2, size - 1};
    for (guint i = 0; i < G_N_ELEMENTS(places); i++) {
        g_autoptr(GString) bytes = g_string_new(text);
        bytes->str[places[i]] = '\0';
        g_test_message("NUL at %zu", (size_t)places[i]);
        assert_set_aside(bytes);
    }
}

/* What stands behind a NUL is not read: so it must not pass for a ledger without it. */
static void test_nul_behind_a_ledger_is_set_aside(void)
{
    g_autofree char *text = text_with("pages", "40");
    g_autoptr(GString) bytes = g_string_new(text);
    g_string_append_len(bytes, "\0{\"claims\"", 11);
    assert_set_aside(bytes);
}

static void test_text_that_is_no_utf8_is_set_aside(void)
{
    static const char *const members[] = {"name",  "owner_name", "uuid",
                                          "state", "nodes",      "boot_id"};
    static const char *const values[] = {"\"\xff\xfe\"",     "\"\xc0\xaf\"",     "\"\xe2\x80\"",
                                         "\"\xed\xa0\x80\"", "\"\xf8\x88\x80\"", "\"\xfc\"",
                                         "\"\x80\""};
    for (guint i = 0; i < G_N_ELEMENTS(members); i++)
        for (guint k = 0; k < G_N_ELEMENTS(values); k++)
            assert_value_set_aside(members[i], values[k]);
}

/* An escape can smuggle in bytes that are no UTF-8, which every report would pass on. */
static void test_half_a_surrogate_is_set_aside(void)
{
    static const char *const values[] = {"\"\\ud800\"", "\"\\udc00\"",  "\"\\ud800\\ud800\"",
                                         "\"\\u12\"",   "\"\\ud800x\"", "\"\\udbff\\n\""};
    for (guint k = 0; k < G_N_ELEMENTS(values); k++) {
        assert_value_set_aside("name", values[k]);
        assert_value_set_aside("owner_name", values[k]);
    }
}

/* --- deep and large -------------------------------------------------------------------------- */

#define DEPTH (512 * 1024) /* far more than a stack of 8 MiB has room for */

static void append_repeated(GString *out, const char *text, guint count)
{
    for (guint i = 0; i < count; i++)
        g_string_append(out, text);
}

static void test_deep_nesting_is_set_aside(void)
{
    static const char *const levels[] = {"[", "{\"a\":", "[{\"a\":", "[[],", "[\"[\","};
    for (guint i = 0; i < G_N_ELEMENTS(levels); i++) {
        g_autoptr(GString) bytes = g_string_new(NULL);
        append_repeated(bytes, levels[i], DEPTH);
        g_autofree char *in_a_claim = text_with("name", bytes->str);
        g_test_message("levels of %s", levels[i]);
        assert_set_aside(bytes);
        assert_text_set_aside(in_a_claim);
    }
}

/* Comments and other strings than JSON's, which a lenient reader takes: a quote in one of them
 * must not hide what nests behind it. */
static void test_nesting_hidden_by_a_quote_is_set_aside(void)
{
    static const char *const covers[] = {"/* \" */", "/* \\\" */", "// \"\n", "# \"\n",
                                         "'\"'",     "'\\\"'",     "\"\\",    "\"\\\\"};
    for (guint i = 0; i < G_N_ELEMENTS(covers); i++) {
        g_autoptr(GString) bytes = g_string_new(covers[i]);
        append_repeated(bytes, "[", DEPTH);
        g_test_message("behind %s", covers[i]);
        if (g_test_subprocess())
            assert_set_aside(bytes);
    }
    if (g_test_subprocess())
        return;
    g_test_trap_subprocess(NULL, 0, (GTestSubprocessFlags)0); /* a crash ends that one only */
    g_test_trap_assert_passed();
}

static void assert_refused_as_too_large(const StoreFixture *fixture, HvStore *store)
{
    g_autoptr(GError) read_error = NULL;
    g_autoptr(GError) begin_error = NULL;
    gint64 start_us = g_get_monotonic_time();
    g_assert_null(hv_store_read(store, &read_error));
    g_assert_error(read_error, HV_ERROR, HV_ERROR_LEDGER);
    g_assert_null(hv_transaction_begin(store, seconds_from_now(5), &begin_error));
    g_assert_error(begin_error, HV_ERROR, HV_ERROR_LEDGER);
    g_assert_nonnull(strstr(begin_error->message, LEDGER ": File too large"));
    g_assert_nonnull(strstr(hv_error_hint(begin_error), "move it away"));
    g_assert_cmpint(g_get_monotonic_time() - start_us, <, SLOW_US);
    g_autofree char *path = store_path(fixture, LEDGER);
    struct stat st;
    g_assert_cmpint(lstat(path, &st), ==, 0);
    g_assert_cmpint(st.st_size, >=, 100 * 1024 * 1024);
}

/* Text as good as any, but of 100 MiB. */
static void test_long_text_is_refused_and_left_alone(void)
{
    g_auto(StoreFixture) fixture;
    fixture_init(&fixture);
    g_autoptr(HvStore) store = open_store(&fixture);
    g_autofree char *text = text_with("pages", "40");
    g_autoptr(GString) bytes = g_string_new(text);
    g_autofree char *blanks = g_strnfill(100 * 1024 * 1024, ' ');
    g_string_append(bytes, blanks);
    put_bytes(&fixture, LEDGER, bytes);
    assert_refused_as_too_large(&fixture, store);
}

static void test_long_hole_is_refused_and_left_alone(void)
{
    g_auto(StoreFixture) fixture;
    fixture_init(&fixture);
    g_autoptr(HvStore) store = open_store(&fixture);
    set_store_text(&fixture, LEDGER, "{");
    g_autofree char *path = store_path(&fixture, LEDGER);
    g_assert_cmpint(truncate(path, 100 * 1024 * 1024), ==, 0);
    assert_refused_as_too_large(&fixture, store);
}

#define ADD(name, function) g_test_add_func("/ledger-hostile/" name, function)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("sound-ledger-is-not-set-aside", test_sound_ledger_is_not_set_aside);
    ADD("number-that-is-none-is-set-aside", test_number_that_is_none_is_set_aside);
    ADD("negative-number-beyond-all-is-set-aside", test_negative_number_beyond_all_is_set_aside);
    ADD("uuid-that-is-none-is-set-aside", test_uuid_that_is_none_is_set_aside);
    ADD("state-that-is-none-is-set-aside", test_state_that_is_none_is_set_aside);
    ADD("list-of-nonsense-is-set-aside", test_list_of_nonsense_is_set_aside);
    ADD("repeated-entry-is-set-aside", test_repeated_entry_is_set_aside);
    ADD("second-claim-beside-one-that-drains-is-sound",
        test_second_claim_beside_one_that_drains_is_sound);
    ADD("nul-bytes-are-set-aside", test_nul_bytes_are_set_aside);
    ADD("nul-behind-a-ledger-is-set-aside", test_nul_behind_a_ledger_is_set_aside);
    ADD("text-that-is-no-utf8-is-set-aside", test_text_that_is_no_utf8_is_set_aside);
    ADD("half-a-surrogate-is-set-aside", test_half_a_surrogate_is_set_aside);
    ADD("deep-nesting-is-set-aside", test_deep_nesting_is_set_aside);
    ADD("nesting-hidden-by-a-quote-is-set-aside", test_nesting_hidden_by_a_quote_is_set_aside);
    ADD("long-text-is-refused-and-left-alone", test_long_text_is_refused_and_left_alone);
    ADD("long-hole-is-refused-and-left-alone", test_long_hole_is_refused_and_left_alone);
    return g_test_run();
}
