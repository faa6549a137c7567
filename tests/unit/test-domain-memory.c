/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What domain XML says of the guest's memory: cells, pages, sharing, binding, devices. */
#include "domain-fixture.h"

static void a_plain_guest_is_one_cell(void)
{
    g_autoptr(HvDomain) domain =
        parse_body("<name>vm</name><uuid>" UUID "</uuid><memory>2097152</memory>");
    g_assert_cmpstr(domain->name, ==, "vm");
    g_assert_cmpstr(domain->uuid, ==, UUID);
    g_assert_false(domain->has_cells);
    g_assert_false(domain->has_hugepages);
    g_assert_cmpuint(domain->cells->len, ==, 1);
    g_assert_cmpint(cell_at(domain, 0)->id, ==, -1);
    g_assert_cmpuint(cell_at(domain, 0)->memory_kib, ==, 2097152);
    g_assert_cmpuint(cell_at(domain, 0)->page_kib, ==, 0);
    g_assert_false(cell_at(domain, 0)->is_shared);
    g_assert_true(hv_node_set_is_any(&cell_at(domain, 0)->placement.nodes));
    g_assert_cmpuint(cell_at(domain, 0)->span.end, ==, 0);
    g_assert_cmpuint(domain->sharers->len, ==, 0);
}

/* libvirt takes an empty element for none. */
static void empty_amounts_are_not_said(void)
{
    g_autoptr(HvDomain) domain =
        parse_body("<memory>2048</memory><currentMemory/><memtune><hard_limit unit='MiB'>"
                   "</hard_limit></memtune>");
    g_assert_cmpuint(domain->traits.current_kib, ==, 0);
    g_assert_cmpuint(domain->traits.hard_limit_kib, ==, 0);
}

static void units_are_those_of_libvirt(void)
{
    static const struct {
        const char *memory;
        guint64 kib;
    } cases[] = {
        {"<memory>1</memory>", 1},
        {"<memory unit=''>7</memory>", 7},
        {"<memory unit='b'>1024</memory>", 1},
        {"<memory unit='byte'>1</memory>", 1},
        {"<memory unit='bytes'>1025</memory>", 2},
        {"<memory unit='KB'>1000</memory>", 977},
        {"<memory unit='k'>3</memory>", 3},
        {"<memory unit='KiB'>3</memory>", 3},
        {"<memory unit='MB'>1</memory>", 977},
        {"<memory unit='M'>1</memory>", 1024},
        {"<memory unit='mib'>1</memory>", 1024},
        {"<memory unit='GB'>1</memory>", 976563},
        {"<memory unit='G'>1</memory>", 1048576},
        {"<memory unit='GiB'>1</memory>", 1048576},
        {"<memory unit='TB'>1</memory>", 976562500},
        {"<memory unit='T'>1</memory>", 1073741824},
        {"<memory unit='EiB'>7</memory>", G_GUINT64_CONSTANT(7) << 50},
        {"<memory unit='b'>9223372036854775807</memory>", G_GUINT64_CONSTANT(1) << 53},
        {"<memory>\n  4096\n  </memory>", 4096},
        {"<memory>40<!-- not here -->96</memory>", 4096},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(HvDomain) domain = parse_body(cases[i].memory);
        g_assert_cmpuint(cell_at(domain, 0)->memory_kib, ==, cases[i].kib);
    }
}

static void bad_sizes_are_refused(void)
{
    assert_body_refused("", "<memory> is missing");
    assert_body_refused("<memory/>", "no memory size");
    assert_body_refused("<memory>0</memory>", "<memory> is 0");
    assert_body_refused("<memory>-1</memory>", "'-1', which is no memory size");
    assert_body_refused("<memory>1.5</memory>", "no memory size");
    assert_body_refused("<memory>1024 KiB</memory>", "no memory size");
    assert_body_refused("<memory>lots</memory>", "'lots'");
    assert_body_refused("<memory>18446744073709551616</memory>", "no memory size");
    assert_body_refused("<memory unit='EiB'>16</memory>", "no memory size");
    assert_body_refused("<memory unit='KiB'>18014398509481984</memory>", "no memory size");
    assert_body_refused("<memory unit='b'>9223372036854775808</memory>", "more memory than");
    assert_body_refused("<memory unit='EiB'>8</memory>", "more memory than");
    assert_body_refused("<memory unit='zib'>1</memory>", "unknown unit 'zib'");
    assert_body_refused("<memory unit='KiBB'>1</memory>", "unknown unit");
    assert_body_refused("<memory>1</memory><memory>2</memory>", "<memory> twice");
}

