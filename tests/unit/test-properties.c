/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "properties.h"

#include "error.h"

#include <string.h>

static HvDomain *domain_with(const char *ovirt, const char *own)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *xml =
        g_strdup_printf("<domain><memory>4096</memory><metadata>"
                        "<o:vm xmlns:o='" HV_OVIRT_VM_NAMESPACE "'><o:custom>%s</o:custom></o:vm>"
                        "<h:vm xmlns:h='" HV_HUGEVM_NAMESPACE "'>%s</h:vm></metadata></domain>",
                        ovirt, own);
    HvDomain *domain = hv_domain_parse(xml, strlen(xml), &error);
    g_assert_no_error(error);
    return domain;
}

/* Properties of an agent that passes this one, or nothing for a NULL name. */
static HvProperties *read_one(const HvDomain *domain, const char *name, const char *value,
                              GError **error)
{
    g_autoptr(GHashTable) agent = g_hash_table_new(g_str_hash, g_str_equal);
    if (name != NULL)
        g_hash_table_insert(agent, (gpointer)name, (gpointer)value);
    return hv_properties_read(agent, domain, error);
}

static void nothing_given_is_off(void)
{
    g_autoptr(HvDomain) domain = domain_with("", "");
    g_autoptr(HvProperties) without_table = hv_properties_read(NULL, domain, NULL);
    g_autoptr(HvProperties) properties = read_one(domain, NULL, NULL, NULL);
    g_assert_false(without_table->hugepages_set);
    g_assert_false(properties->hugepages_set);
    g_assert_cmpuint(properties->hugepages_kib, ==, 0);
    g_assert_cmpint(properties->shared, ==, HV_SHARED_UNSET);
    g_assert_cmpuint(properties->warnings->len, ==, 0);
}

static void sizes_are_kib_or_have_a_suffix(void)
{
    static const struct {
        const char *value;
        guint64 kib;
    } cases[] = {
        {"2048", 2048},         {"1048576", 1048576},
        {"16384", 16384},       {"2M", 2048},
        {"2m", 2048},           {"1G", 1048576},
        {"1048576K", 1048576},  {"2MiB", 2048},
        {"\t 2048 \n", 2048},   {"1", 1},
        {"10485760", 10485760}, {"0002048", 2048},
    };
    g_autoptr(HvDomain) domain = domain_with("", "");
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(HvProperties) properties = read_one(domain, "hugepages", cases[i].value, &error);
        g_assert_no_error(error);
        g_assert_true(properties->hugepages_set);
        g_assert_cmpuint(properties->hugepages_kib, ==, cases[i].kib);
        g_assert_cmpuint(properties->warnings->len, ==, 0);
    }
}

static void zero_negative_and_empty_are_off(void)
{
    static const struct {
        const char *value;
        gboolean is_set;
        guint warnings;
    } cases[] = {
        {"", FALSE, 0},       {" ", FALSE, 0},
        {NULL, FALSE, 0},     {"0", TRUE, 0},
        {"0M", TRUE, 0},      {"-1", TRUE, 1},
        {"-0", TRUE, 1},      {"-2M", TRUE, 1},
        {" -2048 ", TRUE, 1}, {"-99999999999999999999", TRUE, 1},
    };
    g_autoptr(HvDomain) domain = domain_with("", "");
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(HvProperties) properties = read_one(domain, "hugepages", cases[i].value, &error);
        g_assert_no_error(error);
        g_assert_cmpint(properties->hugepages_set, ==, cases[i].is_set);
        g_assert_cmpuint(properties->hugepages_kib, ==, 0);
        g_assert_cmpuint(properties->warnings->len, ==, cases[i].warnings);
    }
}

