/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Edits by their exact texts, as people will see them, and what is refused or given up. */
#include "domain-edit-fixture.h"

#include "domain-compare.h"
#include "error.h"

#define PAGE "<page size='2048' unit='KiB'/>"

static void assert_edit(const char *xml, const HvDomainEdit *edit, const char *expected)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *result = edit_text(xml, edit, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(result, ==, expected);
    g_autofree char *again = edit_text(result, edit, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(again, ==, expected);
}

static void assert_edit_refused(const char *xml, const HvDomainEdit *edit, HvErrorCode code)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *result = edit_text(xml, edit, &error);
    g_assert_null(result);
    g_assert_error(error, HV_ERROR, (gint)code);
}

static const HvDomainEdit add_pages = {.add_hugepages_kib = 2048};
static const HvDomainEdit add_uuid = {.add_uuid = UUID};
static const HvDomainEdit share = {.make_shared = TRUE};
static const HvDomainEdit all = {UUID, 2048, TRUE};

static void nothing_to_change_gives_the_same_bytes(void)
{
    static const HvDomainEdit none = {0};
    const char *xml = "<?xml version=\"1.0\"?>\r\n<domain  type=\"kvm\" ><uuid>" UUID "</uuid>"
                      "<memory >4096</memory><memoryBacking><hugepages><page size=\"2\" unit='M'/>"
                      "</hugepages><access mode='&#115;hared'/></memoryBacking></domain>\n\n";
    assert_edit(xml, &none, xml);
    assert_edit(xml, &all, xml);
}

static void a_missing_memory_backing_comes_behind_memory(void)
{
    assert_edit("<domain>\n"
                "  <name>vm</name>\n"
                "  <memory unit='KiB'>4096</memory>\n"
                "  <vcpu>1</vcpu>\n"
                "</domain>\n",
                &all,
                "<domain>\n"
                "  <name>vm</name>\n"
                "  <uuid>" UUID "</uuid>\n"
                "  <memory unit='KiB'>4096</memory>\n"
                "  <memoryBacking>\n"
                "    <hugepages>\n"
                "      " PAGE "\n"
                "    </hugepages>\n"
                "    <access mode='shared'/>\n"
                "  </memoryBacking>\n"
                "  <vcpu>1</vcpu>\n"
                "</domain>\n");
}

static void indentation_and_line_ends_are_the_neighbours(void)
{
    assert_edit("<domain>\r\n\t<memory>4096</memory>\r\n</domain>", &add_pages,
                "<domain>\r\n\t<memory>4096</memory>\r\n\t<memoryBacking>\r\n\t\t<hugepages>\r\n"
                "\t\t\t" PAGE "\r\n\t\t</hugepages>\r\n\t</memoryBacking>\r\n</domain>");
    assert_edit("<domain><memory>4096</memory></domain>", &add_pages,
                "<domain><memory>4096</memory><memoryBacking><hugepages>" PAGE
                "</hugepages></memoryBacking></domain>");
    assert_edit("<domain>\n<memory>4096</memory>\n</domain>", &share,
                "<domain>\n<memory>4096</memory>\n<memoryBacking>\n  <access mode='shared'/>\n"
                "</memoryBacking>\n</domain>");
    assert_edit("    <domain>\n        <memory>4096</memory>\n    </domain>", &share,
                "    <domain>\n        <memory>4096</memory>\n        <memoryBacking>\n"
                "            <access mode='shared'/>\n        </memoryBacking>\n    </domain>");
}

static void an_empty_memory_backing_is_opened(void)
{
    assert_edit("<domain>\n  <memoryBacking />\n  <memory>4096</memory>\n</domain>", &add_pages,
                "<domain>\n  <memoryBacking >\n    <hugepages>\n      " PAGE
                "\n    </hugepages>\n  </memoryBacking>\n  <memory>4096</memory>\n</domain>");
    assert_edit("<domain><memory>4096</memory>\n <memoryBacking></memoryBacking></domain>", &share,
                "<domain><memory>4096</memory>\n <memoryBacking>\n   <access mode='shared'/>\n "
                "</memoryBacking></domain>");
}

