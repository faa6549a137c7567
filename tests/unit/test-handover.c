/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* When pages may be handed over to the kernel, and how they are counted after that. */
#include "world.h"

#define QEMU 77
#define OTHER "00000000-0000-0000-0000-00000000000b"
#define THIRD "00000000-0000-0000-0000-00000000000c"
#define LATER "00000000-0000-0000-0000-00000000000d"

static HvPool *pool_of(const World *world)
{
    return &g_array_index(world->snapshot->pools, HvPool, 0);
}

/* One pool of 40 grown pages, all in use by two running VMs. */
static World *steady_world(void)
{
    World *world = world_new();
    world_node(world, 0, 8 * GIB_KIB);
    world_pool(world, 0, SIZE_2M, 40, 0);
    world_grown(world, 0, SIZE_2M, 40);
    world->settings->use_dynamic_hugepages = TRUE;
    world->settings->handover_auto = TRUE;
    const char *const uuids[] = {OTHER, THIRD};
    for (guint i = 0; i < G_N_ELEMENTS(uuids); i++) {
        HvClaim *claim = world_claim(world, uuids[i], HV_CLAIM_RUNNING, ANY, SIZE_2M, 20);
        claim->may_hand_over = TRUE;
        claim->qemu.pid = QEMU;
    }
    return world;
}

static gboolean may(World *world)
{
    HvWorld view = world_view(world);
    return hv_plan_may_hand_over(&view, SIZE_2M);
}

static void test_pages_of_running_vms_alone_may_be_handed_over(void)
{
    g_autoptr(World) world = steady_world();
    g_assert_true(may(world));
}

/* Each takes one condition away. */
static void spoil_setting(World *w)
{
    w->settings->handover_auto = FALSE;
}
static void spoil_dynamic(World *w)
{
    w->settings->use_dynamic_hugepages = FALSE;
}
static void spoil_kernel(World *w)
{
    w->ledger->handover_failed = TRUE;
}
static void spoil_overcommit(World *w)
{
    world_size(w, SIZE_2M)->overcommit_pages = 1;
}
static void spoil_resv(World *w)
{
    world_size(w, SIZE_2M)->resv_pages = 1;
}
static void spoil_free(World *w)
{
    pool_of(w)->free_pages = 1;
}
static void spoil_surplus(World *w)
{
    pool_of(w)->surplus_pages = 1;
}
static void spoil_baseline(World *w)
{
    g_array_index(w->ledger->grown, HvGrown, 0).grown_pages = 39;
}
static void spoil_intent(World *w)
{
    world_intent(w, 0, SIZE_2M, 40, 50);
}
static void spoil_device(World *w)
{
    hv_ledger_claim(w->ledger, THIRD)->may_hand_over = FALSE;
}
static void spoil_qemu(World *w)
{
    hv_ledger_claim(w->ledger, THIRD)->qemu.pid = 0;
}
static void spoil_launch(World *w)
{
    hv_ledger_claim(w->ledger, THIRD)->state = HV_CLAIM_MOUNTED;
}
static void spoil_guard(World *w)
{
    hv_ledger_claim(w->ledger, THIRD)->state = HV_CLAIM_GUARDED;
}
static void spoil_drain(World *w)
{
    hv_ledger_claim(w->ledger, THIRD)->state = HV_CLAIM_DRAINING;
}
static void spoil_start(World *w)
{
    world_claim(w, LATER, HV_CLAIM_CLAIMED, ANY, SIZE_2M, 1);
}
static void spoil_foreign(World *w)
{
    hv_ledger_remove_claim(w->ledger, THIRD);
}
static void spoil_other_node(World *w)
{
    world_node(w, 1, GIB_KIB), world_pool(w, 1, SIZE_2M, 1, 0);
}

