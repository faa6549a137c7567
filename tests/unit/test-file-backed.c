/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A host whose VMs have their memory in files: what a VM takes, what is refused, what its XML says.
 */
#include "request-fixture.h"

#include "audit-private.h"
#include "domain-edit.h"
#include "planner.h"

#define UUID "<uuid>c7a5fdbd-edaf-9455-926a-d65c16db1809</uuid>"
#define DIRECTORY "/srv/ram"
#define CAPACITY_KIB ((guint64)8 * GIB)
#define BACKING(children) "<memoryBacking>" children "</memoryBacking>"
#define DIMM(attributes, source)                                                                   \
    "<devices><memory model='dimm'" attributes ">" source                                          \
    "<target><size unit='KiB'>524289</size><node>0</node></target></memory></devices>"

#undef ADD
#define ADD(test) g_test_add_func("/file-backed/" #test, test)

static Case *case_of_files(void)
{
    Case *c = case_new();
    HvMemoryDir *dir = g_new0(HvMemoryDir, 1);
    dir->path = g_strdup(DIRECTORY);
    dir->real_path = g_strdup(DIRECTORY);
    dir->mount_point = g_strdup("/srv");
    dir->size_kib = 2 * CAPACITY_KIB;
    dir->free_kib = 2 * CAPACITY_KIB;
    c->snapshot->memory_dir = dir;
    c->snapshot->versions = (HvVersions){HV_VERSION(9, 0, 0), HV_VERSION(7, 2, 0)};
    c->settings->file_backed_kib = CAPACITY_KIB;
    return c;
}

/* ---- what it takes */

static void a_vm_takes_its_memory_as_libvirt_aligns_it(void)
{
    static const struct {
        const char *body;
        guint64 kib;
    } cases[] = {
        {"<memory>1048577</memory>", 1048576 + 1024},
        {CELLS("<cell id='0' cpus='0' memory='1000'/><cell id='1' cpus='1' memory='2048'/>"),
         1024 + 2048},
        {CELLS("<cell id='0' cpus='0' memory='1024'/>") DIMM("", ""), 1024 + 512 * 1024 + 2048},
        {CELLS("<cell id='0' cpus='0' memory='1024'/>") "<devices><memory "
                                                        "model='nvdimm'><source><path>/x</path></"
                                                        "source><target>"
                                                        "<size>4096</size><node>0</node></target></"
                                                        "memory></devices>",
         1024},
        /* its file is as large as it may become */
        {CELLS("<cell id='0' cpus='0' memory='1024'/>") "<devices><memory "
                                                        "model='virtio-mem'><target><size>8192</"
                                                        "size><node>0</node><block>"
                                                        "2048</block><requested>2048</requested></"
                                                        "target></memory></devices>",
         1024 + 8192},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(Case) c = case_of_files();
        request(c, cases[i].body);
        assert_fine(c);
        g_assert_cmpuint(c->request->needs->len, ==, 0);
        g_assert_cmpuint(c->request->file_kib, ==, cases[i].kib);
        g_assert_cmpstr(c->request->file_dir, ==, DIRECTORY);
        g_assert_true(c->request->shared);
    }
}

static void ppc64_aligns_by_256_mib(void)
{
    g_autoptr(Case) c = case_of_files();
    g_free(c->snapshot->arch);
    c->snapshot->arch = g_strdup("ppc64le");
    request(c, MIB(300));
    g_assert_cmpuint(c->request->file_kib, ==, 512 * 1024);
}

static void without_the_setting_nothing_is_taken(void)
{
    g_autoptr(Case) c = case_of_files();
    c->settings->file_backed_kib = 0;
    request(c, MIB(300));
    g_assert_cmpuint(c->request->file_kib, ==, 0);
    g_assert_false(c->request->edit.back_by_files);
}

