/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Starts that leave page sizes, or the node, to hugevm: what the host gets to start the VM with. */
#include "vm-fixture.h"

#include "error.h"

#define SIZE_1G ((guint64)1024 * 1024)
#define MIB_KIB ((guint64)1024)
#define CELLS                                                                                      \
    "<cpu><numa><cell id='0' cpus='0' memory='1024' unit='MiB'/>"                                  \
    "<cell id='1' cpus='1' memory='512' unit='MiB'/></numa></cpu>"

static const char two_sizes[] =
    "arch x86_64\nmem available=33554432 default=2048\nsize 2048\nsize 1048576\n"
    "node 0 total=16777216 free=8388608\nnode 1 total=16777216 free=16777216\n"
    "pool 0 2048 total=0 free=0\npool 1 2048 total=0 free=0\n"
    "pool 0 1048576 total=0 free=0\npool 1 1048576 total=0 free=0\n";

typedef struct {
    HvAgent *agent;
    GHashTable *properties;
    gboolean cannot_edit;
    HvOutcome *outcome;
} Door;

/* more: lines of [hugevm] */
static void door_init(Door *door, const char *more)
{
    g_autofree char *tree =
        g_strdup_printf("%sfile /etc/hugevm/hugevm.conf [performance]\\nuse_dynamic_hugepages = "
                        "true\\n[hugevm]\\nhost_memory_floor = 0,0%%\\n%s\n",
                        two_sizes, more);
    fake_init(tree);
    door->agent = new_agent(1000);
    door->properties = g_hash_table_new(g_str_hash, g_str_equal);
}

static void door_clear(Door *door)
{
    hv_agent_free(door->agent);
    g_hash_table_unref(door->properties);
    hv_outcome_free(door->outcome);
    fake_clear();
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Door, door_clear)

static void set_room_mib(guint64 node0_mib, guint64 node1_mib)
{
    fake.room_kib[0] = node0_mib * MIB_KIB;
    fake.room_kib[1] = node1_mib * MIB_KIB;
}

static char *xml_of(const char *memory_mib, const char *more)
{
    return g_strdup_printf("<domain type='kvm'><name>vm</name><uuid>" UUID_A "</uuid>"
                           "<memory unit='MiB'>%s</memory>%s</domain>",
                           memory_mib, more);
}

static gboolean start(Door *door, const char *memory_mib, const char *more, GError **error)
{
    g_autofree char *xml = xml_of(memory_mib, more);
    HvVm vm = {.xml = xml,
               .xml_bytes = strlen(xml),
               .properties = door->properties,
               .cannot_edit = door->cannot_edit};
    g_clear_pointer(&door->outcome, hv_outcome_free);
    door->outcome = hv_lifecycle_claim(door->agent, &vm, error);
    return door->outcome != NULL;
}

static void start_well(Door *door, const char *hugepages, const char *memory_mib, const char *more)
{
    g_autoptr(GError) error = NULL;
    if (hugepages != NULL)
        g_hash_table_insert(door->properties, (gpointer) "hugepages", (gpointer)hugepages);
    gboolean is_good = start(door, memory_mib, more, &error);
    g_assert_no_error(error);
    g_assert_true(is_good);
}

static void assert_says(const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        g_error("no %s in %s", part, text);
}

static void assert_refused(Door *door, const char *memory_mib, const char *more, const char *part)
{
    g_autoptr(GError) error = NULL;
    g_assert_false(start(door, memory_mib, more, &error));
    assert_says(error->message, part);
}

static void assert_grown(guint64 pages_1g, guint64 pages_2m)
{
    guint64 sum_1g = 0, sum_2m = 0;
    for (int node = 0; node < 2; node++) {
        sum_1g += fake_get(node, SIZE_1G, "nr_hugepages");
        sum_2m += fake_get(node, SIZE_2M, "nr_hugepages");
    }
    g_assert_cmpuint(sum_1g, ==, pages_1g);
    g_assert_cmpuint(sum_2m, ==, pages_2m);
}

static void assert_nothing_kept(void)
{
    assert_grown(0, 0);
    g_autoptr(HvLedger) ledger = read_ledger();
    g_assert_cmpuint(ledger->claims->len, ==, 0);
    g_assert_cmpuint(ledger->grown->len, ==, 0);
}

static void end_vm(Door *door)
{
    g_assert_true(tell(hv_lifecycle_gone, door->agent, UUID_A, door->outcome->generation, 0));
    assert_nothing_kept();
}

