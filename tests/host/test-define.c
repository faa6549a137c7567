/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The XML that `define` and `set` make on a host, and what they refuse to make. */
#include "vm-fixture.h"

#include "define.h"
#include "error.h"

#define BIG_HOST                                                                                   \
    "arch x86_64\nmem available=33554432 default=2048\nsize 2048\nsize 1048576\n"                  \
    "node 0 total=16777216 free=16777216\nnode 1 total=16777216 free=16777216\n"                   \
    "pool 0 2048 total=10 free=10\npool 1 2048 total=40 free=40\n"                                 \
    "pool 0 1048576\npool 1 1048576\n"

typedef struct {
    HvAgent *agent;
} Fixture;

static void fixture_init(Fixture *fixture, const char *conf)
{
    g_autofree char *tree = g_strconcat(BIG_HOST, conf, NULL);
    fake_init(tree);
    fixture->agent = new_agent(1000);
}

static void fixture_clear(Fixture *fixture)
{
    hv_agent_free(fixture->agent);
    fake_clear();
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Fixture, fixture_clear)

static char *vm_of(const char *inside)
{
    return g_strdup_printf("<domain>\n  <name>vm</name>\n  <uuid>" UUID_A "</uuid>\n"
                           "  <memory unit='MiB'>64</memory>\n%s  <vcpu>1</vcpu>\n</domain>\n",
                           inside);
}

static HvDefinition *try_set(const Fixture *fixture, const char *xml, const char *hugepages,
                             const char *shared, GError **error)
{
    const HvWish wish = {.hugepages = hugepages, .shared = shared, .replaces_pages = TRUE};
    return hv_define(fixture->agent, xml, strlen(xml), &wish, error);
}

static HvDefinition *set(const Fixture *fixture, const char *xml, const char *hugepages,
                         const char *shared)
{
    g_autoptr(GError) error = NULL;
    HvDefinition *definition = try_set(fixture, xml, hugepages, shared, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(definition->xml_bytes, ==, strlen(definition->xml));
    return definition;
}

static void assert_refused(const Fixture *fixture, const char *inside, const HvWish *wish,
                           const char *says)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *xml = vm_of(inside);
    g_assert_null(hv_define(fixture->agent, xml, strlen(xml), wish, &error));
    g_assert_nonnull(error);
    if (strstr(error->message, says) == NULL)
        g_error("\"%s\" does not say \"%s\"", error->message, says);
}

static void assert_has(const HvDefinition *definition, const char *part)
{
    if (strstr(definition->xml, part) == NULL)
        g_error("no %s in: %s", part, definition->xml);
}

static void assert_told(const GPtrArray *texts, const char *part)
{
    for (guint i = 0; i < texts->len; i++)
        if (strstr(g_ptr_array_index(texts, i), part) != NULL)
            return;
    g_error("nothing says \"%s\"", part);
}

static void a_vm_comes_back_as_it_was(void)
{
    static const char *const values[] = {"2048", "large", "any", "2M"};
    g_auto(Fixture) fixture = {0};
    fixture_init(&fixture, DYNAMIC);
    g_autofree char *plain = vm_of("");
    g_autofree char *xml = g_strdup(plain);
    for (guint i = 0; i < G_N_ELEMENTS(values); i++) {
        g_autoptr(HvDefinition) definition = set(&fixture, xml, values[i], "true");
        g_assert_cmpstr(definition->hugepages, ==, values[i]);
        g_assert_cmpstr(definition->shared, ==, "true");
        assert_has(definition, "<page size='2048' unit='KiB'/>");
        assert_has(definition, "<access mode='shared'/>");
        g_autoptr(HvDefinition) again = set(&fixture, definition->xml, values[i], NULL);
        g_assert_false(again->is_changed);
        g_assert_cmpuint(again->changes->len, ==, 0);
        g_free(xml);
        xml = g_steal_pointer(&definition->xml);
    }
    g_autoptr(HvDefinition) off = set(&fixture, xml, "off", "auto");
    g_assert_cmpstr(off->xml, ==, plain);
    g_assert_null(off->hugepages);
}

