/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Documents made at random, as odd as XML permits, for the promise that what is
 * not ours survives an edit. A random document is a list of chunks: fixed ones,
 * which must come out byte for byte and in order, and between them the few
 * places an edit may touch, each with the short list of texts that may stand
 * there afterwards. As an oracle of its own, libxml2's canonical form of both
 * texts without our elements is compared as well.
 */
#include "domain-edit-fixture.h"

#include <libxml/c14n.h>
#include <libxml/parser.h>
#include <libxml/xpath.h>

typedef struct {
    GString *text;
    gboolean is_fixed;
} Chunk;

typedef struct {
    GArray *chunks; /* fixed and editable in turn; fixed ones are never empty */
    GString *xml;
    const char *eol;
    const char *unit;
    gboolean has_cells;
} Maker;

static int pick(int n)
{
    return g_test_rand_int_range(0, n);
}

static void clear_chunk(gpointer data)
{
    g_string_free(((Chunk *)data)->text, TRUE);
}

static void put(Maker *maker, gboolean is_fixed, const char *text)
{
    Chunk *last = maker->chunks->len > 0
                      ? &g_array_index(maker->chunks, Chunk, maker->chunks->len - 1)
                      : NULL;
    g_string_append(maker->xml, text);
    if (last != NULL && last->is_fixed && is_fixed) {
        g_string_append(last->text, text);
        return;
    }
    Chunk chunk = {g_string_new(text), is_fixed};
    g_array_append_val(maker->chunks, chunk);
}

static void fixed(Maker *maker, const char *text)
{
    if (text[0] != '\0')
        put(maker, TRUE, text);
}

/* A place that an edit may touch, and what stands there now. */
static void editable(Maker *maker, const char *text)
{
    put(maker, FALSE, text);
}

static void line(Maker *maker, int depth)
{
    fixed(maker, maker->eol);
    for (int i = 0; i < depth && maker->eol[0] != '\0'; i++)
        fixed(maker, maker->unit);
}

static const char *blanks(gboolean at_least_one)
{
    static const char *const some[] = {" ", "\n", "\t", "\r\n  ", "  "};
    return !at_least_one && pick(2) == 0 ? "" : some[pick(G_N_ELEMENTS(some))];
}

static void noise(Maker *maker)
{
    static const char *const some[] = {
        "<!-- <memory>9</memory><memoryBacking/> \xe2\x82\xac & > -->",
        "<![CDATA[<memoryBacking><hugepages/>]] & ]]>",
        "<?app <cell memory='1'/> > ?>",
        "&amp;&#10;&#x20AC;&lt;memory&gt;",
        "\xc3\xa9\xf0\x9f\x90\xa7 plain",
        "<on_crash a=\"it's > /&gt; &#10;\" b='\"'>x</on_crash >",
        "<m:memory xmlns:m=\"urn:m\"><m:cell memAccess='private'/></m:memory>",
        "<os xmlns='urn:os'><memoryBacking/></os>",
        "<metadata2><memory>7</memory><uuid>none</uuid></metadata2>",
        "<empty/><empty ></empty\t>",
    };
    for (int n = pick(3); n > 0; n--) {
        line(maker, 1);
        fixed(maker, some[pick(G_N_ELEMENTS(some))]);
    }
}

static void quoted_attribute(Maker *maker, const char *name, const char *value,
                             gboolean is_editable)
{
    const char *quote = pick(2) == 0 ? "'" : "\"";
    fixed(maker, blanks(TRUE));
    fixed(maker, name);
    fixed(maker, blanks(FALSE));
    fixed(maker, "=");
    fixed(maker, blanks(FALSE));
    fixed(maker, quote);
    if (is_editable)
        editable(maker, value);
    else
        fixed(maker, value);
    fixed(maker, quote);
}