static void test_largest_size_stands_in_the_xml(void)
{
    g_auto(Door) door = {0};
    door_init(&door, "");
    set_room_mib(4096, 4096);
    start_well(&door, "large", "2048", "");
    assert_says(door.outcome->xml, "<hugepages><page size='1048576' unit='KiB'/></hugepages>");
    assert_grown(2, 0);
    end_vm(&door);
}

static void test_cells_of_two_sizes_are_named_each(void)
{
    g_auto(Door) door = {0};
    door_init(&door, "");
    set_room_mib(4096, 4096);
    start_well(&door, "any", "1536", CELLS);
    assert_says(door.outcome->xml, "<hugepages><page size='1048576' unit='KiB' nodeset='0'/>"
                                   "<page size='2048' unit='KiB' nodeset='1'/></hugepages>");
    assert_grown(1, 256);
    end_vm(&door);
}

/* By the figures there is memory; in one piece of 1 GiB there is none. */
static void test_size_that_the_kernel_cannot_give_is_left_for_the_next(void)
{
    g_auto(Door) door = {0};
    door_init(&door, "");
    set_room_mib(900, 900);
    start_well(&door, "large", "1024", "");
    assert_says(door.outcome->xml, "<page size='2048' unit='KiB'/>");
    assert_grown(0, 512);
    g_autoptr(HvLedger) ledger = read_ledger();
    const HvClaim *claim = hv_ledger_claim(ledger, UUID_A);
    g_assert_cmpuint(hv_needs_pages(claim->needs, SIZE_2M), ==, 512);
    g_assert_cmpuint(hv_needs_pages(claim->needs, SIZE_1G), ==, 0);
    end_vm(&door);
}

static void test_large_tells_of_the_first_shortage(void)
{
    g_auto(Door) door = {0};
    door_init(&door, "");
    set_room_mib(100, 100);
    g_hash_table_insert(door.properties, (gpointer) "hugepages", (gpointer) "large");
    assert_refused(&door, "1024", "", "gave 0 of 1 pages of 1 GiB");
    assert_nothing_kept();
}

static void test_any_starts_with_normal_pages_at_last(void)
{
    g_auto(Door) door = {0};
    door_init(&door, "");
    set_room_mib(100, 100);
    start_well(&door, "any", "1024", "");
    g_autofree char *xml = xml_of("1024", "");
    g_assert_cmpstr(door.outcome->xml, ==, xml);
    g_assert_false(door.outcome->xml_changed);
    g_assert_cmpuint(door.outcome->generation, ==, 0);
    g_assert_cmpuint(door.outcome->warnings->len, ==, 1);
    assert_says(g_ptr_array_index(door.outcome->warnings, 0), "normal pages");
    assert_nothing_kept();
}

/* The VM had pages at its last start, of which nobody has told the end. */
static void test_normal_pages_end_an_earlier_claim(void)
{
    g_auto(Door) door = {0};
    door_init(&door, "");
    set_room_mib(2000, 2000);
    start_well(&door, "any", "1024", "");
    assert_grown(1, 0);
    set_room_mib(0, 0);
    start_well(&door, "any", "8192", "");
    g_assert_cmpuint(door.outcome->generation, ==, 0);
    assert_nothing_kept();
}

static void test_host_that_cannot_edit_gets_the_sizes_of_the_xml(void)
{
    g_auto(Door) door = {.cannot_edit = TRUE};
    door_init(&door, "bind_unbound = single-node\\n");
    set_room_mib(4096, 4096);
    g_hash_table_insert(door.properties, (gpointer) "hugepages", (gpointer) "large");
    assert_refused(&door, "1024", "", "cannot be edited here");
    start_well(&door, NULL, "1024", "<memoryBacking><hugepages/></memoryBacking>");
    assert_grown(0, 512); /* the default size, as libvirt will have it */
    g_assert_false(door.outcome->xml_changed);
    end_vm(&door);
}

static void test_size_without_hugetlbfs_is_none_to_choose(void)
{
    g_auto(Door) door = {0};
    door_init(&door, "");
    set_room_mib(4096, 4096);
    tree_write(fake.directory, "/proc/self/mounts",
               "none /dev/hugepages hugetlbfs rw,pagesize=2M 0 0\n");
    start_well(&door, "large", "1024", "");
    assert_says(door.outcome->xml, "<page size='2048' unit='KiB'/>");
    assert_grown(0, 512);
    end_vm(&door);
    start_well(&door, "large", "1024", "<memoryBacking><source type='memfd'/></memoryBacking>");
    assert_says(door.outcome->xml, "<page size='1048576' unit='KiB'/>");
    end_vm(&door);
    tree_write(fake.directory, "/proc/self/mounts", "");
    start_well(&door, "any", "1024", "");
    g_assert_false(door.outcome->xml_changed);
    /* the size to mount is the one that will do for any VM */
    g_hash_table_insert(door.properties, (gpointer) "hugepages", (gpointer) "large");
    assert_refused(&door, "1024", "", "no hugetlbfs for pages of 2 MiB is mounted");
    assert_nothing_kept();
}