static void test_each_condition_is_needed(void)
{
    static void (*const spoil[])(World *) = {
        spoil_setting, spoil_dynamic,   spoil_kernel,   spoil_overcommit, spoil_resv,
        spoil_free,    spoil_surplus,   spoil_baseline, spoil_intent,     spoil_device,
        spoil_qemu,    spoil_launch,    spoil_guard,    spoil_drain,      spoil_start,
        spoil_foreign, spoil_other_node};
    for (guint i = 0; i < G_N_ELEMENTS(spoil); i++) {
        g_autoptr(World) world = steady_world();
        spoil[i](world);
        if (may(world))
            g_error("condition %u is not looked at", i);
    }
}

static void test_vms_of_another_size_do_not_matter(void)
{
    g_autoptr(World) world = steady_world();
    world_pool(world, 0, SIZE_1G, 4, 4);
    world_claim(world, LATER, HV_CLAIM_GUARDED, ANY, SIZE_1G, 1);
    g_assert_true(may(world));
}

static void test_an_unused_pool_is_not_handed_over(void)
{
    g_autoptr(World) world = world_new();
    world_node(world, 0, 8 * GIB_KIB);
    world_pool(world, 0, SIZE_2M, 0, 0);
    world->settings->use_dynamic_hugepages = TRUE;
    g_assert_false(may(world));
}

/* The steady pool after the write of 0. */
static World *handed_over(void)
{
    World *world = steady_world();
    HvPool *pool = pool_of(world);
    HvIntent intent = {0, SIZE_2M, 40, 0, 0, TRUE};
    hv_ledger_begin_write(world->ledger, &intent);
    hv_ledger_claim(world->ledger, OTHER)->is_handed_over = TRUE;
    hv_ledger_claim(world->ledger, THIRD)->is_handed_over = TRUE;
    pool->surplus_pages = 40;
    g_assert_true(hv_ledger_settle_pool(world->ledger, pool));
    return world;
}

/* Another moment of the pool; what the ledger then says that hugevm has added. */
static guint64 settle(World *world, guint64 total, guint64 surplus)
{
    HvPool *pool = pool_of(world);
    pool->total_pages = total;
    pool->surplus_pages = surplus;
    hv_ledger_settle_pool(world->ledger, pool);
    return hv_ledger_grown_pages(world->ledger, 0, SIZE_2M);
}

static void test_handed_over_pages_are_not_to_be_given_back(void)
{
    g_autoptr(World) world = handed_over();
    g_assert_cmpuint(hv_ledger_grown_pages(world->ledger, 0, SIZE_2M), ==, 0);
    g_assert_cmpuint(g_array_index(world->ledger->grown, HvGrown, 0).handed_pages, ==, 40);
    g_assert_cmpuint(settle(world, 20, 20), ==, 0); /* a VM ends */
    g_assert_cmpuint(settle(world, 0, 0), ==, 0);
    g_assert_cmpuint(world->ledger->grown->len, ==, 0);
}

static void test_handover_that_did_nothing_leaves_the_pages_grown(void)
{
    g_autoptr(World) world = steady_world();
    HvIntent intent = {0, SIZE_2M, 40, 0, 0, TRUE};
    hv_ledger_begin_write(world->ledger, &intent);
    g_assert_cmpuint(settle(world, 40, 0), ==, 40);
    g_assert_cmpuint(g_array_index(world->ledger->grown, HvGrown, 0).handed_pages, ==, 0);
}

static void test_pages_that_another_write_made_persistent_are_grown_again(void)
{
    g_autoptr(World) world = handed_over();
    g_assert_cmpuint(settle(world, 50, 0), ==, 40); /* 10 are the administrator's */
}

static void test_pages_added_after_the_vms_ended_are_the_administrators(void)
{
    g_autoptr(World) world = handed_over();
    hv_ledger_remove_claim(world->ledger, OTHER);
    hv_ledger_remove_claim(world->ledger, THIRD);
    g_assert_cmpuint(settle(world, 40, 0), ==, 0);
}

static void test_a_vm_that_came_later_regains_nothing(void)
{
    g_autoptr(World) world = handed_over();
    hv_ledger_remove_claim(world->ledger, OTHER);
    hv_ledger_remove_claim(world->ledger, THIRD);
    world_claim(world, LATER, HV_CLAIM_RUNNING, ANY, SIZE_2M, 20);
    g_assert_cmpuint(settle(world, 20, 0), ==, 0);
}

