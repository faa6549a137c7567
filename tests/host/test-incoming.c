/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Page sizes of a VM that comes from elsewhere: kept, or replaced by one that this host has. */
#include "vm-fixture.h"

#include "error.h"

#define ADAPT                                                                                      \
    "file /etc/hugevm/hugevm.conf [performance]\\nuse_dynamic_hugepages = true\\n"                 \
    "[hugevm]\\nhost_memory_floor = 0,0%\\nincoming_page_sizes = adapt\\n\n"
#define NO_HUGE_PAGES "arch x86_64\nmem available=33554432\nnode 0 total=16777216 free=16777216\n"

/* A guest of 2 GiB, with what is in <memoryBacking> and <devices>, and cells. */
#define VM(backing, cells, devices)                                                                \
    "<domain type='kvm'>\n  <name>vm</name><uuid>" UUID_A "</uuid>\n  <memory "                    \
    "unit='MiB'>2048</memory>\n  <vcpu>2</vcpu><memoryBacking>" backing "</memoryBacking>" cells   \
    "<os><type>hvm</type></os>\n  <devices>" devices "</devices></domain>\n"
#define CELLS(one_mib, other_mib)                                                                  \
    "<cpu><numa><cell id='0' cpus='0' memory='" one_mib "' unit='MiB'/>"                           \
    "<cell id='1' cpus='1' memory='" other_mib "' unit='MiB'/></numa></cpu>"

static HvOutcome *adapt(const char *xml, GError **error)
{
    g_autoptr(HvAgent) agent = new_agent(1000);
    HvVm vm = {.xml = xml, .xml_bytes = strlen(xml)};
    return hv_lifecycle_adapt_incoming(agent, &vm, error);
}

