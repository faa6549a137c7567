/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Domain XML as a text: identity, metadata, what is refused, and positions of elements. */
#include "domain-fixture.h"

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

int main(int argc, char **argv)
{
    domain_test_init(&argc, &argv);
    ADD(uuids_are_read_as_libvirt_does);
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
    return g_test_run();
}
