/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Structs of older, newer and careless hosts. The canary behind a struct stands
 * for whatever the host keeps there.
 */
#include "abi-host.h"

#include <stddef.h>
#include <string.h>

#define CANARY UINT64_C(0xc0ffee11c0ffee22)

/* A description as a newer host has it. */
struct newer_vm {
    struct hugevm_vm vm;
    uint64_t tail[4];
};

static int32_t plan_newer(AbiHost *host, uint64_t tail)
{
    g_autofree char *xml = abi_domain(UUID_A, NULL);
    struct hugevm_property property = {"hugepages", "2048"};
    struct newer_vm newer = {abi_vm(xml, &property), {0, 0, 0, tail}};
    newer.vm.size = sizeof newer;
    return abi_begin_vm(host, host->plugin->plan, &newer.vm);
}

static void test_vm_with_zero_tail(AbiHost *host)
{
    g_assert_cmpint(plan_newer(host, 0), ==, HUGEVM_OK);
}

static void test_vm_with_set_tail(AbiHost *host)
{
    g_assert_cmpint(plan_newer(host, 1), ==, HUGEVM_ERROR_INVALID_ARGUMENT);
    g_assert_cmpint(plan_newer(host, UINT64_C(1) << 63), ==, HUGEVM_ERROR_INVALID_ARGUMENT);
}

/* What an older host's struct lacks is zero, whatever lies behind it in memory. */
static void test_older_vm(AbiHost *host)
{
    g_autofree char *xml = abi_domain(UUID_A, NULL);
    struct hugevm_vm vm = abi_vm(xml, NULL);
    vm.size = offsetof(struct hugevm_vm, properties);
    memset(&vm.properties, 0xff, sizeof vm - vm.size);
    g_assert_cmpint(abi_begin_vm(host, host->plugin->plan, &vm), ==, HUGEVM_OK);
}

static void test_vm_without_size(AbiHost *host)
{
    g_autofree char *xml = abi_domain(UUID_A, NULL);
    struct hugevm_vm vm = abi_vm(xml, NULL);
    for (vm.size = 0; vm.size < sizeof vm.size; vm.size++)
        g_assert_cmpint(abi_begin_vm(host, host->plugin->plan, &vm), ==,
                        HUGEVM_ERROR_INVALID_ARGUMENT);
}

static void test_vm_with_nothing_but_size(AbiHost *host)
{
    struct hugevm_vm vm = {.size = sizeof vm.size};
    g_assert_cmpint(abi_begin_vm(host, host->plugin->plan, &vm), ==, HUGEVM_ERROR_INVALID_ARGUMENT);
}

static void test_unknown_flags(AbiHost *host)
{
    g_autofree char *xml = abi_domain(UUID_A, NULL);
    struct hugevm_vm vm = abi_vm(xml, NULL);
    for (guint bit = 5; bit < 32; bit++) {
        vm.flags = 1u << bit;
        g_assert_cmpint(abi_begin_vm(host, host->plugin->plan, &vm), ==,
                        HUGEVM_ERROR_INVALID_ARGUMENT);
    }
}

static void test_missing_pointers(AbiHost *host)
{
    g_autofree char *xml = abi_domain(UUID_A, NULL);
    const struct hugevm_vm vm = abi_vm(xml, NULL);
    struct hugevm_result *result = NULL;
    const AbiBegin slots[] = {host->plugin->plan, host->plugin->before_vm_start,
                              host->plugin->before_vm_migrate_destination};
    for (guint i = 0; i < G_N_ELEMENTS(slots); i++) {
        g_assert_cmpint(slots[i](NULL, &vm, &result, NULL), ==, HUGEVM_ERROR_INVALID_ARGUMENT);
        g_assert_cmpint(slots[i](host->handle, NULL, &result, NULL), ==,
                        HUGEVM_ERROR_INVALID_ARGUMENT);
        g_assert_cmpint(slots[i](host->handle, &vm, NULL, NULL), ==, HUGEVM_ERROR_INVALID_ARGUMENT);
    }
    g_assert_null(result);
}

static void test_missing_xml(AbiHost *host)
{
    g_autofree char *xml = abi_domain(UUID_A, NULL);
    struct hugevm_vm vm = abi_vm(xml, NULL);
    vm.domain_xml = NULL;
    g_assert_cmpint(abi_begin_vm(host, host->plugin->plan, &vm), ==, HUGEVM_ERROR_INVALID_ARGUMENT);
}

static void test_incomplete_properties(AbiHost *host)
{
    g_assert_cmpint(abi_begin(host, host->plugin->plan, "hugepages", NULL), ==,
                    HUGEVM_ERROR_INVALID_ARGUMENT);
    g_autofree char *xml = abi_domain(UUID_A, NULL);
    struct hugevm_property nameless = {NULL, "2048"};
    struct hugevm_vm vm = abi_vm(xml, NULL);
    vm.property_count = 1;
    g_assert_cmpint(abi_begin_vm(host, host->plugin->plan, &vm), ==, HUGEVM_ERROR_INVALID_ARGUMENT);
    vm.properties = &nameless;
    g_assert_cmpint(abi_begin_vm(host, host->plugin->plan, &vm), ==, HUGEVM_ERROR_INVALID_ARGUMENT);
    vm.property_count = UINT64_MAX;
    g_assert_cmpint(abi_begin_vm(host, host->plugin->plan, &vm), ==, HUGEVM_ERROR_INVALID_ARGUMENT);
}

