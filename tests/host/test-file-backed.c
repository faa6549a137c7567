/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The life of VMs whose memory is in files: no pool is touched, and the ledger is right. */
#include "vm-fixture.h"

#include "error.h"
#include "file-backed.h"
#include "memory-dir.h"
#include "report.h"

#include <fcntl.h>

#define FILES_DIR "/srv/ram"
#define OTHER_SETTINGS "file /etc/hugevm/hugevm.conf [hugevm]\\nenabled = true\\n"
#define FILES                                                                                      \
    "file /etc/hugevm/hugevm.conf [hugevm]\\nfile_backed_memory = 10\\nmemory_backing_dir = "      \
    "" FILES_DIR "\\n"
#define FILE_OF_VM FILES_DIR "/libvirt/qemu/1-vm/pc.ram"
#define ADAPT "incoming_page_sizes = adapt\\n"
#define PLACE "\nfile " FILES_DIR "/lost+found \n"
#define IN_FILES                                                                                   \
    "<memoryBacking><source type='file'/><access mode='shared'/><allocation mode='immediate'/>"    \
    "</memoryBacking>"

static void files_host_init(Host *host, const char *conf)
{
    g_autofree char *spec = g_strconcat(TWO_NODES, conf, PLACE, NULL);
    fake_init(spec);
    host->agent = new_agent(1000);
}

static char *xml_of(const char *uuid, guint mib, const char *more)
{
    return g_strdup_printf("<domain type='kvm'><name>vm</name><uuid>%s</uuid>"
                           "<memory unit='MiB'>%u</memory>%s</domain>",
                           uuid, mib, more);
}

typedef enum { PLAIN = 0, INCOMING = 1, RESTORED = 2, NO_EDIT = 4 } How;

static HvOutcome *start_vm(const Host *host, const char *xml, How how, GError **error)
{
    HvVm vm = {.xml = xml,
               .xml_bytes = strlen(xml),
               .cannot_edit = (how & NO_EDIT) != 0,
               .versions = {HV_VERSION(9, 0, 0), HV_VERSION(7, 2, 0)}};
    return how & INCOMING   ? hv_lifecycle_claim_incoming(host->agent, &vm, error)
           : how & RESTORED ? hv_lifecycle_claim_restored(host->agent, &vm, error)
                            : hv_lifecycle_claim(host->agent, &vm, error);
}

static guint64 claim_files(const Host *host, const char *uuid, guint mib)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *xml = xml_of(uuid, mib, "");
    g_autoptr(HvOutcome) outcome = start_vm(host, xml, PLAIN, &error);
    g_assert_no_error(error);
    g_assert_true(outcome->xml_changed);
    g_assert_nonnull(strstr(outcome->xml, "<source type='file'/>"));
    return outcome->generation;
}

static void assert_start_fails(const Host *host, const char *xml, How how, HvErrorCode code,
                               const char *said)
{
    g_autoptr(GError) error = NULL;
    g_assert_null(start_vm(host, xml, how, &error));
    g_assert_error(error, HV_ERROR, (gint)code);
    g_test_message("%s", error->message);
    g_assert_nonnull(strstr(error->message, said));
}

static void allocate_file(guint mib)
{
    g_autofree char *path = g_strconcat(fake.directory, FILE_OF_VM, NULL);
    tree_printf(fake.directory, FILE_OF_VM, "%s", "");
    g_auto(HvFd) fd = open(path, O_WRONLY | O_CLOEXEC);
    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(posix_fallocate(fd, 0, (off_t)mib << 20), ==, 0);
}

/* A QEMU that maps files of so many MiB, of which it has allocated some. What it has in memory is
 * another matter: the kernel writes back, and takes the page. */
static void set_qemu_in_files(gint64 pid, const char *uuid, guint mib, guint allocated_mib)
{
    g_autofree char *maps = g_strdup_printf("/proc/%" G_GINT64_FORMAT "/maps", pid);
    g_autofree char *status = g_strdup_printf("/proc/%" G_GINT64_FORMAT "/status", pid);
    set_qemu(pid, uuid);
    tree_printf(fake.directory, status,
                "Name:\tqemu\nUid:\t107\t107\nRssFile:\t4 kB\nRssShmem:\t0 kB\n"
                "HugetlbPages:\t0 kB\n");
    allocate_file(allocated_mib);
    guint64 end = 0x7f0000000000 + ((guint64)mib << 20);
    tree_printf(fake.directory, maps,
                "7e0000000000-7e0000200000 r--p 00000000 08:01 11 /usr/bin/qemu\n"
                "7f0000000000-%" G_GINT64_MODIFIER "x rw-s 00000000 08:02 42 " FILE_OF_VM "\n",
                end);
}

