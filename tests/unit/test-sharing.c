/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who shares the guest's memory, who must, and whose word counts. */
#include "request-fixture.h"

#define BACKING(more)                                                                              \
    "<memoryBacking><hugepages><page size='2048'/></hugepages>" more "</memoryBacking>"
#define MEMFD BACKING("<source type='memfd'/>")

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
    assert_warns(c, "shared memory is needed by interface 'vhostuser', and ");
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
    assert_refused(c, HV_ERROR_CONFLICT, "shared memory is needed by interface 'vhostuser', but");
    assert_need(c, 0, 2048, 2);
    g_assert_false(c->request->edit.make_shared);
    set_property(c, "hugepages_shared", "true");
    request(c, MIB(4) HUGE_2M SHARER);
    assert_fine(c);
    g_assert_true(c->request->edit.make_shared);
}

static void memfd_needs_the_word_for_libvirt_only(void)
{
    g_autoptr(Case) c = case_new();
    request(c, MIB(4) MEMFD SHARER);
    g_assert_true(c->request->edit.make_shared);
    c->settings->shared_memory_auto = FALSE;
    request(c, MIB(4) MEMFD SHARER);
    assert_fine(c);
    g_assert_true(c->request->edit.make_shared);
    g_assert_true(c->request->shared);
    request(c, MIB(4) MEMFD);
    g_assert_false(c->request->edit.make_shared);
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

#define NIC "<interface type='vhostuser'><mac address='52:54:00:00:00:07'/></interface>"
#define DIMM(access)                                                                               \
    "<memory model='dimm'" access                                                                  \
    "><target><size unit='MiB'>4</size><node>0</node></target></memory>"
#define NVDIMM                                                                                     \
    "<memory model='nvdimm' access='private'><source><path>/n</path></source><target><size>4096"   \
    "</size></target></memory>"
#define CELL(access) "<cell memory='4096'" access "/>"

static void request_with(Case *c, const char *body, const char *devices)
{
    g_autofree char *xml = g_strdup_printf("%s<devices>%s</devices>", body, devices);
    request(c, xml);
}

static void what_is_private_outright_is_refused_to_a_device(void)
{
    static const struct {
        const char *body;
        const char *memory;
        const char *says;
    } cases[] = {
        {HUGE_2M CELLS(CELL("") CELL(" memAccess='private'")), "",
         "but guest cell 1 has memAccess='private'"},
        {HUGE_2M CELLS(CELL(" memAccess='shared'") CELL(" id='7' memAccess='private'")), "",
         "but guest cell 7 has memAccess='private'"},
        {HUGE_2M CELLS(CELL("")), DIMM(" access='private'"),
         "but memory device 0 has access='private'"},
        {HUGE_2M CELLS(CELL(" memAccess='shared'")), DIMM("") DIMM(" access='private'"),
         "but memory device 1 has access='private'"},
        {MIB(4) BACKING("<access mode='private'/>"), "",
         "but the domain XML has <access mode='private'/>"},
        {MIB(4) BACKING("<source type='memfd'/><access mode='private'/>"), "",
         "but the domain XML has <access mode='private'/>"},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases) * 4; i++) {
        g_autoptr(Case) c = case_new();
        g_autofree char *devices = g_strconcat(NIC, cases[i / 4].memory, NULL);
        c->settings->shared_memory_auto = i % 2 == 0;
        if (i / 2 % 2 == 0)
            set_property(c, "hugepages_shared", "true");
        request_with(c, cases[i / 4].body, devices);
        assert_refused(c, HV_ERROR_CONFLICT,
                       "needed by interface 'vhostuser' (MAC '52:54:00:00:00:07'), but ");
        assert_refused(c, HV_ERROR_CONFLICT, cases[i / 4].says);
        g_assert_false(c->request->edit.make_shared);
        g_assert_false(c->request->shared);
    }
}

static void what_is_private_outright_is_not_turned_by_the_property(void)
{
    g_autoptr(Case) c = case_new();
    set_property(c, "hugepages_shared", "true");
    request(c, HUGE_2M CELLS(CELL("") CELL(" memAccess='private'")));
    assert_refused(c, HV_ERROR_CONFLICT, "is true, but guest cell 1 has memAccess='private'");
    g_assert_false(c->request->edit.make_shared);
    request_with(c, HUGE_2M CELLS(CELL("")), DIMM(" access='private'"));
    assert_refused(c, HV_ERROR_CONFLICT, "is true, but memory device 0 has access='private'");
    g_assert_false(c->request->edit.make_shared);
    request_with(c, HUGE_2M CELLS(CELL("")), DIMM(""));
    assert_fine(c);
    g_assert_true(c->request->edit.make_shared);
    g_assert_true(c->request->shared);
}

