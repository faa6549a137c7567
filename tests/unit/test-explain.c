/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The table behind a plan, and which need a refusal speaks of. */
#include "world.h"

#include "explain.h"

#define OTHER "00000000-0000-0000-0000-0000000000b1"

typedef struct {
    HvPlan *plan;
    GPtrArray *rows;
} Explained;

static Explained explain(const World *world)
{
    HvWorld view = world_view(world);
    Explained explained = {.plan = hv_plan_new(&view, world->request)};
    explained.rows = hv_explain(&view, world->request, explained.plan);
    return explained;
}

static void explained_clear(Explained *explained)
{
    hv_plan_free(explained->plan);
    g_ptr_array_unref(explained->rows);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Explained, explained_clear)

static const HvExplainRow *row_at(const Explained *explained, guint index, int node,
                                  guint64 size_kib)
{
    g_assert_cmpuint(index, <, explained->rows->len);
    const HvExplainRow *row = g_ptr_array_index(explained->rows, index);
    g_assert_cmpint(row->node, ==, node);
    g_assert_cmpuint(row->size_kib, ==, size_kib);
    return row;
}

static void assert_says(const HvPlan *plan, const char *text)
{
    g_assert_nonnull(plan->refusal);
    if (strstr(plan->refusal->message, text) == NULL)
        g_error("\"%s\" does not say \"%s\"", plan->refusal->message, text);
}

/* Two nodes of 1 GiB with 100 pages of 2 MiB each, 60 and 10 of them free. */
static World *two_nodes(void)
{
    World *world = world_new();
    world_node(world, 0, GIB_KIB);
    world_node(world, 1, GIB_KIB);
    world_pool(world, 0, SIZE_2M, 100, 60);
    world_pool(world, 1, SIZE_2M, 100, 10);
    return world;
}

static void test_each_pool_of_the_size_has_a_row(void)
{
    g_autoptr(World) world = two_nodes();
    world_reserve(world, 0, SIZE_2M, 45);
    world_claim(world, OTHER, HV_CLAIM_CLAIMED, "1", SIZE_2M, 4);
    world_need(world, "1", SIZE_2M, 8);
    g_auto(Explained) explained = explain(world);
    g_assert_cmpuint(explained.rows->len, ==, 2);
    const HvExplainRow *first = row_at(&explained, 0, 0, SIZE_2M);
    g_assert_cmpuint(first->wanted, ==, 0);
    g_assert_cmpuint(first->total, ==, 100);
    g_assert_cmpuint(first->free, ==, 60);
    g_assert_cmpuint(first->reserved, ==, 45);
    g_assert_cmpuint(first->claimed, ==, 0);
    g_assert_cmpuint(first->claimed_by->len, ==, 0);
    g_assert_cmpuint(first->growth.likely_pages, ==, 512);
    const HvExplainRow *second = row_at(&explained, 1, 1, SIZE_2M);
    g_assert_cmpuint(second->wanted, ==, 8);
    g_assert_cmpuint(second->missing, ==, 2);
    g_assert_cmpuint(second->claimed, ==, 4);
    g_assert_cmpuint(second->claimed_by->len, ==, 1);
    g_assert_cmpstr(g_ptr_array_index(second->claimed_by, 0), ==, "other");
    g_assert_cmpuint(second->available, ==, 6);
}

static void test_what_several_nodes_may_serve_has_a_row_of_sums(void)
{
    g_autoptr(World) world = two_nodes();
    world_claim(world, OTHER, HV_CLAIM_CLAIMED, ANY, SIZE_2M, 3);
    world_need(world, "0", SIZE_2M, 5);
    world_need(world, ANY, SIZE_2M, 80);
    g_auto(Explained) explained = explain(world);
    g_assert_cmpuint(explained.rows->len, ==, 3);
    const HvExplainRow *any = row_at(&explained, 2, -1, SIZE_2M);
    g_assert_cmpuint(any->wanted, ==, 80);
    g_assert_cmpuint(any->missing, ==, 80 - (70 - 3 - 5));
    g_assert_cmpuint(any->total, ==, 200);
    g_assert_cmpuint(any->claimed, ==, 3);
    g_assert_cmpuint(any->available, ==, 67);
    g_assert_cmpuint(any->growth.likely_pages, ==, 1024);
    g_assert_cmpuint(row_at(&explained, 0, 0, SIZE_2M)->missing, ==, 0);
}

static void test_splitting_is_forecast_as_the_settings_allow(void)
{
    g_autoptr(World) world = two_nodes();
    world_pool(world, 1, SIZE_1G, 2, 2);
    world_size(world, SIZE_1G)->demote_size_kib = SIZE_2M;
    world_need(world, "1", SIZE_2M, 8);
    world->settings->demote = HV_DEMOTE_ANY;
    g_auto(Explained) explained = explain(world);
    g_assert_cmpuint(row_at(&explained, 0, 0, SIZE_2M)->demotable, ==, 0);
    g_assert_cmpuint(row_at(&explained, 1, 1, SIZE_2M)->demotable, ==, 1024);
    world->settings->demote = HV_DEMOTE_NEVER;
    g_auto(Explained) never = explain(world);
    g_assert_cmpuint(row_at(&never, 1, 1, SIZE_2M)->demotable, ==, 0);
}