static guint64 claimed_mib(const char *uuid)
{
    g_autoptr(HvLedger) ledger = read_ledger();
    const HvClaim *claim = hv_ledger_claim(ledger, uuid);
    return claim != NULL ? claim->file_kib / 1024 : 0;
}

static guint n_claims(void)
{
    g_autoptr(HvLedger) ledger = read_ledger();
    return ledger->claims->len;
}

static void a_life_ends_where_it_began(void)
{
    g_auto(Host) host = {0};
    files_host_init(&host, FILES);
    guint64 generation = claim_files(&host, UUID_A, 6);
    g_assert_cmpuint(claimed_mib(UUID_A), ==, 6);
    g_assert_true(tell(hv_lifecycle_launching, host.agent, UUID_A, generation, 0));
    set_qemu_in_files(2000, UUID_A, 6, 6);
    g_assert_true(tell(hv_lifecycle_started, host.agent, UUID_A, generation, 0));
    g_assert_cmpint(state_of(UUID_A), ==, HV_CLAIM_RUNNING);
    end_process(2000);
    g_assert_true(tell(hv_lifecycle_gone, host.agent, UUID_A, generation, 0));
    g_assert_cmpuint(n_claims(), ==, 0);
    g_assert_cmpuint(fake.n_writes, ==, 0);
    assert_untouched();
}

/* As libvirt reads its file: of several values it takes the first. */
static void the_directory_is_libvirts(void)
{
    static const struct {
        const char *conf, *directory;
    } cases[] = {
        {"memory_backing_dir = \"" FILES_DIR "\"\\nmemory_backing_dir = \"/srv\"\\n", FILES_DIR},
        {"# memory_backing_dir = \"/srv\"\\n  memory_backing_dir='" FILES_DIR "' # ours\\n",
         FILES_DIR},
        {"memory_backing_dir = \"\"\"" FILES_DIR "\"\"\"\\n", FILES_DIR},
        {"memory_backing_dirs = \"/srv\"\\n", HV_MEMORY_DIR_DEFAULT},
        {"memory_backing_dir = 5\\n", HV_MEMORY_DIR_DEFAULT},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_auto(Host) host = {0};
        g_autofree char *conf =
            g_strconcat("file /etc/hugevm/hugevm.conf [hugevm]\\nfile_backed_memory = 1024\\n\n"
                        "file " HV_MEMORY_DIR_DEFAULT "/lost+found \nfile /etc/libvirt/qemu.conf ",
                        cases[i].conf, NULL);
        files_host_init(&host, conf);
        claim_files(&host, UUID_A, 6);
        g_autoptr(HvLedger) ledger = read_ledger();
        g_assert_cmpstr(hv_ledger_claim(ledger, UUID_A)->file_dir, ==, cases[i].directory);
    }
}

static void there_is_no_overcommit(void)
{
    g_auto(Host) host = {0};
    files_host_init(&host, FILES);
    claim_files(&host, UUID_A, 6);
    g_autofree char *xml = xml_of(UUID_B, 5, "");
    assert_start_fails(&host, xml, PLAIN, HV_ERROR_SHORTAGE,
                       "VM 'vm' wants 5 MiB in files of " FILES_DIR ": 4 MiB available");
    claim_files(&host, UUID_B, 4);
    claim_files(&host, UUID_B, 3); /* again: its own first claim does not count */
    g_assert_cmpuint(claimed_mib(UUID_B), ==, 3);
}

static void whoever_dies_leaves_no_claim(void)
{
    g_auto(Host) host = {0};
    files_host_init(&host, FILES);
    claim_files(&host, UUID_A, 6);
    set_qemu_in_files(2000, UUID_A, 6, 6);
    end_process(1000); /* the agent, without a word */
    g_assert_true(hv_lifecycle_recover(host.agent, NULL, NULL));
    g_assert_cmpint(state_of(UUID_A), ==, HV_CLAIM_RUNNING); /* its QEMU was seen */
    end_process(2000);
    g_assert_true(hv_lifecycle_recover(host.agent, NULL, NULL));
    g_assert_cmpuint(n_claims(), ==, 0);
}

