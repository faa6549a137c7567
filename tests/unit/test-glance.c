/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "glance.h"

#include <string.h>

#define UUID "c7a5fdbd-edaf-9455-926a-d65c16db1809"
#define OVIRT(property) "<o:vm xmlns:o='http://ovirt.org/vm/1.0'>" property "</o:vm>"
#define HUGEVM(property) "<h:vm xmlns:h='urn:hugevm:vm:1'>" property "</h:vm>"
#define DEVICE(model, inside)                                                                      \
    "<devices><memory model='" model "'><source>" inside "</source></memory></devices>"
#define LARGE_BYTES ((gsize)4 * 1024 * 1024)
#define DEEP 100000u

/* An allocation of the exact size, for the sanitizers. */
static Glance glance_at_bytes(const char *xml, gsize n)
{
    Glance glance = {.wants_hugepages = 77, .uuid = "from before"};
    g_autofree char *exact = g_malloc(MAX(n, 1));
    memcpy(exact, xml, n);
    glance_at_domain(exact, n, &glance);
    return glance;
}

static gboolean wants_text(const char *xml)
{
    return glance_at_bytes(xml, strlen(xml)).wants_hugepages;
}

/* The text inside <domain>...</domain>. */
static Glance glance_at_body(const char *body)
{
    g_autofree char *xml = g_strconcat("<domain type='kvm'>\n", body, "\n</domain>\n", NULL);
    return glance_at_bytes(xml, strlen(xml));
}

static void assert_wants(const char *body)
{
    g_test_message("%.100s", body);
    g_assert_true(glance_at_body(body).wants_hugepages);
}

static void assert_wants_none(const char *body)
{
    g_test_message("%.100s", body);
    g_assert_false(glance_at_body(body).wants_hugepages);
}

static void assert_uuid(const char *body, const char *uuid)
{
    g_test_message("%.100s", body);
    g_assert_cmpstr(glance_at_body(body).uuid, ==, uuid);
}

static void test_hugepages_of_memory_backing(void)
{
    assert_wants("<memoryBacking><hugepages/></memoryBacking>");
    assert_wants("<memoryBacking ><nosharepages/><hugepages ></hugepages></memoryBacking>");
}

static void test_page_sizes(void)
{
    assert_wants("<memoryBacking><hugepages><page size='2048' unit='KiB'/></hugepages>"
                 "</memoryBacking>");
    assert_wants("<memoryBacking><hugepages><page size='1' unit='G' nodeset='1'/></hugepages>"
                 "</memoryBacking>");
}

static void test_page_size_of_a_memory_device(void)
{
    assert_wants(DEVICE("dimm", "<pagesize unit='MiB'>2</pagesize>"));
    assert_wants(DEVICE("virtio-mem", "<nodemask>0</nodemask><pagesize>2048</pagesize>"));
}

static void test_property_of_ovirt(void)
{
    assert_wants(
        "<metadata>" OVIRT("<o:custom><o:hugepages>2048</o:hugepages></o:custom>") "</metadata>");
}

static void test_property_of_hugevm(void)
{
    assert_wants("<metadata>" HUGEVM("<h:hugepages>2M</h:hugepages>") "</metadata>");
}

/* libvirt keeps prefixes as they were written, and there need not be one. */
static void test_property_under_any_prefix(void)
{
    assert_wants("<metadata><vm xmlns='urn:hugevm:vm:1'><hugepages> 1G </hugepages></vm>"
                 "</metadata>");
    assert_wants("<metadata><ovirt-vm:vm xmlns:ovirt-vm='http://ovirt.org/vm/1.0'>"
                 "<ovirt-vm:custom><ovirt-vm:hugepages>2048</ovirt-vm:hugepages>"
                 "</ovirt-vm:custom></ovirt-vm:vm></metadata>");
}

static void test_property_in_cdata(void)
{
    assert_wants("<metadata>" HUGEVM("<h:hugepages><![CDATA[2048]]></h:hugepages>") "</metadata>");
}

static void test_property_in_pieces(void)
{
    assert_wants("<metadata>" HUGEVM("<h:hugepages>0<!-- 1 -->2048</h:hugepages>") "</metadata>");
    assert_wants("<metadata>" HUGEVM("<h:hugepages>&#50;M</h:hugepages>") "</metadata>");
}