static void test_a_plan_that_works_is_short_of_nothing(void)
{
    g_autoptr(World) world = two_nodes();
    world_allow_growth(world);
    world_need(world, "1", SIZE_2M, 100);
    g_auto(Explained) explained = explain(world);
    g_assert_null(explained.plan->refusal);
    g_assert_cmpuint(row_at(&explained, 1, 1, SIZE_2M)->missing, ==, 0);
}

/* All sizes are planned, so that the table tells of both; the refusal is about the larger. */
static void test_both_sizes_that_are_short_are_in_the_table(void)
{
    g_autoptr(World) world = two_nodes();
    world_pool(world, 0, SIZE_1G, 1, 0);
    world_need(world, "1", SIZE_2M, 12);
    world_need(world, "0", SIZE_1G, 1);
    g_auto(Explained) explained = explain(world);
    assert_says(explained.plan, "wants 1 page of 1 GiB on node 0");
    g_assert_cmpuint(row_at(&explained, 0, 0, SIZE_1G)->missing, ==, 1);
    g_assert_cmpuint(row_at(&explained, 2, 1, SIZE_2M)->missing, ==, 2);
}

static void test_refusal_names_the_node_that_is_short(void)
{
    g_autoptr(World) world = two_nodes();
    world_need(world, ANY, SIZE_2M, 8);
    world_need(world, "0", SIZE_2M, 8);
    world_need(world, "1", SIZE_2M, 12);
    g_auto(Explained) explained = explain(world);
    assert_says(explained.plan, "wants 12 pages of 2 MiB on node 1: 10 available (on all nodes: ");
}

/* Each would have enough: it is all of them together that have not. */
static void test_needs_that_stand_in_each_others_way_are_told_as_one(void)
{
    g_autoptr(World) world = world_new();
    world_pool(world, 0, SIZE_2M, 100, 100);
    world_pool(world, 1, SIZE_2M, 100, 100);
    world_need(world, "0", SIZE_2M, 100);
    world_need(world, "1", SIZE_2M, 100);
    world_need(world, ANY, SIZE_2M, 100);
    g_auto(Explained) explained = explain(world);
    assert_says(explained.plan, "wants 300 pages of 2 MiB on any node: 200 available");
    const HvExplainRow *any = row_at(&explained, 2, -1, SIZE_2M);
    g_assert_cmpuint(any->missing, <=, any->wanted);
    g_assert_cmpuint(row_at(&explained, 0, 0, SIZE_2M)->missing, ==, 0);
}

static void test_hint_counts_all_that_is_missing(void)
{
    g_autoptr(World) world = world_new();
    world_pool(world, 0, SIZE_2M, 100, 100);
    world_need(world, "0", SIZE_2M, 120);
    world_need(world, ANY, SIZE_2M, 60);
    g_auto(Explained) explained = explain(world);
    assert_says(explained.plan, "wants 120 pages of 2 MiB on node 0: 100 available");
    g_assert_nonnull(strstr(explained.plan->refusal->hint, "or add 80 pages"));
}

static void test_floating_claims_of_others_have_a_row(void)
{
    g_autoptr(World) world = two_nodes();
    world_claim(world, OTHER, HV_CLAIM_RUNNING, ANY, SIZE_2M, 90);
    world_need(world, "1", SIZE_2M, 12);
    g_auto(Explained) explained = explain(world);
    const HvExplainRow *any = row_at(&explained, 2, -1, SIZE_2M);
    g_assert_cmpuint(any->wanted, ==, 0);
    g_assert_cmpuint(any->claimed, ==, 90);
    g_assert_cmpstr(g_ptr_array_index(any->claimed_by, 0), ==, "other");
}

static void test_refused_request_has_a_table_all_the_same(void)
{
    g_autoptr(World) world = two_nodes();
    world_need(world, "1", SIZE_2M, 8);
    world->request->refusal = hv_refusal_new(HV_ERROR_XML, NULL, "odd");
    g_auto(Explained) explained = explain(world);
    assert_says(explained.plan, "odd");
    g_assert_cmpuint(row_at(&explained, 1, 1, SIZE_2M)->wanted, ==, 8);
    g_assert_cmpuint(row_at(&explained, 1, 1, SIZE_2M)->missing, ==, 0);
}

/* With so many pages on its node. */
static void claim_named(World *world, const char *name, const char *nodes, guint64 pages)
{
    static guint n;
    g_autofree char *uuid = g_strdup_printf("00000000-0000-0000-0000-%012u", 1000 + n++);
    HvClaim *claim = world_claim(world, uuid, HV_CLAIM_RUNNING, nodes, SIZE_2M, pages);
    g_free(claim->name);
    claim->name = g_strdup(name);
}