static void a_qemu_that_still_allocates_is_not_seen_to_run(void)
{
    g_auto(Host) host = {0};
    files_host_init(&host, FILES);
    claim_files(&host, UUID_A, 6);
    set_qemu_in_files(2000, UUID_A, 6, 5);
    g_assert_true(hv_lifecycle_recover(host.agent, NULL, NULL));
    g_assert_cmpint(state_of(UUID_A), ==, HV_CLAIM_CLAIMED);
}

static void a_report_counts_once_what_is_allocated(void)
{
    g_auto(Host) host = {0};
    g_autoptr(GError) error = NULL;
    files_host_init(&host, FILES);
    claim_files(&host, UUID_A, 6);
    set_qemu_in_files(2000, UUID_A, 6, 4);
    g_autoptr(HvHostView) view = hv_host_view_read(host.agent, FALSE, &error);
    g_assert_no_error(error);
    HvWorld world = {view->snapshot, view->settings, view->ledger, NULL};
    HvFileRoom room = hv_file_room(&world);
    g_assert_cmpuint(room.used_kib, ==, 6 * 1024);
    g_assert_cmpuint(room.unallocated_kib, ==, 2 * 1024);
}

static void a_command_line_alone_keeps_no_claim(void)
{
    g_auto(Host) host = {0};
    files_host_init(&host, FILES);
    claim_files(&host, UUID_A, 6);
    set_qemu(2000, UUID_A); /* it has no file of the directory */
    end_process(1000);
    g_assert_true(hv_lifecycle_recover(host.agent, NULL, NULL));
    g_assert_cmpuint(n_claims(), ==, 0);
}

/* ---- memory devices */

#define DIMM                                                                                       \
    "<memory model='dimm'><target><size unit='MiB'>%u</size><node>0</node></target></memory>"

static gboolean plug(const Host *host, const char *uuid, guint mib, GError **error)
{
    g_autofree char *xml = g_strdup_printf(DIMM, mib);
    const HvVmRef vm = {.uuid = uuid};
    const HvPlug device = {.xml = xml, .xml_bytes = strlen(xml)};
    g_autoptr(HvOutcome) outcome = hv_lifecycle_plug(host->agent, &vm, &device, error);
    return outcome != NULL;
}

static void plug_ended(const Host *host, const char *uuid, guint mib, HvPlugEnd end)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *xml = g_strdup_printf(DIMM, mib);
    const HvVmRef vm = {.uuid = uuid};
    const HvPlug device = {.xml = xml, .xml_bytes = strlen(xml)};
    hv_lifecycle_plug_ended(host->agent, &vm, &device, end, &error);
    g_assert_no_error(error);
}

static void run_a(Host *host, guint mib)
{
    files_host_init(host, FILES);
    guint64 generation = claim_files(host, UUID_A, mib);
    set_qemu_in_files(2000, UUID_A, mib, mib);
    g_assert_true(tell(hv_lifecycle_started, host->agent, UUID_A, generation, 0));
}

static void a_dimm_is_claimed_and_becomes_its_vms(void)
{
    g_auto(Host) host = {0};
    g_autoptr(GError) error = NULL;
    run_a(&host, 6);
    g_assert_true(plug(&host, UUID_A, 2, &error));
    g_assert_cmpuint(n_claims(), ==, 2);
    g_assert_false(plug(&host, UUID_A, 4, &error)); /* 2 MiB are left */
    g_assert_error(error, HV_ERROR, HV_ERROR_SHORTAGE);
    set_qemu_in_files(2000, UUID_A, 8, 8);
    plug_ended(&host, UUID_A, 2, HV_PLUG_DONE);
    g_assert_cmpuint(n_claims(), ==, 1);
    g_assert_cmpuint(claimed_mib(UUID_A), ==, 8);
    set_qemu_in_files(2000, UUID_A, 6, 6);
    plug_ended(&host, UUID_A, 2, HV_PLUG_UNDONE);
    g_assert_cmpuint(claimed_mib(UUID_A), ==, 6);
}

static void a_dimm_that_cannot_be_plugged_is_let_go_of(void)
{
    g_auto(Host) host = {0};
    run_a(&host, 6);
    g_assert_true(plug(&host, UUID_A, 2, NULL));
    plug_ended(&host, UUID_A, 2, HV_PLUG_FAILED);
    g_assert_cmpuint(n_claims(), ==, 1);
    g_assert_cmpuint(claimed_mib(UUID_A), ==, 6);
}