static void a_filled_memory_backing_keeps_its_children(void)
{
    assert_edit("<domain>\n  <memory>4096</memory>\n  <memoryBacking a='>'>\n"
                "      <nosharepages/><!-- mine -->\n  </memoryBacking>\n</domain>",
                &add_pages,
                "<domain>\n  <memory>4096</memory>\n  <memoryBacking a='>'>\n"
                "      <hugepages>\n        " PAGE "\n      </hugepages>\n"
                "      <nosharepages/><!-- mine -->\n  </memoryBacking>\n</domain>");
}

static void bare_hugepages_get_the_size(void)
{
    assert_edit("<domain><memory>4096</memory><memoryBacking><hugepages/></memoryBacking></domain>",
                &add_pages,
                "<domain><memory>4096</memory><memoryBacking><hugepages>" PAGE
                "</hugepages></memoryBacking></domain>");
    assert_edit("<domain>\n  <memory>4096</memory>\n  <memoryBacking>\n    <hugepages>\n"
                "      <!-- default -->\n    </hugepages>\n  </memoryBacking>\n</domain>",
                &add_pages,
                "<domain>\n  <memory>4096</memory>\n  <memoryBacking>\n    <hugepages>\n      " PAGE
                "\n      <!-- default -->\n    </hugepages>\n  </memoryBacking>\n</domain>");
}

static void other_page_sizes_are_a_conflict(void)
{
    assert_edit_refused("<domain><memory>4096</memory><memoryBacking><hugepages>"
                        "<page size='1' unit='G'/></hugepages></memoryBacking></domain>",
                        &add_pages, HV_ERROR_CONFLICT);
}

static void cells_are_shared_in_their_own_style(void)
{
#define CELLS(a, b, c, d)                                                                          \
    "<domain><cpu><numa><cell id='0' memory='1024'" a "<cell\n id=\"1\"\tmemory=\"1024\"" b        \
    "<cell memAccess " c                                                                           \
    " memory='1024' x='memAccess=\"private\"'/><cell id='3' memory = '1024'" d                     \
    "</numa></cpu><metadata><cell memory='1'/></metadata></domain>"
    assert_edit(CELLS("/>", " ><distances/></cell>", "= 'private'", "\r\n/>"), &share,
                CELLS(" memAccess='shared'/>", " memAccess=\"shared\" ><distances/></cell>",
                      "= 'shared'", " memAccess='shared'\r\n/>"));
}

static void a_shared_guest_is_left_alone(void)
{
    static const char *const xmls[] = {
        "<domain><cpu><numa><cell memory='1' memAccess='shared'/></numa></cpu></domain>",
        "<domain><memoryBacking><access mode='shared'/></memoryBacking>"
        "<cpu><numa><cell memory='1'/></numa></cpu></domain>",
        "<domain><memory>1</memory><memoryBacking><access mode=\"shared\"/></memoryBacking>"
        "</domain>",
    };
    for (guint i = 0; i < G_N_ELEMENTS(xmls); i++)
        assert_edit(xmls[i], &share, xmls[i]);
}

static void memfd_is_told_to_share_in_words(void)
{
    assert_edit("<domain><memory>1</memory><memoryBacking><source type='memfd'/></memoryBacking>"
                "</domain>",
                &share,
                "<domain><memory>1</memory><memoryBacking><access mode='shared'/>"
                "<source type='memfd'/></memoryBacking></domain>");
}

static void an_access_element_is_changed_in_place(void)
{
#define ACCESS(access)                                                                             \
    "<domain><memory>1</memory><memoryBacking>" access "</memoryBacking></domain>"
    assert_edit(ACCESS("<access mode = \"private\" />"), &share,
                ACCESS("<access mode = \"shared\" />"));
    assert_edit(ACCESS("<access mode='&#112;rivate'></access>"), &share,
                ACCESS("<access mode='shared'></access>"));
    assert_edit(ACCESS("<access/>"), &share, ACCESS("<access mode='shared'/>"));
}

static void a_uuid_comes_behind_the_name(void)
{
    assert_edit("<domain>\n  <memory>1</memory>\n  <name>vm</name>\n</domain>", &add_uuid,
                "<domain>\n  <memory>1</memory>\n  <name>vm</name>\n  <uuid>" UUID
                "</uuid>\n</domain>");
    assert_edit("<domain>\n  <memory>1</memory>\n</domain>", &add_uuid,
                "<domain>\n  <uuid>" UUID "</uuid>\n  <memory>1</memory>\n</domain>");
    assert_edit("<domain><uuid/><memory>1</memory></domain>", &add_uuid,
                "<domain><uuid>" UUID "</uuid><memory>1</memory></domain>");
    assert_edit("<domain><uuid> </uuid><memory>1</memory></domain>", &add_uuid,
                "<domain><uuid>" UUID "</uuid><memory>1</memory></domain>");
}