/* Most first, three at most, and nobody who could make no room. */
static void test_refusal_names_the_vms_that_have_the_rest(void)
{
    g_autoptr(World) world = two_nodes();
    claim_named(world, "small", "1", 3);
    claim_named(world, "elsewhere", "0", 40);
    claim_named(world, "large", "1", 40);
    claim_named(world, "floats", ANY, 20);
    claim_named(world, "tiny", "1", 1);
    world_need(world, "1", SIZE_2M, 12);
    g_auto(Explained) explained = explain(world);
    assert_says(explained.plan,
                "; VMs there: 'large' (40), 'floats' (20), 'small' (3) and 1 more)");
    g_assert_null(strstr(explained.plan->refusal->message, "elsewhere"));
}

static void test_refusal_without_other_vms_names_none(void)
{
    g_autoptr(World) world = two_nodes();
    world_claim(world, world->request->uuid, HV_CLAIM_CLAIMED, "1", SIZE_2M, 5);
    world_need(world, "1", SIZE_2M, 12);
    g_auto(Explained) explained = explain(world);
    g_assert_null(strstr(explained.plan->refusal->message, "; VMs"));
}

/* 10 free, two pages of 1 GiB to split, and memory for 512 more: 2 are still short of 1548. */
static void test_refusal_tells_what_splitting_and_growth_would_add(void)
{
    g_autoptr(World) world = two_nodes();
    world_pool(world, 1, SIZE_1G, 2, 2);
    world_size(world, SIZE_1G)->demote_size_kib = SIZE_2M;
    world->settings->demote = HV_DEMOTE_ANY;
    world_need(world, "1", SIZE_2M, 10 + 1024 + 512 + 2);
    g_auto(Explained) off = explain(world);
    assert_says(off.plan, "1538 short, and dynamic allocation is off (it could add 1024 by "
                          "splitting, 512 by growth)");
    world_allow_growth(world);
    g_auto(Explained) on = explain(world);
    assert_says(on.plan,
                "1024 by splitting, 512 by growth, 2 short: there is no memory to add them");
}

/* It goes into one line of virsh's and VDSM's log, with all that it can have in it. */
static void test_refusal_is_one_line_that_can_be_read(void)
{
    static const struct {
        const char *name;
        gsize max_bytes;
    } cases[] = {{"app-server-17", 320},
                 {"a-name-of-as-many-characters-as-a-message-will-ever-show-of-one-name", 360}};
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(World) world = two_nodes();
        g_free(world->request->name);
        world->request->name = g_strdup(cases[0].name);
        for (guint k = 0; k < 9; k++)
            claim_named(world, cases[i].name, "1", 10);
        world_reserve(world, 0, SIZE_2M, 45);
        world_allow_growth(world);
        world_need(world, "1", SIZE_2M, 900);
        g_auto(Explained) explained = explain(world);
        g_assert_nonnull(explained.plan->refusal);
        const char *message = explained.plan->refusal->message;
        g_assert_null(strchr(message, '\n'));
        if (strlen(message) > cases[i].max_bytes)
            g_error("%zu characters: %s", strlen(message), message);
        g_test_message("%s", message);
    }
}

#define ADD(name, function) g_test_add_func("/explain/" name, function)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("each-pool-of-the-size-has-a-row", test_each_pool_of_the_size_has_a_row);
    ADD("what-several-nodes-may-serve-has-a-row-of-sums",
        test_what_several_nodes_may_serve_has_a_row_of_sums);
    ADD("splitting-is-forecast-as-the-settings-allow",
        test_splitting_is_forecast_as_the_settings_allow);
    ADD("a-plan-that-works-is-short-of-nothing", test_a_plan_that_works_is_short_of_nothing);
    ADD("both-sizes-that-are-short-are-in-the-table",
        test_both_sizes_that_are_short_are_in_the_table);
    ADD("refusal-names-the-node-that-is-short", test_refusal_names_the_node_that_is_short);
    ADD("needs-that-stand-in-each-others-way-are-told-as-one",
        test_needs_that_stand_in_each_others_way_are_told_as_one);
    ADD("hint-counts-all-that-is-missing", test_hint_counts_all_that_is_missing);
    ADD("floating-claims-of-others-have-a-row", test_floating_claims_of_others_have_a_row);
    ADD("refused-request-has-a-table-all-the-same", test_refused_request_has_a_table_all_the_same);
    ADD("refusal-names-the-vms-that-have-the-rest", test_refusal_names_the_vms_that_have_the_rest);
    ADD("refusal-without-other-vms-names-none", test_refusal_without_other_vms_names_none);
    ADD("refusal-tells-what-splitting-and-growth-would-add",
        test_refusal_tells_what_splitting_and_growth_would_add);
    ADD("refusal-is-one-line-that-can-be-read", test_refusal_is_one_line_that_can_be_read);
    return g_test_run();
}