/* Another door, which may edit, has found no huge pages before and left the XML as it is. */
static void test_host_that_cannot_edit_gets_normal_pages_for_any(void)
{
    g_auto(Door) door = {.cannot_edit = TRUE};
    door_init(&door, "");
    set_room_mib(4096, 4096);
    start_well(&door, "any", "1024", "");
    g_assert_false(door.outcome->xml_changed);
    g_assert_cmpuint(door.outcome->generation, ==, 0);
    g_assert_cmpuint(door.outcome->warnings->len, ==, 1);
    assert_says(g_ptr_array_index(door.outcome->warnings, 0), "normal pages");
    assert_nothing_kept();
    g_hash_table_insert(door.properties, (gpointer) "hugepages_shared", (gpointer) "true");
    assert_refused(&door, "1024", "", "cannot be edited here");
}

/* Of these two only huge pages are refused. */
static void test_any_has_normal_pages_where_huge_ones_would_be_refused(void)
{
    static const char *const elements[] = {
        "<memoryBacking><allocation mode='ondemand'/></memoryBacking>",
        "<launchSecurity type='sev-snp'/>",
    };
    for (guint i = 0; i < 2 * G_N_ELEMENTS(elements); i++) {
        g_auto(Door) door = {.cannot_edit = i % 2 == 1};
        door_init(&door, "bind_unbound = single-node\\n");
        set_room_mib(4096, 4096);
        start_well(&door, "any", "1024", elements[i / 2]);
        g_assert_false(door.outcome->xml_changed);
        g_assert_cmpuint(door.outcome->generation, ==, 0);
        g_assert_cmpuint(door.outcome->warnings->len, ==, 2);
        assert_says(g_ptr_array_index(door.outcome->warnings, 0), ": take <");
        assert_says(g_ptr_array_index(door.outcome->warnings, 1), "normal pages");
        assert_nothing_kept();
        g_hash_table_insert(door.properties, (gpointer) "hugepages", (gpointer) "large");
        assert_refused(&door, "1024", elements[i / 2],
                       door.cannot_edit ? "cannot be edited here" : "huge pages");
    }
}

static void test_bare_hugepages_gets_the_sizes_chosen(void)
{
    g_auto(Door) door = {0};
    door_init(&door, "");
    set_room_mib(4096, 4096);
    start_well(&door, "large", "1024",
               "<memoryBacking><hugepages/><nosharepages/></memoryBacking>");
    assert_says(door.outcome->xml, "<hugepages><page size='1048576' unit='KiB'/></hugepages>"
                                   "<nosharepages/>");
    end_vm(&door);
}

static void assert_bound(const Door *door, const char *mode, int node)
{
    g_autofree char *element =
        g_strdup_printf("<numatune><memory mode='%s' nodeset='%d'/></numatune>", mode, node);
    assert_says(door->outcome->xml, element);
}

static void test_single_node_stands_in_the_xml_and_the_ledger(void)
{
    g_auto(Door) door = {0};
    door_init(&door, "bind_unbound = single-node\\n");
    set_room_mib(8192, 8192);
    start_well(&door, "2048", "1024", "");
    assert_bound(&door, "strict", 0); /* the tighter one */
    g_autoptr(HvLedger) ledger = read_ledger();
    g_assert_cmpuint(hv_needs_bound_pages(hv_ledger_claim(ledger, UUID_A)->needs, SIZE_2M, 0), ==,
                     512);
    end_vm(&door);
}

static void test_node_that_cannot_give_is_left_for_another(void)
{
    g_auto(Door) door = {0};
    door_init(&door, "bind_unbound = single-node\\n");
    set_room_mib(300, 8192);
    start_well(&door, "2048", "1024", "");
    assert_bound(&door, "strict", 1);
    g_assert_cmpuint(fake_get(0, SIZE_2M, "nr_hugepages"), ==, 0);
    g_assert_cmpuint(fake_get(1, SIZE_2M, "nr_hugepages"), ==, 512);
    end_vm(&door);
}