static void a_dimm_is_claimed_where_the_setting_is_gone(void)
{
    g_auto(Host) host = {0};
    g_autoptr(GError) error = NULL;
    run_a(&host, 6);
    tree_printf(fake.directory, "/etc/hugevm/hugevm.conf", "[hugevm]\n");
    g_assert_true(plug(&host, UUID_A, 2, &error));
    g_assert_no_error(error);
    set_qemu_in_files(2000, UUID_A, 8, 8);
    plug_ended(&host, UUID_A, 2, HV_PLUG_DONE);
    g_assert_cmpuint(n_claims(), ==, 1);
    g_assert_cmpuint(claimed_mib(UUID_A), ==, 8);
    end_process(2000);
    g_assert_true(hv_lifecycle_recover(host.agent, NULL, NULL));
    g_assert_cmpuint(n_claims(), ==, 0);
}

static void a_dimm_that_nobody_reports_is_seen(void)
{
    g_auto(Host) host = {0};
    run_a(&host, 6);
    set_qemu_in_files(2000, UUID_A, 7, 7);
    g_assert_true(hv_lifecycle_recover(host.agent, NULL, NULL));
    g_assert_cmpuint(claimed_mib(UUID_A), ==, 7);
}

/* ---- who may not be edited, who comes from elsewhere */

static void assert_passes(const Host *host, const char *xml, How how, const char *warning)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(HvOutcome) outcome = start_vm(host, xml, how, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(outcome->generation, ==, 0);
    g_assert_cmpstr(outcome->xml, ==, xml);
    if (warning == NULL)
        g_assert_cmpuint(outcome->warnings->len, ==, 0);
    else
        g_assert_nonnull(strstr(g_ptr_array_index(outcome->warnings, 0), warning));
    g_assert_false(tree_has(fake.directory, "/run/hugevm"));
}

