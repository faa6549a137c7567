/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The needs of a VM by its XML: pages, their sizes and nodes, and who it is. */
#include "request-fixture.h"

#define UUID "c7a5fdbd-edaf-9455-926a-d65c16db1809"

static void a_vm_without_huge_pages_needs_none(void)
{
    g_autoptr(Case) c = case_new();
    request(c, MIB(1024) SHARER);
    g_assert_cmpuint(c->request->needs->len, ==, 0);
    g_assert_cmpuint(c->request->edit.add_hugepages_kib, ==, 0);
    g_assert_false(c->request->edit.make_shared);
    assert_fine(c);
    assert_silent(c);
}

static gboolean wants(const char *body, const char *hugepages)
{
    g_autofree char *xml = g_strconcat("<domain>", body, "</domain>", NULL);
    g_autoptr(HvDomain) domain = hv_domain_parse(xml, strlen(xml), NULL);
    g_autoptr(GHashTable) agent = g_hash_table_new(g_str_hash, g_str_equal);
    g_hash_table_insert(agent, (gpointer) "hugepages", (gpointer)hugepages);
    g_autoptr(HvProperties) properties = hv_properties_read(agent, domain, NULL);
    return hv_request_wants_hugepages(domain, properties, 4);
}

static void interest_is_told_without_a_host(void)
{
    g_assert_false(wants(MIB(1), ""));
    g_assert_false(wants(MIB(1), "-1"));
    g_assert_false(wants(MIB(1), "0"));
    g_assert_true(wants(MIB(1), "2048"));
    g_assert_true(wants(MIB(1) HUGE(""), ""));
#define WITH_PAGESIZE(model)                                                                       \
    CELLS("<cell memory='1'/>")                                                                    \
    "<devices><memory model='" model "'><source><pagesize>2048</pagesize></source>"                \
    "<target><size>2048</size></target></memory></devices>"
    g_assert_true(wants(WITH_PAGESIZE("dimm"), ""));
    g_assert_false(wants(WITH_PAGESIZE("nvdimm"), ""));
}

/* The vectors of VDSM's own tests; pages that QEMU would refuse are counted all the same. */
static void needs_are_those_of_vdsm(void)
{
    static const struct {
        const char *body;
        guint64 size_kib;
        guint64 pages;
    } cases[] = {
        {MIB(1) HUGE_2M, 2048, 1},   {MIB(3) HUGE_2M, 2048, 2},   {MIB(1023) HUGE_1G, GIB, 1},
        {MIB(1025) HUGE_1G, GIB, 2}, {MIB(1024) HUGE_1G, GIB, 1}, {MIB(4096) HUGE_2M, 2048, 2048},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(Case) c = case_new();
        request(c, cases[i].body);
        g_assert_cmpuint(c->request->needs->len, ==, 1);
        assert_need(c, 0, cases[i].size_kib, cases[i].pages);
    }
}

static void each_backend_is_rounded_up_by_itself(void)
{
    g_autoptr(Case) c = case_new();
    request(c, HUGE_2M CELLS("<cell memory='3' unit='M'/><cell memory='3' unit='M'/>"));
    g_assert_cmpuint(c->request->needs->len, ==, 2);
    assert_need(c, 0, 2048, 2);
    assert_need(c, 1, 2048, 2);
    assert_warns(c, "guest cell 1 has 3 MiB, which is no multiple of its pages of 2 MiB: 1 MiB");
    assert_fine(c);
}

static void memory_is_aligned_as_libvirt_does(void)
{
    g_autoptr(Case) c = case_new();
    request(c, "<memory>4095</memory>" HUGE_2M);
    assert_need(c, 0, 2048, 2);
    assert_silent(c);
    g_autoptr(Case) ppc = case_bare("ppc64le");
    add_size(ppc, 16384, TRUE);
    request(ppc, MIB(100) HUGE("<page size='16' unit='M'/>"));
    assert_need(ppc, 0, 16384, 16);
}

static void cells_may_differ_in_size_and_node(void)
{
    g_autoptr(Case) c = case_new();
    request(c, HUGE("<page size='2048'/><page size='1' unit='G' nodeset='1'/>"
                    "<page size='4' nodeset='2'/>")
                   CELLS("<cell memory='2' unit='G'/><cell memory='2' unit='G'/>"
                         "<cell memory='2' unit='G'/>") "<numatune><memnode cellid='1' "
                                                        "nodeset='1'/></numatune>");
    g_assert_cmpuint(c->request->needs->len, ==, 2);
    assert_need(c, 0, 2048, 1024);
    assert_need_nodes(c, 0, "any");
    assert_need(c, 1, GIB, 2);
    assert_need_nodes(c, 1, "1");
}

