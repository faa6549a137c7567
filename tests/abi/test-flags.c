/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the flags of a description change, through the ABI; details are the host suite's. */
#include "abi-host.h"

#include <string.h>

#define OTHER_PID 4242
#define MOUNTS "/proc/self/mounts"
#define HUGEPAGES_2M                                                                               \
    "<memoryBacking><hugepages><page size='2048' unit='KiB'/></hugepages></memoryBacking>"

/* before_vm_start of a VM with huge pages; the code. */
static int32_t start(AbiHost *host, uint32_t flags)
{
    g_autofree char *xml = abi_domain(UUID_A, HUGEPAGES_2M);
    struct hugevm_vm vm = abi_vm(xml, NULL);
    vm.flags = flags;
    return abi_begin_vm(host, host->plugin->before_vm_start, &vm);
}

/* From here on the host is another one, on the same tree. */
static void reopen_as(AbiHost *host, const struct hugevm_host *offer)
{
    const char *const conf_files[] = {host->conf, NULL};
    const struct hugevm_options options = {
        .size = sizeof options, .root = host->root, .conf_files = conf_files};
    host->plugin->close(g_steal_pointer(&host->handle));
    g_assert_cmpint(host->plugin->open(offer, &options, &host->handle, NULL), ==, HUGEVM_OK);
}

static void become_another_process(AbiHost *host)
{
    struct hugevm_host offer = abi_offer(host);
    offer.owner_pid = OTHER_PID;
    abi_write(host, "/proc/4242/stat",
              "4242 (x) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 1 18 4711 20\n");
    reopen_as(host, &offer);
}

static void test_adopt_claim(AbiHost *host)
{
    abi_write_pool(host, 2048, 128, 128);
    g_assert_cmpint(start(host, 0), ==, HUGEVM_OK);
    guint64 generation = host->plugin->result_generation(host->result);
    become_another_process(host);
    g_assert_cmpint(start(host, 0), ==, HUGEVM_ERROR_CONFLICT);
    int32_t code = start(host, HUGEVM_VM_ADOPT_CLAIM);
    g_assert_cmpint(code, ==, HUGEVM_OK);
    if (code != HUGEVM_OK)
        return;
    g_assert_cmpuint(host->plugin->result_generation(host->result), ==, generation);
    g_assert_cmpint(abi_tell(host, host->plugin->vm_launching, UUID_A, generation), ==, HUGEVM_OK);
    g_assert_cmpint(abi_tell(host, host->plugin->vm_start_failed, UUID_A, 0), ==, HUGEVM_OK);
}

static void test_by_libvirtd(AbiHost *host)
{
    abi_write_pool(host, 2048, 128, 128);
    abi_write(host, MOUNTS, "none /dev/hugepages hugetlbfs rw,pagesize=2M 0 0\n");
    g_assert_cmpint(start(host, HUGEVM_VM_BY_LIBVIRTD), ==, HUGEVM_ERROR_CONFLICT);
    g_assert_nonnull(strstr(host->error.message, "libvirtd does not know the hugetlbfs"));
    g_assert_nonnull(strstr(host->error.hint, "restart libvirtd"));
    abi_write(host, "/dev/hugepages/libvirt/qemu/.keep", "");
    g_assert_cmpint(start(host, HUGEVM_VM_BY_LIBVIRTD), ==, HUGEVM_OK);
}

static void test_not_by_libvirtd(AbiHost *host)
{
    abi_write_pool(host, 2048, 128, 128);
    abi_write(host, MOUNTS, "none /dev/hugepages hugetlbfs rw,pagesize=2M 0 0\n");
    g_assert_cmpint(start(host, HUGEVM_VM_ADOPT_CLAIM | HUGEVM_VM_HOST_WAITS), ==, HUGEVM_OK);
}

static int32_t dawdle(void *opaque, uint64_t done_pages, uint64_t total_pages, const char *what)
{
    (void)opaque, (void)done_pages, (void)total_pages, (void)what;
    g_usleep(600 * 1000);
    return 0;
}

static void prepare_slow_growth(AbiHost *host)
{
    struct hugevm_host offer = abi_offer(host);
    offer.progress = dawdle;
    abi_write_conf(host, DYNAMIC "[hugevm]\nhook_timeout = 1\n");
    reopen_as(host, &offer);
}

static void test_host_waits(AbiHost *host)
{
    prepare_slow_growth(host);
    g_assert_cmpint(start(host, HUGEVM_VM_HOST_WAITS), ==, HUGEVM_ERROR_TIMEOUT);
}

static void test_host_does_not_wait(AbiHost *host)
{
    prepare_slow_growth(host);
    g_assert_cmpint(start(host, HUGEVM_VM_ADOPT_CLAIM), ==, HUGEVM_OK);
}

static void test_flags_of_a_vm_without_hugepages(AbiHost *host)
{
    g_autofree char *xml = abi_domain(UUID_A, NULL);
    struct hugevm_vm vm = abi_vm(xml, NULL);
    vm.flags = HUGEVM_VM_WILL_CALL_LAUNCHING | HUGEVM_VM_CANNOT_EDIT_XML | HUGEVM_VM_ADOPT_CLAIM |
               HUGEVM_VM_HOST_WAITS | HUGEVM_VM_BY_LIBVIRTD;
    abi_write(host, MOUNTS, "");
    g_assert_cmpint(abi_begin_vm(host, host->plugin->before_vm_start, &vm), ==, HUGEVM_OK);
    g_assert_cmpuint(host->plugin->result_generation(host->result), ==, 0);
    g_assert_cmpint(host->plugin->result_xml_changed(host->result), ==, 0);
}

int main(int argc, char **argv)
{
    abi_init(&argc, &argv);
    abi_add("/flags/ADOPT_CLAIM goes on with another's claim", test_adopt_claim);
    abi_add("/flags/BY_LIBVIRTD refuses a mount unknown to libvirtd", test_by_libvirtd);
    abi_add("/flags/without BY_LIBVIRTD mounts do not matter", test_not_by_libvirtd);
    abi_add("/flags/HOST_WAITS makes hook_timeout count", test_host_waits);
    abi_add("/flags/without HOST_WAITS it does not", test_host_does_not_wait);
    abi_add("/flags/a VM without huge pages may have them all",
            test_flags_of_a_vm_without_hugepages);
    return g_test_run();
}