static void junk_is_refused_by_name_and_value(void)
{
    static const struct {
        const char *name;
        const char *value;
        const char *says;
    } cases[] = {
        {"hugepages", "abc", "'abc'"},
        {"hugepages", "99999999999999999999", "'99999999999999999999'"},
        {"hugepages", "18446744073709551615M", "18446744073709551615M"},
        {"hugepages", "2.5M", "'2.5M'"},
        {"hugepages", "2048 KiB", "'2048 KiB'"},
        {"hugepages", "2 048", "'2 048'"},
        {"hugepages", "+2048", "'+2048'"},
        {"hugepages", "--1", "'--1'"},
        {"hugepages", "-", "'-'"},
        {"hugepages", "-abc", "'-abc'"},
        {"hugepages", "0x800", "'0x800'"},
        {"hugepages", "2X", "'2X'"},
        {"hugepages", "2048\x01", "'2048\\x01'"},
        {"hugepages", "20\n48", "'20\\x0a48'"},
        {"hugepages", "\xff\xfe", "'\\xff\\xfe'"},
        {"hugepages", "true", "'true'"},
        {"hugepages_shared", "maybe", "'maybe'"},
        {"hugepages_shared", "2", "'2'"},
        {"hugepages_shared", "true false", "'true false'"},
        {"hugepages_shared", "shared", "'shared'"},
    };
    g_autoptr(HvDomain) domain = domain_with("", "");
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_null(read_one(domain, cases[i].name, cases[i].value, &error));
        g_assert_error(error, HV_ERROR, HV_ERROR_PROPERTY);
        g_autofree char *message = hv_error_message(error);
        g_assert_nonnull(strstr(message, cases[i].name));
        g_assert_nonnull(strstr(message, cases[i].says));
        g_assert_nonnull(hv_error_hint(error));
    }
}

static void shared_is_a_boolean_in_any_case(void)
{
    static const struct {
        const char *value;
        HvShared shared;
    } cases[] = {
        {"true", HV_SHARED_YES},   {"TRUE", HV_SHARED_YES}, {"1", HV_SHARED_YES},
        {"Yes", HV_SHARED_YES},    {" on ", HV_SHARED_YES}, {"false", HV_SHARED_NO},
        {"False", HV_SHARED_NO},   {"0", HV_SHARED_NO},     {"NO", HV_SHARED_NO},
        {"off", HV_SHARED_NO},     {"", HV_SHARED_UNSET},   {" ", HV_SHARED_UNSET},
        {"auto", HV_SHARED_UNSET},
    };
    g_autoptr(HvDomain) domain = domain_with("", "");
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(HvProperties) properties =
            read_one(domain, "hugepages_shared", cases[i].value, NULL);
        g_assert_cmpint(properties->shared, ==, cases[i].shared);
    }
}

static void the_first_source_that_has_it_decides(void)
{
    g_autoptr(HvDomain) both =
        domain_with("<o:hugepages>2048</o:hugepages>", "<h:hugepages>1G</h:hugepages>");
    g_autoptr(HvDomain) own = domain_with("", "<h:hugepages>1G</h:hugepages>");
    g_autoptr(HvProperties) agents = read_one(both, "hugepages", "16M", NULL);
    g_autoptr(HvProperties) ovirts = read_one(both, NULL, NULL, NULL);
    g_autoptr(HvProperties) owns = read_one(own, NULL, NULL, NULL);
    g_assert_cmpuint(agents->hugepages_kib, ==, 16384);
    g_assert_cmpuint(ovirts->hugepages_kib, ==, 2048);
    g_assert_cmpuint(owns->hugepages_kib, ==, 1048576);
}

static void an_empty_value_decides_too(void)
{
    g_autoptr(HvDomain) domain = domain_with("<o:hugepages/>", "<h:hugepages>1G</h:hugepages>");
    g_autoptr(HvProperties) ovirts = read_one(domain, NULL, NULL, NULL);
    g_assert_cmpuint(ovirts->hugepages_kib, ==, 0);
    g_autoptr(HvDomain) other = domain_with("<o:hugepages>2048</o:hugepages>", "");
    g_autoptr(HvProperties) agents = read_one(other, "hugepages", "", NULL);
    g_assert_false(agents->hugepages_set);
    g_assert_cmpuint(agents->hugepages_kib, ==, 0);
}