static void the_base_page_size_means_no_huge_pages(void)
{
    g_autoptr(Case) c = case_new();
    request(c, MIB(64) HUGE("<page size='4'/>"));
    g_assert_cmpuint(c->request->needs->len, ==, 0);
    assert_fine(c);
}

static void bare_hugepages_mean_the_kernels_default(void)
{
    g_autoptr(Case) c = case_bare("x86_64");
    add_size(c, 2048, FALSE);
    add_size(c, GIB, TRUE);
    request(c, MIB(2048) HUGE(""));
    assert_need(c, 0, GIB, 2);
    g_assert_cmpuint(c->request->edit.add_hugepages_kib, ==, 0);
}

#define DIMM(model, source, target)                                                                \
    "<devices><memory model='" model "'><source>" source "</source><target>" target                \
    "</target></memory></devices>"

static void devices_count_with_their_cells_rules(void)
{
    g_autoptr(Case) c = case_new();
    request(c, HUGE("<page size='1' unit='G' nodeset='1'/><page size='2048'/>") CELLS(
                   "<cell memory='1' unit='G'/><cell memory='1' unit='G'/>") "<numatune><memnode "
                                                                             "cellid='1' "
                                                                             "nodeset='3'/></"
                                                                             "numatune>" DIMM(
                                                                                 "dimm", "",
                                                                                 "<size "
                                                                                 "unit='G'>2</"
                                                                                 "size><node>1</"
                                                                                 "node>"));
    g_assert_cmpuint(c->request->needs->len, ==, 3);
    assert_need(c, 2, GIB, 2);
    assert_need_nodes(c, 2, "3");
    request(c, HUGE_2M CELLS("<cell memory='1' unit='G'/>")
                   DIMM("dimm", "<pagesize unit='G'>1</pagesize><nodemask>0</nodemask>",
                        "<size unit='G'>2</size><node>0</node>"));
    assert_need(c, 1, GIB, 2);
    assert_need_nodes(c, 1, "0");
    /* 2 MiB steps for DIMMs: 3 MiB become 4 on x86_64. */
    request(c, HUGE_2M CELLS("<cell memory='1' unit='G'/>")
                   DIMM("dimm", "", "<size unit='M'>3</size><node>0</node>"));
    assert_need(c, 1, 2048, 2);
    assert_silent(c);
}

static void a_device_without_its_cell_follows_the_guest(void)
{
    g_autoptr(Case) c = case_new();
    request(c, MIB(8) HUGE_2M DIMM("dimm", "", "<size unit='M'>4</size><node>0</node>"));
    assert_need(c, 0, 2048, 2);
    assert_need(c, 1, 2048, 2);
    set_property(c, "hugepages", "2M");
    request(c, MIB(8) DIMM("dimm", "", "<size unit='M'>4</size>"));
    assert_need(c, 1, 2048, 2);
}

static void a_device_may_have_huge_pages_alone(void)
{
    g_autoptr(Case) c = case_new();
    request(c, CELLS("<cell memory='1' unit='G'/>") DIMM("dimm", "<pagesize>2048</pagesize>",
                                                         "<size unit='M'>4</size><node>0</node>"));
    g_assert_cmpuint(c->request->needs->len, ==, 1);
    assert_need(c, 0, 2048, 2);
}

static void virtio_mem_counts_what_is_requested(void)
{
    g_autoptr(Case) c = case_new();
    request(c, HUGE_2M CELLS("<cell memory='1' unit='G'/>")
                   DIMM("virtio-mem", "",
                        "<size unit='G'>8</size><node>0</node><block unit='M'>2</block>"
                        "<requested unit='M'>64</requested>"));
    assert_need(c, 1, 2048, 32);
    request(c, HUGE_2M CELLS("<cell memory='1' unit='G'/>")
                   DIMM("virtio-mem", "",
                        "<size unit='G'>8</size><node>0</node><requested>0</requested>"));
    g_assert_cmpuint(c->request->needs->len, ==, 1);
    assert_fine(c);
}