static void a_page_rule_goes_to_its_cells_first(void)
{
    g_autoptr(HvDomain) domain = parse_body(
        "<memory>1</memory><memoryBacking><hugepages>"
        "<page size='2' unit='M'/><page size='1' unit='G' nodeset='1'/>"
        "<page size='64' nodeset='2'/></hugepages></memoryBacking>"
        "<cpu><numa><cell id='0' memory='4' unit='GiB'/><cell id='1' memory='4' unit='GiB'/>"
        "<cell id='2' memory='512'/></numa></cpu>");
    g_assert_true(domain->has_hugepages);
    g_assert_false(hv_domain_has_bare_hugepages(domain));
    g_assert_cmpuint(domain->page_kib, ==, 2048);
    g_assert_cmpuint(cell_at(domain, 0)->page_kib, ==, 2048);
    g_assert_cmpuint(cell_at(domain, 1)->page_kib, ==, 1048576);
    g_assert_cmpuint(cell_at(domain, 2)->page_kib, ==, 64);
    g_assert_cmpuint(cell_at(domain, 0)->memory_kib, ==, 4194304);
    g_assert_cmpuint(cell_at(domain, 2)->memory_kib, ==, 512);
}

static void a_cell_without_a_rule_has_no_pages(void)
{
    g_autoptr(HvDomain) domain =
        parse_body("<memoryBacking><hugepages><page size='2048' nodeset='1'/></hugepages>"
                   "</memoryBacking><cpu><numa><cell memory='1024'/><cell memory='1024'/></numa>"
                   "</cpu>");
    g_assert_cmpuint(domain->page_kib, ==, 0);
    g_assert_false(hv_domain_has_bare_hugepages(domain));
    g_assert_cmpint(cell_at(domain, 1)->id, ==, 1);
    g_assert_cmpuint(cell_at(domain, 0)->page_kib, ==, 0);
    g_assert_cmpuint(cell_at(domain, 1)->page_kib, ==, 2048);
}

static void a_guest_without_cells_drops_nodeset_0(void)
{
    g_autoptr(HvDomain) domain =
        parse_body("<memory>4096</memory><memoryBacking><hugepages><page size='2048' nodeset='0'/>"
                   "</hugepages></memoryBacking>");
    g_assert_cmpuint(cell_at(domain, 0)->page_kib, ==, 2048);
    assert_body_refused("<memory>4096</memory><memoryBacking><hugepages>"
                        "<page size='2048' nodeset='1'/></hugepages></memoryBacking>",
                        "guest cell 1");
}

static void bare_hugepages_are_told_from_named_ones(void)
{
    g_autoptr(HvDomain) bare =
        parse_body("<memory>1</memory><memoryBacking><hugepages/></memoryBacking>");
    g_assert_true(hv_domain_has_bare_hugepages(bare));
    g_autoptr(HvDomain) none = parse_body("<memory>1</memory><memoryBacking/>");
    g_assert_false(hv_domain_has_bare_hugepages(none));
}

static void bad_page_rules_are_refused(void)
{
#define RULE(page)                                                                                 \
    "<memory>1</memory><memoryBacking><hugepages>" page "</hugepages></memoryBacking>"
    assert_body_refused(RULE("<page/>"), "size of <page>");
    assert_body_refused(RULE("<page size='0'/>"), "is 0");
    assert_body_refused(RULE("<page size='-2048'/>"), "'-2048'");
    assert_body_refused(RULE("<page size='2048' nodeset=''/>"), "nodeset");
    assert_body_refused(RULE("<page size='2048' nodeset='0,^0'/>"), "'0,^0'");
    assert_body_refused(RULE("<page size='2048' nodeset='0-99999'/>"), "nodeset");
    assert_body_refused("<memory>1</memory><memoryBacking><hugepages/><hugepages/></memoryBacking>",
                        "<hugepages> twice");
}