static void assert_becomes(const char *tree, const char *xml, const char *expected)
{
    g_autoptr(GError) error = NULL;
    fake_init(tree);
    g_autoptr(HvOutcome) outcome = adapt(xml, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(outcome->xml, ==, expected);
    g_assert_cmpuint(outcome->xml_bytes, ==, strlen(expected));
    g_assert_cmpint(outcome->xml_changed, ==, strcmp(xml, expected) != 0);
    g_assert_cmpuint(outcome->warnings->len, ==, outcome->xml_changed ? 1 : 0);
    fake_clear();
}

static void assert_none_will_do(const char *tree, const char *xml, const char *part)
{
    g_autoptr(GError) error = NULL;
    fake_init(tree);
    g_assert_null(adapt(xml, &error));
    g_assert_error(error, HV_ERROR, HV_ERROR_SHORTAGE);
    g_assert_nonnull(strstr(error->message, part));
    g_assert_nonnull(hv_error_hint(error));
    fake_clear();
}

#define GIGANTIC VM("<hugepages><page size='1' unit='G'/></hugepages>", "", "")

static void sizes_are_kept_unless_asked_for(void)
{
    assert_becomes(TWO_NODES, GIGANTIC, GIGANTIC);
    assert_becomes(TWO_NODES DYNAMIC, GIGANTIC, GIGANTIC);
    assert_becomes(TWO_NODES
                   "file /etc/hugevm/hugevm.conf [hugevm]\\nincoming_page_sizes = adapt\\n"
                   "enabled = false\\n\n",
                   GIGANTIC, GIGANTIC);
}

static void a_size_that_is_not_there_becomes_the_architectures_own(void)
{
    assert_becomes(TWO_NODES ADAPT, GIGANTIC,
                   VM("<hugepages><page size='2048' unit='KiB'/></hugepages>", "", ""));
    assert_becomes(TWO_NODES ADAPT, VM("<hugepages><page size=\"16384\"/></hugepages>", "", ""),
                   VM("<hugepages><page size=\"2048\" unit=\"KiB\"/></hugepages>", "", ""));
}

static void sizes_that_are_there_stay(void)
{
    static const char *const texts[] = {
        VM("<hugepages><page size='2' unit='MiB'/></hugepages>", "", ""),
        VM("<hugepages/>", "", ""),
        VM("<hugepages><page size='4' unit='KiB'/></hugepages>", "", ""),
        VM("<locked/>", "", ""),
    };
    for (guint i = 0; i < G_N_ELEMENTS(texts); i++)
        assert_becomes(TWO_NODES ADAPT, texts[i], texts[i]);
}

static void each_cell_and_device_keeps_what_it_may(void)
{
    assert_becomes(
        TWO_NODES ADAPT,
        VM("<hugepages><page nodeset='0' size='1' unit='G'/><page size='2' unit='M' nodeset='1'/>"
           "</hugepages>",
           CELLS("1024", "1024"),
           "<memory model='dimm'><source><pagesize unit='GiB'>1</pagesize></source><target>"
           "<size unit='GiB'>1</size><node>1</node></target></memory><memory model='nvdimm'>"
           "<source><path>/dev/dax0.0</path><pagesize unit='GiB'>1</pagesize></source><target>"
           "<size unit='GiB'>1</size><node>1</node></target></memory>"),
        VM("<hugepages><page nodeset='0' size='2048' unit='KiB'/><page size='2' unit='M' "
           "nodeset='1'/></hugepages>",
           CELLS("1024", "1024"),
           "<memory model='dimm'><source><pagesize unit='KiB'>2048</pagesize></source><target>"
           "<size unit='GiB'>1</size><node>1</node></target></memory><memory model='nvdimm'>"
           "<source><path>/dev/dax0.0</path><pagesize unit='GiB'>1</pagesize></source><target>"
           "<size unit='GiB'>1</size><node>1</node></target></memory>"));
}

static void what_fits_no_page_is_refused_by_its_name(void)
{
    assert_none_will_do(
        TWO_NODES ADAPT,
        VM("<hugepages><page size='64' unit='K'/></hugepages>", CELLS("1", "2047"), ""),
        "guest cell 0 has 1 MiB, which pages of 2 MiB do not fit");
    assert_none_will_do(TWO_NODES ADAPT,
                        VM("<hugepages><page size='64' unit='K'/></hugepages>"
                           "<source type='memfd'/>",
                           CELLS("1024", "1023"), ""),
                        "guest cell 1 has 1023 MiB");
    assert_none_will_do(NO_HUGE_PAGES ADAPT, GIGANTIC, "this host offers none");
}

#define GIGANTIC_PROPERTY                                                                          \
    "<metadata><h:vm xmlns:h='urn:hugevm:vm:1'><h:hugepages>1048576</h:hugepages></h:vm>"          \
    "</metadata>"

/* The property speaks of the source: what the XML names now is what there is instead. */
static void a_property_with_the_old_size_does_not_contradict_the_new_one(void)
{
    g_autoptr(GError) error = NULL;
    fake_init(TWO_NODES ADAPT);
    g_autoptr(HvAgent) agent = new_agent(1000);
    const char *xml = VM("<hugepages><page size='1' unit='G'/></hugepages>", GIGANTIC_PROPERTY, "");
    HvVm vm = {.xml = xml, .xml_bytes = strlen(xml)};
    g_autoptr(HvOutcome) adapted = hv_lifecycle_adapt_incoming(agent, &vm, &error);
    g_assert_no_error(error);
    HvVm next = {.xml = adapted->xml, .xml_bytes = adapted->xml_bytes, .cannot_edit = TRUE};
    g_autoptr(HvOutcome) claimed = hv_lifecycle_claim(agent, &next, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(g_array_index(claimed->request->needs, HvNeed, 0).size_kib, ==, SIZE_2M);
    fake_clear();
}

static void a_file_with_an_error_is_an_error(void)
{
    g_autoptr(GError) error = NULL;
    fake_init(TWO_NODES "file /etc/hugevm/hugevm.conf [hugevm]\\nincoming_page_sizes = yes\\n\n");
    g_assert_null(adapt(GIGANTIC, &error));
    g_assert_error(error, HV_ERROR, HV_ERROR_CONFIG);
    fake_clear();
}

static void nothing_is_taken_and_the_claim_accepts_what_came_of_it(void)
{
    g_autoptr(GError) error = NULL;
    fake_init(TWO_NODES ADAPT);
    g_autoptr(HvAgent) agent = new_agent(1000);
    HvVm vm = {.xml = GIGANTIC, .xml_bytes = strlen(GIGANTIC)};
    g_autoptr(HvOutcome) adapted = hv_lifecycle_adapt_incoming(agent, &vm, &error);
    g_assert_no_error(error);
    g_autofree char *state = g_build_filename(fake.directory, "run", "hugevm", NULL);
    g_assert_false(g_file_test(state, G_FILE_TEST_EXISTS));
    g_assert_null(try_claim(agent, GIGANTIC, NULL, NULL));
    g_autoptr(HvOutcome) claimed = try_claim(agent, adapted->xml, NULL, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(count_claims(), ==, 1);
    g_assert_true(tell(hv_lifecycle_gone, agent, UUID_A, claimed->generation, 0));
    assert_untouched();
    fake_clear();
}

#define ADD(test) g_test_add_func("/incoming/" #test, test)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD(sizes_are_kept_unless_asked_for);
    ADD(a_size_that_is_not_there_becomes_the_architectures_own);
    ADD(sizes_that_are_there_stay);
    ADD(each_cell_and_device_keeps_what_it_may);
    ADD(what_fits_no_page_is_refused_by_its_name);
    ADD(a_property_with_the_old_size_does_not_contradict_the_new_one);
    ADD(a_file_with_an_error_is_an_error);
    ADD(nothing_is_taken_and_the_claim_accepts_what_came_of_it);
    return g_test_run();
}
