/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Each error code, from the situation that its line in the header names. The two
 * of the interface itself, ABI_MISMATCH and NOT_SUPPORTED (of no slot today), are in
 * test-negotiate.c and test-results.c; every host mistake in test-structs.c.
 */
#include "abi-host.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOBODY 65534

static int32_t claim(AbiHost *host)
{
    return abi_begin(host, host->plugin->before_vm_start, "hugepages", "2048");
}

static int32_t plan_xml(AbiHost *host, const char *xml)
{
    struct hugevm_property property = {"hugepages", "2048"};
    struct hugevm_vm vm = abi_vm(xml, &property);
    return abi_begin_vm(host, host->plugin->plan, &vm);
}

static void test_bad_property(AbiHost *host)
{
    static const char *const values[] = {"abc", "99999999999999999999", "2048 pages", "2.5M",
                                         "0x800"};
    const AbiBegin slots[] = {host->plugin->plan, host->plugin->before_vm_start};
    for (guint i = 0; i < G_N_ELEMENTS(values); i++)
        for (guint j = 0; j < G_N_ELEMENTS(slots); j++) {
            g_assert_cmpint(abi_begin(host, slots[j], "hugepages", values[i]), ==,
                            HUGEVM_ERROR_BAD_PROPERTY);
            abi_assert_error(host, HUGEVM_ERROR_BAD_PROPERTY, values[i]);
            abi_assert_error(host, HUGEVM_ERROR_BAD_PROPERTY, "hugepages");
        }
    g_assert_cmpint(abi_begin(host, slots[0], "hugepages_shared", "maybe"), ==,
                    HUGEVM_ERROR_BAD_PROPERTY);
}

static void test_bad_xml(AbiHost *host)
{
    static const char *const texts[] = {
        "",
        " ",
        "<domain",
        "<domain><memory>1</memory>",
        "<domain/>",
        "<domain><memory>0</memory></domain>",
        "<domain><memory>abc</memory></domain>",
        "<domain><uuid>junk</uuid><memory unit='MiB'>256</memory></domain>",
        "<!DOCTYPE d [<!ENTITY a 'b'>]><domain><memory>1</memory></domain>",
        "<domain><name>\xff\xfe</name><memory unit='MiB'>256</memory></domain>",
    };
    for (guint i = 0; i < G_N_ELEMENTS(texts); i++)
        if (plan_xml(host, texts[i]) != HUGEVM_ERROR_BAD_XML)
            g_error("code %d for %s", host->error.code, texts[i]);
}

/* A VM that is to be claimed needs a name for its claim. */
static void test_bad_xml_without_uuid(AbiHost *host)
{
    struct hugevm_property property = {"hugepages", "2048"};
    struct hugevm_vm vm = abi_vm("<domain><memory unit='MiB'>256</memory></domain>", &property);
    g_assert_cmpint(abi_begin_vm(host, host->plugin->before_vm_start, &vm), ==,
                    HUGEVM_ERROR_BAD_XML);
    abi_assert_error(host, HUGEVM_ERROR_BAD_XML, "uuid");
}

static void test_bad_config(AbiHost *host)
{
    abi_write_conf(host, "[hugevm]\ncompact = perhaps\n");
    g_assert_cmpint(claim(host), ==, HUGEVM_ERROR_BAD_CONFIG);
    g_autofree char *place = g_strconcat(host->conf, ":2:", NULL);
    abi_assert_error(host, HUGEVM_ERROR_BAD_CONFIG, place);
    abi_assert_error(host, HUGEVM_ERROR_BAD_CONFIG, "compact");
    abi_assert_error(host, HUGEVM_ERROR_BAD_CONFIG, "perhaps");
    g_assert_cmpint(abi_begin(host, host->plugin->plan, "hugepages", "2048"), ==,
                    HUGEVM_ERROR_BAD_CONFIG);
    g_assert_cmpint(g_remove(host->conf), ==, 0);
    g_assert_cmpint(claim(host), ==, HUGEVM_ERROR_BAD_CONFIG);
}

