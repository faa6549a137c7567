/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a hook asks for beyond a host program: libvirtd's mounts, a shorter time,
 * and the switch of the administrator who wants none of it.
 */
#include "vm-fixture.h"

#include "error.h"

#define CONF "/etc/hugevm/hugevm.conf"
#define MOUNTS "/proc/self/mounts"
#define MOUNT_2M "hugetlbfs /dev/hugepages hugetlbfs rw,relatime,pagesize=2M 0 0\n"
#define OTHER_MOUNTS "proc /proc proc rw 0 0\ntmpfs /dev/shm tmpfs rw,pagesize=2M 0 0\n\n"

/* Time passes with writes, not with sleep. */
static gint64 skipped_us;
static gint64 write_takes_us;

gint64 __real_g_get_monotonic_time(void);
gint64 __wrap_g_get_monotonic_time(void);

gint64 __wrap_g_get_monotonic_time(void)
{
    return __real_g_get_monotonic_time() + skipped_us;
}

static void pass_time(void)
{
    skipped_us += write_takes_us;
}

static void set_write_seconds(guint seconds)
{
    write_takes_us = seconds * G_USEC_PER_SEC;
    fake.after_write = pass_time;
}

static void set_conf(const char *hugevm_lines)
{
    tree_printf(fake.directory, CONF,
                "[performance]\nuse_dynamic_hugepages = true\n"
                "[hugevm]\nhost_memory_floor = 0,0%%\n%s\n",
                hugevm_lines);
}

static HvOutcome *claim_for_libvirtd(const HvAgent *agent, const char *xml, GError **error)
{
    HvVm vm = {.xml = xml, .xml_bytes = strlen(xml), .by_libvirtd = TRUE};
    return hv_lifecycle_claim(agent, &vm, error);
}

/* 60 MiB on node 0. */
static void assert_mounts_suffice(const HvAgent *agent)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *xml = vm_xml(UUID_A, 60, 0);
    g_autoptr(HvOutcome) outcome = claim_for_libvirtd(agent, xml, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(outcome->generation, >, 0);
    assert_counts(0, SIZE_2M, 30, 30, 0);
}

static void assert_mounts_refused(const HvAgent *agent, const char *xml, const char *said,
                                  const char *hinted)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(HvOutcome) outcome = claim_for_libvirtd(agent, xml, &error);
    g_assert_null(outcome);
    g_assert_error(error, HV_ERROR, HV_ERROR_CONFLICT);
    g_assert_nonnull(strstr(error->message, said));
    g_assert_cmpstr(hv_error_hint(error), ==, hinted);
    g_assert_false(tree_has(fake.directory, "/run/hugevm"));
    g_assert_cmpuint(fake.n_writes, ==, 0);
}

#define HINT_2M                                                                                    \
    "mkdir -p /dev/hugepages-2M && mount -t hugetlbfs -o pagesize=2M none /dev/hugepages-2M, "     \
    "then restart libvirtd (or virtqemud)"
#define HINT_SIZE                                                                                  \
    "name the size in <hugepages>, as <page size='2048' unit='KiB'/>, or mount a hugetlbfs"
#define HINT_RESTART "restart libvirtd (or virtqemud): running VMs go on"

static void assert_none_mounted(const HvAgent *agent)
{
    g_autofree char *xml = vm_xml(UUID_A, 60, 0);
    assert_mounts_refused(agent, xml, "no hugetlbfs for pages of 2 MiB is mounted", HINT_2M);
}

static void test_no_mount_is_refused(void)
{
    g_auto(Host) host = {0};
    host_init(&host);
    tree_write(fake.directory, MOUNTS, OTHER_MOUNTS);
    assert_none_mounted(host.agent);
    tree_write(fake.directory, MOUNTS, "");
    assert_none_mounted(host.agent);
}

static void test_mount_of_another_size_is_none(void)
{
    g_auto(Host) host = {0};
    host_init(&host);
    tree_write(fake.directory, "/dev/hugepages1G/libvirt/qemu/.keep", "");
    tree_write(fake.directory, MOUNTS, "none /dev/hugepages1G hugetlbfs rw,pagesize=1024M 0 0\n");
    assert_none_mounted(host.agent);
}

