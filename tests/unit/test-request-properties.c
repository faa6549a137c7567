/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Page sizes and sharing that custom properties ask for, and devices that share memory. */
#include "request-fixture.h"

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

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD(properties_are_those_of_vdsm);
    ADD(an_unknown_property_size_falls_back);
    ADD(a_strict_host_refuses_unknown_property_sizes);
    ADD(a_property_against_the_xml_is_a_conflict);
    ADD(a_property_reaches_every_cell);
    ADD(switched_off_by_property_the_xml_still_counts);
    return g_test_run();
}