static void property_false_leaves_what_is_shared_outright(void)
{
    g_autoptr(Case) c = case_new();
    set_property(c, "hugepages_shared", "false");
    request_with(c, HUGE_2M CELLS(CELL("")), DIMM(" access='shared'"));
    assert_fine(c);
    assert_warns(c, "is false, but memory device 0 has access='shared', and it stays shared");
    g_assert_false(c->request->shared);
    request(c, MIB(4) MEMFD);
    assert_warns(c, "is false, but QEMU shares memory from memfd, and it stays shared");
    g_assert_true(c->request->shared);
    request_with(c, HUGE_2M CELLS(CELL("")), DIMM(" access='private'"));
    assert_fine(c);
    assert_silent(c);
}

/* What counts as shared is all that the guest runs in, by the device, its cell, then the guest. */
static void shared_is_all_or_nothing(void)
{
    static const struct {
        const char *body;
        const char *memory;
        gboolean is_shared;
    } cases[] = {
        {HUGE_2M CELLS(CELL(" memAccess='shared'") CELL("")), "", FALSE},
        {HUGE_2M CELLS(CELL(" memAccess='shared'") CELL(" memAccess='shared'")), "", TRUE},
        {HUGE_2M CELLS(CELL(" memAccess='shared'")), DIMM(""), TRUE},
        {HUGE_2M CELLS(CELL(" memAccess='shared'")), DIMM(" access='private'"), FALSE},
        {HUGE_2M CELLS(CELL("")), DIMM(" access='shared'"), FALSE},
        {BACKING("<access mode='shared'/>") CELLS(CELL("") CELL("")), DIMM(""), TRUE},
        {BACKING("<access mode='shared'/>") CELLS(CELL("") CELL(" memAccess='private'")), "",
         FALSE},
        {MIB(4) BACKING("<source type='memfd'/><access mode='private'/>"), "", FALSE},
        {MIB(8) BACKING("<source type='memfd'/>"), DIMM(""), TRUE},
        {HUGE_2M CELLS(CELL(" memAccess='shared'")), NVDIMM, TRUE}, /* it holds a file */
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(Case) c = case_new();
        request_with(c, cases[i].body, cases[i].memory);
        if (c->request->shared != cases[i].is_shared)
            g_error("case %u is shared: %d", i, c->request->shared);
        g_assert_false(c->request->edit.make_shared);
        assert_fine(c);
    }
}

static void memory_files_of_their_own_are_no_obstacle(void)
{
    g_autoptr(Case) c = case_new();
    request_with(c, MIB(8) HUGE_2M, NIC NVDIMM);
    assert_fine(c);
    g_assert_true(c->request->edit.make_shared);
    g_assert_true(c->request->shared);
}

static void partly_shared_is_completed_for_a_device(void)
{
    g_autoptr(Case) c = case_new();
    const char *body = HUGE_2M CELLS(CELL(" memAccess='shared'") CELL(""));
    request_with(c, body, NIC);
    assert_fine(c);
    assert_warns(c, "the guest's memory is made shared");
    g_assert_true(c->request->edit.make_shared);
    g_assert_true(c->request->shared);
    c->settings->shared_memory_auto = FALSE;
    request_with(c, body, NIC);
    assert_refused(c, HV_ERROR_CONFLICT, "but the guest's memory is private, and");
    g_assert_false(c->request->shared);
}

static void normal_pages_are_nobodys_business(void)
{
    g_autoptr(Case) c = case_new();
    c->settings->shared_memory_auto = FALSE;
    request_with(c, MIB(4), NIC);
    assert_fine(c);
    assert_silent(c);
    g_assert_false(c->request->edit.make_shared);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD(sharing_follows_the_property);
    ADD(a_device_that_shares_makes_memory_shared);
    ADD(explicit_sharing_refuses_by_the_devices_name);
    ADD(memfd_needs_the_word_for_libvirt_only);
    ADD(sharing_denied_to_a_device_is_refused);
    ADD(what_is_private_outright_is_refused_to_a_device);
    ADD(what_is_private_outright_is_not_turned_by_the_property);
    ADD(property_false_leaves_what_is_shared_outright);
    ADD(shared_is_all_or_nothing);
    ADD(memory_files_of_their_own_are_no_obstacle);
    ADD(partly_shared_is_completed_for_a_device);
    ADD(normal_pages_are_nobodys_business);
    return g_test_run();
}