static void make_hugepages(Maker *maker)
{
    int kind = pick(5);
    if (kind == 0)
        return;
    line(maker, 2);
    fixed(maker, "<hugepages");
    fixed(maker, blanks(FALSE));
    if (kind == 1) {
        editable(maker, "/>");
        return;
    }
    fixed(maker, ">");
    editable(maker, "");
    if (kind == 2)
        fixed(maker, "<!-- <page size='1'/> -->");
    if (kind == 3)
        fixed(maker, "<page unit=\"MiB\" size='2'/>");
    fixed(maker, "</hugepages");
    fixed(maker, blanks(FALSE));
    fixed(maker, ">");
}

static void make_access(Maker *maker)
{
    static const char *const modes[] = {"private", "shared", "&#112;rivate", "&#x73;hared"};
    int kind = pick(3);
    if (kind == 0)
        return;
    line(maker, 2);
    fixed(maker, "<access");
    if (kind == 1)
        quoted_attribute(maker, "mode", modes[pick(G_N_ELEMENTS(modes))], TRUE);
    else
        editable(maker, "");
    fixed(maker, blanks(FALSE));
    fixed(maker, pick(2) == 0 ? "/>" : "></access>");
}

static void make_backing(Maker *maker)
{
    int kind = pick(3);
    line(maker, 1);
    fixed(maker, "<memoryBacking");
    fixed(maker, blanks(FALSE));
    if (kind == 0) {
        editable(maker, "/>");
        return;
    }
    fixed(maker, ">");
    editable(maker, "");
    if (kind == 1) {
        noise(maker);
        if (pick(2) == 0)
            fixed(maker, "<nosharepages/>");
        make_hugepages(maker);
        make_access(maker);
        noise(maker);
    }
    fixed(maker, blanks(FALSE));
    fixed(maker, "</memoryBacking>");
}

static void make_cell(Maker *maker)
{
    line(maker, 3);
    fixed(maker, "<cell");
    int shared = pick(4);
    if (shared == 1)
        quoted_attribute(maker, "memAccess", "private", TRUE);
    quoted_attribute(maker, "cpus", "0 > 1 /&gt;", FALSE);
    quoted_attribute(maker, "memory", "1048576", FALSE);
    if (shared == 2)
        quoted_attribute(maker, "memAccess", "shared", TRUE);
    editable(maker, "");
    fixed(maker, blanks(FALSE));
    fixed(maker, pick(2) == 0 ? "/>" : "><distances><sibling id='0'/></distances></cell >");
}

static void make_cells(Maker *maker)
{
    int n = pick(4);
    line(maker, 1);
    fixed(maker, "<cpu mode='>'><numa>");
    for (int i = 0; i < n; i++)
        make_cell(maker);
    fixed(maker, "</numa></cpu>");
    maker->has_cells = n > 0;
}

static void make_name(Maker *maker)
{
    line(maker, 1);
    fixed(maker, "<name>v&amp;m \xc3\xa9</name>");
    editable(maker, "");
}

static void make_uuid(Maker *maker)
{
    static const char *const uuids[] = {"<uuid/>", "<uuid></uuid>", "<uuid>\n</uuid>",
                                        "<uuid>" UUID "</uuid>", "<uuid>" UUID "\n</uuid>"};
    line(maker, 1);
    editable(maker, uuids[pick(G_N_ELEMENTS(uuids))]);
    editable(maker, "");
}

static void make_memory(Maker *maker)
{
    line(maker, 1);
    fixed(maker, "<memory unit='KiB'\n>4194304</memory >");
    editable(maker, "");
}