static void test_mount_of_another_kind_is_none(void)
{
    g_auto(Host) host = {0};
    host_init(&host);
    tree_write(fake.directory, "/dev/shm/libvirt/qemu/.keep", "");
    tree_write(fake.directory, MOUNTS, OTHER_MOUNTS);
    assert_none_mounted(host.agent);
}

static void test_mount_that_libvirtd_does_not_know_is_refused(void)
{
    g_auto(Host) host = {0};
    host_init(&host);
    tree_write(fake.directory, MOUNTS, OTHER_MOUNTS MOUNT_2M);
    g_autofree char *xml = vm_xml(UUID_A, 60, 0);
    assert_mounts_refused(host.agent, xml,
                          "libvirtd does not know the hugetlbfs for pages of 2 MiB", HINT_RESTART);
    tree_write(fake.directory, "/dev/hugepages/libvirt/lxc", ""); /* nor this one's */
    assert_mounts_refused(host.agent, xml, "libvirtd does not know", HINT_RESTART);
}

static void test_mount_that_libvirtd_knows_is_enough(void)
{
    g_auto(Host) host = {0};
    host_init(&host);
    tree_write(fake.directory, "/dev/hugepages/libvirt/qemu/.keep", "");
    tree_write(fake.directory, MOUNTS, OTHER_MOUNTS MOUNT_2M);
    assert_mounts_suffice(host.agent);
}

static void test_one_known_mount_of_two_is_enough(void)
{
    static const char *const orders[] = {MOUNT_2M "none /mnt/huge hugetlbfs rw,pagesize=2M 0 0\n",
                                         "none /mnt/huge hugetlbfs rw,pagesize=2M 0 0\n" MOUNT_2M};
    for (guint i = 0; i < G_N_ELEMENTS(orders); i++) {
        g_auto(Host) host = {0};
        host_init(&host);
        tree_write(fake.directory, "/dev/hugepages/libvirt/qemu/.keep", "");
        tree_write(fake.directory, MOUNTS, orders[i]);
        assert_mounts_suffice(host.agent);
    }
}

static void test_blank_in_a_mount_point(void)
{
    g_auto(Host) host = {0};
    host_init(&host);
    tree_write(fake.directory, "/mnt/huge pages\\2M/libvirt/qemu/.keep", "");
    tree_write(fake.directory, MOUNTS,
               "none /mnt/huge\\040pages\\1342M hugetlbfs rw,pagesize=2M 0 0\n");
    assert_mounts_suffice(host.agent);
}

static void test_unreadable_mounts_are_no_reason_to_refuse(void)
{
    g_auto(Host) host = {0};
    host_init(&host);
    g_assert_false(tree_has(fake.directory, MOUNTS));
    assert_mounts_suffice(host.agent);
}

static void test_without_the_flag_mounts_do_not_matter(void)
{
    g_auto(Host) host = {0};
    host_init(&host);
    tree_write(fake.directory, MOUNTS, OTHER_MOUNTS);
    g_assert_cmpuint(claim_vm(host.agent, UUID_A, 60, 0), >, 0);
}

/* A VM of 60 MiB on any node. */
static char *plain_vm(const char *backing)
{
    return g_strdup_printf("<domain type='kvm'><name>vm</name><uuid>" UUID_A "</uuid>"
                           "<memory unit='MiB'>60</memory><memoryBacking>%s</memoryBacking>"
                           "</domain>",
                           backing);
}

