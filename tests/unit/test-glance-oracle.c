/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The glance against the module's own judgement: no VM that has to do with huge
 * pages may be taken for one that has not, or it would start without a claim.
 * Documents are put together from parts, each of which may matter or only look so.
 */
#include "glance.h"
#include "request.h"

#include <string.h>

#define N_DOCUMENTS 4000u

static const char *const backings[] = {
    "",
    "<memoryBacking/>",
    "<memoryBacking><hugepages/></memoryBacking>",
    "<memoryBacking><hugepages><page size='2048'/></hugepages></memoryBacking>",
    "<memoryBacking>\n<!-- x --><hugepages ><page size='1' unit='G' nodeset='0'/></hugepages>\n"
    "<access mode='shared'/></memoryBacking>",
    "<memoryBacking><hugepages><page size='4'/></hugepages></memoryBacking>",
    "<memoryBacking><!-- <hugepages/> --></memoryBacking>",
    "<memoryBacking><![CDATA[<hugepages/>]]></memoryBacking>",
    "<x:memoryBacking xmlns:x='urn:x'><hugepages/></x:memoryBacking>",
};
static const char *const values[] = {
    "2048",
    "0",
    "",
    "\n2M\t",
    "000",
    "01",
    "<![CDATA[1G]]>",
    "0<!-- -->2048",
    "<b>2048</b>",
    "<b/>2048",
    "<b><c><![CDATA[2]]></c>M</b>",
    "&#50;&#x4d;",
    "<?x 2048?>",
    "0<hugepages>1</hugepages>",
    "0 ",
};
/* %1$s stands for the value */
static const char *const metadata[] = {
    "",
    "<metadata/>",
    "<metadata><h:vm xmlns:h='urn:hugevm:vm:1'><h:hugepages>%s</h:hugepages></h:vm></metadata>",
    "<metadata><vm xmlns='urn:hugevm:vm:1'><x/><hugepages a='>'>%s</hugepages></vm></metadata>",
    "<metadata><o:vm xmlns:o='http://ovirt.org/vm/1.0'><o:custom><o:hugepages>%s</o:hugepages>"
    "</o:custom></o:vm></metadata>",
    "<metadata><a xmlns='urn:x'/><o:vm xmlns:o='http://ovirt.org/vm/1.0'><o:custom>\n"
    "<p:hugepages xmlns:p='http://ovirt.org/vm/1.0'>%s</p:hugepages></o:custom></o:vm></metadata>",
    "<metadata><x:vm xmlns:x='urn:x'><x:hugepages>%s</x:hugepages></x:vm></metadata>",
};
static const char *const devices[] = {
    "",
    "<devices/>",
    "<devices><memory model='dimm'><source><pagesize>2048</pagesize></source>"
    "<target><size>1024</size></target></memory></devices>",
    "<devices><memory model='virtio-mem'><source><nodemask>0</nodemask>\n<pagesize unit='G'>1"
    "</pagesize></source><target><size>1024</size><requested>0</requested></target></memory>"
    "</devices>",
    "<devices><memory model='dimm'><target><size>1024</size></target></memory></devices>",
    "<devices><disk><source><pagesize>2048</pagesize></source></disk></devices>",
};
static const char *const texts[] = {
    "<name>vm</name>",
    "<name>hugepages</name>",
    "<description><![CDATA[<pagesize>]]></description>",
    "<title>a\xe2\x82\xac&amp;&#10;b</title>",
};
static const char *const heads[] = {
    "",
    "<?xml version='1.0' encoding='UTF-8'?>\r\n",
    "<!-- <domain> -->\n",
    "\xef\xbb\xbf",
};

#define PICK(rand, list) (list)[g_rand_int_range(rand, 0, G_N_ELEMENTS(list))]

static char *with_value(const char *template, const char *value)
{
    g_auto(GStrv) parts = g_strsplit(template, "%s", 2);
    return g_strjoinv(value, parts);
}

static char *compose(GRand *rand)
{
    g_autofree char *property = with_value(PICK(rand, metadata), PICK(rand, values));
    const char *const parts[] = {PICK(rand, texts), PICK(rand, backings), property,
                                 PICK(rand, devices), "<memory>1048576</memory>"};
    g_autoptr(GString) xml = g_string_new(PICK(rand, heads));
    guint first = (guint)g_rand_int_range(rand, 0, G_N_ELEMENTS(parts));
    g_string_append(xml, "<domain type='kvm'>");
    for (guint i = 0; i < G_N_ELEMENTS(parts); i++)
        g_string_append(xml, parts[(first + i) % G_N_ELEMENTS(parts)]);
    g_string_append(xml, "</domain>\n");
    return g_string_free(g_steal_pointer(&xml), FALSE);
}

/* -1: the module refuses the text, so a glance may say what it likes. */
static int module_says(const char *xml, gsize n)
{
    g_autoptr(HvDomain) domain = hv_domain_parse(xml, n, NULL);
    g_autoptr(HvProperties) properties =
        domain != NULL ? hv_properties_read(NULL, domain, NULL) : NULL;
    return properties != NULL ? hv_request_wants_hugepages(domain, properties, 4) : -1;
}

static int check(const char *xml, gsize n)
{
    int wants = module_says(xml, n);
    Glance glance;
    glance_at_domain(xml, n, &glance);
    if (wants == TRUE && (!glance.wants_hugepages || !glance_may_want_hugepages(xml, n)))
        g_error("not seen to want huge pages:\n%s", xml);
    return wants;
}

static void test_no_vm_with_huge_pages_is_overlooked(void)
{
    guint count[2] = {0}, n_refused = 0;
    GRand *rand = g_rand_new_with_seed(1);
    for (guint i = 0; i < N_DOCUMENTS; i++) {
        g_autofree char *xml = compose(rand);
        int wants = check(xml, strlen(xml));
        if (wants < 0)
            n_refused++;
        else
            count[wants]++;
    }
    g_rand_free(rand);
    g_test_message("%u want, %u do not, %u refused", count[TRUE], count[FALSE], n_refused);
    g_assert_cmpuint(count[TRUE], >, N_DOCUMENTS / 4); /* the parts are what they should be */
    g_assert_cmpuint(count[FALSE], >, N_DOCUMENTS / 8);
    g_assert_cmpuint(n_refused, <, N_DOCUMENTS / 4);
}

/* The corpus of the fuzzer, as it stands there. */
static void test_none_of_the_corpus_is_overlooked(void)
{
    g_autofree char *path =
        g_test_build_filename(G_TEST_DIST, "..", "fuzz", "corpus", "domain-xml", NULL);
    g_autoptr(GDir) directory = g_dir_open(path, 0, NULL);
    guint n_wanting = 0;
    g_assert_nonnull(directory);
    for (const char *name; (name = g_dir_read_name(directory)) != NULL;) {
        g_autofree char *file = g_build_filename(path, name, NULL);
        g_autofree char *xml = NULL;
        gsize n = 0;
        g_assert_true(g_file_get_contents(file, &xml, &n, NULL));
        n_wanting += check(xml, n) == TRUE;
    }
    g_assert_cmpuint(n_wanting, >=, 4); /* bare, cells, devices, metadata */
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/glance-oracle/no-vm-with-huge-pages-is-overlooked",
                    test_no_vm_with_huge_pages_is_overlooked);
    g_test_add_func("/glance-oracle/none-of-the-corpus-is-overlooked",
                    test_none_of_the_corpus_is_overlooked);
    return g_test_run();
}