static void test_preferred_node_may_be_helped_by_another(void)
{
    g_auto(Door) door = {0};
    door_init(&door, "bind_unbound = prefer\\n");
    set_room_mib(300, 8192);
    start_well(&door, "2048", "1024", "");
    assert_bound(&door, "preferred", 0);
    g_assert_cmpuint(fake_get(0, SIZE_2M, "nr_hugepages"), ==, 150);
    g_assert_cmpuint(fake_get(1, SIZE_2M, "nr_hugepages"), ==, 362);
    end_vm(&door);
}

/* The pool gave 3 before it fell short: those are asked for again. */
static void test_pages_that_were_given_are_taken_again(void)
{
    g_auto(Door) door = {0};
    door_init(&door, "");
    set_room_mib(2600, 1700);
    start_well(&door, "large", "4096",
               "<cpu><numa><cell id='0' cpus='0' memory='1' unit='GiB'/>"
               "<cell id='1' cpus='1' memory='1' unit='GiB'/>"
               "<cell id='2' cpus='2' memory='1' unit='GiB'/>"
               "<cell id='3' cpus='3' memory='1' unit='GiB'/></numa></cpu>");
    assert_grown(3, 512);
    end_vm(&door);
}

static void slow_write(void)
{
    g_usleep(30 * 1000);
}

