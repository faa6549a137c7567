/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* hugevm's metadata element, written by its exact text, in whatever a domain XML may hold. */
#include "domain-metadata.h"

#include "error.h"

#include <string.h>

#define NS "urn:hugevm:vm:1"
#define REST "<memory>4096</memory>"

static char *edit_text(const char *xml, const HvMetadataEdit *edit, GError **error)
{
    g_auto(HvDoc) doc = {0};
    gsize bytes = 0;
    if (!hv_doc_parse(xml, strlen(xml), &doc, error))
        return NULL;
    char *result = hv_metadata_edit(&doc, edit, &bytes, error);
    if (result != NULL)
        g_assert_cmpuint(bytes, ==, strlen(result));
    return result;
}

static void assert_edit(const char *xml, const HvMetadataEdit *edit, const char *expected)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *result = edit_text(xml, edit, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(result, ==, expected);
}

/* Content of <metadata> before and after. */
static void assert_metadata(const char *before, const HvMetadataEdit *edit, const char *after)
{
    g_autofree char *xml =
        g_strdup_printf("<domain><metadata>%s</metadata>" REST "</domain>", before);
    g_autofree char *expected =
        g_strdup_printf("<domain><metadata>%s</metadata>" REST "</domain>", after);
    assert_edit(xml, edit, expected);
}

static const HvMetadataEdit both = {.hugepages = "2048", .shared = "true"};
static const HvMetadataEdit size = {.hugepages = "1G"};
static const HvMetadataEdit none = {.hugepages = "", .shared = ""};

static void a_new_element_has_lines_of_its_own(void)
{
    assert_edit("<domain>\n  <name>vm</name>\n  <memory>4096</memory>\n</domain>\n", &both,
                "<domain>\n  <name>vm</name>\n  <metadata>\n"
                "    <hugevm:vm xmlns:hugevm=\"" NS "\">\n"
                "      <hugevm:hugepages>2048</hugevm:hugepages>\n"
                "      <hugevm:shared>true</hugevm:shared>\n"
                "    </hugevm:vm>\n  </metadata>\n  <memory>4096</memory>\n</domain>\n");
}

static void an_empty_metadata_is_filled(void)
{
    const char *expected = "<domain>\n <metadata>\n  <hugevm:vm xmlns:hugevm=\"" NS "\">\n"
                           "   <hugevm:hugepages>1G</hugevm:hugepages>\n"
                           "  </hugevm:vm>\n </metadata>\n " REST "\n</domain>";
    assert_edit("<domain>\n <metadata/>\n " REST "\n</domain>", &size, expected);
    assert_edit("<domain>\n <metadata></metadata>\n " REST "\n</domain>", &size, expected);
    assert_edit("<domain>\n <metadata>\n </metadata>\n " REST "\n</domain>", &size, expected);
}

static void other_metadata_stays_byte_by_byte(void)
{
#define OTHER                                                                                      \
    "<!-- <hugevm:vm xmlns:hugevm='" NS "'><hugevm:hugepages>4</hugevm:hugepages></hugevm:vm> -->" \
    "<a:b  xmlns:a = 'urn:a' c=\"&quot;\">\xc3\xa9 &amp; \xe6\x97\xa5"                             \
    "<![CDATA[</metadata><h:vm xmlns:h='" NS "'/>]]></a:b ><?pi x?>"
    assert_metadata(OTHER, &size,
                    OTHER "<hugevm:vm xmlns:hugevm=\"" NS
                          "\"><hugevm:hugepages>1G</hugevm:hugepages></hugevm:vm>");
    g_autofree char *with_own =
        g_strdup(OTHER "<hugevm:vm xmlns:hugevm=\"" NS "\"><hugevm:hugepages>1G</hugevm:hugepages>"
                       "<hugevm:shared>true</hugevm:shared></hugevm:vm>" OTHER);
    assert_metadata(with_own, &none, OTHER OTHER);
#undef OTHER
}