static void whoever_takes_any_pages_gets_files(void)
{
    g_autoptr(Case) c = case_of_files();
    set_property(c, "hugepages", "any");
    request(c, MIB(300));
    assert_fine(c);
    g_assert_cmpuint(c->request->needs->len, ==, 0);
    g_assert_cmpuint(c->request->file_kib, ==, 300 * 1024);
}

static void a_device_that_shares_is_content(void)
{
    g_autoptr(Case) c = case_of_files();
    c->settings->shared_memory_auto = FALSE;
    request(c, MIB(300) SHARER);
    assert_fine(c);
    assert_silent(c);
}

static void the_root_file_system_is_warned_of(void)
{
    g_autoptr(Case) c = case_of_files();
    g_free(c->snapshot->memory_dir->mount_point);
    c->snapshot->memory_dir->mount_point = g_strdup("/");
    request(c, MIB(300));
    assert_fine(c);
    assert_warns(c, "no file system is mounted for the memory files of VMs in " DIRECTORY);
}

/* ---- agreements */

static void what_does_not_go_with_files_is_refused(void)
{
    static const struct {
        const char *body;
        const char *says;
    } cases[] = {
        {MIB(64) HUGE_2M, "VM 'vm' asks for huge pages, but this host keeps"},
        {MIB(64) HUGE(""), "VM 'vm' asks for huge pages, but this host keeps"},
        {CELLS("<cell id='0' cpus='0' memory='2048'/>")
             DIMM("", "<source><pagesize unit='KiB'>2048</pagesize></source>"),
         "memory device 0 asks for huge pages, but this host keeps"},
        {MIB(64) BACKING("<source type='anonymous'/>"), "says <source type='anonymous'/>, but"},
        {MIB(64) BACKING("<source type='memfd'/>"), "says <source type='memfd'/>, but"},
        {MIB(64) BACKING("<source type='file'/><allocation mode='ondemand'/>"),
         "VM 'vm' asks for memory that is allocated on demand, but"},
        {MIB(64) BACKING("<access mode='private'/>"), "says <access mode='private'/>, but"},
        {BACKING("<access mode='shared'/>")
             CELLS("<cell id='0' cpus='0' memory='2048'/>"
                   "<cell id='3' cpus='1' memory='2048' memAccess='private'/>"),
         "says memAccess='private' of guest cell 3, but"},
        {CELLS("<cell id='0' cpus='0' memory='2048'/>") DIMM(" access='private'", ""),
         "says access='private' of memory device 0, but"},
        {MIB(64) "<launchSecurity type='sev'/>", "VM 'vm' is an encrypted guest, but"},
        {MIB(64) "<launchSecurity type='tdx'/>", "VM 'vm' is an encrypted guest, but"},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(Case) c = case_of_files();
        request(c, cases[i].body);
        assert_refused(c, HV_ERROR_CONFLICT, cases[i].says);
        g_assert_nonnull(c->request->refusal->hint);
    }
}

static void huge_pages_by_property_are_refused(void)
{
    g_autoptr(Case) c = case_of_files();
    set_property(c, "hugepages", "2048");
    request(c, MIB(64));
    assert_refused(c, HV_ERROR_CONFLICT, "VM 'vm' asks for huge pages, but this host keeps");
    g_assert_cmpuint(c->request->file_kib, ==, 0);
}

static void a_wish_for_private_memory_is_refused(void)
{
    g_autoptr(Case) c = case_of_files();
    set_property(c, "hugepages_shared", "false");
    request(c, MIB(64));
    assert_refused(c, HV_ERROR_CONFLICT, "hugepages_shared of VM 'vm' is false, but");
}

static void what_files_do_not_go_with_is_fine_elsewhere(void)
{
    g_autoptr(Case) c = case_of_files();
    c->settings->file_backed_kib = 0;
    request(
        c,
        MIB(64) BACKING(
            "<source type='memfd'/><allocation mode='ondemand'/>") "<launchSecurity type='sev'/>");
    assert_fine(c);
}

/* ---- versions */