static void virtio_mem_is_not_aligned_like_a_dimm(void)
{
    g_autoptr(Case) c = case_bare("ppc64le");
    add_size(c, 16384, TRUE);
    request(c, HUGE("<page size='16' unit='M'/>") CELLS("<cell memory='1' unit='G'/>")
                   DIMM("virtio-mem", "",
                        "<size unit='G'>8</size><node>0</node><requested unit='M'>16</requested>"));
    assert_need(c, 1, 16384, 1);
}

static void nvdimms_never_count(void)
{
    g_autoptr(Case) c = case_new();
    request(c, HUGE_2M CELLS("<cell memory='1' unit='G'/>")
                   DIMM("nvdimm", "<path>/x</path>", "<size unit='G'>8</size><node>0</node>"));
    g_assert_cmpuint(c->request->needs->len, ==, 1);
}

static void what_qemu_cannot_map_is_refused(void)
{
    g_autoptr(Case) c = case_new();
    request(c, MIB(1023) HUGE_1G);
    assert_need(c, 0, GIB, 1);
    assert_refused(c, HV_ERROR_XML, "the guest has 1023 MiB, less than one page of 1 GiB");
    request(c, MIB(1025) "<memoryBacking><hugepages><page size='1' unit='G'/></hugepages>"
                         "<source type='memfd'/></memoryBacking>");
    assert_need(c, 0, GIB, 2);
    assert_refused(c, HV_ERROR_XML, "no multiple of its pages of 1 GiB");
    request(c, MIB(1025) HUGE_1G);
    assert_fine(c);
    assert_warns(c, "1023 MiB stay unused");
}

static void sizes_the_host_lacks_are_refused(void)
{
    g_autoptr(Case) c = case_new();
    request(c, MIB(1024) HUGE("<page size='64'/>"));
    assert_need(c, 0, 64, 16384);
    assert_refused(c, HV_ERROR_SHORTAGE, "pages of 64 KiB; this host offers 2 MiB, 1 GiB");
}

static void a_host_without_huge_pages_refuses(void)
{
    static const char *const bodies[] = {MIB(64) HUGE_2M, MIB(64) HUGE(""), MIB(64)};
    for (guint i = 0; i < G_N_ELEMENTS(bodies); i++) {
        g_autoptr(Case) c = case_bare("x86_64");
        if (i == 2)
            set_property(c, "hugepages", "2048");
        request(c, bodies[i]);
        assert_refused(c, HV_ERROR_SHORTAGE, "this host has no huge pages");
    }
}

static void the_hosts_uuid_must_be_the_xmls(void)
{
    g_autoptr(Case) c = case_new();
    g_autoptr(GError) error = NULL;
    g_assert_true(try_request(c, MIB(4) HUGE_2M, "C7A5FDBDEDAF9455926AD65C16DB1809", NULL));
    g_assert_cmpstr(c->request->uuid, ==, UUID);
    g_assert_true(c->request->edit.add_uuid == c->request->uuid);
    g_assert_cmpstr(c->request->name, ==, "vm");

    g_assert_true(try_request(c, "<uuid>" UUID "</uuid>" MIB(4) HUGE_2M, UUID, NULL));
    g_assert_null(c->request->edit.add_uuid);
    g_assert_true(try_request(c, "<uuid>" UUID "</uuid>" MIB(4) HUGE_2M, NULL, NULL));
    g_assert_cmpstr(c->request->uuid, ==, UUID);
    g_assert_true(try_request(c, MIB(4) HUGE_2M, NULL, NULL));
    g_assert_null(c->request->uuid);
    g_assert_null(c->request->edit.add_uuid);

    g_assert_false(try_request(c, "<uuid>" UUID "</uuid>" MIB(4) HUGE_2M,
                               "00000000-0000-0000-0000-000000000001", &error));
    g_assert_error(error, HV_ERROR, HV_ERROR_INVALID);
    g_clear_error(&error);
    g_assert_false(try_request(c, MIB(4) HUGE_2M, "../../etc", &error));
    g_assert_error(error, HV_ERROR, HV_ERROR_INVALID);
}

static void a_vm_without_huge_pages_gets_no_uuid(void)
{
    g_autoptr(Case) c = case_new();
    g_assert_true(try_request(c, MIB(4), UUID, NULL));
    g_assert_null(c->request->edit.add_uuid);
    g_assert_cmpstr(c->request->uuid, ==, UUID);
}