static void the_namespace_counts_and_no_prefix(void)
{
    assert_metadata("<z:vm xmlns:z='" NS "'><z:hugepages>2048</z:hugepages></z:vm>", &both,
                    "<z:vm xmlns:z='" NS "'><z:hugepages>2048</z:hugepages>"
                    "<z:shared>true</z:shared></z:vm>");
    assert_metadata("<vm xmlns='" NS "'><hugepages>2048</hugepages></vm>", &size,
                    "<vm xmlns='" NS "'><hugepages>1G</hugepages></vm>");
    assert_metadata("<vm xmlns='" NS "'/>", &size,
                    "<vm xmlns='" NS "'><hugepages>1G</hugepages></vm>");
    assert_metadata("<hugevm:vm xmlns:hugevm='urn:x'><hugevm:hugepages>7</hugevm:hugepages>"
                    "</hugevm:vm>",
                    &size,
                    "<hugevm:vm xmlns:hugevm='urn:x'><hugevm:hugepages>7</hugevm:hugepages>"
                    "</hugevm:vm><hugevm:vm xmlns:hugevm=\"" NS
                    "\"><hugevm:hugepages>1G</hugevm:hugepages></hugevm:vm>");
    assert_metadata("<a:x xmlns:a='urn:a'><h:vm xmlns:h='" NS "'><h:hugepages>7</h:hugepages>"
                    "</h:vm></a:x>",
                    &none,
                    "<a:x xmlns:a='urn:a'><h:vm xmlns:h='" NS "'><h:hugepages>7</h:hugepages>"
                    "</h:vm></a:x>");
}

static void a_value_is_replaced_in_its_authors_tags(void)
{
    assert_metadata("<h:vm xmlns:h='" NS "'>\n<h:hugepages  a='b'> <![CDATA[2048]]> </h:hugepages >"
                    "<!-- why --><h:hugepages_shared/></h:vm>",
                    &(HvMetadataEdit){.hugepages = "1G", .shared = "false"},
                    "<h:vm xmlns:h='" NS "'>\n<h:hugepages  a='b'>1G</h:hugepages ><!-- why -->"
                    "\n<h:hugepages_shared>false</h:hugepages_shared></h:vm>");
}

/* The first counts; what is behind it was never heard. */
static void of_several_values_one_is_left(void)
{
    assert_metadata("<h:vm xmlns:h='" NS "'><h:hugepages>1</h:hugepages><h:shared>true</h:shared>"
                    "<h:hugepages>2</h:hugepages><h:hugepages_shared>false</h:hugepages_shared>"
                    "</h:vm>",
                    &both,
                    "<h:vm xmlns:h='" NS "'><h:hugepages>2048</h:hugepages>"
                    "<h:shared>true</h:shared></h:vm>");
}

static void nothing_asked_changes_no_byte(void)
{
    const char *own =
        "<h:vm  xmlns:h='" NS "' ><h:hugepages> 1 </h:hugepages><h:hugepages/></h:vm>";
    assert_metadata(own, &(HvMetadataEdit){0}, own);
    assert_metadata("", &none, "");
    assert_metadata("<h:vm xmlns:h='" NS "'><h:hugepages> 1G </h:hugepages></h:vm>", &size,
                    "<h:vm xmlns:h='" NS "'><h:hugepages> 1G </h:hugepages></h:vm>");
}

static void an_element_that_says_nothing_goes(void)
{
    assert_edit("<domain>\n  <metadata>\n    <h:vm xmlns:h='" NS "'>\n"
                "      <h:hugepages>1</h:hugepages>\n    </h:vm>\n  </metadata>\n  " REST
                "\n</domain>",
                &none, "<domain>\n  " REST "\n</domain>");
    assert_metadata("<h:vm xmlns:h='" NS "'><h:hugepages>1</h:hugepages><h:mine>x</h:mine></h:vm>",
                    &none, "<h:vm xmlns:h='" NS "'><h:mine>x</h:mine></h:vm>");
}