static void old_versions_are_refused(void)
{
    g_autoptr(Case) c = case_of_files();
    c->snapshot->versions.libvirt = HV_VERSION(3, 9, 12);
    request(c, MIB(64));
    assert_refused(c, HV_ERROR_CONFLICT, "which libvirt 3.9.12 does not do");
    c->snapshot->versions = (HvVersions){HV_VERSION(4, 0, 0), HV_VERSION(2, 5, 1)};
    request(c, MIB(64));
    assert_refused(c, HV_ERROR_CONFLICT, "which QEMU 2.5.1 does not do");
    c->snapshot->versions.qemu = HV_VERSION(2, 6, 0);
    request(c, MIB(64));
    assert_fine(c);
}

static gboolean discards(HvVersions versions)
{
    g_autoptr(Case) c = case_of_files();
    c->snapshot->versions = versions;
    request(c, MIB(64));
    assert_fine(c);
    if (!c->request->edit.add_discard)
        assert_warns(c, "<discard/> is not added");
    else
        assert_silent(c);
    return c->request->edit.add_discard;
}

static void discard_takes_versions_that_are_known_and_new_enough(void)
{
    const guint libvirt = HV_VERSION(4, 4, 0), qemu = HV_VERSION(2, 10, 0);
    g_assert_true(discards((HvVersions){libvirt, qemu}));
    g_assert_false(discards((HvVersions){libvirt - 1, qemu}));
    g_assert_false(discards((HvVersions){libvirt, qemu - 1}));
    g_assert_false(discards((HvVersions){0, qemu}));
    g_assert_false(discards((HvVersions){libvirt, 0}));
    g_assert_false(discards((HvVersions){0, 0}));
}

/* ---- the XML */

#define BEFORE "<domain>\n  <memory>65536</memory>\n"
#define AFTER "  <vcpu>1</vcpu>\n</domain>\n"
#define FLAT(children) "<domain><memory>1024</memory>" BACKING(children) "</domain>"
#define ALL                                                                                        \
    "  <memoryBacking>\n    <source type='file'/>\n    <access mode='shared'/>\n"                  \
    "    <allocation mode='immediate'/>\n    <discard/>\n  </memoryBacking>\n"

static char *edit(const char *xml, gboolean add_discard)
{
    g_autoptr(GError) error = NULL;
    const HvDomainEdit edit = {.back_by_files = TRUE, .add_discard = add_discard};
    g_autoptr(HvDomain) domain = hv_domain_parse(xml, strlen(xml), &error);
    gsize bytes;
    g_assert_no_error(error);
    char *edited = hv_domain_edit(domain, xml, strlen(xml), &edit, &bytes, &error);
    g_assert_no_error(error);
    return edited;
}

static void the_xml_says_all_of_it_once(void)
{
    static const struct {
        const char *before, *after;
        gboolean add_discard;
    } cases[] = {
        {BEFORE AFTER, BEFORE ALL AFTER, TRUE},
        {BEFORE ALL AFTER, BEFORE ALL AFTER, TRUE},
        {BEFORE ALL AFTER, BEFORE ALL AFTER, FALSE},
        {BEFORE AFTER,
         BEFORE "  <memoryBacking>\n    <source type='file'/>\n    <access mode='shared'/>\n"
                "    <allocation mode='immediate'/>\n  </memoryBacking>\n" AFTER,
         FALSE},
        {FLAT("<nosharepages/>"),
         FLAT("<source type='file'/><access mode='shared'/><allocation mode='immediate'/>"
              "<discard/><nosharepages/>"),
         TRUE},
        {FLAT("<allocation threads='4'/><access/>"),
         FLAT("<source type='file'/><allocation threads='4' mode='immediate'/>"
              "<access mode='shared'/>"),
         FALSE},
        /* cells follow the whole guest's access */
        {"<domain><memoryBacking/><cpu><numa><cell id='0' memory='1024'/></numa></cpu></domain>",
         "<domain><memoryBacking><source type='file'/><access mode='shared'/>"
         "<allocation mode='immediate'/></memoryBacking>"
         "<cpu><numa><cell id='0' memory='1024'/></numa></cpu></domain>",
         FALSE},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *after = edit(cases[i].before, cases[i].add_discard);
        g_assert_cmpstr(after, ==, cases[i].after);
        g_autofree char *again = edit(after, cases[i].add_discard);
        g_assert_cmpstr(again, ==, after);
    }
}

