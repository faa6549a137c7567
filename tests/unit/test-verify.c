/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "verify.h"

#include "world.h"

/* A claim's needs and where its QEMU has its pages. */
typedef struct {
    GArray *needs;
    HvResidence *residence;
    HvVerdict *verdict;
} Vm;

static void vm_init(Vm *vm)
{
    *vm = (Vm){.needs = g_array_new(FALSE, TRUE, sizeof(HvNeed)), .residence = hv_residence_new()};
}

static void vm_clear(Vm *vm)
{
    g_array_unref(vm->needs);
    hv_residence_free(vm->residence);
    hv_verdict_free(vm->verdict);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Vm, vm_clear)

static void needs(Vm *vm, const char *nodes, guint64 size_kib, guint64 pages)
{
    HvNeed need = world_make_need(nodes, size_kib, pages);
    g_array_append_val(vm->needs, need);
}

/* Touched, and so mapped. */
static void has(Vm *vm, int node, guint64 size_kib, guint64 pages)
{
    hv_placed_add(vm->residence->placed, node, size_kib, pages);
    hv_placed_add(vm->residence->mapped, HV_NODE_UNKNOWN, size_kib, pages);
}

static void maps_untouched(Vm *vm, guint64 size_kib, guint64 pages)
{
    hv_placed_add(vm->residence->mapped, HV_NODE_UNKNOWN, size_kib, pages);
}

static gboolean is_as_planned(Vm *vm)
{
    g_clear_pointer(&vm->verdict, hv_verdict_free);
    vm->verdict = hv_verify(vm->needs, vm->residence);
    return vm->verdict->is_as_planned;
}

static void assert_row(const Vm *vm, guint index, const char *text)
{
    g_assert_cmpuint(index, <, vm->verdict->rows->len);
    g_autofree char *found = hv_verify_row_text(g_ptr_array_index(vm->verdict->rows, index));
    g_assert_cmpstr(found, ==, text);
}

static void pages_on_their_nodes_are_as_planned(void)
{
    g_auto(Vm) vm;
    vm_init(&vm);
    needs(&vm, "1", SIZE_2M, 256);
    needs(&vm, "0", SIZE_2M, 512);
    has(&vm, 0, SIZE_2M, 512);
    has(&vm, 1, SIZE_2M, 256);
    g_assert_true(is_as_planned(&vm));
    assert_row(&vm, 0, "node 0: 512 x 2 MiB, as planned");
    assert_row(&vm, 1, "node 1: 256 x 2 MiB, as planned");
    g_assert_cmpuint(vm.verdict->unplanned->len, ==, 0);
}

static void backends_of_one_node_are_one_row(void)
{
    g_auto(Vm) vm;
    vm_init(&vm);
    needs(&vm, "1", SIZE_2M, 3);
    needs(&vm, "1", SIZE_2M, 4);
    needs(&vm, "1", SIZE_1G, 1);
    has(&vm, 1, SIZE_2M, 7);
    has(&vm, 1, SIZE_1G, 1);
    g_assert_true(is_as_planned(&vm));
    g_assert_cmpuint(vm.verdict->rows->len, ==, 2);
    assert_row(&vm, 0, "node 1: 7 x 2 MiB, as planned");
    assert_row(&vm, 1, "node 1: 1 x 1 GiB, as planned");
}

static void pages_on_another_node_are_told(void)
{
    g_auto(Vm) vm;
    vm_init(&vm);
    needs(&vm, "0", SIZE_2M, 512);
    needs(&vm, "1", SIZE_2M, 256);
    has(&vm, 0, SIZE_2M, 768);
    g_assert_false(is_as_planned(&vm));
    assert_row(&vm, 0, "node 0: 512 x 2 MiB, as planned");
    assert_row(&vm, 1, "node 1: 0 of 256 x 2 MiB planned; they are on node 0");
    g_assert_cmpuint(vm.verdict->unplanned->len, ==, 0);
}

static void each_other_node_is_named(void)
{
    g_auto(Vm) vm;
    vm_init(&vm);
    needs(&vm, "1", SIZE_2M, 10);
    has(&vm, 1, SIZE_2M, 4);
    has(&vm, 0, SIZE_2M, 1);
    has(&vm, 3, SIZE_2M, 5);
    g_assert_false(is_as_planned(&vm));
    assert_row(&vm, 0, "node 1: 4 of 10 x 2 MiB planned; 1 is on node 0, 5 are on node 3");
}