static void test_wrong_uuid(AbiHost *host)
{
    g_autofree char *xml = abi_domain(UUID_A, NULL);
    struct hugevm_property property = {"hugepages", "2048"};
    struct hugevm_vm vm = abi_vm(xml, &property);
    vm.uuid = "no uuid";
    g_assert_cmpint(abi_begin_vm(host, host->plugin->plan, &vm), ==, HUGEVM_ERROR_INVALID_ARGUMENT);
    vm.uuid = UUID_B;
    g_assert_cmpint(abi_begin_vm(host, host->plugin->plan, &vm), ==, HUGEVM_ERROR_INVALID_ARGUMENT);
    abi_assert_error(host, HUGEVM_ERROR_INVALID_ARGUMENT, UUID_A);
    abi_assert_error(host, HUGEVM_ERROR_INVALID_ARGUMENT, UUID_B);
}

static void test_references(AbiHost *host)
{
    const AbiTell slots[] = {host->plugin->vm_launching, host->plugin->after_vm_start,
                             host->plugin->after_vm_destroy, host->plugin->vm_start_failed};
    for (guint i = 0; i < G_N_ELEMENTS(slots); i++) {
        struct hugevm_vm_ref ref = {.size = sizeof ref, .uuid = UUID_A};
        g_assert_cmpint(slots[i](NULL, &ref, NULL), ==, HUGEVM_ERROR_INVALID_ARGUMENT);
        g_assert_cmpint(slots[i](host->handle, NULL, NULL), ==, HUGEVM_ERROR_INVALID_ARGUMENT);
        g_assert_cmpint(abi_tell(host, slots[i], NULL, 0), ==, HUGEVM_ERROR_INVALID_ARGUMENT);
        g_assert_cmpint(abi_tell(host, slots[i], "junk", 0), ==, HUGEVM_ERROR_INVALID_ARGUMENT);
        ref.qemu_pid = -1;
        g_assert_cmpint(slots[i](host->handle, &ref, NULL), ==, HUGEVM_ERROR_INVALID_ARGUMENT);
        ref = (struct hugevm_vm_ref){.uuid = UUID_A};
        g_assert_cmpint(slots[i](host->handle, &ref, NULL), ==, HUGEVM_ERROR_INVALID_ARGUMENT);
    }
}

static void test_older_and_newer_reference(AbiHost *host)
{
    struct {
        struct hugevm_vm_ref ref;
        uint64_t tail;
    } newer = {{.size = sizeof newer, .uuid = UUID_A}, 0};
    AbiTell slot = host->plugin->vm_launching;
    g_assert_cmpint(slot(host->handle, &newer.ref, NULL), ==, HUGEVM_ERROR_UNKNOWN_VM);
    newer.tail = 1;
    g_assert_cmpint(slot(host->handle, &newer.ref, NULL), ==, HUGEVM_ERROR_INVALID_ARGUMENT);
    struct hugevm_vm_ref older = {.size = offsetof(struct hugevm_vm_ref, generation),
                                  .uuid = UUID_A,
                                  .generation = 7,
                                  .qemu_pid = -1};
    g_assert_cmpint(slot(host->handle, &older, NULL), ==, HUGEVM_ERROR_UNKNOWN_VM);
}

static void test_host_sizes(AbiHost *host)
{
    struct {
        struct hugevm_host host;
        uint64_t tail;
    } newer = {abi_offer(host), 0};
    struct hugevm_handle *handle = NULL;
    newer.host.size = sizeof newer;
    g_assert_cmpint(host->plugin->open(&newer.host, NULL, &handle, NULL), ==, HUGEVM_OK);
    host->plugin->close(g_steal_pointer(&handle));
    newer.tail = 1;
    g_assert_cmpint(host->plugin->open(&newer.host, NULL, &handle, NULL), ==,
                    HUGEVM_ERROR_INVALID_ARGUMENT);
    newer.host.size = 0;
    g_assert_cmpint(host->plugin->open(&newer.host, NULL, &handle, NULL), ==,
                    HUGEVM_ERROR_INVALID_ARGUMENT);
    newer.host.size = offsetof(struct hugevm_host, log);
    newer.host.log = (void (*)(void *, uint32_t, const char *, const char *))1;
    newer.host.owner_pid = -1;
    g_assert_cmpint(host->plugin->open(&newer.host, NULL, &handle, NULL), ==, HUGEVM_OK);
    host->plugin->close(handle);
}