static void test_any_starts_also_when_the_time_is_up(void)
{
    g_auto(Door) door = {0};
    g_autoptr(GError) error = NULL;
    g_autofree char *xml = xml_of("4096", "");
    door_init(&door, "compact = false\n");
    set_room_mib(700, 8192);
    fake.before_write = slow_write;
    HvVm vm = {
        .xml = xml, .xml_bytes = strlen(xml), .properties = door.properties, .timeout_ms = 50};
    g_hash_table_insert(door.properties, (gpointer) "hugepages", (gpointer) "large");
    door.outcome = hv_lifecycle_claim(door.agent, &vm, &error);
    g_assert_error(error, HV_ERROR, HV_ERROR_TIMEOUT);
    g_clear_error(&error);
    g_hash_table_insert(door.properties, (gpointer) "hugepages", (gpointer) "any");
    door.outcome = hv_lifecycle_claim(door.agent, &vm, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(door.outcome->xml, ==, xml);
    assert_nothing_kept();
}

/* The distances count, too, when a node near the CPUs falls short. */
static void test_rest_goes_to_the_nearest_node(void)
{
    g_auto(Door) door = {0};
    static const char *const distances[] = {"10 32 12", "32 10 32", "12 32 10"};
    door_init(&door, "");
    for (int node = 0; node < 3; node++) {
        g_autofree char *distance = g_strdup_printf(TREE_NODES "/node%d/distance", node);
        g_autofree char *cpus = g_strdup_printf(TREE_NODES "/node%d/cpulist", node);
        tree_printf(fake.directory, distance, "%s\n", distances[node]);
        tree_printf(fake.directory, cpus, "%d\n", node);
    }
    tree_write(fake.directory, TREE_NODES "/node2/meminfo",
               "Node 2 MemTotal: 33554432 kB\nNode 2 MemFree: 33554432 kB\n");
    for (guint i = 0; i < 3; i++) {
        static const char *const names[] = {"nr_hugepages", "free_hugepages", "surplus_hugepages"};
        tree_pool_set(fake.directory, 2, SIZE_2M, names[i], 0);
    }
    set_room_mib(100, 8192);
    fake.room_kib[2] = 8192 * MIB_KIB;
    start_well(&door, "2048", "200", "<vcpu cpuset='0'>1</vcpu>");
    g_assert_cmpuint(fake_get(0, SIZE_2M, "nr_hugepages"), ==, 50);
    g_assert_cmpuint(fake_get(1, SIZE_2M, "nr_hugepages"), ==, 0);
    g_assert_cmpuint(fake_get(2, SIZE_2M, "nr_hugepages"), ==, 50);
    g_assert_true(tell(hv_lifecycle_gone, door.agent, UUID_A, 0, 0));
}

/* Whoever claimed first knows the start by its generation, whatever is chosen after that. */
static void test_adopted_claim_stays_the_first_agents(void)
{
    g_auto(Door) door = {0};
    g_autoptr(GError) error = NULL;
    g_autofree char *xml = xml_of("1024", "<memoryBacking><hugepages/></memoryBacking>");
    door_init(&door, "bind_unbound = single-node\n");
    set_room_mib(300, 8192);
    g_autoptr(HvAgent) first = new_agent(1001);
    HvVm vm = {.xml = xml, .xml_bytes = strlen(xml), .cannot_edit = TRUE};
    g_autoptr(HvOutcome) incoming = hv_lifecycle_claim_incoming(first, &vm, &error);
    g_assert_no_error(error);
    vm.cannot_edit = FALSE;
    vm.adopts = TRUE;
    door.outcome = hv_lifecycle_claim(door.agent, &vm, &error);
    g_assert_no_error(error);
    assert_bound(&door, "strict", 1); /* after a try on node 0 */
    g_assert_cmpuint(door.outcome->generation, ==, incoming->generation);
    g_autoptr(HvLedger) ledger = read_ledger();
    g_assert_false(hv_ledger_claim(ledger, UUID_A)->may_hand_over);
    g_assert_true(tell(hv_lifecycle_gone, first, UUID_A, incoming->generation, 0));
    assert_nothing_kept();
}

static void test_added_elements_keep_the_style_of_the_text(void)
{
    static const char xml[] = "<domain>\r\n\t<name>vm</name>\r\n\t<uuid>" UUID_A "</uuid>\r\n"
                              "\t<memory unit='MiB'>1024</memory> <!-- a -->\r\n</domain>\r\n";
    static const char expected[] =
        "<domain>\r\n\t<name>vm</name>\r\n\t<uuid>" UUID_A "</uuid>\r\n"
        "\t<memory unit='MiB'>1024</memory>\r\n"
        "\t<memoryBacking>\r\n\t\t<hugepages>\r\n\t\t\t<page size='1048576' unit='KiB'/>\r\n"
        "\t\t</hugepages>\r\n\t</memoryBacking>\r\n"
        "\t<numatune>\r\n\t\t<memory mode='strict' nodeset='0'/>\r\n\t</numatune> <!-- a -->\r\n"
        "</domain>\r\n";
    g_auto(Door) door = {0};
    g_autoptr(GError) error = NULL;
    door_init(&door, "bind_unbound = single-node\\n");
    set_room_mib(4096, 4096);
    g_hash_table_insert(door.properties, (gpointer) "hugepages", (gpointer) "large");
    HvVm vm = {.xml = xml, .xml_bytes = strlen(xml), .properties = door.properties};
    door.outcome = hv_lifecycle_claim(door.agent, &vm, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(door.outcome->xml, ==, expected);
    end_vm(&door);
}

#define ADD(name, function) g_test_add_func("/settle/" name, function)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("largest-size-stands-in-the-xml", test_largest_size_stands_in_the_xml);
    ADD("cells-of-two-sizes-are-named-each", test_cells_of_two_sizes_are_named_each);
    ADD("size-that-the-kernel-cannot-give-is-left-for-the-next",
        test_size_that_the_kernel_cannot_give_is_left_for_the_next);
    ADD("large-tells-of-the-first-shortage", test_large_tells_of_the_first_shortage);
    ADD("any-starts-with-normal-pages-at-last", test_any_starts_with_normal_pages_at_last);
    ADD("normal-pages-end-an-earlier-claim", test_normal_pages_end_an_earlier_claim);
    ADD("host-that-cannot-edit-gets-the-sizes-of-the-xml",
        test_host_that_cannot_edit_gets_the_sizes_of_the_xml);
    ADD("size-without-hugetlbfs-is-none-to-choose", test_size_without_hugetlbfs_is_none_to_choose);
    ADD("host-that-cannot-edit-gets-normal-pages-for-any",
        test_host_that_cannot_edit_gets_normal_pages_for_any);
    ADD("any-has-normal-pages-where-huge-ones-would-be-refused",
        test_any_has_normal_pages_where_huge_ones_would_be_refused);
    ADD("bare-hugepages-gets-the-sizes-chosen", test_bare_hugepages_gets_the_sizes_chosen);
    ADD("single-node-stands-in-the-xml-and-the-ledger",
        test_single_node_stands_in_the_xml_and_the_ledger);
    ADD("node-that-cannot-give-is-left-for-another",
        test_node_that_cannot_give_is_left_for_another);
    ADD("preferred-node-may-be-helped-by-another", test_preferred_node_may_be_helped_by_another);
    ADD("pages-that-were-given-are-taken-again", test_pages_that_were_given_are_taken_again);
    ADD("any-starts-also-when-the-time-is-up", test_any_starts_also_when_the_time_is_up);
    ADD("rest-goes-to-the-nearest-node", test_rest_goes_to_the_nearest_node);
    ADD("adopted-claim-stays-the-first-agents", test_adopted_claim_stays_the_first_agents);
    ADD("added-elements-keep-the-style-of-the-text",
        test_added_elements_keep_the_style_of_the_text);
    return g_test_run();
}
