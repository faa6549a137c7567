/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "page-size.h"

#define LARGEST G_MAXUINT64
#define UNTOUCHED 424242

static void test_numbers_are_digits_only(void)
{
    static const struct {
        const char *text;
        gboolean is_good;
        guint64 value;
    } cases[] = {
        {"0", TRUE, 0},
        {"007", TRUE, 7},
        {"18446744073709551615", TRUE, LARGEST},
        {"18446744073709551616", FALSE, 0},
        {"99999999999999999999999", FALSE, 0},
        {"", FALSE, 0},
        {NULL, FALSE, 0},
        {"+1", FALSE, 0},
        {"-1", FALSE, 0},
        {" 1", FALSE, 0},
        {"1 ", FALSE, 0},
        {"1\n", FALSE, 0},
        {"1.0", FALSE, 0},
        {"0x10", FALSE, 0},
        {"1e3", FALSE, 0},
        {"\xd9\xa1", FALSE, 0}, /* an Arabic-Indic one */
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        guint64 value = UNTOUCHED;
        g_test_message("text '%s'", cases[i].text);
        g_assert_true(hv_parse_u64(cases[i].text, &value) == cases[i].is_good);
        g_assert_cmpuint(value, ==, cases[i].is_good ? cases[i].value : UNTOUCHED);
    }
}

static void test_sizes_take_binary_suffixes(void)
{
    static const struct {
        const char *text;
        guint64 kib;
    } cases[] = {
        {"2048", 2048},   {"2048k", 2048},   {"2048K", 2048},
        {"2048kB", 2048}, {"2048KiB", 2048}, {"2M", 2048},
        {"2mib", 2048},   {"2MB", 2048},     {"1G", 1048576},
        {"1gb", 1048576}, {"1GiB", 1048576}, {"1T", (guint64)1 << 30},
        {"0", 0},         {"0M", 0},         {"18446744073709551615K", LARGEST},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        guint64 kib = UNTOUCHED;
        g_test_message("text '%s'", cases[i].text);
        g_assert_true(hv_parse_size_kib(cases[i].text, 1, &kib));
        g_assert_cmpuint(kib, ==, cases[i].kib);
    }
}

static void test_malformed_sizes_are_refused_and_leave_the_output(void)
{
    static const char *const texts[] = {
        NULL,  "",    "K",   "2P",   "2 M", " 2M",  "2M ", "2MM",   "2Mi",       "2iB",
        "-2M", "+2M", "2,M", "1.5G", "2K1", "0x2M", "2b",  "2kiBB", "2\xc2\xb5", "2M\n",
    };
    for (guint i = 0; i < G_N_ELEMENTS(texts); i++) {
        guint64 kib = UNTOUCHED;
        g_test_message("text '%s'", texts[i]);
        g_assert_false(hv_parse_size_kib(texts[i], 1, &kib));
        g_assert_cmpuint(kib, ==, UNTOUCHED);
    }
}

static void test_size_without_suffix_counts_the_default_unit(void)
{
    guint64 kib = 0;
    g_assert_true(hv_parse_size_kib("3", 1024, &kib));
    g_assert_cmpuint(kib, ==, 3072);
    g_assert_true(hv_parse_size_kib("3K", 1024, &kib));
    g_assert_cmpuint(kib, ==, 3);
}

static void test_sizes_beyond_64_bits_are_refused(void)
{
    static const char *const texts[] = {"18446744073709551616", "18014398509481984M",
                                        "17592186044416G", "17179869184T"};
    guint64 kib = UNTOUCHED;
    for (guint i = 0; i < G_N_ELEMENTS(texts); i++)
        g_assert_false(hv_parse_size_kib(texts[i], 1, &kib));
    g_assert_cmpuint(kib, ==, UNTOUCHED);
    g_assert_true(hv_parse_size_kib("17179869183T", 1, &kib)); /* the largest that fits */
    g_assert_cmpuint(kib, ==, (guint64)17179869183 << 30);
}

static void test_checked_sums_stop_at_the_edge(void)
{
    guint64 out = UNTOUCHED;
    g_assert_true(hv_checked_add(LARGEST - 1, 1, &out));
    g_assert_cmpuint(out, ==, LARGEST);
    out = UNTOUCHED;
    g_assert_false(hv_checked_add(LARGEST, 1, &out));
    g_assert_false(hv_checked_add(LARGEST, LARGEST, &out));
    g_assert_cmpuint(out, ==, UNTOUCHED);
}

static void test_checked_products_stop_at_the_edge(void)
{
    guint64 out = UNTOUCHED;
    g_assert_true(hv_checked_mul((guint64)1 << 32, ((guint64)1 << 32) - 1, &out));
    g_assert_cmpuint(out, ==, LARGEST - ((guint64)1 << 32) + 1);
    g_assert_true(hv_checked_mul(LARGEST, 0, &out));
    g_assert_cmpuint(out, ==, 0);
    out = UNTOUCHED;
    g_assert_false(hv_checked_mul((guint64)1 << 32, (guint64)1 << 32, &out));
    g_assert_cmpuint(out, ==, UNTOUCHED);
}

static void test_difference_ends_at_zero(void)
{
    g_assert_cmpuint(hv_minus(5, 3), ==, 2);
    g_assert_cmpuint(hv_minus(3, 3), ==, 0);
    g_assert_cmpuint(hv_minus(3, 5), ==, 0);
    g_assert_cmpuint(hv_minus(0, LARGEST), ==, 0);
    g_assert_cmpuint(hv_minus(LARGEST, 0), ==, LARGEST);
}