/* ---- room */

typedef struct {
    Case *host;
    HvLedger *ledger;
} World;

static World world_new(void)
{
    return (World){case_of_files(), hv_ledger_new()};
}

static void world_clear(World *world)
{
    case_free(world->host);
    hv_ledger_free(world->ledger);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(World, world_clear)

static void claim(World *world, const char *name, guint64 gib, HvClaimState state)
{
    g_autoptr(GArray) none = g_array_new(FALSE, TRUE, sizeof(HvNeed));
    g_autofree char *uuid = g_uuid_string_random();
    HvRequest wish = {.uuid = uuid,
                      .name = (char *)name,
                      .needs = none,
                      .file_kib = gib * GIB,
                      .file_dir = (char *)DIRECTORY};
    HvProcess owner = {4711, 815};
    hv_ledger_add_claim(world->ledger, &wish, "agent", &owner)->state = state;
}

/* What a VM of 2 GiB is told; "" for yes. */
static char *plan(const World *world)
{
    request(world->host, UUID MIB(2048));
    assert_fine(world->host);
    HvWorld view = {world->host->snapshot, world->host->settings, world->ledger,
                    world->host->request->uuid};
    g_autoptr(HvPlan) plan = hv_plan_new(&view, world->host->request);
    g_assert_cmpuint(plan->steps->len, ==, 0);
    if (plan->refusal == NULL)
        return g_strdup("");
    g_assert_nonnull(plan->refusal->hint);
    return g_strdup_printf("%s: %s", hv_error_code_name(plan->refusal->code),
                           plan->refusal->message);
}

static void the_last_that_fits_is_allowed_and_no_more(void)
{
    g_auto(World) world = world_new();
    claim(&world, "db", 5, HV_CLAIM_RUNNING);
    claim(&world, "web", 1, HV_CLAIM_DRAINING);
    g_autofree char *fits = plan(&world);
    g_assert_cmpstr(fits, ==, "");
    claim(&world, "mail", 1, HV_CLAIM_RUNNING);
    g_autofree char *said = plan(&world);
    g_assert_cmpstr(said, ==,
                    "shortage: VM 'vm' wants 2 GiB in files of /srv/ram: 1 GiB available "
                    "(file_backed_memory is 8 GiB, 7 GiB claimed; VMs: 'db' (5 GiB), 'web' (1 "
                    "GiB), 'mail' (1 GiB))");
}

static void a_vm_does_not_stand_in_its_own_way(void)
{
    g_auto(World) world = world_new();
    claim(&world, "vm", 7, HV_CLAIM_CLAIMED);
    HvClaim *own = g_ptr_array_index(world.ledger->claims, 0);
    g_free(own->uuid);
    own->uuid = g_strdup("c7a5fdbd-edaf-9455-926a-d65c16db1809");
    g_autofree char *said = plan(&world);
    g_assert_cmpstr(said, ==, "");
}

static void what_is_not_allocated_yet_counts_against_the_file_system(void)
{
    g_auto(World) world = world_new();
    world.host->snapshot->memory_dir->free_kib = (guint64)3 * GIB;
    claim(&world, "db", 4, HV_CLAIM_RUNNING);
    g_autofree char *fits = plan(&world);
    g_assert_cmpstr(fits, ==, "");
    claim(&world, "web", 2, HV_CLAIM_LAUNCHING);
    g_autofree char *said = plan(&world);
    g_assert_cmpstr(said, ==,
                    "shortage: VM 'vm' wants 2 GiB in files of /srv/ram, whose file system of 16 "
                    "GiB is too full: 3 GiB free, of which VMs that are starting want 2 GiB");
}

static void what_a_vm_has_allocated_does_not_count_twice(void)
{
    g_auto(World) world = world_new();
    world.host->snapshot->memory_dir->free_kib = (guint64)3 * GIB;
    claim(&world, "web", 4, HV_CLAIM_LAUNCHING);
    HvClaim *web = g_ptr_array_index(world.ledger->claims, 0);
    web->allocated_kib = (guint64)3 * GIB;
    g_autofree char *fits = plan(&world);
    g_assert_cmpstr(fits, ==, "");
    web->allocated_kib -= 4;
    g_autofree char *said = plan(&world);
    g_assert_true(g_str_has_suffix(said, "3 GiB free, of which VMs that are starting want 1048580 "
                                         "KiB"));
    web->allocated_kib = (guint64)5 * GIB; /* a file system may allocate more than it was asked */
    g_autofree char *all = plan(&world);
    g_assert_cmpstr(all, ==, "");
}

static void a_directory_that_will_not_do_is_named(void)
{
    g_auto(World) world = world_new();
    HvMemoryDir *dir = world.host->snapshot->memory_dir;
    dir->size_kib = (guint64)6 * GIB;
    g_autofree char *small = plan(&world);
    g_assert_cmpstr(small, ==,
                    "conflict: file_backed_memory is 8 GiB, but the file system of /srv/ram has 6 "
                    "GiB only");
    dir->state = HV_MEMORY_DIR_MISSING;
    g_autofree char *missing = plan(&world);
    g_assert_cmpstr(missing, ==,
                    "conflict: the memory of VMs is to be in files (file_backed_memory), but their "
                    "directory /srv/ram does not exist");
    dir->state = HV_MEMORY_DIR_IS_OTHER;
    g_autofree char *other = plan(&world);
    g_assert_true(g_str_has_suffix(other, "their directory /srv/ram is no directory"));
    dir->state = HV_MEMORY_DIR_READ_ONLY;
    g_autofree char *read_only = plan(&world);
    g_assert_true(g_str_has_suffix(read_only, "their directory /srv/ram is mounted read-only"));
}

static void an_audit_says_what_a_claim_has(void)
{
    g_auto(World) world = world_new();
    claim(&world, "web", 4, HV_CLAIM_LAUNCHING);
    g_autofree char *said = hv_audit_describe_claim(g_ptr_array_index(world.ledger->claims, 0));
    g_assert_true(g_str_has_suffix(said, " 'web' (launching, 4 GiB in files)"));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD(a_vm_takes_its_memory_as_libvirt_aligns_it);
    ADD(ppc64_aligns_by_256_mib);
    ADD(without_the_setting_nothing_is_taken);
    ADD(whoever_takes_any_pages_gets_files);
    ADD(a_device_that_shares_is_content);
    ADD(the_root_file_system_is_warned_of);
    ADD(what_does_not_go_with_files_is_refused);
    ADD(huge_pages_by_property_are_refused);
    ADD(a_wish_for_private_memory_is_refused);
    ADD(what_files_do_not_go_with_is_fine_elsewhere);
    ADD(old_versions_are_refused);
    ADD(discard_takes_versions_that_are_known_and_new_enough);
    ADD(the_xml_says_all_of_it_once);
    ADD(the_last_that_fits_is_allowed_and_no_more);
    ADD(a_vm_does_not_stand_in_its_own_way);
    ADD(what_is_not_allocated_yet_counts_against_the_file_system);
    ADD(what_a_vm_has_allocated_does_not_count_twice);
    ADD(a_directory_that_will_not_do_is_named);
    ADD(an_audit_says_what_a_claim_has);
    return g_test_run();
}