static void access_of_a_cell_comes_before_the_guests(void)
{
    g_autoptr(HvDomain) domain =
        parse_body("<memoryBacking><access mode='shared'/></memoryBacking><cpu><numa>"
                   "<cell memory='1' memAccess='private'/><cell memory='1'/></numa></cpu>");
    g_assert_cmpint(domain->traits.access, ==, HV_ACCESS_SHARED);
    g_assert_false(cell_at(domain, 0)->is_shared);
    g_assert_true(cell_at(domain, 1)->is_shared);
    g_assert_true(cell_at(domain, 0)->is_access_written);
    g_assert_true(cell_at(domain, 1)->is_access_written);
    assert_body_refused("<cpu><numa><cell memory='1' memAccess='some'/></numa></cpu>", "'some'");
}

static void memfd_is_shared_unless_told_otherwise(void)
{
    g_autoptr(HvDomain) unset =
        parse_body("<memory>1</memory><memoryBacking><source type='memfd'/></memoryBacking>");
    g_assert_cmpint(unset->traits.source, ==, HV_SOURCE_MEMFD);
    g_assert_true(cell_at(unset, 0)->is_shared);
    g_assert_false(cell_at(unset, 0)->is_access_written);
    g_autoptr(HvDomain) told =
        parse_body("<memory>1</memory><memoryBacking><access mode='private'/>"
                   "<source type='memfd'/></memoryBacking>");
    g_assert_false(cell_at(told, 0)->is_shared);
}

static void cell_ids_must_be_unique(void)
{
    g_autoptr(HvDomain) turned =
        parse_body("<cpu><numa><cell id='1' memory='2'/><cell id='0' memory='3'/></numa></cpu>");
    g_assert_cmpint(cell_at(turned, 0)->id, ==, 1);
    assert_body_refused(
        "<cpu><numa><cell id='0' memory='1'/><cell id='0' memory='1'/></numa></cpu>", "id 0");
    assert_body_refused("<cpu><numa><cell id='-1' memory='1'/></numa></cpu>", "'-1'");
    assert_body_refused("<cpu><numa><cell id='4096' memory='1'/></numa></cpu>", "'4096'");
}

static void cells_count_and_memory_does_not(void)
{
    g_autoptr(HvDomain) domain = parse_body(
        "<memory unit='GiB'>64</memory><cpu><numa><cell memory='1048576'/></numa></cpu>");
    g_assert_cmpuint(domain->cells->len, ==, 1);
    g_assert_cmpuint(cell_at(domain, 0)->memory_kib, ==, 1048576);
    assert_body_refused("<memory>1</memory><cpu><numa><cell memory='0'/></numa></cpu>",
                        "no memory");
    assert_body_refused("<memory>1</memory><cpu><numa><cell id='0'/></numa></cpu>",
                        "memory of <cell>");
}

static void binding_counts_where_it_is_strict(void)
{
    static const struct {
        const char *numatune;
        const char *first;
        const char *second;
    } cases[] = {
        {"", "any", "any"},
        {"<memory nodeset='0-1'/>", "0-1", "0-1"},
        {"<memory mode='strict' nodeset='2'/>", "2", "2"},
        {"<memory mode='restrictive' nodeset='2'/>", "2", "2"},
        {"<memory mode='preferred' nodeset='2'/>", "any", "any"},
        {"<memory mode='interleave' nodeset='0-1'/>", "any", "any"},
        {"<memory mode='strict' placement='auto'/>", "any", "any"},
        {"<memory placement='auto' nodeset='1'/>", "any", "any"},
        {"<memory nodeset='0'/><memnode cellid='1' nodeset='3'/>", "0", "3"},
        {"<memory nodeset='0'/><memnode cellid='1' mode='preferred' nodeset='3'/>", "0", "any"},
        {"<memnode cellid='0' mode='strict' nodeset='1'/>", "1", "any"},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *body =
            g_strdup_printf("<cpu><numa><cell memory='1'/><cell memory='1'/></numa></cpu>"
                            "<numatune>%s</numatune>",
                            cases[i].numatune);
        g_autoptr(HvDomain) domain = parse_body(body);
        assert_nodes(&cell_at(domain, 0)->placement.nodes, cases[i].first);
        assert_nodes(&cell_at(domain, 1)->placement.nodes, cases[i].second);
        g_assert_cmpint(domain->is_auto_placed, ==, strstr(body, "'auto'") != NULL);
    }
    assert_body_refused("<memory>1</memory><numatune><memory mode='odd' nodeset='0'/></numatune>",
                        "'odd'");
    assert_body_refused("<memory>1</memory><numatune><memory nodeset='x'/></numatune>", "'x'");
    assert_body_refused("<memory>1</memory><numatune><memnode nodeset='0'/></numatune>", "cellid");
}