static void test_sum_ends_at_the_largest_number(void)
{
    g_assert_cmpuint(hv_plus(2, 3), ==, 5);
    g_assert_cmpuint(hv_plus(LARGEST, 0), ==, LARGEST);
    g_assert_cmpuint(hv_plus(LARGEST, 1), ==, LARGEST);
    g_assert_cmpuint(hv_plus((guint64)1 << 63, (guint64)1 << 63), ==, LARGEST);
}

static void test_rounding_up_goes_to_the_next_multiple(void)
{
    static const struct {
        guint64 value, step, expected;
    } cases[] = {
        {0, 1024, 0},
        {1, 1024, 1024},
        {1024, 1024, 1024},
        {1025, 1024, 2048},
        {7, 1, 7},
        {LARGEST, 1, LARGEST},
        {LARGEST - 1, LARGEST, LARGEST},
        {LARGEST - 1023, 1024, LARGEST - 1023},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        guint64 out = UNTOUCHED;
        g_assert_true(hv_round_up(cases[i].value, cases[i].step, &out));
        g_assert_cmpuint(out, ==, cases[i].expected);
    }
    guint64 out = UNTOUCHED;
    g_assert_false(hv_round_up(LARGEST - 1022, 1024, &out));
    g_assert_false(hv_round_up(LARGEST, 2, &out));
    g_assert_cmpuint(out, ==, UNTOUCHED);
}

/* The first four are VDSM's own vectors of a VM's need. */
static void test_memory_is_covered_by_whole_pages(void)
{
    static const struct {
        guint64 memory_kib, size_kib, pages;
    } cases[] = {
        {1 * 1024, 2048, 1},
        {3 * 1024, 2048, 2},
        {1023 * 1024, 1048576, 1},
        {1025 * 1024, 1048576, 2},
        {0, 2048, 0},
        {1, 2048, 1},
        {2048, 2048, 1},
        {2049, 2048, 2},
        {LARGEST, 1, LARGEST},
        {LARGEST, 2048, (LARGEST >> 11) + 1},
        {LARGEST - 2047, 2048, LARGEST >> 11},
        {1, LARGEST, 1},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++)
        g_assert_cmpuint(hv_pages_for_kib(cases[i].memory_kib, cases[i].size_kib), ==,
                         cases[i].pages);
}

static void test_sizes_are_shown_in_their_largest_unit(void)
{
    static const struct {
        guint64 kib;
        const char *text;
    } cases[] = {
        {0, "0 KiB"},
        {1, "1 KiB"},
        {64, "64 KiB"},
        {1023, "1023 KiB"},
        {1024, "1 MiB"},
        {1025, "1025 KiB"},
        {2048, "2 MiB"},
        {1048576, "1 GiB"},
        {16777216, "16 GiB"},
        {(guint64)1 << 30, "1 TiB"},
        {(guint64)1 << 40, "1024 TiB"},
        {LARGEST, "18446744073709551615 KiB"},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *text = hv_format_kib(cases[i].kib);
        g_assert_cmpstr(text, ==, cases[i].text);
    }
}

static void test_shown_sizes_can_be_read_again(void)
{
    for (guint64 kib = 4; kib != 0 && kib <= (guint64)1 << 44; kib *= 2) {
        g_autofree char *text = hv_format_kib(kib);
        g_auto(GStrv) words = g_strsplit(text, " ", 2);
        g_autofree char *joined = g_strjoinv("", words);
        guint64 again = 0;
        g_assert_true(hv_parse_size_kib(joined, 1, &again));
        g_assert_cmpuint(again, ==, kib);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/page-size/numbers-are-digits-only", test_numbers_are_digits_only);
    g_test_add_func("/page-size/sizes-take-binary-suffixes", test_sizes_take_binary_suffixes);
    g_test_add_func("/page-size/malformed-sizes-are-refused-and-leave-the-output",
                    test_malformed_sizes_are_refused_and_leave_the_output);
    g_test_add_func("/page-size/size-without-suffix-counts-the-default-unit",
                    test_size_without_suffix_counts_the_default_unit);
    g_test_add_func("/page-size/sizes-beyond-64-bits-are-refused",
                    test_sizes_beyond_64_bits_are_refused);
    g_test_add_func("/page-size/checked-sums-stop-at-the-edge", test_checked_sums_stop_at_the_edge);
    g_test_add_func("/page-size/checked-products-stop-at-the-edge",
                    test_checked_products_stop_at_the_edge);
    g_test_add_func("/page-size/difference-ends-at-zero", test_difference_ends_at_zero);
    g_test_add_func("/page-size/sum-ends-at-the-largest-number",
                    test_sum_ends_at_the_largest_number);
    g_test_add_func("/page-size/rounding-up-goes-to-the-next-multiple",
                    test_rounding_up_goes_to_the_next_multiple);
    g_test_add_func("/page-size/memory-is-covered-by-whole-pages",
                    test_memory_is_covered_by_whole_pages);
    g_test_add_func("/page-size/sizes-are-shown-in-their-largest-unit",
                    test_sizes_are_shown_in_their_largest_unit);
    g_test_add_func("/page-size/shown-sizes-can-be-read-again", test_shown_sizes_can_be_read_again);
    return g_test_run();
}