static void a_negative_size_is_off_with_a_warning(void)
{
    g_auto(Fixture) fixture = {0};
    fixture_init(&fixture, DYNAMIC);
    g_autofree char *plain = vm_of("");
    g_autoptr(HvDefinition) definition = set(&fixture, plain, "-1", NULL);
    g_assert_cmpstr(definition->xml, ==, plain);
    g_assert_cmpuint(definition->warnings->len, ==, 1);
    assert_told(definition->warnings, "negative means off");
}

/* libvirt renders what it is given in an order of its own. */
static void what_stands_elsewhere_is_the_same(void)
{
    g_auto(Fixture) fixture = {0};
    fixture_init(&fixture, DYNAMIC);
    g_autofree char *xml =
        vm_of("  <currentMemory unit='MiB'>64</currentMemory>\n"
              "  <memoryBacking>\n    <hugepages><page size='2048' unit='KiB'/></hugepages>\n"
              "    <access mode=\"shared\"/></memoryBacking>\n  <metadata>"
              "<h:vm xmlns:h='urn:hugevm:vm:1'><h:added shared='access' pages='2048'/>"
              "<h:shared>true</h:shared><h:hugepages>2M</h:hugepages></h:vm></metadata>\n");
    g_autoptr(HvDefinition) same = set(&fixture, xml, "2M", "true");
    g_assert_false(same->is_changed);
    g_assert_cmpstr(same->xml, ==, xml);
    g_autoptr(HvDefinition) other = set(&fixture, xml, "2048K", NULL);
    g_assert_true(other->is_changed);
}

static void one_size_gives_way_to_another(void)
{
    static const char *const insides[] = {
        "  <memoryBacking><hugepages/></memoryBacking>\n",
        "  <memoryBacking><hugepages><page size='2' unit='M'/></hugepages></memoryBacking>\n",
        "  <memoryBacking><locked/></memoryBacking>\n",
        "",
    };
    g_auto(Fixture) fixture = {0};
    fixture_init(&fixture, DYNAMIC);
    for (guint i = 0; i < G_N_ELEMENTS(insides); i++) {
        g_autofree char *small = vm_of(insides[i]);
        g_autoptr(GString) xml = g_string_new(small);
        g_string_replace(xml, ">64<", ">1024<", 1);
        g_autoptr(HvDefinition) large = set(&fixture, xml->str, "1G", NULL);
        assert_has(large, "<page size='1048576' unit='KiB'/>");
        assert_told(large->changes, "-> 1 GiB");
        g_autoptr(HvDefinition) normal = set(&fixture, large->xml, "off", NULL);
        g_assert_null(strstr(normal->xml, "hugepages"));
        g_assert_cmpint(strstr(xml->str, "<locked/>") != NULL, ==,
                        strstr(normal->xml, "<locked/>") != NULL);
    }
}

static void too_few_pages_now_are_a_warning(void)
{
    g_auto(Fixture) fixture = {0};
    fixture_init(&fixture, "");
    g_autofree char *xml = vm_of("");
    g_autoptr(GString) larger = g_string_new(xml);
    g_string_replace(larger, ">64<", ">128<", 1);
    g_autoptr(HvDefinition) definition = set(&fixture, larger->str, "2M", NULL);
    assert_has(definition, "<page size='2048' unit='KiB'/>");
    assert_told(definition->warnings, "could not start now: ");
    g_autoptr(HvDefinition) normal = set(&fixture, larger->str, "any", NULL);
    g_assert_null(strstr(normal->xml, "<page"));
    assert_told(normal->warnings, "normal pages");
    g_autoptr(GError) error = NULL;
    g_assert_null(try_set(&fixture, larger->str, "large", NULL, &error));
    g_assert_error(error, HV_ERROR, HV_ERROR_SHORTAGE);
    g_assert_nonnull(strstr(error->message, "no page size can be chosen now"));
}