static void make_domain(Maker *maker)
{
    static const char *const befores[] = {
        "", "\xef\xbb\xbf", "<?xml version='1.0' encoding='utf-8'?>\r\n", "<!-- <domain> -->\n",
        "\xef\xbb\xbf<?xml version=\"1.0\"?><?pi?>"};
    void (*parts[])(Maker *) = {make_cells, make_name, make_uuid, make_backing, make_memory};
    fixed(maker, befores[pick(G_N_ELEMENTS(befores))]);
    fixed(maker, pick(2) == 0 ? "<domain type='kvm'>" : "<domain\txmlns:q=\"urn:q\" q:a='/>'\n>");
    editable(maker, "");
    for (int i = G_N_ELEMENTS(parts) - 1; i >= 0; i--) {
        int other = pick(i + 1);
        void (*part)(Maker *) = parts[other];
        parts[other] = parts[i];
        noise(maker);
        /* What is cut away here is missing from the document, but <memory> or cells. */
        if (part == make_memory || part == make_cells || pick(4) != 0)
            part(maker);
    }
    noise(maker);
    fixed(maker, blanks(FALSE));
    fixed(maker, "</domain>");
    fixed(maker, blanks(FALSE));
}

static Maker *maker_new(void)
{
    static const char *const eols[] = {"\n", "\n", "\r\n", ""};
    static const char *const units[] = {"  ", "\t", "", "    "};
    Maker *maker = g_new0(Maker, 1);
    maker->chunks = g_array_new(FALSE, FALSE, sizeof(Chunk));
    g_array_set_clear_func(maker->chunks, clear_chunk);
    maker->xml = g_string_new(NULL);
    maker->eol = eols[pick(G_N_ELEMENTS(eols))];
    maker->unit = units[pick(G_N_ELEMENTS(units))];
    return maker;
}

static void maker_free(Maker *maker)
{
    g_array_unref(maker->chunks);
    g_string_free(maker->xml, TRUE);
    g_free(maker);
}

/* What may stand in an editable place: what stood there, or our own elements and attribute. */
static void append_allowed(GString *pattern, const char *stood_there)
{
#define P "\\s*<page size='2048' unit='KiB'/>"
#define H "\\s*<hugepages>" P "\\s*</hugepages>"
#define A "\\s*<access mode='shared'/>"
#define U "\\s*<uuid>" UUID "</uuid>"
#define B "\\s*<memoryBacking>(" H ")?(" A ")?\\s*</memoryBacking>"
    static const char ours[] = "|shared|(" U ")?(" B ")?|(" H ")?(" A ")?\\s*|" P "\\s*"
                               "|>((" H ")?(" A ")?|" P ")\\s*</(memoryBacking|hugepages)>"
                               "| (memAccess|mode)=(\"shared\"|'shared')";
    g_autofree char *escaped = g_regex_escape_string(stood_there, -1);
    g_string_append_printf(pattern, "(%s%s)", escaped, ours);
}

/* A fixed chunk of blanks may also be found in what was inserted: then look further. */
static gboolean chunks_survive_from(const GArray *chunks, guint first, const char *at)
{
    GString *pattern = g_string_new("^");
    guint i = first;
    for (; i < chunks->len && !g_array_index(chunks, Chunk, i).is_fixed; i++)
        append_allowed(pattern, g_array_index(chunks, Chunk, i).text->str);
    g_string_append_c(pattern, '$');
    gboolean is_found = i == chunks->len && at[0] == '\0';
    const GString *next = i < chunks->len ? g_array_index(chunks, Chunk, i).text : NULL;
    for (const char *found = at; next != NULL && !is_found; found++) {
        found = strstr(found, next->str);
        if (found == NULL)
            break;
        g_autofree char *gap = g_strndup(at, (gsize)(found - at));
        is_found = g_regex_match_simple(pattern->str, gap, G_REGEX_DOLLAR_ENDONLY, 0) &&
                   chunks_survive_from(chunks, i + 1, found + next->len);
    }
    g_string_free(pattern, TRUE);
    return is_found;
}

static void assert_chunks_survive(const Maker *maker, const char *result)
{
    if (!chunks_survive_from(maker->chunks, 0, result))
        g_error("\"%s\" became \"%s\"", maker->xml->str, result);
}