static void test_pages_are_regained_once(void)
{
    g_autoptr(World) world = handed_over();
    g_assert_cmpuint(settle(world, 40, 20), ==, 20); /* he writes 20 */
    hv_ledger_remove_claim(world->ledger, THIRD);    /* its 20 are gone, and he adds 20 */
    g_assert_cmpuint(settle(world, 40, 0), ==, 20);
}

/* Two VMs on a node each; the first has ended, and its node got as many pages as it had. */
static void test_pages_of_another_node_are_not_regained(void)
{
    g_autoptr(World) world = handed_over();
    HvPool *pool = pool_of(world);
    HvNeed *need = &g_array_index(hv_ledger_claim(world->ledger, THIRD)->needs, HvNeed, 0);
    hv_ledger_remove_claim(world->ledger, OTHER);
    need->nodes = world_make_need("1", SIZE_2M, 20).nodes;
    pool->free_pages = 0;
    g_assert_cmpuint(settle(world, 40, 0), ==, 0);
}

static void test_free_pages_are_not_regained(void)
{
    g_autoptr(World) world = handed_over();
    pool_of(world)->free_pages = 40; /* their VMs are dead, although nobody has seen it yet */
    g_assert_cmpuint(settle(world, 40, 0), ==, 0);
}

static void test_intent_with_fewer_pages_than_before_was_carried_out(void)
{
    g_autoptr(World) world = steady_world();
    HvIntent intent = {0, SIZE_2M, 40, 0, 0, TRUE};
    hv_ledger_begin_write(world->ledger, &intent);
    pool_of(world)->free_pages = 20; /* all VMs have ended, and somebody has added these */
    g_assert_cmpuint(settle(world, 20, 0), ==, 0);
}

static void test_several_nodes_need_a_kernel_that_counts_right(void)
{
    g_autoptr(World) world = steady_world();
    world_node(world, 1, GIB_KIB);
    world_pool(world, 1, SIZE_2M, 0, 0);
    world->snapshot->kernel_version = HV_KERNEL_VERSION(6, 12);
    g_assert_false(may(world));
    world->snapshot->kernel_version = HV_KERNEL_VERSION(6, 15);
    g_assert_true(may(world));
}

#define ADD(name, function) g_test_add_func("/handover/" name, function)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("pages-of-running-vms-alone", test_pages_of_running_vms_alone_may_be_handed_over);
    ADD("each-condition-is-needed", test_each_condition_is_needed);
    ADD("vms-of-another-size-do-not-matter", test_vms_of_another_size_do_not_matter);
    ADD("an-unused-pool-is-not-handed-over", test_an_unused_pool_is_not_handed_over);
    ADD("handed-over-pages-are-not-to-be-given-back",
        test_handed_over_pages_are_not_to_be_given_back);
    ADD("handover-that-did-nothing", test_handover_that_did_nothing_leaves_the_pages_grown);
    ADD("pages-that-another-write-made-persistent",
        test_pages_that_another_write_made_persistent_are_grown_again);
    ADD("pages-added-after-the-vms-ended",
        test_pages_added_after_the_vms_ended_are_the_administrators);
    ADD("a-vm-that-came-later-regains-nothing", test_a_vm_that_came_later_regains_nothing);
    ADD("pages-are-regained-once", test_pages_are_regained_once);
    ADD("pages-of-another-node-are-not-regained", test_pages_of_another_node_are_not_regained);
    ADD("free-pages-are-not-regained", test_free_pages_are_not_regained);
    ADD("intent-with-fewer-pages-than-before-was-carried-out",
        test_intent_with_fewer_pages_than_before_was_carried_out);
    ADD("several-nodes-need-a-kernel-that-counts-right",
        test_several_nodes_need_a_kernel_that_counts_right);
    return g_test_run();
}