static void an_insertion_may_touch_a_replacement(void)
{
    assert_edit("<domain><memory>1</memory><uuid/></domain>", &all,
                "<domain><memory>1</memory><memoryBacking><hugepages>" PAGE
                "</hugepages><access mode='shared'/></memoryBacking><uuid>" UUID
                "</uuid></domain>");
}

static void a_guest_of_cells_needs_no_memory_element(void)
{
    assert_edit("<domain>\n  <cpu><numa><cell memory='4096'/></numa></cpu>\n</domain>", &all,
                "<domain>\n  <uuid>" UUID "</uuid>\n  <memoryBacking>\n    <hugepages>\n      " PAGE
                "\n    </hugepages>\n  </memoryBacking>\n"
                "  <cpu><numa><cell memory='4096' memAccess='shared'/></numa></cpu>\n</domain>");
}

static void relative_namespace_names_are_no_obstacle(void)
{
    assert_edit("<domain><memory>1</memory><metadata><a:b xmlns:a='app'/></metadata></domain>",
                &add_uuid,
                "<domain><uuid>" UUID "</uuid><memory>1</memory><metadata><a:b xmlns:a='app'/>"
                "</metadata></domain>");
}

static void a_bad_or_other_uuid_is_the_callers_error(void)
{
    static const HvDomainEdit bad = {.add_uuid = "<uuid>"};
    assert_edit_refused("<domain><memory>1</memory></domain>", &bad, HV_ERROR_INVALID);
    assert_edit_refused("<domain><uuid>00000000-0000-0000-0000-000000000001</uuid>"
                        "<memory>1</memory></domain>",
                        &add_uuid, HV_ERROR_INVALID);
}

/* Facts of one text with the bytes of another: the splices land where they do not belong. */
static void assert_other_text_refused(const char *xml, const char *other, const HvDomainEdit *edit)
{
    g_autoptr(HvDomain) domain = hv_domain_parse(xml, strlen(xml), NULL);
    g_autoptr(GError) error = NULL;
    gsize bytes;
    g_autofree char *result = hv_domain_edit(domain, other, strlen(other), edit, &bytes, &error);
    g_assert_null(result);
    g_assert_nonnull(error);
    g_assert_true(error->domain == HV_ERROR);
}

static void facts_of_another_text_are_refused(void)
{
    const char *xml = "<domain>     <memory>1</memory><!--   --></domain>";
    const char *const others[] = {
        "",
        "<domain/>",
        "<domain><!--   <memory>1</memory>        --></domain>",
        "<domain><!--   <memory>1</memory>        --><memory>1</memory></domain>",
        "<domain><![CDATA[                        ]]><memory>1</memory></domain>",
        "<domain><name>a very very long name      </name><memory>1</memory></domain>",
    };
    for (guint i = 0; i < G_N_ELEMENTS(others); i++)
        assert_other_text_refused(xml, others[i], &all);
}

static void an_edit_that_loses_something_is_given_up(void)
{
    assert_other_text_refused("<domain><uuid/><memory>1</memory></domain>",
                              "<domain><acpi/><memory>1</memory></domain>", &add_uuid);
}

static void an_edit_that_does_half_is_given_up(void)
{
    assert_other_text_refused(
        "<domain><cpu><numa><cell memory='1'/></numa></cpu></domain>",
        "<domain><cpu><numa><cell memory='1'/><cell memory='1'/></numa></cpu></domain>", &share);
}

static gboolean is_equal_but_for(const HvDomainEdit *edit, const char *a, const char *b)
{
    g_autofree char *a_xml = g_strconcat("<domain>", a, "</domain>", NULL);
    g_autofree char *b_xml = g_strconcat("<domain>", b, "</domain>", NULL);
    g_autoptr(HvDom) a_dom = hv_dom_parse(a_xml, strlen(a_xml), NULL);
    g_autoptr(HvDom) b_dom = hv_dom_parse(b_xml, strlen(b_xml), NULL);
    return hv_domain_equal_but_for(edit, a_dom, b_dom);
}

