/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "domain-xml.h"

#include "error.h"

#include <libxml/xmlerror.h>
#include <string.h>

#define UUID "c7a5fdbd-edaf-9455-926a-d65c16db1809"

static HvDomain *parse(const char *xml)
{
    g_autoptr(GError) error = NULL;
    HvDomain *domain = hv_domain_parse(xml, strlen(xml), &error);
    g_assert_no_error(error);
    g_assert_nonnull(domain);
    return domain;
}

/* The text inside <domain>...</domain>. */
static HvDomain *parse_body(const char *body)
{
    g_autofree char *xml = g_strconcat("<domain type='kvm'>", body, "</domain>", NULL);
    return parse(xml);
}

static void assert_refused_bytes(const char *xml, gsize xml_bytes, const char *says)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(HvDomain) domain = hv_domain_parse(xml, xml_bytes, &error);
    g_assert_null(domain);
    g_assert_error(error, HV_ERROR, HV_ERROR_XML);
    if (strstr(error->message, says) == NULL)
        g_error("\"%s\" does not say \"%s\"", error->message, says);
    for (const char *p = error->message; *p != '\0'; p++)
        g_assert_true(*p == '\n' || (guchar)*p >= 0x20);
}

static void assert_refused(const char *xml, const char *says)
{
    assert_refused_bytes(xml, strlen(xml), says);
}

static void assert_body_refused(const char *body, const char *says)
{
    g_autofree char *xml = g_strconcat("<domain type='kvm'>", body, "</domain>", NULL);
    assert_refused(xml, says);
}

static const HvCell *cell_at(const HvDomain *domain, guint index)
{
    g_assert_cmpuint(index, <, domain->cells->len);
    return &g_array_index(domain->cells, HvCell, index);
}

static const HvMemoryDevice *device_at(const HvDomain *domain, guint index)
{
    g_assert_cmpuint(index, <, domain->devices->len);
    return &g_array_index(domain->devices, HvMemoryDevice, index);
}

static void assert_nodes(const HvNodeSet *nodes, const char *expected)
{
    g_autofree char *text = hv_node_set_format(nodes);
    g_assert_cmpstr(text, ==, expected);
}

static void assert_span(const char *xml, const HvSpan *span, const char *expected)
{
    g_autofree char *text = g_strndup(xml + span->start, span->end - span->start);
    g_assert_cmpstr(text, ==, expected);
}

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
    g_assert_null(domain->sharer);
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
    g_assert_true(domain->access_shared);
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
    g_assert_true(unset->is_memfd);
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

static void uuids_are_read_as_libvirt_does(void)
{
    static const char *const same[] = {
        UUID,
        "c7a5fdbdedaf9455926ad65c16db1809",
        "C7A5FDBD-EDAF-9455-926A-D65C16DB1809",
        "  c7a5fdbd edaf 9455 926a d65c16db1809\n",
        "c7-a5-fd-bd-ed-af-94-55-92-6a-d6-5c-16-db-18-09",
    };
    static const char *const bad[] = {
        "",       "c7a5fdbd-edaf-9455-926a-d65c16db180",  "c7a5fdbd-edaf-9455-926a-d65c16db18091",
        "random", "c7a5fdbd-edaf-9455-926a-d65c16db180g", "c-7a5fdbdedaf9455926ad65c16db1809",
    };
    for (guint i = 0; i < G_N_ELEMENTS(same); i++) {
        g_autofree char *uuid = hv_uuid_normalize(same[i]);
        g_assert_cmpstr(uuid, ==, UUID);
    }
    for (guint i = 0; i < G_N_ELEMENTS(bad); i++)
        g_assert_null(hv_uuid_normalize(bad[i]));
    assert_body_refused("<uuid>random</uuid><memory>1</memory>", "'random'");
    g_autoptr(HvDomain) empty = parse_body("<uuid/><memory>1</memory>");
    g_assert_null(empty->uuid);
}

