/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "node-set.h"

#include <string.h>

static HvNodeSet set_of(const char *text)
{
    HvNodeSet set;
    g_assert_true(hv_node_set_parse(text, &set));
    return set;
}

static void test_lists_are_shown_as_ranges(void)
{
    static const struct {
        const char *text, *shown;
        int count;
    } cases[] = {
        {"0", "0", 1},
        {"0-3", "0-3", 4},
        {"0,1,2,3", "0-3", 4},
        {"3,1,2", "1-3", 3},
        {"0-3,7", "0-3,7", 5},
        {"0-3,^2", "0-1,3", 3},
        {"^2,0-3", "0-3", 4}, /* taken out before it came in */
        {"0-7,^2-4", "0-1,5-7", 5},
        {"5,5,5-5", "5", 1},
        {" 0 , 2 ", "0,2", 2},
        {"007", "7", 1},
        {"63,64", "63-64", 2},
        {"63-64", "63-64", 2},
        {"0-1023", "0-1023", 1024},
        {"1023", "1023", 1},
        {"0,1023", "0,1023", 2},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_test_message("list '%s'", cases[i].text);
        HvNodeSet set = set_of(cases[i].text);
        g_autofree char *shown = hv_node_set_format(&set);
        g_assert_cmpstr(shown, ==, cases[i].shown);
        g_assert_cmpint(hv_node_set_count(&set), ==, cases[i].count);
    }
}

static void test_malformed_lists_are_refused_and_leave_the_output(void)
{
    static const char *const texts[] = {
        NULL,
        "",
        ",",
        "0,",
        ",0",
        "0,,1",
        "-",
        "-1",
        "1-",
        "3-1",
        "1-2-3",
        "a",
        "0x1",
        "+1",
        "0 - 1",
        "1024",
        "0-1024",
        "1023-1024",
        "^",
        "^^1",
        "^1",
        "0,^0",
        "0-18446744073709551615",
        "18446744073709551616",
        "0;1",
        "any",
        "1\n2",
        "0-3,^1024",
    };
    for (guint i = 0; i < G_N_ELEMENTS(texts); i++) {
        HvNodeSet before = set_of("9"), set = before;
        g_test_message("list '%s'", texts[i]);
        g_assert_false(hv_node_set_parse(texts[i], &set));
        g_assert_cmpmem(&set, sizeof set, &before, sizeof before);
    }
}

static void test_empty_set_means_any(void)
{
    HvNodeSet set = {0};
    g_autofree char *shown = hv_node_set_format(&set);
    g_assert_true(hv_node_set_is_any(&set));
    g_assert_cmpint(hv_node_set_count(&set), ==, 0);
    g_assert_cmpint(hv_node_set_single(&set), ==, -1);
    g_assert_cmpstr(shown, ==, "any");
}

static void test_single_is_the_only_node(void)
{
    static const int nodes[] = {0, 1, 63, 64, 127, 1023};
    for (guint i = 0; i < G_N_ELEMENTS(nodes); i++) {
        HvNodeSet set = {0};
        hv_node_set_add(&set, nodes[i]);
        g_assert_cmpint(hv_node_set_single(&set), ==, nodes[i]);
        g_assert_true(hv_node_set_contains(&set, nodes[i]));
    }
    HvNodeSet two = set_of("0,1023");
    g_assert_cmpint(hv_node_set_single(&two), ==, -1);
}

static void test_nodes_outside_the_range_are_in_no_set(void)
{
    HvNodeSet all = set_of("0-1023");
    g_assert_false(hv_node_set_contains(&all, -1));
    g_assert_false(hv_node_set_contains(&all, HV_MAX_NODES));
    g_assert_false(hv_node_set_contains(&all, G_MAXINT));
    g_assert_false(hv_node_set_contains(&all, G_MININT));
}

static void test_adding_an_impossible_node_is_a_programming_error(void)
{
    static const int nodes[] = {-1, HV_MAX_NODES};
    for (guint i = 0; i < G_N_ELEMENTS(nodes); i++) {
        HvNodeSet set = {0};
        g_test_expect_message(G_LOG_DOMAIN, G_LOG_LEVEL_CRITICAL, "*assertion*failed*");
        hv_node_set_add(&set, nodes[i]);
        g_test_assert_expected_messages();
        g_assert_true(hv_node_set_is_any(&set));
    }
}

static void test_sets_overlap_where_a_node_is_in_both(void)
{
    HvNodeSet any = {0}, low = set_of("0-3"), high = set_of("4-7"), across = set_of("3-4"),
              far = set_of("900");
    g_assert_false(hv_node_set_overlaps(&low, &high));
    g_assert_false(hv_node_set_overlaps(&low, &far));
    g_assert_true(hv_node_set_overlaps(&low, &across));
    g_assert_true(hv_node_set_overlaps(&across, &high));
    g_assert_true(hv_node_set_overlaps(&far, &far));
    g_assert_true(hv_node_set_overlaps(&any, &far));
    g_assert_true(hv_node_set_overlaps(&far, &any));
    g_assert_true(hv_node_set_overlaps(&any, &any));
}

static void test_shown_sets_can_be_read_again(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(7);
    for (int round = 0; round < 500; round++) {
        HvNodeSet set = {0}, again;
        for (int n = g_rand_int_range(rand, 1, 40); n > 0; n--)
            hv_node_set_add(&set, g_rand_int_range(rand, 0, round % 2 ? 16 : HV_MAX_NODES));
        g_autofree char *shown = hv_node_set_format(&set);
        g_assert_true(hv_node_set_parse(shown, &again));
        g_assert_cmpmem(&again, sizeof again, &set, sizeof set);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/node-set/lists-are-shown-as-ranges", test_lists_are_shown_as_ranges);
    g_test_add_func("/node-set/malformed-lists-are-refused-and-leave-the-output",
                    test_malformed_lists_are_refused_and_leave_the_output);
    g_test_add_func("/node-set/empty-set-means-any", test_empty_set_means_any);
    g_test_add_func("/node-set/single-is-the-only-node", test_single_is_the_only_node);
    g_test_add_func("/node-set/nodes-outside-the-range-are-in-no-set",
                    test_nodes_outside_the_range_are_in_no_set);
    g_test_add_func("/node-set/adding-an-impossible-node-is-a-programming-error",
                    test_adding_an_impossible_node_is_a_programming_error);
    g_test_add_func("/node-set/sets-overlap-where-a-node-is-in-both",
                    test_sets_overlap_where_a_node_is_in_both);
    g_test_add_func("/node-set/shown-sets-can-be-read-again", test_shown_sets_can_be_read_again);
    return g_test_run();
}