static void what_can_never_start_is_refused(void)
{
    g_auto(Fixture) fixture = {0};
    fixture_init(&fixture, DYNAMIC);
    const HvWish small = {.hugepages = "2M"}, huge = {.hugepages = "1G"};
    g_autofree char *xml = vm_of("");
    g_autoptr(GString) larger = g_string_new(xml);
    g_string_replace(larger, "'MiB'>64<", "'GiB'>33<", 1);
    g_autoptr(GError) error = NULL;
    g_assert_null(hv_define(fixture.agent, larger->str, larger->len, &small, &error));
    g_assert_nonnull(strstr(error->message, "can never start here: it needs 33 GiB"));
    assert_refused(&fixture, "", &huge, "less than one page of 1 GiB");
    assert_refused(&fixture, "<numatune><memory mode='strict' nodeset='5'/></numatune>", &small,
                   "host node 5, which does not exist");
    assert_refused(&fixture, "<devices><interface type='vhostuser'/></devices>",
                   &(HvWish){.hugepages = "2M", .shared = "false"},
                   "shared memory is needed by interface");
    assert_refused(&fixture, "", &(HvWish){.hugepages = "abc"}, "'abc'");
    assert_refused(&fixture, "", &(HvWish){.shared = "abc"}, "'abc'");
}

#define CELLS                                                                                      \
    "  <cpu><numa><cell id='0' cpus='0' memory='32' unit='MiB'/>"                                  \
    "<cell id='1' cpus='1' memory='32' unit='MiB'/></numa></cpu>\n"
#define BY_CELL                                                                                    \
    "  <memoryBacking><hugepages><page size='2048' nodeset='0'/></hugepages></memoryBacking>\n"

static void pages_of_single_cells_are_their_authors(void)
{
    g_auto(Fixture) fixture = {0};
    fixture_init(&fixture, DYNAMIC);
    assert_refused(&fixture, CELLS BY_CELL, &(HvWish){.hugepages = "off", .replaces_pages = TRUE},
                   "single guest cells");
    assert_refused(&fixture, CELLS BY_CELL, &(HvWish){.hugepages = "1G", .replaces_pages = TRUE},
                   "but the domain XML names 2 MiB");
    g_autofree char *xml = vm_of(CELLS BY_CELL);
    g_autoptr(HvDefinition) kept = set(&fixture, xml, "large", NULL);
    assert_has(kept, BY_CELL);
    assert_told(kept->warnings, "stay as they are");
    g_assert_null(strstr(kept->xml, "pages="));
}

/* A file has its author's pages: only `set` may replace them. */
static void define_replaces_nothing_of_the_files(void)
{
    const char *pages =
        "<memoryBacking><hugepages><page size='2' unit='M'/></hugepages></memoryBacking>";
    g_auto(Fixture) fixture = {0};
    fixture_init(&fixture, DYNAMIC);
    assert_refused(&fixture, pages, &(HvWish){.hugepages = "1G"}, "but the domain XML names 2 MiB");
    assert_refused(&fixture, pages, &(HvWish){.hugepages = "off"}, "has not put in");
}

static void a_node_that_was_chosen_can_be_chosen_anew(void)
{
    g_auto(Fixture) fixture = {0};
    fixture_init(&fixture, DYNAMIC "file /etc/hugevm/hugevm.conf.d/b.conf "
                                   "[hugevm]\\nbind_unbound = single-node\\n\n");
    g_autofree char *plain = vm_of("");
    g_autoptr(HvDefinition) bound = set(&fixture, plain, "2M", NULL);
    assert_has(bound, "<memory mode='strict' nodeset='");
    assert_has(bound, "numatune='strict ");
    g_autoptr(HvDefinition) off = set(&fixture, bound->xml, "0", NULL);
    g_assert_cmpstr(off->xml, ==, plain);
    g_autofree char *own = vm_of("  <numatune><memory mode='strict' nodeset='0'/></numatune>\n");
    g_autoptr(HvDefinition) kept = set(&fixture, own, "2M", NULL);
    g_autoptr(HvDefinition) kept_too = set(&fixture, kept->xml, "off", NULL);
    g_assert_cmpstr(kept_too->xml, ==, own);
}