static void test_options_sizes(AbiHost *host)
{
    struct hugevm_host offer = abi_offer(host);
    struct {
        struct hugevm_options options;
        uint64_t tail;
    } newer = {{.size = sizeof newer}, 0};
    struct hugevm_handle *handle = NULL;
    g_assert_cmpint(host->plugin->open(&offer, &newer.options, &handle, NULL), ==, HUGEVM_OK);
    host->plugin->close(g_steal_pointer(&handle));
    newer.tail = 1;
    g_assert_cmpint(host->plugin->open(&offer, &newer.options, &handle, NULL), ==,
                    HUGEVM_ERROR_INVALID_ARGUMENT);
    newer.options.size = 0;
    g_assert_cmpint(host->plugin->open(&offer, &newer.options, &handle, NULL), ==,
                    HUGEVM_ERROR_INVALID_ARGUMENT);
    g_assert_null(handle);
}

static int32_t fail_into(AbiHost *host, struct hugevm_error *error)
{
    struct hugevm_vm_ref ref = {.size = sizeof ref, .uuid = UUID_A};
    return host->plugin->vm_launching(host->handle, &ref, error);
}

/* Every size up to ours: bytes behind the host's struct stay as they are. */
static void test_error_is_never_overrun(AbiHost *host)
{
    union {
        struct hugevm_error error;
        unsigned char bytes[sizeof(struct hugevm_error) + sizeof(uint64_t)];
    } small;
    for (uint32_t size = 0; size <= sizeof(struct hugevm_error); size++) {
        memset(&small, 0xa5, sizeof small);
        memcpy(&small, &size, sizeof size);
        g_assert_cmpint(fail_into(host, &small.error), ==, HUGEVM_ERROR_UNKNOWN_VM);
        g_assert_cmpuint(small.error.size, ==, size);
        for (gsize i = MAX(size, sizeof size); i < sizeof small; i++)
            if (small.bytes[i] != 0xa5)
                g_error("size %u: byte %" G_GSIZE_FORMAT " was written", size, i);
        if (size >= offsetof(struct hugevm_error, system_errno))
            g_assert_cmpint(small.error.code, ==, HUGEVM_ERROR_UNKNOWN_VM);
    }
}

/* A host that was built against less of the message still gets a string. */
static void test_cut_message_ends(AbiHost *host)
{
    struct {
        struct hugevm_error error;
        uint64_t canary;
    } small = {.canary = CANARY};
    memset(small.error.message, 'x', sizeof small.error.message);
    small.error.size = offsetof(struct hugevm_error, message) + 8;
    g_assert_cmpint(fail_into(host, &small.error), ==, HUGEVM_ERROR_UNKNOWN_VM);
    g_assert_nonnull(memchr(small.error.message, '\0', 8));
    g_assert_cmpuint(small.canary, ==, CANARY);
}

static void test_larger_error(AbiHost *host)
{
    struct {
        struct hugevm_error error;
        uint64_t tail;
    } large = {{.size = sizeof large}, CANARY};
    g_assert_cmpint(fail_into(host, &large.error), ==, HUGEVM_ERROR_UNKNOWN_VM);
    g_assert_cmpint(large.error.code, ==, HUGEVM_ERROR_UNKNOWN_VM);
    g_assert_cmpstr(large.error.message, !=, "");
    g_assert_cmpuint(large.tail, ==, CANARY);
}

static void test_long_message(AbiHost *host)
{
    g_autoptr(GString) path = g_string_new("/nonexistent");
    while (path->len < 3000)
        g_string_append(path, "/x\303\251\303\251\303\251");
    const char *const conf_files[] = {path->str, NULL};
    const struct hugevm_options options = {
        .size = sizeof options, .root = host->root, .conf_files = conf_files};
    abi_reopen(host, &options);
    g_assert_cmpint(abi_begin(host, host->plugin->plan, "hugepages", "2048"), ==,
                    HUGEVM_ERROR_BAD_CONFIG); /* and abi_begin checks that the text is whole */
}

int main(int argc, char **argv)
{
    abi_init(&argc, &argv);
    abi_add("/structs/a larger description with a zero tail is fine", test_vm_with_zero_tail);
    abi_add("/structs/a larger description with a set tail is refused", test_vm_with_set_tail);
    abi_add("/structs/what an older description lacks is zero", test_older_vm);
    abi_add("/structs/a description without size is refused", test_vm_without_size);
    abi_add("/structs/a description with nothing but its size is refused",
            test_vm_with_nothing_but_size);
    abi_add("/structs/unknown flags are refused", test_unknown_flags);
    abi_add("/structs/missing pointers are refused", test_missing_pointers);
    abi_add("/structs/a description without XML is refused", test_missing_xml);
    abi_add("/structs/incomplete properties are refused", test_incomplete_properties);
    abi_add("/structs/a UUID that is none, or not the XML's, is refused", test_wrong_uuid);
    abi_add("/structs/references are checked by every event", test_references);
    abi_add("/structs/references may be older and newer", test_older_and_newer_reference);
    abi_add("/structs/hosts may be older and newer", test_host_sizes);
    abi_add("/structs/options may be newer", test_options_sizes);
    abi_add("/structs/an error is never written beyond its size", test_error_is_never_overrun);
    abi_add("/structs/a message cut by a small size still ends", test_cut_message_ends);
    abi_add("/structs/a larger error is filled as far as we know it", test_larger_error);
    abi_add("/structs/a long message is cut between characters", test_long_message);
    return g_test_run();
}