static void test_memfd_needs_no_mount(void)
{
    g_auto(Host) host = {0};
    g_autoptr(GError) error = NULL;
    host_init(&host);
    tree_write(fake.directory, MOUNTS, OTHER_MOUNTS);
    g_autofree char *xml =
        plain_vm("<hugepages><page size='2' unit='M'/></hugepages><source type='memfd'/>");
    g_autoptr(HvOutcome) outcome = claim_for_libvirtd(host.agent, xml, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(outcome->generation, >, 0);
}

/* libvirt takes its default size from a mount. */
static void test_memfd_without_a_size_needs_a_mount(void)
{
    g_auto(Host) host = {0};
    host_init(&host);
    tree_write(fake.directory, MOUNTS, OTHER_MOUNTS);
    g_autofree char *xml = plain_vm("<hugepages/><source type='memfd'/>");
    assert_mounts_refused(host.agent, xml, "none of the default size is mounted", HINT_SIZE);
}

/* Cells of 2 MiB and of 1 GiB pages. */
static char *vm_of_two_sizes(void)
{
    return g_strdup("<domain type='kvm'><name>vm</name><uuid>" UUID_A "</uuid>"
                    "<memory unit='MiB'>1084</memory><memoryBacking><hugepages>"
                    "<page size='2' unit='M' nodeset='0'/><page size='1' unit='G' nodeset='1'/>"
                    "</hugepages></memoryBacking><cpu><numa>"
                    "<cell id='0' cpus='0' memory='60' unit='MiB'/>"
                    "<cell id='1' cpus='1' memory='1' unit='GiB'/></numa></cpu></domain>");
}

static void test_each_page_size_needs_its_mount(void)
{
    g_auto(Host) host = {0};
    g_autoptr(GError) error = NULL;
    fake_init(TWO_NODES "size 1048576\npool 0 1048576 total=1 free=1\n"
                        "pool 1 1048576 total=0 free=0\n" DYNAMIC);
    host.agent = new_agent(1000);
    tree_write(fake.directory, "/dev/hugepages/libvirt/qemu/.keep", "");
    tree_write(fake.directory, MOUNTS, MOUNT_2M);
    g_autofree char *xml = vm_of_two_sizes();
    assert_mounts_refused(host.agent, xml, "no hugetlbfs for pages of 1 GiB is mounted",
                          "mkdir -p /dev/hugepages-1G && mount -t hugetlbfs -o pagesize=1G none "
                          "/dev/hugepages-1G, then restart libvirtd (or virtqemud)");
    tree_write(fake.directory, "/mnt/1G/libvirt/qemu/.keep", "");
    tree_write(fake.directory, MOUNTS,
               MOUNT_2M "none /mnt/1G hugetlbfs rw,pagesize=1024M 0 0\n"); /* as kernels write it */
    g_autoptr(HvOutcome) outcome = claim_for_libvirtd(host.agent, xml, &error);
    g_assert_no_error(error);
    g_assert_nonnull(outcome);
}

/* Nothing could be mounted for it. */
static void test_missing_page_size_comes_before_its_mount(void)
{
    g_auto(Host) host = {0};
    g_autoptr(GError) error = NULL;
    host_init(&host);
    tree_write(fake.directory, MOUNTS, OTHER_MOUNTS);
    g_autofree char *xml = plain_vm("<hugepages><page size='1' unit='G'/></hugepages>");
    g_autoptr(HvOutcome) outcome = claim_for_libvirtd(host.agent, xml, &error);
    g_assert_null(outcome);
    g_assert_error(error, HV_ERROR, HV_ERROR_SHORTAGE);
    g_assert_nonnull(strstr(error->message, "this host offers 2 MiB"));
}

/* A growth takes two steps, one on each node: the time is looked at between them. */
static void assert_claim_in_time(Host *host, const HvVm *flags, gboolean is_in_time)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *xml = vm_xml(UUID_A, 60, 60);
    HvVm vm = *flags;
    vm.xml = xml;
    vm.xml_bytes = strlen(xml);
    g_autoptr(HvOutcome) outcome = hv_lifecycle_claim(host->agent, &vm, &error);
    g_assert_cmpuint(fake.n_writes, >, 0);
    if (is_in_time) {
        g_assert_no_error(error);
        assert_counts(1, SIZE_2M, 30, 30, 0);
        return;
    }
    g_assert_error(error, HV_ERROR, HV_ERROR_TIMEOUT);
    g_assert_null(outcome);
    assert_untouched();
}

static void assert_in_time(const char *conf, guint write_seconds, const HvVm *flags,
                           gboolean is_in_time)
{
    g_auto(Host) host = {0};
    host_init(&host);
    set_conf(conf);
    set_write_seconds(write_seconds);
    assert_claim_in_time(&host, flags, is_in_time);
}