static void test_conflict_of_sizes(AbiHost *host)
{
    g_autofree char *xml =
        abi_domain(UUID_A, "<memoryBacking><hugepages><page size='1' unit='GiB'/></hugepages>"
                           "</memoryBacking>");
    g_assert_cmpint(plan_xml(host, xml), ==, HUGEVM_ERROR_CONFLICT);
    abi_assert_error(host, HUGEVM_ERROR_CONFLICT, "1 GiB");
    abi_assert_error(host, HUGEVM_ERROR_CONFLICT, "2 MiB");
}

static void test_conflict_of_fixed_xml(AbiHost *host)
{
    g_autofree char *xml = abi_domain(UUID_A, NULL);
    struct hugevm_property property = {"hugepages", "2048"};
    struct hugevm_vm vm = abi_vm(xml, &property);
    vm.flags = HUGEVM_VM_CANNOT_EDIT_XML;
    g_assert_cmpint(abi_begin_vm(host, host->plugin->before_vm_start, &vm), ==,
                    HUGEVM_ERROR_CONFLICT);
    g_assert_nonnull(strstr(host->error.hint, "<hugepages>"));
}

static void test_shortage(AbiHost *host)
{
    abi_write_conf(host, STATIC);
    abi_write_pool(host, 2048, 127, 127);
    g_assert_cmpint(claim(host), ==, HUGEVM_ERROR_SHORTAGE);
    abi_assert_error(host, HUGEVM_ERROR_SHORTAGE, "128 pages of 2 MiB");
    abi_assert_error(host, HUGEVM_ERROR_SHORTAGE, "127 available");
    g_assert_nonnull(strstr(host->error.hint, "use_dynamic_hugepages"));
    g_assert_cmpuint(abi_total(host, 2048), ==, 127);
    abi_write_pool(host, 2048, 128, 128);
    g_assert_cmpint(claim(host), ==, HUGEVM_OK);
}

/* Dynamic, but the memory kept for the host leaves no room. */
static void test_shortage_of_memory(AbiHost *host)
{
    abi_write_conf(host, DYNAMIC "[hugevm]\nhost_memory_floor = 100G\n");
    g_assert_cmpint(claim(host), ==, HUGEVM_ERROR_SHORTAGE);
    g_assert_cmpuint(abi_total(host, 2048), ==, 0);
}

/* Somebody holds the ledger's lock: the host's time for pages is all that is waited. */
static void test_timeout(AbiHost *host)
{
    abi_write(host, "/run/hugevm/ledger.lock", "1234\n");
    g_autofree char *path = g_strconcat(host->root, "/run/hugevm/ledger.lock", NULL);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    g_assert_cmpint(flock(fd, LOCK_EX), ==, 0);

    g_autofree char *xml = abi_domain(UUID_A, NULL);
    struct hugevm_property property = {"hugepages", "2048"};
    struct hugevm_vm vm = abi_vm(xml, &property);
    vm.timeout_ms = 100;
    gint64 begin_us = g_get_monotonic_time();
    g_assert_cmpint(abi_begin_vm(host, host->plugin->before_vm_start, &vm), ==,
                    HUGEVM_ERROR_TIMEOUT);
    gint64 took_us = g_get_monotonic_time() - begin_us;
    g_assert_cmpint(took_us, >=, 90 * 1000);
    g_assert_cmpint(took_us, <, 2 * G_USEC_PER_SEC);
    abi_assert_error(host, HUGEVM_ERROR_TIMEOUT, "1234");
    g_assert_cmpint(abi_begin_vm(host, host->plugin->plan, &vm), ==, HUGEVM_OK);
    close(fd);
    g_assert_cmpint(abi_begin_vm(host, host->plugin->before_vm_start, &vm), ==, HUGEVM_OK);
}