static void swapped_cells_are_two_rows_that_are_wrong(void)
{
    g_auto(Vm) vm;
    vm_init(&vm);
    needs(&vm, "0", SIZE_2M, 10);
    needs(&vm, "1", SIZE_1G, 1);
    has(&vm, 1, SIZE_2M, 10);
    has(&vm, 0, SIZE_1G, 1);
    g_assert_false(is_as_planned(&vm));
    assert_row(&vm, 0, "node 0: 0 of 10 x 2 MiB planned; they are on node 1");
    assert_row(&vm, 1, "node 1: 0 of 1 x 1 GiB planned; they are on node 0");
}

static void untouched_pages_are_not_missing(void)
{
    g_auto(Vm) vm;
    vm_init(&vm);
    needs(&vm, "1", SIZE_2M, 100);
    has(&vm, 1, SIZE_2M, 60);
    maps_untouched(&vm, SIZE_2M, 40);
    g_assert_true(is_as_planned(&vm));
    assert_row(&vm, 0, "node 1: 60 of 100 x 2 MiB planned; 40 not touched yet");
}

static void pages_that_are_not_mapped_are_missing(void)
{
    g_auto(Vm) vm;
    vm_init(&vm);
    needs(&vm, "1", SIZE_2M, 100);
    has(&vm, 1, SIZE_2M, 60);
    maps_untouched(&vm, SIZE_2M, 39);
    g_assert_false(is_as_planned(&vm));
    assert_row(&vm, 0, "node 1: 60 of 100 x 2 MiB planned; 39 not touched yet, 1 missing");
}

/* Wherever an untouched page will be: what is elsewhere is elsewhere. */
static void untouched_pages_excuse_none_elsewhere(void)
{
    g_auto(Vm) vm;
    vm_init(&vm);
    needs(&vm, "1", SIZE_2M, 100);
    has(&vm, 0, SIZE_2M, 10);
    maps_untouched(&vm, SIZE_2M, 90);
    g_assert_false(is_as_planned(&vm));
    assert_row(&vm, 0, "node 1: 0 of 100 x 2 MiB planned; 10 are on node 0, 90 not touched yet");
}

static void pages_of_another_size_do_not_count(void)
{
    g_auto(Vm) vm;
    vm_init(&vm);
    needs(&vm, "1", SIZE_1G, 1);
    has(&vm, 1, SIZE_2M, 512);
    g_assert_false(is_as_planned(&vm));
    assert_row(&vm, 0, "node 1: 0 of 1 x 1 GiB planned; 1 missing");
    g_assert_cmpuint(hv_placed_pages(vm.verdict->unplanned, SIZE_2M), ==, 512);
}

static void several_nodes_are_judged_by_their_sum(void)
{
    g_auto(Vm) vm;
    vm_init(&vm);
    needs(&vm, "0-1", SIZE_2M, 10);
    has(&vm, 0, SIZE_2M, 3);
    has(&vm, 1, SIZE_2M, 7);
    g_assert_true(is_as_planned(&vm));
    assert_row(&vm, 0, "nodes 0-1: 10 x 2 MiB, as planned");
    has(&vm, 2, SIZE_2M, 1);
    g_assert_true(is_as_planned(&vm));
}

static void pages_outside_of_several_nodes_are_told(void)
{
    g_auto(Vm) vm;
    vm_init(&vm);
    needs(&vm, "0-1", SIZE_2M, 10);
    has(&vm, 0, SIZE_2M, 3);
    has(&vm, 2, SIZE_2M, 7);
    g_assert_false(is_as_planned(&vm));
    assert_row(&vm, 0, "nodes 0-1: 3 of 10 x 2 MiB planned; 7 are on node 2");
}

/* {0,1} has its pages on 0 and {1,2} on 1, or the other way round: nobody can tell. */
static void sets_that_share_a_node_are_judged_together(void)
{
    g_auto(Vm) vm;
    vm_init(&vm);
    needs(&vm, "0-1", SIZE_2M, 10);
    needs(&vm, "3-4", SIZE_2M, 10);
    needs(&vm, "1,3", SIZE_2M, 10);
    has(&vm, 0, SIZE_2M, 10);
    has(&vm, 1, SIZE_2M, 10);
    has(&vm, 4, SIZE_2M, 10);
    g_assert_true(is_as_planned(&vm));
    g_assert_cmpuint(vm.verdict->rows->len, ==, 1);
    assert_row(&vm, 0, "nodes 0-1,3-4: 30 x 2 MiB, as planned");
}