static void test_waiting_host_waits_for_hook_timeout(void)
{
    static const HvVm waits = {.host_waits = TRUE};
    assert_in_time("hook_timeout = 20", 21, &waits, FALSE);
    assert_in_time("hook_timeout = 50", 21, &waits, TRUE);
    assert_in_time("", 7, &waits, FALSE); /* built in: 5 */
}

static void test_other_hosts_wait_for_allocation_timeout(void)
{
    static const HvVm others = {0};
    assert_in_time("hook_timeout = 1", 21, &others, TRUE);
    assert_in_time("hook_timeout = 1", 61, &others, FALSE);
}

static void test_shorter_time_of_the_two_counts(void)
{
    static const HvVm waits = {.host_waits = TRUE};
    assert_in_time("hook_timeout = 600\nallocation_timeout = 20", 21, &waits, FALSE);
    assert_in_time("hook_timeout = 20\nallocation_timeout = 600", 21, &waits, FALSE);
}

static void test_time_of_the_call_wins(void)
{
    static const HvVm longer = {.host_waits = TRUE, .timeout_ms = 90 * 1000};
    static const HvVm shorter = {.host_waits = TRUE, .timeout_ms = 2000};
    assert_in_time("hook_timeout = 5", 21, &longer, TRUE);
    assert_in_time("hook_timeout = 600", 3, &shorter, FALSE);
}

static HvOutcome *begin_switched_off(const HvAgent *agent, const char *xml, gboolean is_plan)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GHashTable) properties =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    g_hash_table_insert(properties, g_strdup("hugepages"), g_strdup("2048"));
    gboolean has_property = strstr(xml, "<hugepages>") == NULL;
    HvVm vm = {.xml = xml,
               .xml_bytes = strlen(xml),
               .properties = has_property ? properties : NULL,
               .cannot_edit = TRUE,
               .by_libvirtd = TRUE};
    HvOutcome *outcome =
        is_plan ? hv_lifecycle_plan(agent, &vm, &error) : hv_lifecycle_claim(agent, &vm, &error);
    g_assert_no_error(error);
    g_assert_nonnull(outcome);
    return outcome;
}

static void assert_left_alone(const HvAgent *agent, const char *xml, gboolean is_plan)
{
    g_autoptr(HvOutcome) outcome = begin_switched_off(agent, xml, is_plan);
    g_assert_cmpuint(outcome->generation, ==, 0);
    g_assert_cmpstr(outcome->xml, ==, xml);
    g_assert_false(outcome->xml_changed);
    g_assert_null(outcome->request);
    g_assert_null(outcome->plan);
    g_assert_cmpuint(outcome->warnings->len, ==, 1);
    g_assert_nonnull(strstr(outcome->warnings->pdata[0], "enabled = false"));
    g_assert_false(tree_has(fake.directory, "/run/hugevm"));
    g_assert_cmpuint(fake.n_writes, ==, 0);
}

static void test_switched_off_nothing_is_claimed(void)
{
    g_auto(Host) host = {0};
    host_init(&host);
    set_conf("enabled = false");
    tree_write(fake.directory, MOUNTS, "");
    g_autofree char *xml = vm_xml(UUID_A, 60, 60);
    assert_left_alone(host.agent, xml, FALSE);
}

static void test_switched_off_nothing_is_planned(void)
{
    g_auto(Host) host = {0};
    host_init(&host);
    set_conf("enabled = false");
    g_autofree char *xml = vm_xml(UUID_A, 60, 60);
    assert_left_alone(host.agent, xml, TRUE);
}

static void test_switched_off_a_property_has_no_effect(void)
{
    g_auto(Host) host = {0};
    host_init(&host);
    set_conf("enabled = false");
    g_autofree char *xml = plain_vm("");
    assert_left_alone(host.agent, xml, FALSE);
    assert_left_alone(host.agent, xml, TRUE);
}