/* XML says that the text of an element is that of its children, too. */
static void test_property_inside_a_child(void)
{
    assert_wants("<metadata>" HUGEVM("<h:hugepages><b>2048</b></h:hugepages>") "</metadata>");
    assert_wants("<metadata>" HUGEVM("<h:hugepages><b/>2048</h:hugepages>") "</metadata>");
    assert_wants("<metadata>" HUGEVM("<h:hugepages/><h:hugepages>2M</h:hugepages>") "</metadata>");
}

static void test_property_that_is_off(void)
{
    static const char *const values[] = {
        "",          "0", "00", " \t\r\n", " 0\n", "<![CDATA[]]>", "<![CDATA[0]]>", "<!-- 2048 -->",
        "<?x 2048?>"};
    for (guint i = 0; i < G_N_ELEMENTS(values); i++) {
        g_autofree char *body = g_strdup_printf(
            "<metadata>" HUGEVM("<h:hugepages>%s</h:hugepages><h:x>1</h:x>") "</metadata>",
            values[i]);
        assert_wants_none(body);
    }
}

static void test_text_behind_a_property(void)
{
    assert_wants_none("<metadata>" HUGEVM("<h:hugepages>0</h:hugepages>2048") "</metadata>");
    assert_wants_none(
        "<metadata>" HUGEVM("<h:hugepages>0<b/></h:hugepages><h:x>1</h:x>") "</metadata>");
}

static void test_no_mention(void)
{
    assert_wants_none("<name>vm</name><uuid>" UUID "</uuid><memory>1</memory><memoryBacking/>");
}

static void test_word_in_a_text(void)
{
    assert_wants_none("<name>hugepages</name>");
    assert_wants_none("<title>no hugepages here</title>");
    assert_wants_none("<description>hugepages 2048, pagesize 2M</description>");
    assert_wants_none("<description>&lt;hugepages/&gt;</description>");
    assert_wants_none("<name a='hugepages'/>");
}

static void test_word_in_a_comment(void)
{
    assert_wants_none("<memoryBacking><!-- <hugepages/> --></memoryBacking>");
    assert_wants_none("<memoryBacking><?x <hugepages/> ?></memoryBacking>");
}

static void test_word_in_cdata(void)
{
    assert_wants_none("<description><![CDATA[<memoryBacking><hugepages/></memoryBacking>]]>"
                      "</description>");
    assert_wants_none("<memoryBacking><![CDATA[<hugepages/>]]></memoryBacking>");
}

static void test_element_at_another_path(void)
{
    assert_wants_none("<hugepages/>");
    assert_wants_none("<devices><memoryBacking><hugepages/></memoryBacking></devices>");
    assert_wants_none("<memoryBacking><source><hugepages/></source></memoryBacking>");
    assert_wants_none("<memoryBacking><x:hugepages xmlns:x='urn:x'/></memoryBacking>");
    g_assert_false(wants_text("<x><memoryBacking><hugepages/></memoryBacking></x>"));
    g_assert_false(
        wants_text("<x><domain><memoryBacking><hugepages/></memoryBacking></domain></x>"));
}

static void test_foreign_metadata(void)
{
    assert_wants_none("<metadata><a:hugepages xmlns:a='urn:a'>2048</a:hugepages></metadata>");
    assert_wants_none("<metadata><a:app xmlns:a='urn:a'><a:hugepages>2048</a:hugepages></a:app>"
                      "</metadata>");
    assert_wants_none(
        "<metadata>" HUGEVM("<h:a><h:hugepages>2048</h:hugepages></h:a>") "</metadata>");
    assert_wants_none(
        "<metadata>" HUGEVM("<h:hugepages_shared>1</h:hugepages_shared>") "</metadata>");
    assert_wants_none(OVIRT("<o:custom><o:hugepages>2048</o:hugepages></o:custom>"));
}

static void test_pagesize_elsewhere(void)
{
    assert_wants_none("<pagesize>2048</pagesize>");
    assert_wants_none("<devices><memory><target><pagesize>2048</pagesize></target></memory>"
                      "</devices>");
    assert_wants_none("<devices><disk><source><pagesize>2048</pagesize></source></disk></devices>");
}

static void test_uuid_is_read(void)
{
    assert_uuid("<uuid>" UUID "</uuid>", UUID);
    assert_uuid("<uuid>\n " UUID "\t</uuid><memory/>", UUID);
    assert_uuid("<uuid><![CDATA[" UUID "]]></uuid>", UUID);
}

static void test_no_uuid(void)
{
    assert_uuid("<name>vm</name>", "");
    assert_uuid("<uuid/>", "");
    assert_uuid("<uuid></uuid>", "");
}