#define DEVICE(model, source, target)                                                              \
    "<memory model='" model "'>" source "<target>" target "</target></memory>"

#define TWO_CELLS "<cpu><numa><cell memory='1'/><cell memory='1'/></numa></cpu>"
#define PAGES(pages) "<memoryBacking><hugepages>" pages "</hugepages></memoryBacking>"

static void rules_that_contradict_each_other_are_refused(void)
{
    static const struct {
        const char *body;
        const char *message;
    } cases[] = {
        {TWO_CELLS PAGES("<page size='2048'/><page size='1048576'/>"),
         "two <page> are for the whole guest, of 2 MiB and of 1 GiB"},
        {TWO_CELLS PAGES("<page size='2048'/><page size='2048'/>"), "two <page> are for the whole"},
        {"<memory>1</memory>" PAGES("<page size='2048'/><page size='1048576' nodeset='0'/>"),
         "two <page> are for the whole"},
        {TWO_CELLS PAGES("<page size='2048' nodeset='0-1'/><page size='1048576' nodeset='1'/>"),
         "two <page> name the guest cell 1"},
        {TWO_CELLS PAGES("<page size='2048' nodeset='0,5'/>"),
         "<page> names the guest cell 5, which does not exist"},
        {TWO_CELLS PAGES("<page size='2048' nodeset='0,^0'/>"), "'0,^0', which is no list"},
        {TWO_CELLS "<numatune><memnode cellid='9' nodeset='0'/></numatune>",
         "<memnode> names the guest cell 9"},
        {"<memory>1</memory><numatune><memnode cellid='0' nodeset='0'/></numatune>",
         "<memnode> names the guest cell 0, which does not exist"},
        {TWO_CELLS "<numatune><memnode cellid='0' nodeset='0'/><memnode cellid='0' nodeset='1'/>"
                   "</numatune>",
         "two <memnode> are for the guest cell 0"},
        {TWO_CELLS "<numatune><memory placement='auto'/><memnode cellid='0' nodeset='0'/>"
                   "</numatune>",
         "cannot stand beside <memory placement='auto'>"},
        {TWO_CELLS "<numatune><memory mode='restrictive' nodeset='0'/>"
                   "<memnode cellid='0' mode='strict' nodeset='0'/></numatune>",
         "must be so, too"},
        {TWO_CELLS "<devices>" DEVICE("dimm", "", "<size>1</size><node>7</node>") "</devices>",
         "a memory device is for the guest cell 7, which does not exist"},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++)
        assert_body_refused(cases[i].body, cases[i].message);
}

static void a_guest_without_cells_is_bound_as_a_whole(void)
{
    g_autoptr(HvDomain) domain =
        parse_body("<memory>1</memory><numatune><memory nodeset='1'/></numatune>");
    assert_nodes(&cell_at(domain, 0)->placement.nodes, "1");
}

static void memory_devices_are_read(void)
{
    g_autoptr(HvDomain) domain =
        parse_body("<cpu><numa><cell memory='1024'/></numa></cpu><devices>" DEVICE(
            "dimm", "<source><pagesize unit='MiB'>2</pagesize><nodemask>1-2</nodemask></source>",
            "<size unit='MiB'>512</size><node>0</node>")
                       DEVICE("virtio-mem", "",
                              "<size unit='GiB'>4</size><node>0</node><block unit='MiB'>2</block>"
                              "<requested unit='MiB'>64</requested>")
                           DEVICE("nvdimm", "<source><path>/x</path></source>",
                                  "<size>2048</size>") "<interface type='network'/></devices>");
    g_assert_cmpuint(domain->devices->len, ==, 3);
    const HvMemoryDevice *dimm = device_at(domain, 0);
    g_assert_cmpint(dimm->model, ==, HV_MEMORY_DIMM);
    g_assert_cmpuint(dimm->memory_kib, ==, 512 * 1024);
    g_assert_cmpuint(dimm->page_kib, ==, 2048);
    g_assert_cmpint(dimm->cell, ==, 0);
    assert_nodes(&dimm->nodes, "1-2");
    const HvMemoryDevice *elastic = device_at(domain, 1);
    g_assert_cmpint(elastic->model, ==, HV_MEMORY_VIRTIO_MEM);
    g_assert_cmpuint(elastic->memory_kib, ==, 64 * 1024);
    g_assert_cmpuint(elastic->page_kib, ==, 0);
    assert_nodes(&elastic->nodes, "any");
    g_assert_cmpint(device_at(domain, 2)->model, ==, HV_MEMORY_NOT_COUNTED);
    g_assert_cmpint(device_at(domain, 2)->cell, ==, -1);
}