/* With hugevm not installed, who would refuse these? */
static void test_switched_off_nothing_is_refused(void)
{
    static const char *const parts[] = {
        "<memory>65536</memory><metadata><h:vm xmlns:h='urn:hugevm:vm:1'>"
        "<h:hugepages>junk</h:hugepages></h:vm></metadata>",
        "<memory>65536</memory><memoryBacking><hugepages/></memoryBacking>"
        "<devices><memory model='cxl'/></devices>"};
    for (guint i = 0; i < G_N_ELEMENTS(parts); i++) {
        g_auto(Host) host = {0};
        g_autoptr(GError) error = NULL;
        host_init(&host);
        set_conf("enabled = false");
        g_autofree char *xml =
            g_strdup_printf("<domain type='kvm'><name>vm</name>%s</domain>", parts[i]);
        g_autoptr(HvOutcome) outcome = try_claim(host.agent, xml, NULL, &error);
        g_assert_no_error(error);
        g_assert_cmpstr(outcome->xml, ==, xml);
    }
}

static void test_switched_off_grown_pages_come_back(void)
{
    g_auto(Host) host = {0};
    host_init(&host);
    guint64 generation = claim_vm(host.agent, UUID_A, 60, 60);
    set_conf("enabled = false");
    g_assert_true(tell(hv_lifecycle_gone, host.agent, UUID_A, generation, 0));
    assert_untouched();
}

/* <page> of the normal size says: no huge pages. */
static void test_normal_pages_need_neither_configuration_nor_ledger(void)
{
    g_auto(Host) host = {0};
    g_autoptr(GError) error = NULL;
    host_init(&host);
    tree_write(fake.directory, CONF, "garbage\n");
    tree_write(fake.directory, "/run/hugevm/ledger.json", "{{{");
    tree_write(fake.directory, "/run/hugevm/ledger.copy.json", "");
    g_autofree char *xml = plain_vm("<hugepages><page size='4'/></hugepages>");
    g_autoptr(HvOutcome) outcome = claim_for_libvirtd(host.agent, xml, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(outcome->xml, ==, xml);
    g_assert_cmpuint(outcome->generation, ==, 0);
}

#define ADD(name, function) g_test_add_func("/doors/" name, function)

static void add_tests_of_mounts(void)
{
    ADD("no-mount-is-refused", test_no_mount_is_refused);
    ADD("mount-of-another-size-is-none", test_mount_of_another_size_is_none);
    ADD("mount-of-another-kind-is-none", test_mount_of_another_kind_is_none);
    ADD("mount-that-libvirtd-does-not-know-is-refused",
        test_mount_that_libvirtd_does_not_know_is_refused);
    ADD("mount-that-libvirtd-knows-is-enough", test_mount_that_libvirtd_knows_is_enough);
    ADD("one-known-mount-of-two-is-enough", test_one_known_mount_of_two_is_enough);
    ADD("mount-point-may-have-a-blank", test_blank_in_a_mount_point);
    ADD("unreadable-mounts-are-no-reason-to-refuse",
        test_unreadable_mounts_are_no_reason_to_refuse);
    ADD("without-the-flag-mounts-do-not-matter", test_without_the_flag_mounts_do_not_matter);
    ADD("memfd-needs-no-mount", test_memfd_needs_no_mount);
    ADD("memfd-without-a-size-needs-a-mount", test_memfd_without_a_size_needs_a_mount);
    ADD("each-page-size-needs-its-mount", test_each_page_size_needs_its_mount);
    ADD("missing-page-size-comes-before-its-mount", test_missing_page_size_comes_before_its_mount);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    add_tests_of_mounts();
    ADD("waiting-host-waits-for-hook-timeout", test_waiting_host_waits_for_hook_timeout);
    ADD("other-hosts-wait-for-allocation-timeout", test_other_hosts_wait_for_allocation_timeout);
    ADD("shorter-time-of-the-two-counts", test_shorter_time_of_the_two_counts);
    ADD("time-of-the-call-wins", test_time_of_the_call_wins);
    ADD("switched-off-nothing-is-claimed", test_switched_off_nothing_is_claimed);
    ADD("switched-off-nothing-is-planned", test_switched_off_nothing_is_planned);
    ADD("switched-off-a-property-has-no-effect", test_switched_off_a_property_has_no_effect);
    ADD("switched-off-nothing-is-refused", test_switched_off_nothing_is_refused);
    ADD("switched-off-grown-pages-come-back", test_switched_off_grown_pages_come_back);
    ADD("normal-pages-need-neither-configuration-nor-ledger",
        test_normal_pages_need_neither_configuration_nor_ledger);
    return g_test_run();
}
