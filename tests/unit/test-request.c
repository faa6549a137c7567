/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "request.h"

#include <string.h>

#define UUID "c7a5fdbd-edaf-9455-926a-d65c16db1809"
#define GIB (1024u * 1024)
#define N_NODES 5
#define MEMORYLESS 4

/* A VM on a host, and what was made of it. */
typedef struct {
    HvSnapshot *snapshot;
    HvSettings *settings;
    GHashTable *agent;
    HvRequest *request;
} Case;

static void add_size(Case *c, guint64 size_kib, gboolean is_default)
{
    HvPageSize size = {.size_kib = size_kib, .is_default = is_default};
    g_array_append_val(c->snapshot->sizes, size);
}

/* A host of that architecture without huge pages. */
static Case *case_bare(const char *arch)
{
    Case *c = g_new0(Case, 1);
    c->snapshot = hv_snapshot_new();
    g_free(c->snapshot->arch);
    c->snapshot->arch = g_strdup(arch);
    c->snapshot->base_page_kib = 4;
    for (int id = 0; id < N_NODES; id++) {
        HvNode node = {.id = id, .mem_total_kib = id != MEMORYLESS ? 4 * GIB : 0};
        g_array_append_val(c->snapshot->nodes, node);
    }
    c->settings = hv_settings_new();
    c->agent = g_hash_table_new(g_str_hash, g_str_equal);
    return c;
}

/* x86_64 with 2 MiB (default) and 1 GiB pages. */
static Case *case_new(void)
{
    Case *c = case_bare("x86_64");
    add_size(c, 2048, TRUE);
    add_size(c, GIB, FALSE);
    return c;
}

static void case_free(Case *c)
{
    hv_snapshot_free(c->snapshot);
    hv_settings_free(c->settings);
    g_hash_table_unref(c->agent);
    hv_request_free(c->request);
    g_free(c);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Case, case_free)

static void set_property(Case *c, const char *name, const char *value)
{
    g_hash_table_insert(c->agent, (gpointer)name, (gpointer)value);
}

static gboolean try_request(Case *c, const char *body, const char *uuid, GError **error)
{
    g_autofree char *xml = g_strconcat("<domain><name>vm</name>", body, "</domain>", NULL);
    g_autoptr(GError) parse_error = NULL;
    g_autoptr(HvDomain) domain = hv_domain_parse(xml, strlen(xml), &parse_error);
    g_assert_no_error(parse_error);
    g_autoptr(HvProperties) properties = hv_properties_read(c->agent, domain, &parse_error);
    g_assert_no_error(parse_error);
    g_clear_pointer(&c->request, hv_request_free);
    c->request = hv_request_new(domain, properties, uuid, c->settings, c->snapshot, error);
    return c->request != NULL;
}

static void request(Case *c, const char *body)
{
    g_autoptr(GError) error = NULL;
    gboolean is_ok = try_request(c, body, NULL, &error);
    g_assert_no_error(error);
    g_assert_true(is_ok);
}

static void assert_error_of(Case *c, const char *body, HvErrorCode code, const char *says)
{
    g_autoptr(GError) error = NULL;
    g_assert_false(try_request(c, body, NULL, &error));
    g_assert_error(error, HV_ERROR, (gint)code);
    if (strstr(error->message, says) == NULL)
        g_error("\"%s\" does not say \"%s\"", error->message, says);
}

static void assert_need(const Case *c, guint index, guint64 size_kib, guint64 pages)
{
    g_assert_cmpuint(index, <, c->request->needs->len);
    const HvNeed *need = &g_array_index(c->request->needs, HvNeed, index);
    g_assert_cmpuint(need->size_kib, ==, size_kib);
    g_assert_cmpuint(need->pages, ==, pages);
}

static void assert_need_nodes(const Case *c, guint index, const char *nodes)
{
    const HvNeed *need = &g_array_index(c->request->needs, HvNeed, index);
    g_autofree char *text = hv_node_set_format(&need->nodes);
    g_assert_cmpstr(text, ==, nodes);
}

static void assert_refused(const Case *c, HvErrorCode code, const char *says)
{
    g_assert_nonnull(c->request->refusal);
    g_assert_cmpint((int)c->request->refusal->code, ==, (int)code);
    if (strstr(c->request->refusal->message, says) == NULL)
        g_error("\"%s\" does not say \"%s\"", c->request->refusal->message, says);
}

static void assert_fine(const Case *c)
{
    if (c->request->refusal != NULL)
        g_error("refused: %s", c->request->refusal->message);
}

static void assert_warns(const Case *c, const char *says)
{
    for (guint i = 0; i < c->request->warnings->len; i++)
        if (strstr(g_ptr_array_index(c->request->warnings, i), says) != NULL)
            return;
    g_error("no warning says \"%s\"", says);
}

static void assert_silent(const Case *c)
{
    if (c->request->warnings->len > 0)
        g_error("warning: %s", (char *)g_ptr_array_index(c->request->warnings, 0));
}