static void automatic_placement_is_warned_of(void)
{
    g_autoptr(Case) c = case_new();
    request(c, MIB(4) HUGE_2M "<numatune><memory placement='auto'/></numatune>");
    assert_warns(c, "placement='auto'");
    assert_need_nodes(c, 0, "any");
}

static void cells_that_do_not_add_up_are_warned_of(void)
{
    g_autoptr(Case) c = case_new();
    request(c, MIB(64) HUGE_2M CELLS("<cell memory='16' unit='MiB'/>"));
    assert_warns(c, "<memory> says 64 MiB, but the guest cells and memory devices have 16 MiB");
    request(c, MIB(16) HUGE_2M CELLS("<cell memory='16' unit='MiB'/>"));
    g_assert_cmpuint(c->request->warnings->len, ==, 0);
}

static void nodes_that_cannot_serve_are_refused(void)
{
    static const struct {
        const char *nodes;
        const char *message; /* NULL: it is not refused for its nodes */
    } cases[] = {
        {"999", "the guest is bound to host node 999, which does not exist; this host has 0-4"},
        {"0,999", "host node 999"},
        {"0-5", "host node 5"},
        {"4", "the guest is bound to host nodes without memory: 4"},
        {"3-4", NULL},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(Case) c = case_new();
        g_autofree char *body = g_strdup_printf(
            MIB(4) HUGE_2M "<numatune><memory nodeset='%s'/></numatune>", cases[i].nodes);
        request(c, body);
        if (cases[i].message != NULL)
            assert_refused(c, HV_ERROR_XML, cases[i].message);
        else
            g_assert_null(c->request->refusal);
    }
}

static void one_cell_of_several_names_itself(void)
{
    g_autoptr(Case) c = case_new();
    request(c, HUGE_2M CELLS(
                   "<cell memory='2048'/><cell memory='2048'/>") "<numatune><memnode cellid='1' "
                                                                 "nodeset='7'/></numatune>");
    assert_refused(c, HV_ERROR_XML, "guest cell 1 is bound to host node 7");
}

static void the_largest_sizes_do_not_overflow(void)
{
    g_autoptr(Case) c = case_new();
    request(c, "<memory unit='b'>9223372036854775807</memory>" HUGE_1G);
    assert_need(c, 0, GIB, G_GUINT64_CONSTANT(1) << 33);
    request(c, HUGE_2M CELLS("<cell memory='3' unit='EiB'/><cell memory='5' unit='EiB'/>"));
    assert_need(c, 1, 2048, G_GUINT64_CONSTANT(5) << 39);
}

static void destructors_take_null(void)
{
    hv_request_free(NULL);
    hv_refusal_free(NULL);
    hv_properties_free(NULL);
    hv_domain_free(NULL);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD(a_vm_without_huge_pages_needs_none);
    ADD(interest_is_told_without_a_host);
    ADD(needs_are_those_of_vdsm);
    ADD(each_backend_is_rounded_up_by_itself);
    ADD(memory_is_aligned_as_libvirt_does);
    ADD(cells_may_differ_in_size_and_node);
    ADD(the_base_page_size_means_no_huge_pages);
    ADD(bare_hugepages_mean_the_kernels_default);
    ADD(devices_count_with_their_cells_rules);
    ADD(a_device_without_its_cell_follows_the_guest);
    ADD(a_device_may_have_huge_pages_alone);
    ADD(virtio_mem_counts_what_is_requested);
    ADD(virtio_mem_is_not_aligned_like_a_dimm);
    ADD(nvdimms_never_count);
    ADD(what_qemu_cannot_map_is_refused);
    ADD(sizes_the_host_lacks_are_refused);
    ADD(a_host_without_huge_pages_refuses);
    ADD(the_hosts_uuid_must_be_the_xmls);
    ADD(a_vm_without_huge_pages_gets_no_uuid);
    ADD(automatic_placement_is_warned_of);
    ADD(cells_that_do_not_add_up_are_warned_of);
    ADD(nodes_that_cannot_serve_are_refused);
    ADD(one_cell_of_several_names_itself);
    ADD(the_largest_sizes_do_not_overflow);
    ADD(destructors_take_null);
    return g_test_run();
}