static void two_elements_of_ours_are_refused(void)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *result = edit_text("<domain><metadata><h:vm xmlns:h='" NS
                                        "'/><g:vm xmlns:g='" NS "'/></metadata>" REST "</domain>",
                                        &size, &error);
    g_assert_null(result);
    g_assert_error(error, HV_ERROR, HV_ERROR_XML);
    g_assert_nonnull(strstr(error->message, "twice"));
}

static void a_value_cannot_leave_its_element(void)
{
    assert_metadata("", &(HvMetadataEdit){.hugepages = "</x>&<!--"},
                    "<hugevm:vm xmlns:hugevm=\"" NS "\"><hugevm:hugepages>&lt;/x&gt;&amp;&lt;!--"
                    "</hugevm:hugepages></hugevm:vm>");
}

/* ---- what was added */

#define BACKING(inside) "<memoryBacking>" inside "</memoryBacking>"
#define CELLS(first, second)                                                                       \
    "<cpu><numa><cell id='0' cpus='0' memory='2048'" first "/>"                                    \
    "<cell id='1' cpus='1' memory='2048'" second "/></numa></cpu>"

static char *noted(const char *note, const char *body)
{
    return g_strdup_printf("<domain><metadata><h:vm xmlns:h='" NS
                           "'><h:added %s/></h:vm></metadata>"
                           "%s" REST "</domain>",
                           note, body);
}

static void assert_taken_out(const char *note, const char *body, const char *left)
{
    g_autofree char *xml = noted(note, body);
    g_autofree char *expected = g_strdup_printf("<domain>%s" REST "</domain>", left);
    assert_edit(xml, &(HvMetadataEdit){.takes_out = TRUE}, expected);
}

static void what_was_added_goes(void)
{
    assert_taken_out("pages='2048'", BACKING("<hugepages><page size='2' unit='M'/></hugepages>"),
                     "");
    assert_taken_out("pages='2048' shared='access'",
                     BACKING("<hugepages><page size='2048'/></hugepages><access mode='shared'/>"
                             "<locked/>"),
                     BACKING("<locked/>"));
    assert_taken_out("pages='1048576:0 2048:1'",
                     BACKING("<hugepages><page size='1' unit='G' nodeset='0'/>"
                             "<page size='2048' unit='KiB' nodeset='1'/></hugepages><locked/>")
                         CELLS("", ""),
                     BACKING("<locked/>") CELLS("", ""));
    assert_taken_out("shared='1'", CELLS(" memAccess='shared'", " memAccess=\"shared\" a='b'"),
                     CELLS(" memAccess='shared'", " a='b'"));
    assert_taken_out("numatune='strict 1'",
                     "<numatune><memory mode='strict' nodeset='1'/></numatune>", "");
}

static void what_is_other_than_it_was_added_stays(void)
{
    static const struct {
        const char *note;
        const char *body;
    } cases[] = {
        {"pages='2048'", BACKING("<hugepages><page size='1' unit='G'/></hugepages>")},
        {"pages='2048'", BACKING("<hugepages/>")},
        {"pages='2048'",
         BACKING("<hugepages><page size='2048' nodeset='0'/></hugepages>") CELLS("", "")},
        {"pages='2048:0'", BACKING("<hugepages><page size='2048'/></hugepages>")},
        {"shared='access'", BACKING("<access mode='private'/>")},
        {"shared='0'", BACKING("<access mode='shared'/>")},
        {"shared='../..'", CELLS(" memAccess='shared'", "")},
        {"shared='7'", CELLS(" memAccess='shared'", "")},
        {"shared='0'", CELLS(" memAccess='private'", "")},
        {"numatune='strict 1'", "<numatune><memory mode='strict' nodeset='0'/></numatune>"},
        {"numatune='strict 1'", "<numatune><memory mode='strict' nodeset='1'/><memnode cellid='0' "
                                "mode='strict' nodeset='1'/></numatune>" CELLS("", "")},
        {"numatune=''", "<numatune><memory placement='auto'/></numatune>"},
        {"pages=''", BACKING("<hugepages/>")},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++)
        assert_taken_out(cases[i].note, cases[i].body, cases[i].body);
}