static void a_device_that_needs_it_gets_shared_memory(void)
{
    g_auto(Fixture) fixture = {0};
    fixture_init(&fixture, DYNAMIC);
    g_autofree char *plain = vm_of("  <devices><interface type='vhostuser'/></devices>\n");
    g_autoptr(HvDefinition) shared = set(&fixture, plain, "2M", "auto");
    assert_has(shared, "<access mode='shared'/>");
    g_assert_null(shared->shared);
    g_autoptr(HvDefinition) off = set(&fixture, shared->xml, "off", NULL);
    g_assert_cmpstr(off->xml, ==, plain);
}

static void what_a_user_wrote_by_hand_is_mended(void)
{
    g_auto(Fixture) fixture = {0};
    fixture_init(&fixture, DYNAMIC);
    g_autofree char *xml = vm_of("  <metadata><h:vm xmlns:h='urn:hugevm:vm:1'><h:hugepages>junk"
                                 "</h:hugepages><h:shared>yes</h:shared><h:hugepages_shared>no"
                                 "</h:hugepages_shared></h:vm></metadata>\n");
    g_autoptr(GError) error = NULL;
    g_assert_null(try_set(&fixture, xml, NULL, "true", &error));
    g_assert_error(error, HV_ERROR, HV_ERROR_PROPERTY);
    g_autoptr(HvDefinition) mended = set(&fixture, xml, "2M", "true");
    assert_has(mended, "<h:hugepages>2M</h:hugepages><h:shared>true</h:shared>");
    g_assert_null(strstr(mended->xml, "hugepages_shared"));
    assert_has(mended, "<page size='2048' unit='KiB'/>");
}

/* What libvirt's hook will find, and what counts before it. */
static void ovirts_properties_are_ovirts(void)
{
    g_auto(Fixture) fixture = {0};
    fixture_init(&fixture, DYNAMIC);
    const char *ovirt = "<metadata><o:vm xmlns:o='http://ovirt.org/vm/1.0'><o:custom>"
                        "<o:hugepages>2048</o:hugepages></o:custom></o:vm></metadata>";
    assert_refused(&fixture, ovirt, &(HvWish){.hugepages = "1G"}, "oVirt's metadata");
    g_autofree char *xml = vm_of(ovirt);
    g_autoptr(HvDefinition) definition = set(&fixture, xml, NULL, "true");
    assert_has(definition, "<page size='2048' unit='KiB'/>");
    assert_has(definition, "<access mode='shared'/>");
}

static void switched_off_is_said(void)
{
    g_auto(Fixture) fixture = {0};
    fixture_init(&fixture, "file /etc/hugevm/hugevm.conf [hugevm]\\nenabled = false\\n\n");
    assert_refused(&fixture, "", &(HvWish){.hugepages = "2M"}, "switched off");
    g_autofree char *xml = vm_of("");
    g_autoptr(HvDefinition) definition = set(&fixture, xml, "off", NULL);
    g_assert_cmpstr(definition->xml, ==, xml);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(test) g_test_add_func("/define/" #test, test)
    ADD(a_vm_comes_back_as_it_was);
    ADD(a_negative_size_is_off_with_a_warning);
    ADD(what_stands_elsewhere_is_the_same);
    ADD(one_size_gives_way_to_another);
    ADD(too_few_pages_now_are_a_warning);
    ADD(what_can_never_start_is_refused);
    ADD(pages_of_single_cells_are_their_authors);
    ADD(define_replaces_nothing_of_the_files);
    ADD(a_node_that_was_chosen_can_be_chosen_anew);
    ADD(a_device_that_needs_it_gets_shared_memory);
    ADD(what_a_user_wrote_by_hand_is_mended);
    ADD(ovirts_properties_are_ovirts);
    ADD(switched_off_is_said);
#undef ADD
    return g_test_run();
}