/* A UUID that only libvirt's own lenient reader takes is no word of the ledger's. */
static void test_junk_uuid(void)
{
    assert_uuid("<uuid>junk</uuid>", "");
    assert_uuid("<uuid>" UUID "0</uuid>", "");
    assert_uuid("<uuid>c7a5fdbdedaf9455926ad65c16db1809</uuid>", "");
    assert_uuid("<uuid>c7a5fdbd-edaf-9455-926a-d65c16db180g</uuid>", "");
    assert_uuid("<uuid>c7a5fdbd/../../ledger.copy.json/////</uuid>", "");
}

static void test_uuid_in_pieces(void)
{
    assert_uuid("<uuid>c7a5fdbd-edaf-9455<!-- x -->-926a-d65c16db1809</uuid>", "");
    assert_uuid("<uuid>" UUID "<!-- x --> </uuid>", UUID);
}

static void test_uuids_elsewhere(void)
{
    static const char other[] = "00000000-0000-0000-0000-00000000000a";
    g_autofree char *body = g_strdup_printf(
        "<uuid>" UUID "</uuid><metadata><uuid>%s</uuid><x:uuid xmlns:x='urn:x'>%s</x:uuid>"
        "</metadata><devices><disk><source><uuid>%s</uuid></source></disk></devices>"
        "<sysinfo><entry name='uuid'>%s</entry></sysinfo>",
        other, other, other, other);
    assert_uuid(body, UUID);
    assert_uuid(strstr(body, "<metadata>"), "");
}

static void test_uuid_of_a_foreign_namespace(void)
{
    assert_uuid("<x:uuid xmlns:x='urn:x'>" UUID "</x:uuid>", "");
}

static void test_malformed_with_the_word(void)
{
    g_assert_true(wants_text("<domain><name>hugepages</name>"));
    g_assert_true(wants_text("<domain><description>pagesize</b></domain>"));
    g_assert_true(wants_text("hugepages"));
    g_assert_true(wants_text("<domain/><hugepages"));
}

static void test_malformed_without_the_word(void)
{
    g_assert_false(wants_text("<domain><name>vm</name>"));
    g_assert_false(wants_text("<domain><name></b></domain>"));
    g_assert_false(wants_text("no XML"));
    g_assert_false(wants_text("<domain><memoryBacking><huge"));
}

static void test_malformed_keeps_what_was_read(void)
{
    static const char xml[] = "<domain><uuid>" UUID "</uuid><name>";
    g_assert_cmpstr(glance_at_bytes(xml, strlen(xml)).uuid, ==, UUID);
}

static void test_empty_input(void)
{
    Glance glance = glance_at_bytes("hugepages", 0);
    g_assert_false(glance.wants_hugepages);
    g_assert_cmpstr(glance.uuid, ==, "");
    g_assert_false(glance_may_want_hugepages("hugepages", 0));
}

static char *repeat(const char *text, guint count)
{
    GString *all = g_string_new(NULL);
    for (guint i = 0; i < count; i++)
        g_string_append(all, text);
    return g_string_free(all, FALSE);
}

static void test_deep_nesting(void)
{
    g_autofree char *open = repeat("<hugepages>", DEEP);
    g_autofree char *close = repeat("</hugepages>", DEEP);
    g_autofree char *body = g_strconcat(open, close, NULL);
    assert_wants_none(body);
    g_autofree char *with = g_strconcat(body, "<memoryBacking><hugepages/></memoryBacking>", NULL);
    assert_wants(with);
}

static void test_large_description(void)
{
    g_autofree char *text = g_strnfill(LARGE_BYTES, 'x');
    g_autofree char *none = g_strconcat("<description>hugepages", text, "</description>", NULL);
    g_autofree char *with = g_strconcat(none, "<memoryBacking><hugepages/></memoryBacking>", NULL);
    g_assert_false(glance_at_body(none).wants_hugepages);
    g_assert_true(glance_at_body(with).wants_hugepages);
}

static void test_nul_bytes(void)
{
    static const char with[] = "<domain><name>\0</name><memoryBacking><hugepages/></memoryBacking>"
                               "</domain>";
    static const char none[] = "<domain><name>\0</name></domain>";
    g_assert_true(glance_at_bytes(with, sizeof with - 1).wants_hugepages);
    g_assert_false(glance_at_bytes(none, sizeof none - 1).wants_hugepages);
}

static void test_not_utf8(void)
{
    g_assert_true(wants_text("<domain><name>\xff\xfe</name><memoryBacking><hugepages/>"
                             "</memoryBacking></domain>"));
    g_assert_false(wants_text("<domain><name>\xff\xfe</name></domain>"));
}