static void each_property_is_looked_up_by_itself(void)
{
    g_autoptr(HvDomain) domain = domain_with("<o:hugepages>2048</o:hugepages>",
                                             "<h:hugepages_shared>true</h:hugepages_shared>");
    g_autoptr(HvProperties) properties = read_one(domain, "unknown", "x", NULL);
    g_assert_cmpuint(properties->hugepages_kib, ==, 2048);
    g_assert_cmpint(properties->shared, ==, HV_SHARED_YES);
}

static void junk_behind_a_deciding_source_is_not_read(void)
{
    g_autoptr(HvDomain) domain = domain_with("<o:hugepages>junk</o:hugepages>", "");
    g_autoptr(GError) error = NULL;
    g_autoptr(HvProperties) properties = read_one(domain, "hugepages", "2M", NULL);
    g_assert_cmpuint(properties->hugepages_kib, ==, 2048);
    g_assert_null(read_one(domain, NULL, NULL, &error));
    g_assert_error(error, HV_ERROR, HV_ERROR_PROPERTY);
}

/* A user of virsh edit writes "shared"; nobody else's property of that name is meant. */
static void shared_is_a_short_name_in_our_element_only(void)
{
    static const struct {
        const char *ovirt;
        const char *own;
        HvShared shared;
    } cases[] = {
        {"", "<h:shared>true</h:shared>", HV_SHARED_YES},
        {"", "<h:shared>false</h:shared>", HV_SHARED_NO},
        {"", "<h:shared> auto </h:shared>", HV_SHARED_UNSET},
        {"", "<h:shared/>", HV_SHARED_UNSET},
        {"", "<x:shared xmlns:x='urn:x'>true</x:shared>", HV_SHARED_UNSET},
        {"<o:shared>true</o:shared>", "", HV_SHARED_UNSET},
        {"<o:hugepages_shared>false</o:hugepages_shared>", "<h:shared>true</h:shared>",
         HV_SHARED_NO},
        {"<o:hugepages_shared/>", "<h:shared>true</h:shared>", HV_SHARED_UNSET},
        {"", "<h:shared>yes</h:shared><h:hugepages_shared>1</h:hugepages_shared>", HV_SHARED_YES},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(HvDomain) domain = domain_with(cases[i].ovirt, cases[i].own);
        g_autoptr(HvProperties) properties = read_one(domain, NULL, NULL, &error);
        g_assert_no_error(error);
        g_assert_cmpint(properties->shared, ==, cases[i].shared);
    }
}

static void two_names_that_contradict_each_other_are_refused(void)
{
    static const char *const own[] = {
        "<h:shared>true</h:shared><h:hugepages_shared>false</h:hugepages_shared>",
        "<h:hugepages_shared>true</h:hugepages_shared><h:shared>auto</h:shared>",
        "<h:hugepages_shared>auto</h:hugepages_shared><h:shared>true</h:shared>",
        "<h:hugepages_shared>true</h:hugepages_shared><h:shared>perhaps</h:shared>",
    };
    for (guint i = 0; i < G_N_ELEMENTS(own); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(HvDomain) domain = domain_with("", own[i]);
        g_assert_null(read_one(domain, NULL, NULL, &error));
        g_assert_error(error, HV_ERROR, HV_ERROR_PROPERTY);
        g_clear_error(&error);
        g_autoptr(HvProperties) agents = read_one(domain, "hugepages_shared", "false", &error);
        g_assert_no_error(error);
        g_assert_cmpint(agents->shared, ==, HV_SHARED_NO);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(test) g_test_add_func("/properties/" #test, test)
    ADD(nothing_given_is_off);
    ADD(sizes_are_kib_or_have_a_suffix);
    ADD(zero_negative_and_empty_are_off);
    ADD(junk_is_refused_by_name_and_value);
    ADD(shared_is_a_boolean_in_any_case);
    ADD(shared_is_a_short_name_in_our_element_only);
    ADD(two_names_that_contradict_each_other_are_refused);
    ADD(the_first_source_that_has_it_decides);
    ADD(an_empty_value_decides_too);
    ADD(each_property_is_looked_up_by_itself);
    ADD(junk_behind_a_deciding_source_is_not_read);
#undef ADD
    return g_test_run();
}