static void strip_nodes(xmlXPathContext *context, const char *path)
{
    xmlXPathObject *found = xmlXPathEvalExpression((const xmlChar *)path, context);
    int n = xmlXPathNodeSetGetLength(found->nodesetval);
    for (int i = n - 1; i >= 0; i--) {
        xmlNode *node = found->nodesetval->nodeTab[i];
        found->nodesetval->nodeTab[i] = NULL;
        if (node->type == XML_ATTRIBUTE_NODE) {
            xmlRemoveProp((xmlAttr *)node);
        } else {
            xmlUnlinkNode(node);
            xmlFreeNode(node);
        }
    }
    xmlXPathFreeObject(found);
}

/* Canonical form without blanks and without anything an edit could have added. */
static char *canonical(const char *xml)
{
    static const char *const ours[] = {
        "/domain/uuid",
        "/domain/cpu/numa/cell/@memAccess",
        "/domain/memoryBacking/access/@mode",
        "/domain/memoryBacking/hugepages/page",
        "/domain/memoryBacking/access[not(node())]",
        "/domain/memoryBacking/hugepages[not(*|comment()|processing-instruction())]",
        "/domain/memoryBacking[not(*|comment()|processing-instruction()) and normalize-space()='']",
    };
    xmlDoc *doc = xmlReadMemory(xml, (int)strlen(xml), NULL, NULL, 0);
    g_assert_nonnull(doc);
    xmlXPathContext *context = xmlXPathNewContext(doc);
    for (guint i = 0; i < G_N_ELEMENTS(ours); i++)
        strip_nodes(context, ours[i]);
    xmlXPathFreeContext(context);
    xmlChar *text = NULL;
    g_assert_cmpint(xmlC14NDocDumpMemory(doc, NULL, XML_C14N_1_0, NULL, 1, &text), >=, 0);
    GString *out = g_string_new(NULL);
    for (const xmlChar *p = text; *p != '\0'; p++)
        if (!g_ascii_isspace((char)*p))
            g_string_append_c(out, (char)*p);
    xmlFree(text);
    xmlFreeDoc(doc);
    return g_string_free(out, FALSE);
}

static void assert_says(const char *result, const HvDomainEdit *wish)
{
    g_autoptr(HvDomain) domain = hv_domain_parse(result, strlen(result), NULL);
    g_assert_nonnull(domain);
    if (wish->add_uuid != NULL)
        g_assert_cmpstr(domain->uuid, ==, UUID);
    if (wish->add_hugepages_kib != 0)
        g_assert_cmpuint(domain->page_kib, ==, wish->add_hugepages_kib);
    for (guint i = 0; wish->make_shared && i < domain->cells->len; i++)
        g_assert_true(g_array_index(domain->cells, HvCell, i).is_shared);
}

static void one_random_document(void)
{
    Maker *maker = maker_new();
    HvDomainEdit wish = {.add_uuid = pick(2) == 0 ? UUID : NULL,
                         .add_hugepages_kib = pick(2) == 0 ? 2048 : 0,
                         .make_shared = pick(2) == 0};
    g_autoptr(GError) error = NULL;
    make_domain(maker);
    g_autofree char *result = edit_text(maker->xml->str, &wish, &error);
    if (error != NULL)
        g_error("%s\n%s", error->message, maker->xml->str);
    assert_says(result, &wish);
    assert_chunks_survive(maker, result);
    g_autofree char *before = canonical(maker->xml->str);
    g_autofree char *after = canonical(result);
    g_assert_cmpstr(before, ==, after);
    g_autofree char *again = edit_text(result, &wish, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(again, ==, result);
    maker_free(maker);
}

static void random_documents_keep_what_is_not_ours(void)
{
    int n = g_test_thorough() ? 50000 : 3000;
    for (int i = 0; i < n; i++)
        one_random_document();
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD(random_documents_keep_what_is_not_ours);
    return g_test_run();
}