static void devices_that_share_memory_are_found(void)
{
    static const struct {
        const char *device;
        const char *sharer;
    } cases[] = {
        {"<interface type='vhostuser'/>", "interface 'vhostuser'"},
        {"<disk type='vhostuser'/>", "disk 'vhostuser'"},
        {"<disk type='vhostvdpa'/>", "disk 'vhostvdpa'"},
        {"<filesystem><driver type='virtiofs'/></filesystem>", "filesystem 'virtiofs'"},
        {"<video><driver name='vhostuser'/></video>", "video 'vhostuser'"},
        {"<disk type='file'/><!-- <disk type='vhostuser'/> -->", NULL},
        {"<interface type='network'/><filesystem type='mount'/><video/>", NULL},
        {"<disk type='file'/><interface type='vhostuser'/><disk type='vhostuser'/>",
         "interface 'vhostuser'"},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *body =
            g_strdup_printf("<memory>1</memory><devices>%s</devices>", cases[i].device);
        g_autoptr(HvDomain) domain = parse_body(body);
        g_assert_cmpstr(domain->sharer, ==, cases[i].sharer);
    }
}

static void metadata_is_matched_by_namespace(void)
{
    g_autoptr(HvDomain) domain = parse_body(
        "<memory>1</memory><metadata>"
        "<o:vm xmlns:o='http://ovirt.org/vm/1.0'><o:custom><o:hugepages> 2048 </o:hugepages>"
        "<o:empty/><x:hugepages xmlns:x='urn:x'>4</x:hugepages></o:custom></o:vm>"
        "<vm xmlns='urn:hugevm:vm:1'><hugepages>2M</hugepages><hugepages>1G</hugepages>"
        "<hugepages_shared>true</hugepages_shared></vm>"
        "<vm><hugepages>9</hugepages></vm></metadata>");
    g_assert_cmpuint(g_hash_table_size(domain->ovirt_custom), ==, 2);
    g_assert_cmpstr(g_hash_table_lookup(domain->ovirt_custom, "hugepages"), ==, "2048");
    g_assert_cmpstr(g_hash_table_lookup(domain->ovirt_custom, "empty"), ==, "");
    g_assert_cmpuint(g_hash_table_size(domain->hugevm_custom), ==, 2);
    g_assert_cmpstr(g_hash_table_lookup(domain->hugevm_custom, "hugepages"), ==, "2M");
    g_assert_cmpstr(g_hash_table_lookup(domain->hugevm_custom, "hugepages_shared"), ==, "true");
}

static void metadata_elsewhere_is_not_read(void)
{
    g_autoptr(HvDomain) domain =
        parse_body("<memory>1</memory><description><v:vm xmlns:v='urn:hugevm:vm:1'>"
                   "<v:hugepages>2M</v:hugepages></v:vm></description>");
    g_assert_cmpuint(g_hash_table_size(domain->hugevm_custom), ==, 0);
}

static void elements_of_other_namespaces_are_not_libvirts(void)
{
    g_autoptr(HvDomain) domain =
        parse_body("<memory>4096</memory><x:memory xmlns:x='urn:x'>1</x:memory>"
                   "<memoryBacking xmlns='urn:y'><hugepages/></memoryBacking>");
    g_assert_cmpuint(cell_at(domain, 0)->memory_kib, ==, 4096);
    g_assert_false(domain->has_hugepages);
}

static void nothing_is_refused_with_a_reason(void)
{
    assert_refused_bytes(NULL, 0, "empty");
    assert_refused("", "empty");
    assert_refused(" \n\t", "empty");
    assert_refused("no markup", "not well-formed, line 1");
    assert_refused("<network/>", "'network'");
    assert_refused("<domain xmlns='urn:x'><memory>1</memory></domain>", "in a namespace");
}

static void accepted_declarations_are_read_as_utf8(void)
{
    static const char *const declarations[] = {
        "<?xml version='1.0'?>",
        "<?xml version='1.0' encoding='UTF-8'?>",
        "<?xml\nversion = '1.0'\nencoding\n=\t\"utf-8\" standalone='yes' ?>",
        "<?xml version='1.0' encoding='utf8'?>",
        "<?xml-stylesheet encoding='latin1'?>",
        "<!-- encoding='latin1' -->",
    };
    for (guint i = 0; i < G_N_ELEMENTS(declarations); i++) {
        g_autofree char *xml = g_strconcat(
            declarations[i], "<domain><name>\xc3\xa9</name><memory>1</memory></domain>", NULL);
        g_autoptr(HvDomain) domain = parse(xml);
        g_assert_cmpstr(domain->name, ==, "\xc3\xa9");
    }
}

static void truncated_text_is_refused_with_its_line(void)
{
    static const char xml[] = "<domain>\n  <name>vm</name>\n  <memory>1</memory>\n</domain>\n";
    assert_refused("<domain>\n  <name>vm</name>\n  <memory>1</mem", "line 3");
    for (gsize n = 0; n < strlen("<domain>\n  <name>vm</name>\n  <memory>1</memory>\n</domain");
         n++)
        assert_refused_bytes(xml, n, "");
}