static void test_cancelled(AbiHost *host)
{
    host->cancel = 1;
    g_assert_cmpint(claim(host), ==, HUGEVM_ERROR_CANCELLED);
    g_assert_cmpuint(host->progress_calls, ==, 1);
    g_assert_cmpint(abi_tell(host, host->plugin->vm_launching, UUID_A, 0), ==,
                    HUGEVM_ERROR_UNKNOWN_VM);
    g_assert_cmpuint(abi_total(host, 2048), ==, 0);
}

/* As nobody: in a child where we are root. In the parent, the child's verdict. */
static int in_unprivileged_process(AbiHost *host, int (*test)(AbiHost *host))
{
    if (geteuid() != 0)
        return test(host);
    pid_t pid = fork();
    g_assert_cmpint(pid, >=, 0);
    if (pid == 0)
        _exit(setgid(NOBODY) != 0 || setuid(NOBODY) != 0 ? 101 : test(host));
    int status = 0;
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 100;
}

/* Reading is allowed, taking is not; 0: as it should be, else the number of what was not. */
static int plan_and_claim_unprivileged(AbiHost *host)
{
    if (abi_begin(host, host->plugin->plan, "hugepages", "2048") != HUGEVM_OK)
        return 1;
    if (claim(host) != HUGEVM_ERROR_PERMISSION)
        return 2;
    if (strstr(host->error.hint, "root") == NULL)
        return 3;
    return abi_total(host, 2048) == 0 ? 0 : 4;
}

/* A ledger that this user may read, but not write. */
static void test_permission(AbiHost *host)
{
    abi_write(host, "/run/hugevm/ledger.lock", "");
    g_autofree char *directory = g_strconcat(host->root, "/run/hugevm", NULL);
    g_autofree char *lock = g_strconcat(directory, "/ledger.lock", NULL);
    g_assert_cmpint(g_chmod(lock, 0400), ==, 0);
    g_assert_cmpint(g_chmod(directory, 0555), ==, 0);
    g_assert_cmpint(in_unprivileged_process(host, plan_and_claim_unprivileged), ==, 0);
}

static void test_permission_on_the_machine(AbiHost *host)
{
    if (!g_file_test("/sys/kernel/mm/hugepages/hugepages-2048kB", G_FILE_TEST_EXISTS)) {
        g_test_skip("this kernel has no pages of 2 MiB");
        return;
    }
    const char *const conf_files[] = {host->conf, NULL};
    const struct hugevm_options options = {.size = sizeof options, .conf_files = conf_files};
    abi_reopen(host, &options);
    g_assert_cmpint(in_unprivileged_process(host, plan_and_claim_unprivileged), ==, 0);
}

static void test_ledger_is_a_symlink(AbiHost *host)
{
    g_autofree char *link = g_strconcat(host->root, "/run/hugevm", NULL);
    g_assert_cmpint(symlink(host->directory, link), ==, 0);
    g_assert_cmpint(claim(host), ==, HUGEVM_ERROR_LEDGER);
    abi_assert_error(host, HUGEVM_ERROR_LEDGER, "/run/hugevm");
    g_assert_cmpuint(abi_total(host, 2048), ==, 0);
}

static void test_ledger_is_a_file(AbiHost *host)
{
    abi_write(host, "/run/hugevm", "a file");
    g_assert_cmpint(claim(host), ==, HUGEVM_ERROR_LEDGER);
    g_assert_cmpint(abi_tell(host, host->plugin->after_vm_destroy, UUID_A, 0), ==,
                    HUGEVM_ERROR_LEDGER);
}

static void test_ledger_for_everybody(AbiHost *host)
{
    abi_write(host, "/run/hugevm/.keep", "");
    g_autofree char *directory = g_strconcat(host->root, "/run/hugevm", NULL);
    g_assert_cmpint(g_chmod(directory, 0777), ==, 0);
    g_assert_cmpint(claim(host), ==, HUGEVM_ERROR_LEDGER);
}