static void the_size_of_all_pages_gives_way_that_of_cells_does_not(void)
{
    static const HvMetadataEdit replace = {
        .hugepages = "1G", .takes_out = TRUE, .replaces_pages = TRUE};
#define OWN                                                                                        \
    "<metadata><hugevm:vm xmlns:hugevm=\"" NS "\"><hugevm:hugepages>1G</hugevm:hugepages>"         \
    "</hugevm:vm></metadata>"
#define BY_CELL BACKING("<hugepages><page size='2048' nodeset='0'/></hugepages>") CELLS("", "") REST
    assert_edit("<domain>" BACKING("<hugepages><page size='2048'/></hugepages>") REST "</domain>",
                &replace, "<domain>" OWN REST "</domain>");
    assert_edit("<domain>" BACKING("<hugepages/><nosharepages/>") REST "</domain>", &replace,
                "<domain>" OWN BACKING("<nosharepages/>") REST "</domain>");
    assert_edit("<domain>" BY_CELL "</domain>", &replace, "<domain>" OWN BY_CELL "</domain>");
#undef OWN
#undef BY_CELL
}

/* Whatever an edit adds is what the next one takes out. */
static void what_is_noted_is_what_goes(void)
{
    static const char *const bodies[][2] = {
        {"", BACKING("<hugepages><page size='2048'/></hugepages><access mode='shared'/>")},
        {BACKING("<access mode='shared'/>"),
         BACKING("<hugepages><page size='2048'/></hugepages><access mode='shared'/>")},
        {CELLS("", " memAccess='shared'"),
         BACKING("<hugepages><page size='1' unit='G'/></hugepages>")
             CELLS(" memAccess='shared'", " memAccess='shared'")},
        {"", "<numatune><memory mode='preferred' nodeset='0'/></numatune>"},
    };
    for (guint i = 0; i < G_N_ELEMENTS(bodies); i++) {
        g_auto(HvDoc) before = {0}, after = {0};
        gsize bytes = 0;
        g_autofree char *plain = g_strconcat("<domain>", bodies[i][0], REST "</domain>", NULL);
        g_autofree char *edited = g_strconcat("<domain>", bodies[i][1], REST "</domain>", NULL);
        g_assert_true(hv_doc_parse(plain, strlen(plain), &before, NULL));
        g_assert_true(hv_doc_parse(edited, strlen(edited), &after, NULL));
        g_auto(HvAdded) added = hv_added_between(&before, &after);
        g_autofree char *noted_text =
            hv_metadata_edit(&after, &(HvMetadataEdit){.added = &added}, &bytes, NULL);
        g_assert_nonnull(noted_text);
        assert_edit(noted_text, &(HvMetadataEdit){.takes_out = TRUE}, plain);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(test) g_test_add_func("/domain-metadata/" #test, test)
    ADD(a_new_element_has_lines_of_its_own);
    ADD(an_empty_metadata_is_filled);
    ADD(other_metadata_stays_byte_by_byte);
    ADD(the_namespace_counts_and_no_prefix);
    ADD(a_value_is_replaced_in_its_authors_tags);
    ADD(of_several_values_one_is_left);
    ADD(nothing_asked_changes_no_byte);
    ADD(an_element_that_says_nothing_goes);
    ADD(two_elements_of_ours_are_refused);
    ADD(a_value_cannot_leave_its_element);
    ADD(what_was_added_goes);
    ADD(what_is_other_than_it_was_added_stays);
    ADD(the_size_of_all_pages_gives_way_that_of_cells_does_not);
    ADD(what_is_noted_is_what_goes);
#undef ADD
    return g_test_run();
}