static void a_huge_text_is_refused_at_once(void)
{
    gsize bytes = 50u * 1024 * 1024;
    g_autofree char *xml = g_malloc(bytes);
    memset(xml, ' ', bytes);
    memcpy(xml, "<domain>", 8);
    gint64 start = g_get_monotonic_time();
    assert_refused_bytes(xml, bytes, "52428800 bytes");
    g_assert_cmpint(g_get_monotonic_time() - start, <, G_USEC_PER_SEC / 10);
    assert_refused_bytes(xml, HV_DOMAIN_XML_MAX_BYTES + 1, "4194305 bytes");
    assert_refused_bytes(xml, HV_DOMAIN_XML_MAX_BYTES, "not well-formed");
}

static void too_many_elements_are_refused(void)
{
    GString *xml = g_string_new("<domain>");
    for (int i = 0; i < 200000; i++)
        g_string_append(xml, "<a/>");
    g_string_append(xml, "<memory>1</memory></domain>");
    assert_refused_bytes(xml->str, xml->len, "too many elements");
    g_string_free(xml, TRUE);
}

/* Accepted ones must not be refused for what only looks like attributes, either. */
static void too_many_attributes_are_refused(void)
{
    GString *values = g_string_new(NULL);
    for (int i = 0; i < 100000; i++)
        g_string_append_printf(values, " a%d='>'", i);
    g_autofree char *text =
        g_strdup_printf("<memory>1</memory><description>%s</description>", values->str);
    g_autofree char *comment = g_strdup_printf("<memory>1</memory><!--%s-->", values->str);
    g_autofree char *value = g_strdup_printf("<memory>1</memory><a b=\"%s\"/>", values->str);
    g_autofree char *tag = g_strdup_printf("<memory>1</memory><a%s/>", values->str);
    const char *const accepted[] = {text, comment, value};
    for (guint i = 0; i < G_N_ELEMENTS(accepted); i++) {
        g_autoptr(HvDomain) domain = parse_body(accepted[i]);
        g_assert_nonnull(domain);
    }
    assert_body_refused(tag, "too many attributes");
    g_string_free(values, TRUE);
}

static void too_deep_text_is_refused(void)
{
    GString *xml = g_string_new("<domain>");
    for (int i = 0; i < 5000; i++)
        g_string_append(xml, "<a>");
    assert_refused_bytes(xml->str, xml->len, "not well-formed");
    g_string_free(xml, TRUE);
}

static void document_types_are_refused(void)
{
    const char *says = "document type declarations are not accepted";
    assert_refused("<!DOCTYPE domain><domain><memory>1</memory></domain>", says);
    assert_refused("<!DOCTYPE domain SYSTEM 'file:///etc/passwd'><domain/>", says);
    assert_refused("<!DOCTYPE domain [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>"
                   "<domain><name>&x;</name></domain>",
                   says);
    GString *laughs = g_string_new("<!DOCTYPE domain [<!ENTITY l0 'ha'>");
    for (int i = 1; i < 40; i++)
        g_string_append_printf(laughs, "<!ENTITY l%d '&l%d;&l%d;&l%d;&l%d;'>", i, i - 1, i - 1,
                               i - 1, i - 1);
    g_string_append(laughs, "]><domain><name>&l39;</name></domain>");
    assert_refused(laughs->str, says);
    g_string_free(laughs, TRUE);
    assert_body_refused("<name>&undefined;</name><memory>1</memory>", "not well-formed");
}

static void other_encodings_are_refused(void)
{
    assert_refused("<?xml version='1.0' encoding='ISO-8859-1'?><domain><memory>1</memory></domain>",
                   "encoding other than UTF-8");
    assert_refused("<?xml version='1.0' encoding='UTF-16'?><domain><memory>1</memory></domain>",
                   "UTF");
    assert_refused("<?xml version='1.0' encoding='no-such'?><domain><memory>1</memory></domain>",
                   "encoding other than UTF-8");
    assert_refused("\xef\xbb\xbf<?xml version='1.0'\nencoding =\n'ISO-8859-15'?>"
                   "<domain><name>\xe2\x82\xac</name><memory>1</memory></domain>",
                   "encoding other than UTF-8");
    assert_refused("<?xml version='1.0' encoding='UTF-8", "declaration has no end");
    static const char utf16[] = "\xff\xfe<\0d\0o\0m\0a\0i\0n\0/\0>\0";
    assert_refused_bytes(utf16, sizeof utf16 - 1, "not UTF-8");
    assert_refused("<domain><name>\xe9t\xe9</name><memory>1</memory></domain>", "byte 0xe9");
    static const char nul[] = "<domain><name>a\0b</name><memory>1</memory></domain>";
    assert_refused_bytes(nul, sizeof nul - 1, "byte 0x00");
}