static void memory_counts_devices_in_without_cells(void)
{
    g_autoptr(HvDomain) domain =
        parse_body("<memory unit='MiB'>1024</memory><devices>" DEVICE("dimm", "",
                                                                      "<size unit='MiB'>256</size>")
                       DEVICE("virtio-mem", "",
                              "<size unit='MiB'>128</size><requested unit='MiB'>2</requested>")
                           DEVICE("nvdimm", "", "<size unit='MiB'>64</size>") "</devices>");
    g_assert_cmpuint(cell_at(domain, 0)->memory_kib, ==, (1024 - 256 - 128 - 64) * 1024);
    assert_body_refused(
        "<memory>1024</memory><devices>" DEVICE("dimm", "", "<size>1024</size>") "</devices>",
        "as large as <memory>");
}

static void sums_do_not_overflow(void)
{
    GString *cells = g_string_new("<cpu><numa>");
    GString *devices = g_string_new("<memory>1</memory><devices>");
    for (int i = 0; i < 1024; i++) {
        g_string_append(cells, "<cell memory='9223372036854775807' unit='b'/>");
        g_string_append(devices, DEVICE("dimm", "", "<size unit='b'>9223372036854775807</size>"));
    }
    g_string_append(cells, "</numa></cpu>");
    g_string_append(devices, "</devices>");
    assert_body_refused(cells->str, "the guest cells have more memory than");
    assert_body_refused(devices->str, "the memory devices are more memory than");
    g_string_free(cells, TRUE);
    g_string_free(devices, TRUE);
}

static void bad_memory_devices_are_refused(void)
{
#define BODY(device) "<memory unit='GiB'>1</memory><devices>" device "</devices>"
    assert_body_refused(BODY("<memory><target><size>1</size></target></memory>"), "(none)");
    assert_body_refused(BODY(DEVICE("ram", "", "<size>1</size>")), "'ram'");
    assert_body_refused(BODY("<memory model='dimm'/>"), "size of a memory device");
    assert_body_refused(BODY(DEVICE("dimm", "", "<size>-1</size>")), "'-1'");
    assert_body_refused(BODY(DEVICE("virtio-mem", "", "<size>1</size>")), "requested");
    assert_body_refused(BODY(DEVICE("dimm", "", "<size>1</size><node>x</node>")), "'x'");
    assert_body_refused(
        BODY(DEVICE("dimm", "<source><nodemask>9999</nodemask></source>", "<size>1</size>")),
        "nodemask");
    assert_body_refused(
        BODY(DEVICE("dimm", "<source><pagesize>big</pagesize></source>", "<size>1</size>")),
        "pagesize");
}

int main(int argc, char **argv)
{
    domain_test_init(&argc, &argv);
    ADD(a_plain_guest_is_one_cell);
    ADD(empty_amounts_are_not_said);
    ADD(units_are_those_of_libvirt);
    ADD(bad_sizes_are_refused);
    ADD(a_page_rule_goes_to_its_cells_first);
    ADD(a_cell_without_a_rule_has_no_pages);
    ADD(a_guest_without_cells_drops_nodeset_0);
    ADD(bare_hugepages_are_told_from_named_ones);
    ADD(bad_page_rules_are_refused);
    ADD(access_of_a_cell_comes_before_the_guests);
    ADD(memfd_is_shared_unless_told_otherwise);
    ADD(cell_ids_must_be_unique);
    ADD(cells_count_and_memory_does_not);
    ADD(binding_counts_where_it_is_strict);
    ADD(a_guest_without_cells_is_bound_as_a_whole);
    ADD(memory_devices_are_read);
    ADD(memory_counts_devices_in_without_cells);
    ADD(rules_that_contradict_each_other_are_refused);
    ADD(sums_do_not_overflow);
    ADD(bad_memory_devices_are_refused);
    return g_test_run();
}