static void what_cannot_be_edited_is_claimed_if_it_says_files(void)
{
    g_auto(Host) host = {0};
    g_autoptr(GError) error = NULL;
    files_host_init(&host, FILES);
    g_autofree char *plain = xml_of(UUID_A, 8, "");
    assert_passes(&host, plain, NO_EDIT, "but the domain XML does not say so");
    g_autofree char *part =
        xml_of(UUID_A, 8, "<memoryBacking><source type='file'/></memoryBacking>");
    assert_start_fails(&host, part, NO_EDIT, HV_ERROR_CONFLICT, "says only a part of what");
    g_autofree char *files = xml_of(UUID_A, 8, IN_FILES);
    g_autoptr(HvOutcome) outcome = start_vm(&host, files, NO_EDIT, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(outcome->xml, ==, files);
    g_assert_cmpuint(claimed_mib(UUID_A), ==, 8);
}

/* libvirt takes them for none: the memory is in files. */
static void huge_pages_of_4_kib_are_none(void)
{
    g_auto(Host) host = {0};
    g_autoptr(GError) error = NULL;
    files_host_init(&host, FILES);
    g_autofree char *files = xml_of(
        UUID_A, 8,
        "<memoryBacking><hugepages><page size='4' unit='KiB'/></hugepages><source type='file'/>"
        "<access mode='shared'/><allocation mode='immediate'/></memoryBacking>");
    g_autoptr(HvOutcome) outcome = start_vm(&host, files, NO_EDIT, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(claimed_mib(UUID_A), ==, 8);
    g_autoptr(HvOutcome) incoming = start_vm(&host, files, INCOMING, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(claimed_mib(UUID_A), ==, 8);
}

static void huge_pages_are_refused_and_take_none(void)
{
    g_auto(Host) host = {0};
    files_host_init(&host, FILES);
    g_autofree char *xml = vm_xml(UUID_A, 20, 0);
    assert_start_fails(&host, xml, PLAIN, HV_ERROR_CONFLICT, "VM 'vm' asks for huge pages, but");
    assert_start_fails(&host, xml, NO_EDIT, HV_ERROR_CONFLICT, "VM 'vm' asks for huge pages, but");
    g_assert_cmpuint(fake.n_writes, ==, 0);
    g_assert_false(tree_has(fake.directory, "/run/hugevm"));
}

static void settings_that_cannot_be_read_stop_no_vm(void)
{
    g_auto(Host) host = {0};
    files_host_init(&host, FILES "no key\\n");
    g_autofree char *plain = xml_of(UUID_A, 8, "");
    g_autofree char *files = xml_of(UUID_A, 8, IN_FILES);
    assert_passes(&host, plain, PLAIN, NULL);
    assert_passes(&host, files, INCOMING, NULL);
}

static void who_comes_must_have_its_memory_where_the_host_has(void)
{
    g_auto(Host) host = {0};
    g_autofree char *plain = xml_of(UUID_A, 8, "");
    g_autofree char *files = xml_of(UUID_A, 8, IN_FILES);
    files_host_init(&host, FILES);
    assert_start_fails(&host, plain, INCOMING, HV_ERROR_CONFLICT,
                       "comes with memory that is not in files, but this host");
    g_autoptr(HvOutcome) outcome = start_vm(&host, files, INCOMING, NULL);
    g_assert_nonnull(outcome);
    g_assert_cmpstr(outcome->xml, ==, files); /* without <discard/>, whatever the versions */
    g_assert_cmpuint(claimed_mib(UUID_A), ==, 8);
}

static void who_comes_in_files_to_another_host_is_refused(void)
{
    g_auto(Host) host = {0};
    g_autofree char *plain = xml_of(UUID_A, 8, "");
    g_autofree char *shared = xml_of(
        UUID_A, 8, "<memoryBacking><source type='file'/><access mode='shared'/></memoryBacking>");
    g_autofree char *files = xml_of(UUID_A, 8, IN_FILES);
    files_host_init(&host, OTHER_SETTINGS);
    assert_start_fails(&host, files, INCOMING, HV_ERROR_CONFLICT,
                       "comes with its memory in files, but this host has no");
    assert_passes(&host, files, PLAIN, NULL);
    assert_passes(&host, files, RESTORED, NULL);
    assert_passes(&host, plain, INCOMING, NULL);
    assert_passes(&host, shared, INCOMING, NULL); /* as virtiofs has it, on any host */
}

static HvOutcome *adapt(const Host *host, const char *xml, GError **error)
{
    const HvVm vm = {.xml = xml, .xml_bytes = strlen(xml)};
    return hv_lifecycle_adapt_incoming(host->agent, &vm, error);
}

static void an_incoming_xml_is_judged_before_anything_is_taken(void)
{
    g_auto(Host) host = {0};
    g_autoptr(GError) error = NULL;
    g_autofree char *plain = xml_of(UUID_A, 8, "");
    g_autofree char *files = xml_of(UUID_A, 8, IN_FILES);
    files_host_init(&host, FILES ADAPT);
    g_assert_null(adapt(&host, plain, &error));
    g_assert_error(error, HV_ERROR, HV_ERROR_CONFLICT);
    g_clear_error(&error);
    g_autoptr(HvOutcome) same = adapt(&host, files, &error);
    g_assert_no_error(error);
    g_assert_false(same->xml_changed);
}

/* libvirt would not take another XML for it. */
static void a_saved_vm_comes_back_as_it_was(void)
{
    g_auto(Host) host = {0};
    g_autofree char *plain = xml_of(UUID_A, 8, "");
    files_host_init(&host, FILES);
    assert_passes(&host, plain, RESTORED, "but the domain XML does not say so");
}

#define ADD(test) g_test_add_func("/file-backed/" #test, test)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD(a_life_ends_where_it_began);
    ADD(the_directory_is_libvirts);
    ADD(there_is_no_overcommit);
    ADD(whoever_dies_leaves_no_claim);
    ADD(a_qemu_that_still_allocates_is_not_seen_to_run);
    ADD(a_report_counts_once_what_is_allocated);
    ADD(a_command_line_alone_keeps_no_claim);
    ADD(a_dimm_is_claimed_and_becomes_its_vms);
    ADD(a_dimm_that_cannot_be_plugged_is_let_go_of);
    ADD(a_dimm_is_claimed_where_the_setting_is_gone);
    ADD(a_dimm_that_nobody_reports_is_seen);
    ADD(what_cannot_be_edited_is_claimed_if_it_says_files);
    ADD(huge_pages_of_4_kib_are_none);
    ADD(huge_pages_are_refused_and_take_none);
    ADD(settings_that_cannot_be_read_stop_no_vm);
    ADD(who_comes_must_have_its_memory_where_the_host_has);
    ADD(who_comes_in_files_to_another_host_is_refused);
    ADD(an_incoming_xml_is_judged_before_anything_is_taken);
    ADD(a_saved_vm_comes_back_as_it_was);
    return g_test_run();
}