/* Every element whose span an edit uses, written as oddly as XML permits. */
static void assert_spans_hold(const char *before, const char *eol)
{
    g_autofree char *xml = g_strdup_printf(
        "%s<domain type='kvm' >%s<name >v\xc3\xa9\xe2\x82\xac\xf0\x9f\x90\xa7&amp;</name >"
        "<uuid\n>" UUID "</uuid>%s<memory unit = \"KiB\">1024</memory>"
        "<memoryBacking><hugepages/>%s<access mode='pri&#118;ate' /></memoryBacking>%s"
        "<cpu a='1>2/&gt;' b=\"'\"><numa><cell id='0' memory='1' cpus='>'/></numa></cpu>"
        "</domain>%s",
        before, eol, eol, eol, eol, eol);
    g_autoptr(HvDomain) domain = parse(xml);
    gsize bytes = strlen(xml);
    g_assert_cmpuint(domain->span_domain.start, ==, strlen(before));
    g_assert_cmpuint(domain->span_domain.end, ==, bytes - strlen(eol));
    assert_span(xml, &domain->span_name,
                "<name >v\xc3\xa9\xe2\x82\xac\xf0\x9f\x90\xa7&amp;</name >");
    assert_span(xml, &domain->span_uuid, "<uuid\n>" UUID "</uuid>");
    assert_span(xml, &domain->span_memory, "<memory unit = \"KiB\">1024</memory>");
    assert_span(xml, &domain->span_hugepages, "<hugepages/>");
    g_assert_true(domain->span_hugepages.is_empty_tag);
    assert_span(xml, &domain->span_access, "<access mode='pri&#118;ate' />");
    g_assert_true(g_str_has_prefix(xml + domain->span_memory_backing.start, "<memoryBacking>"));
    g_assert_true(
        g_str_has_prefix(xml + domain->span_memory_backing.end_start, "</memoryBacking>"));
    g_assert_cmpuint(domain->span_memory_backing.start_end, ==,
                     domain->span_memory_backing.start + strlen("<memoryBacking>"));
    const HvSpan *cell = &cell_at(domain, 0)->span;
    g_assert_true(g_str_has_prefix(xml + cell->start, "<cell id='0'"));
    g_assert_true(cell->is_empty_tag);
    g_assert_true(strncmp(xml + cell->end - 5, "'>'/>", 5) == 0);
    g_assert_cmpstr(domain->name, ==, "v\xc3\xa9\xe2\x82\xac\xf0\x9f\x90\xa7&");
}

static void positions_are_those_of_the_bytes(void)
{
    static const char *const befores[] = {
        "",
        "\xef\xbb\xbf",
        "<?xml version='1.0' encoding='UTF-8'?>\n",
        "\xef\xbb\xbf<?xml version=\"1.0\" encoding=\"utf-8\" standalone=\"yes\"?>\r\n",
        "<!-- \xe2\x82\xac < > -->\n<?pi < > ?>\n",
    };
    static const char *const eols[] = {"", "\n", "\r\n", "\r", " \t\r\n\r\r\n"};
    static const char *const noises[] = {
        "",
        "<!-- <memory>1</memory> \xe2\x82\xac -->",
        "<![CDATA[<cell/>&lt;\xf0\x9f\x90\xa7]]>",
        "<?pi <memoryBacking/> ?>",
        "&#10;&#x1F427;&amp;&lt;&gt;&quot;\xc3\xa9",
        "<t a='&#10;&amp;\xc3\xa9' b=\"&#x20AC;&lt;'\"/>",
    };
    for (guint b = 0; b < G_N_ELEMENTS(befores); b++)
        for (guint e = 0; e < G_N_ELEMENTS(eols); e++)
            assert_spans_hold(befores[b], eols[e]);
    for (guint n = 0; n < G_N_ELEMENTS(noises); n++) {
        g_autofree char *xml = g_strdup_printf(
            "<domain>%s<memory%s>1</memory>%s<memoryBacking>%s</memoryBacking >%s</domain>",
            noises[n], n % 2 == 0 ? "\r\n" : "", noises[n], noises[n], noises[n]);
        g_autoptr(HvDomain) domain = parse(xml);
        g_assert_true(g_str_has_prefix(xml + domain->span_memory.start, "<memory"));
        g_assert_true(g_str_has_prefix(xml + domain->span_memory.end_start, "</memory>"));
        g_autofree char *backing = g_strdup_printf("<memoryBacking>%s</memoryBacking >", noises[n]);
        assert_span(xml, &domain->span_memory_backing, backing);
    }
}