/* What an entity stands for is not looked at. The module refuses a DTD in any case. */
static void test_entity(void)
{
    g_assert_true(wants_text("<!DOCTYPE domain [<!ENTITY a '<hugepages/>'>]>"
                             "<domain><memoryBacking>&a;</memoryBacking></domain>"));
    g_assert_false(wants_text("<!DOCTYPE domain [<!ENTITY a 'ha'><!ENTITY b '&a;&a;'>]>"
                              "<domain><name>&b;</name></domain>"));
}

static void test_cdata_outside_of_the_root(void)
{
    g_assert_true(wants_text("<![CDATA[x]]><domain><memoryBacking><hugepages/></memoryBacking>"
                             "</domain>"));
    wants_text("<domain/><![CDATA[hugepages]]>");
}

static void test_search_for_words(void)
{
    g_assert_true(glance_may_want_hugepages("x hugepages x", 13));
    g_assert_true(glance_may_want_hugepages("<a>\0pagesize", 12));
    g_assert_false(glance_may_want_hugepages("x hugepages x", 10));
    g_assert_false(glance_may_want_hugepages("<domain><memory/></domain>", 26));
}

static void test_values_that_mean_off(void)
{
    g_assert_true(glance_is_off(NULL));
    g_assert_true(glance_is_off(""));
    g_assert_true(glance_is_off("0"));
    g_assert_true(glance_is_off(" \t 00\n"));
    g_assert_false(glance_is_off("2048"));
    g_assert_false(glance_is_off("0x"));
    g_assert_false(glance_is_off("yes"));
}

#define ADD(name, function) g_test_add_func("/glance/" name, function)

static void add_tests_of_odd_input(void)
{
    ADD("malformed-with-the-word-wants", test_malformed_with_the_word);
    ADD("malformed-without-the-word-wants-none", test_malformed_without_the_word);
    ADD("malformed-keeps-what-was-read", test_malformed_keeps_what_was_read);
    ADD("empty-input-wants-none", test_empty_input);
    ADD("deep-nesting-is-no-matter", test_deep_nesting);
    ADD("large-description-is-no-matter", test_large_description);
    ADD("nul-bytes-hide-nothing", test_nul_bytes);
    ADD("not-utf8-leaves-it-to-the-words", test_not_utf8);
    ADD("entity-leaves-it-to-the-words", test_entity);
    ADD("cdata-outside-of-the-root-is-no-matter", test_cdata_outside_of_the_root);
    ADD("search-for-words-stays-in-the-text", test_search_for_words);
    ADD("values-that-mean-off", test_values_that_mean_off);
}

static void add_tests_of_uuid(void)
{
    ADD("uuid-is-read", test_uuid_is_read);
    ADD("no-uuid-is-none", test_no_uuid);
    ADD("junk-uuid-is-none", test_junk_uuid);
    ADD("uuid-in-pieces-is-none", test_uuid_in_pieces);
    ADD("uuids-elsewhere-are-ignored", test_uuids_elsewhere);
    ADD("uuid-of-a-foreign-namespace-is-ignored", test_uuid_of_a_foreign_namespace);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("hugepages-of-memory-backing-wants", test_hugepages_of_memory_backing);
    ADD("page-sizes-want", test_page_sizes);
    ADD("page-size-of-a-memory-device-wants", test_page_size_of_a_memory_device);
    ADD("property-of-ovirt-wants", test_property_of_ovirt);
    ADD("property-of-hugevm-wants", test_property_of_hugevm);
    ADD("property-under-any-prefix-wants", test_property_under_any_prefix);
    ADD("property-in-cdata-wants", test_property_in_cdata);
    ADD("property-in-pieces-wants", test_property_in_pieces);
    ADD("property-inside-a-child-wants", test_property_inside_a_child);
    ADD("property-that-is-off-wants-none", test_property_that_is_off);
    ADD("text-behind-a-property-wants-none", test_text_behind_a_property);
    ADD("no-mention-wants-none", test_no_mention);
    ADD("word-in-a-text-wants-none", test_word_in_a_text);
    ADD("word-in-a-comment-wants-none", test_word_in_a_comment);
    ADD("word-in-cdata-wants-none", test_word_in_cdata);
    ADD("element-at-another-path-wants-none", test_element_at_another_path);
    ADD("foreign-metadata-wants-none", test_foreign_metadata);
    ADD("pagesize-elsewhere-wants-none", test_pagesize_elsewhere);
    add_tests_of_uuid();
    add_tests_of_odd_input();
    return g_test_run();
}