static void test_ledger_of_a_newer_version(AbiHost *host)
{
    abi_write(host, "/run/hugevm/ledger.json",
              "{\"format\":99,\"boot_id\":\"b5a1f6a2-0000-4000-8000-000000000001\"}");
    g_assert_cmpint(claim(host), ==, HUGEVM_ERROR_LEDGER);
    g_assert_cmpint(abi_begin(host, host->plugin->plan, "hugepages", "2048"), ==,
                    HUGEVM_ERROR_LEDGER);
}

static void test_system(AbiHost *host)
{
    static const char path[] =
        "/sys/devices/system/node/node0/hugepages/hugepages-2048kB/free_hugepages";
    static const char *const numbers[] = {"many\n", "", "-1\n", "1 2\n", "99999999999999999999\n"};
    for (guint i = 0; i < G_N_ELEMENTS(numbers); i++) {
        abi_write(host, path, numbers[i]);
        g_assert_cmpint(claim(host), ==, HUGEVM_ERROR_SYSTEM);
        abi_assert_error(host, HUGEVM_ERROR_SYSTEM, path);
        g_assert_cmpint(abi_begin(host, host->plugin->plan, "hugepages", "2048"), ==,
                        HUGEVM_ERROR_SYSTEM);
    }
}

static void test_unknown_vm(AbiHost *host)
{
    const AbiTell strict[] = {host->plugin->vm_launching, host->plugin->after_vm_start};
    const AbiTell lenient[] = {host->plugin->after_vm_destroy, host->plugin->vm_start_failed};
    for (int round = 0; round < 2; round++) {
        for (guint i = 0; i < G_N_ELEMENTS(strict); i++) {
            g_assert_cmpint(abi_tell(host, strict[i], UUID_B, 0), ==, HUGEVM_ERROR_UNKNOWN_VM);
            abi_assert_error(host, HUGEVM_ERROR_UNKNOWN_VM, UUID_B);
            g_assert_cmpint(abi_tell(host, lenient[i], UUID_B, 0), ==, HUGEVM_OK);
        }
        g_assert_cmpint(claim(host), ==, HUGEVM_OK); /* now there is a ledger, with another VM */
    }
}

int main(int argc, char **argv)
{
    abi_init(&argc, &argv);
    abi_add("/codes/BAD_PROPERTY names property and value", test_bad_property);
    abi_add("/codes/BAD_XML for text that is no usable domain", test_bad_xml);
    abi_add("/codes/BAD_XML for a claim without a UUID", test_bad_xml_without_uuid);
    abi_add("/codes/BAD_CONFIG names file, line, key and value", test_bad_config);
    abi_add("/codes/CONFLICT between the property's and the XML's size", test_conflict_of_sizes);
    abi_add("/codes/CONFLICT where the XML lacks what it must say", test_conflict_of_fixed_xml);
    abi_add("/codes/SHORTAGE names size, wanted and available", test_shortage);
    abi_add("/codes/SHORTAGE where the host needs its memory", test_shortage_of_memory);
    abi_add("/codes/TIMEOUT of a lock that is held, naming the holder", test_timeout);
    abi_add("/codes/CANCELLED leaves no claim and no page", test_cancelled);
    abi_add("/codes/PERMISSION for a user who may only read the ledger", test_permission);
    abi_add("/codes/PERMISSION on the machine for all but root", test_permission_on_the_machine);
    abi_add("/codes/LEDGER where its directory is a symlink", test_ledger_is_a_symlink);
    abi_add("/codes/LEDGER where its directory is a file", test_ledger_is_a_file);
    abi_add("/codes/LEDGER where everybody may write it", test_ledger_for_everybody);
    abi_add("/codes/LEDGER of a newer version is left alone", test_ledger_of_a_newer_version);
    abi_add("/codes/SYSTEM for a number that is none", test_system);
    abi_add("/codes/UNKNOWN_VM where a claim must exist, success where it may not",
            test_unknown_vm);
    return g_test_run();
}