/* libxml2 shifts its buffer while it reads; each filler is one that it reads in its own way. */
static void positions_hold_in_long_texts(void)
{
    static const char *const units[] = {
        "x",
        "\xf0\x9f\x90\xa7",
        "&amp;",
        "\r\n",
        "<a b='&#10;&lt;'>\xc3\xa9</a>\r\n",
        "<!-- long \xe2\x82\xac -->",
        "<![CDATA[ ]] > ]]>",
        "<?pi text?>",
    };
    for (guint u = 0; u < G_N_ELEMENTS(units); u++) {
        GString *xml = g_string_new("<?xml version='1.0' encoding='UTF-8'?><domain>");
        for (int cell = 0; cell < 3; cell++) {
            while (xml->len < (gsize)(cell + 1) * 100000)
                g_string_append(xml, units[u]);
            g_string_append(xml, cell == 0   ? "<memory>1</memory>"
                                 : cell == 1 ? "<memoryBacking/>"
                                             : "<cpu><numa><cell memory='1'/></numa></cpu>");
        }
        g_string_append(xml, "</domain>");
        g_autoptr(GError) error = NULL;
        g_autoptr(HvDomain) domain = hv_domain_parse(xml->str, xml->len, &error);
        g_assert_no_error(error);
        assert_span(xml->str, &domain->span_memory, "<memory>1</memory>");
        assert_span(xml->str, &domain->span_memory_backing, "<memoryBacking/>");
        assert_span(xml->str, &cell_at(domain, 0)->span, "<cell memory='1'/>");
        g_assert_cmpuint(domain->span_domain.end, ==, xml->len);
        g_string_free(xml, TRUE);
    }
}

static void a_text_needs_no_nul_behind_it(void)
{
    static const char xml[] = "<domain><memory>7</memory></domain>";
    gsize bytes = sizeof xml - 1;
    g_autofree char *copy = g_malloc(bytes);
    memcpy(copy, xml, bytes);
    g_autoptr(HvDomain) domain = hv_domain_parse(copy, bytes, NULL);
    g_assert_nonnull(domain);
}

static void ambiguous_elements_are_refused(void)
{
    static const char *const twice[] = {"name", "uuid",     "memoryBacking",
                                        "cpu",  "numatune", "devices"};
    for (guint i = 0; i < G_N_ELEMENTS(twice); i++) {
        g_autofree char *body = g_strdup_printf("<memory>1</memory><%s/><%s/>", twice[i], twice[i]);
        g_autofree char *says = g_strdup_printf("<%s> twice", twice[i]);
        assert_body_refused(body, says);
    }
}

/* A host's own handler: what a text of one VM does wrong is not its business. */
static void on_host_error(void *data, xmlErrorPtr error)
{
    (void)data;
    g_error("libxml2 told the host: %s", error->message);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    xmlSetStructuredErrorFunc(NULL, on_host_error);
#define ADD(test) g_test_add_func("/domain-xml/" #test, test)
    ADD(a_plain_guest_is_one_cell);
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
    ADD(uuids_are_read_as_libvirt_does);
    ADD(devices_that_share_memory_are_found);
    ADD(metadata_is_matched_by_namespace);
    ADD(metadata_elsewhere_is_not_read);
    ADD(elements_of_other_namespaces_are_not_libvirts);
    ADD(nothing_is_refused_with_a_reason);
    ADD(accepted_declarations_are_read_as_utf8);
    ADD(truncated_text_is_refused_with_its_line);
    ADD(a_huge_text_is_refused_at_once);
    ADD(too_many_elements_are_refused);
    ADD(too_many_attributes_are_refused);
    ADD(too_deep_text_is_refused);
    ADD(document_types_are_refused);
    ADD(other_encodings_are_refused);
    ADD(positions_are_those_of_the_bytes);
    ADD(positions_hold_in_long_texts);
    ADD(a_text_needs_no_nul_behind_it);
    ADD(ambiguous_elements_are_refused);
#undef ADD
    return g_test_run();
}