#define HUGE(pages) "<memoryBacking><hugepages>" pages "</hugepages></memoryBacking>"
#define HUGE_2M HUGE("<page size='2048'/>")
#define HUGE_1G HUGE("<page size='1' unit='G'/>")
#define CELLS(cells) "<cpu><numa>" cells "</numa></cpu>"
#define MIB(n) "<memory unit='MiB'>" #n "</memory>"
#define SHARER "<devices><interface type='vhostuser'/></devices>"

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

static void properties_are_those_of_vdsm(void)
{
    static const struct {
        const char *value;
        guint64 size_kib;
        gboolean warns;
    } cases[] = {
        {"2048", 2048, FALSE}, {"1048576", GIB, FALSE}, {"1", 2048, TRUE}, {"10485760", 2048, TRUE},
        {"4", 2048, TRUE},     {"-1", 0, TRUE},         {"0", 0, FALSE},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(Case) c = case_new();
        set_property(c, "hugepages", cases[i].value);
        request(c, MIB(4096));
        g_assert_cmpuint(c->request->edit.add_hugepages_kib, ==, cases[i].size_kib);
        g_assert_cmpuint(c->request->needs->len, ==, cases[i].size_kib != 0 ? 1 : 0);
        g_assert_cmpint(c->request->warnings->len > 0, ==, cases[i].warns);
        assert_fine(c);
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

static void an_unknown_property_size_falls_back(void)
{
    g_autoptr(Case) c = case_new();
    set_property(c, "hugepages", "64");
    request(c, MIB(1024) HUGE_1G);
    assert_need(c, 0, GIB, 1);
    g_assert_cmpuint(c->request->edit.add_hugepages_kib, ==, 0);
    assert_warns(c, "asks for pages of 64 KiB, this host offers 2 MiB, 1 GiB: using 1 GiB");
    request(c, MIB(1024) HUGE(""));
    g_assert_cmpuint(c->request->edit.add_hugepages_kib, ==, 2048);

    request(c, HUGE("<page size='1' unit='G' nodeset='0'/>") CELLS("<cell memory='1' unit='G'/>"));
    assert_need(c, 0, GIB, 1);

    g_autoptr(Case) ppc = case_bare("ppc64le");
    add_size(ppc, 2048, TRUE);
    add_size(ppc, 16384, FALSE);
    set_property(ppc, "hugepages", "64");
    request(ppc, MIB(1024));
    assert_need(ppc, 0, 16384, 64);

    g_autoptr(Case) arm = case_bare("aarch64");
    add_size(arm, 64, FALSE);
    add_size(arm, 524288, TRUE);
    set_property(arm, "hugepages", "2048");
    request(arm, MIB(1024));
    assert_need(arm, 0, 524288, 2);
}

static void a_strict_host_refuses_unknown_property_sizes(void)
{
    g_autoptr(Case) c = case_new();
    c->settings->strict_page_size = TRUE;
    set_property(c, "hugepages", "64");
    assert_error_of(c, MIB(1024), HV_ERROR_PROPERTY, "64 KiB; this host offers 2 MiB, 1 GiB");
    assert_error_of(c, MIB(1024) HUGE_2M, HV_ERROR_PROPERTY, "64 KiB");
    set_property(c, "hugepages", "2048");
    request(c, MIB(1024));
    assert_fine(c);
}

static void a_property_against_the_xml_is_a_conflict(void)
{
    g_autoptr(Case) c = case_new();
    set_property(c, "hugepages", "2048");
    assert_error_of(c, MIB(1024) HUGE_1G, HV_ERROR_CONFLICT,
                    "asks for pages of 2 MiB, but the domain XML names 1 GiB");
    assert_error_of(c, MIB(1024) HUGE("<page size='4'/>"), HV_ERROR_CONFLICT, "names 4 KiB");
    assert_error_of(c,
                    HUGE("<page size='2048'/><page size='1' unit='G' nodeset='1'/>")
                        CELLS("<cell memory='1' unit='G'/><cell memory='1' unit='G'/>"),
                    HV_ERROR_CONFLICT, "names 1 GiB");
    request(c, HUGE("<page size='2048'/><page size='4' nodeset='1'/>")
                   CELLS("<cell memory='1' unit='G'/><cell memory='1' unit='G'/>"));
    g_assert_cmpuint(c->request->needs->len, ==, 1);
    request(c, MIB(1024) HUGE_2M);
    g_assert_cmpuint(c->request->edit.add_hugepages_kib, ==, 0);
    assert_silent(c);
}

static void a_property_reaches_every_cell(void)
{
    g_autoptr(Case) c = case_new();
    set_property(c, "hugepages", "1G");
    request(c, CELLS("<cell memory='1' unit='G'/><cell memory='2' unit='G'/>"));
    assert_need(c, 0, GIB, 1);
    assert_need(c, 1, GIB, 2);
    g_assert_cmpuint(c->request->edit.add_hugepages_kib, ==, GIB);
    request(c, HUGE("") CELLS("<cell memory='1' unit='G'/>"));
    assert_need(c, 0, GIB, 1);
    g_assert_cmpuint(c->request->edit.add_hugepages_kib, ==, GIB);
}

static void switched_off_by_property_the_xml_still_counts(void)
{
    g_autoptr(Case) c = case_new();
    set_property(c, "hugepages", "-1");
    request(c, MIB(4) HUGE_2M);
    assert_need(c, 0, 2048, 2);
    assert_warns(c, "negative means off");
}

static void sharing_follows_the_property(void)
{
    g_autoptr(Case) c = case_new();
    set_property(c, "hugepages_shared", "true");
    request(c, MIB(4) HUGE_2M);
    g_assert_true(c->request->edit.make_shared);
    g_assert_true(c->request->shared);
    assert_silent(c);
    request(c, HUGE_2M CELLS("<cell memory='4096' memAccess='shared'/>"));
    g_assert_false(c->request->edit.make_shared);
    g_assert_true(c->request->shared);
    request(c, HUGE_2M CELLS("<cell memory='4096' memAccess='shared'/><cell memory='4096'/>"));
    g_assert_true(c->request->edit.make_shared);
    request(c, MIB(4));
    g_assert_false(c->request->edit.make_shared);
    g_assert_false(c->request->shared);
    assert_warns(c, "no effect without huge pages");
}

static void a_device_that_shares_makes_memory_shared(void)
{
    g_autoptr(Case) c = case_new();
    request(c, MIB(4) HUGE_2M SHARER);
    g_assert_true(c->request->edit.make_shared);
    g_assert_true(c->request->shared);
    assert_warns(c, "interface 'vhostuser' needs shared memory");
    assert_fine(c);
    request(c, HUGE_2M CELLS("<cell memory='4096' memAccess='shared'/>") SHARER);
    g_assert_false(c->request->edit.make_shared);
    assert_silent(c);
}

static void explicit_sharing_refuses_by_the_devices_name(void)
{
    g_autoptr(Case) c = case_new();
    c->settings->shared_memory_auto = FALSE;
    request(c, MIB(4) HUGE_2M SHARER);
    assert_refused(c, HV_ERROR_CONFLICT, "interface 'vhostuser' needs shared memory");
    assert_need(c, 0, 2048, 2);
    g_assert_false(c->request->edit.make_shared);
    set_property(c, "hugepages_shared", "true");
    request(c, MIB(4) HUGE_2M SHARER);
    assert_fine(c);
    g_assert_true(c->request->edit.make_shared);
}

static void memfd_needs_the_word_for_libvirt_only(void)
{
#define MEMFD                                                                                      \
    "<memoryBacking><hugepages><page size='2048'/></hugepages><source type='memfd'/>"              \
    "</memoryBacking>"
    g_autoptr(Case) c = case_new();
    request(c, MIB(4) MEMFD SHARER);
    g_assert_true(c->request->edit.make_shared);
    c->settings->shared_memory_auto = FALSE;
    request(c, MIB(4) MEMFD SHARER);
    assert_fine(c);
    g_assert_false(c->request->edit.make_shared);
    g_assert_true(c->request->shared);
}

static void sharing_denied_to_a_device_is_refused(void)
{
    g_autoptr(Case) c = case_new();
    set_property(c, "hugepages_shared", "false");
    request(c, MIB(4) HUGE_2M SHARER);
    assert_refused(c, HV_ERROR_CONFLICT, "hugepages_shared is false");
    assert_need(c, 0, 2048, 2);
    g_assert_false(c->request->edit.make_shared);
    request(c, MIB(4) HUGE_2M);
    assert_fine(c);
    assert_silent(c);
    request(c, HUGE_2M CELLS("<cell memory='4096' memAccess='shared'/>"));
    assert_warns(c, "it stays shared");
    g_assert_true(c->request->shared);
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
#define ADD(test) g_test_add_func("/request/" #test, test)
    ADD(a_vm_without_huge_pages_needs_none);
    ADD(interest_is_told_without_a_host);
    ADD(needs_are_those_of_vdsm);
    ADD(properties_are_those_of_vdsm);
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
    ADD(an_unknown_property_size_falls_back);
    ADD(a_strict_host_refuses_unknown_property_sizes);
    ADD(a_property_against_the_xml_is_a_conflict);
    ADD(a_property_reaches_every_cell);
    ADD(switched_off_by_property_the_xml_still_counts);
    ADD(sharing_follows_the_property);
    ADD(a_device_that_shares_makes_memory_shared);
    ADD(explicit_sharing_refuses_by_the_devices_name);
    ADD(memfd_needs_the_word_for_libvirt_only);
    ADD(sharing_denied_to_a_device_is_refused);
    ADD(the_hosts_uuid_must_be_the_xmls);
    ADD(a_vm_without_huge_pages_gets_no_uuid);
    ADD(automatic_placement_is_warned_of);
    ADD(cells_that_do_not_add_up_are_warned_of);
    ADD(nodes_that_cannot_serve_are_refused);
    ADD(one_cell_of_several_names_itself);
    ADD(the_largest_sizes_do_not_overflow);
    ADD(destructors_take_null);
#undef ADD
    return g_test_run();
}