/* A bound cell must not find its pages taken by one that could have had others. */
static void bound_needs_are_served_before_floating_ones(void)
{
    g_auto(Vm) vm;
    vm_init(&vm);
    needs(&vm, ANY, SIZE_2M, 10);
    needs(&vm, "0-1", SIZE_2M, 10);
    needs(&vm, "0", SIZE_2M, 10);
    has(&vm, 0, SIZE_2M, 10);
    has(&vm, 1, SIZE_2M, 10);
    has(&vm, 5, SIZE_2M, 10);
    g_assert_true(is_as_planned(&vm));
    assert_row(&vm, 0, "node 0: 10 x 2 MiB, as planned");
    assert_row(&vm, 1, "nodes 0-1: 10 x 2 MiB, as planned");
    assert_row(&vm, 2, "any node: 10 x 2 MiB, as planned");
}

static void floating_pages_may_be_anywhere_but_must_be(void)
{
    g_auto(Vm) vm;
    vm_init(&vm);
    needs(&vm, ANY, SIZE_2M, 10);
    has(&vm, 7, SIZE_2M, 6);
    g_assert_false(is_as_planned(&vm));
    assert_row(&vm, 0, "any node: 6 of 10 x 2 MiB planned; 4 missing");
    has(&vm, 3, SIZE_2M, 4);
    g_assert_true(is_as_planned(&vm));
}

static void more_than_planned_contradicts_no_plan(void)
{
    g_auto(Vm) vm;
    vm_init(&vm);
    needs(&vm, "0", SIZE_2M, 10);
    has(&vm, 0, SIZE_2M, 12);
    has(&vm, 2, SIZE_1G, 1);
    g_assert_true(is_as_planned(&vm));
    g_assert_cmpuint(vm.verdict->unplanned->len, ==, 2);
    g_assert_cmpuint(hv_placed_pages(vm.verdict->unplanned, SIZE_2M), ==, 2);
    g_assert_cmpuint(hv_placed_pages(vm.verdict->unplanned, SIZE_1G), ==, 1);
}

/* Where the kernel does not say which node a page is on, only sums can be judged. */
static void unknown_nodes_are_judged_by_their_sum(void)
{
    g_auto(Vm) vm;
    vm_init(&vm);
    vm.residence->knows_nodes = FALSE;
    needs(&vm, "0", SIZE_2M, 10);
    needs(&vm, "1", SIZE_2M, 10);
    has(&vm, HV_NODE_UNKNOWN, SIZE_2M, 20);
    g_assert_true(is_as_planned(&vm));
    assert_row(&vm, 0, "any node: 20 x 2 MiB, as planned");
    needs(&vm, "1", SIZE_2M, 1);
    g_assert_false(is_as_planned(&vm));
}

static void counts_without_end_do_not_wrap(void)
{
    g_auto(Vm) vm;
    vm_init(&vm);
    needs(&vm, "0", SIZE_2M, G_MAXUINT64);
    needs(&vm, "0", SIZE_2M, G_MAXUINT64);
    has(&vm, 0, SIZE_2M, G_MAXUINT64);
    has(&vm, 1, SIZE_2M, G_MAXUINT64);
    g_assert_true(is_as_planned(&vm));
    g_assert_cmpuint(hv_placed_kib(vm.residence->placed), ==, G_MAXUINT64);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name) g_test_add_func("/verify/" #name, name)
    ADD(pages_on_their_nodes_are_as_planned);
    ADD(backends_of_one_node_are_one_row);
    ADD(pages_on_another_node_are_told);
    ADD(each_other_node_is_named);
    ADD(swapped_cells_are_two_rows_that_are_wrong);
    ADD(untouched_pages_are_not_missing);
    ADD(pages_that_are_not_mapped_are_missing);
    ADD(untouched_pages_excuse_none_elsewhere);
    ADD(pages_of_another_size_do_not_count);
    ADD(several_nodes_are_judged_by_their_sum);
    ADD(pages_outside_of_several_nodes_are_told);
    ADD(sets_that_share_a_node_are_judged_together);
    ADD(bound_needs_are_served_before_floating_ones);
    ADD(floating_pages_may_be_anywhere_but_must_be);
    ADD(more_than_planned_contradicts_no_plan);
    ADD(unknown_nodes_are_judged_by_their_sum);
    ADD(counts_without_end_do_not_wrap);
    return g_test_run();
}