static void a_difference_elsewhere_is_noticed(void)
{
    static const struct {
        const char *original;
        const char *edited;
    } cases[] = {
        {"<a/>", ""},
        {"", "<a/>"},
        {"<a/><b/>", "<b/><a/>"},
        {"<a b='1'/>", "<a b='2'/>"},
        {"<a b='1'/>", "<a/>"},
        {"<a/>", "<a memAccess='shared'/>"},
        {"<a>1</a>", "<a>2</a>"},
        {"<a>1</a>", "<a> 1</a>"},
        {"<a>1</a>", "<a><![CDATA[1]]></a>"},
        {"text", ""},
        {"<!--1-->", "<!--2-->"},
        {"<?p 1?>", "<?p 2?>"},
        {"<?p 1?>", "<?q 1?>"},
        {"<x:a xmlns:x='u'/>", "<x:a xmlns:x='v'/>"},
        {"<x:a xmlns:x='u'/>", "<y:a xmlns:y='u'/>"},
        {"<a xmlns:x='u'/>", "<a/>"},
        {"<a xmlns:x='u' x:b='1'/>", "<a xmlns:x='u' b='1'/>"},
        {"<metadata/>", "<metadata><uuid/></metadata>"},
        {"<memoryBacking/>", "<memoryBacking><locked/></memoryBacking>"},
        {"<memoryBacking/>", "<memoryBacking a='1'/>"},
        {"<memoryBacking/>", "<memoryBacking><hugepages a='1'/></memoryBacking>"},
        {"<memoryBacking/>", "<memoryBacking><hugepages><!-- --></hugepages></memoryBacking>"},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++)
        if (is_equal_but_for(&all, cases[i].original, cases[i].edited))
            g_error("\"%s\" equals \"%s\"", cases[i].original, cases[i].edited);
}

static void what_an_edit_may_add_is_no_difference(void)
{
#define BACKING                                                                                    \
    "<memoryBacking><hugepages>" PAGE "</hugepages><access mode='shared'/></memoryBacking>"
    static const HvDomainEdit none = {0};
    g_assert_true(is_equal_but_for(&all, "<a/>text", "<uuid/>\n" BACKING "<a/> text"));
    g_assert_true(is_equal_but_for(&all, "<memoryBacking>\n</memoryBacking>", BACKING));
    g_assert_false(is_equal_but_for(&none, "", BACKING));
    g_assert_false(is_equal_but_for(&none, "", "<uuid/>"));
    g_assert_false(is_equal_but_for(&add_uuid, "", BACKING));
    g_assert_false(is_equal_but_for(&add_pages, "", BACKING));
    g_assert_false(is_equal_but_for(&share, "", BACKING));
}

static void a_text_that_would_grow_too_large_is_refused(void)
{
    const char *head = "<domain><memory>1</memory>", *tail = "</domain>";
    g_autofree char *blanks =
        g_strnfill(HV_DOMAIN_XML_MAX_BYTES - strlen(head) - strlen(tail), ' ');
    g_autofree char *xml = g_strconcat(head, blanks, tail, NULL);
    assert_edit_refused(xml, &share, HV_ERROR_XML);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD(nothing_to_change_gives_the_same_bytes);
    ADD(a_missing_memory_backing_comes_behind_memory);
    ADD(indentation_and_line_ends_are_the_neighbours);
    ADD(an_empty_memory_backing_is_opened);
    ADD(a_filled_memory_backing_keeps_its_children);
    ADD(bare_hugepages_get_the_size);
    ADD(other_page_sizes_are_a_conflict);
    ADD(cells_are_shared_in_their_own_style);
    ADD(a_shared_guest_is_left_alone);
    ADD(memfd_is_told_to_share_in_words);
    ADD(an_access_element_is_changed_in_place);
    ADD(a_uuid_comes_behind_the_name);
    ADD(an_insertion_may_touch_a_replacement);
    ADD(a_guest_of_cells_needs_no_memory_element);
    ADD(relative_namespace_names_are_no_obstacle);
    ADD(a_bad_or_other_uuid_is_the_callers_error);
    ADD(facts_of_another_text_are_refused);
    ADD(an_edit_that_loses_something_is_given_up);
    ADD(an_edit_that_does_half_is_given_up);
    ADD(a_difference_elsewhere_is_noticed);
    ADD(what_an_edit_may_add_is_no_difference);
    ADD(a_text_that_would_grow_too_large_is_refused);
    return g_test_run();
}
