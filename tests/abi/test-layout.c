/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The frozen part of the ABI, written a second time: version 1.0 as it was when
 * it was promised. Sizes and offsets are compared at run time, types by the
 * compiler: SAME() takes a pointer to our member from a pointer to theirs, and
 * that is an error (see meson.build) where the types differ.
 *
 * What a later minor version appends is added at the end here as well; nothing
 * that stands here is ever edited.
 */
#include "hugevm/plugin.h"

#include <glib.h>
#include <stddef.h>

struct error_1 {
    uint32_t size;
    int32_t code;
    int32_t system_errno;
    uint32_t reserved;
    char message[1024];
    char hint[1024];
};

struct host_1 {
    uint32_t size;
    uint32_t abi_major;
    uint32_t abi_minor;
    uint32_t features;
    const char *name;
    void *opaque;
    void (*log)(void *, uint32_t, const char *, const char *);
    int32_t (*progress)(void *, uint64_t, uint64_t, const char *);
    int64_t owner_pid;
};

struct options_1 {
    uint32_t size;
    uint32_t reserved;
    const char *root;
    const char *const *conf_files;
};

struct property_1 {
    const char *name;
    const char *value;
};

struct vm_1 {
    uint32_t size;
    uint32_t flags;
    const char *uuid;
    const char *domain_xml;
    uint64_t domain_xml_bytes;
    const struct hugevm_property *properties;
    uint64_t property_count;
    uint32_t timeout_ms;
    uint32_t reserved;
    uint32_t libvirt_version;
    uint32_t qemu_version;
};

struct vm_ref_1 {
    uint32_t size;
    uint32_t flags;
    const char *uuid;
    uint64_t generation;
    int64_t qemu_pid;
    const char *const *memory_directories;
};

typedef struct hugevm_handle Handle;
typedef struct hugevm_result Result;
typedef struct hugevm_error Error;
typedef const struct hugevm_vm_ref *Ref;

struct plugin_1 {
    uint32_t size;
    uint32_t abi_major;
    uint32_t abi_minor;
    uint32_t features;
    const char *version;
    int32_t (*open)(const struct hugevm_host *, const struct hugevm_options *, Handle **, Error *);
    void (*close)(Handle *);
    int32_t (*before_vm_start)(Handle *, const struct hugevm_vm *, Result **, Error *);
    int32_t (*vm_launching)(Handle *, Ref, Error *);
    int32_t (*after_vm_start)(Handle *, Ref, Error *);
    int32_t (*after_vm_destroy)(Handle *, Ref, Error *);
    int32_t (*before_vm_migrate_destination)(Handle *, const struct hugevm_vm *, Result **,
                                             Error *);
    int32_t (*after_vm_migrate_destination)(Handle *, Ref, Error *);
    int32_t (*after_vm_migrate_source)(Handle *, Ref, Error *);
    int32_t (*before_vm_dehibernate)(Handle *, const struct hugevm_vm *, Result **, Error *);
    int32_t (*after_vm_hibernate)(Handle *, Ref, Error *);
    int32_t (*vm_start_failed)(Handle *, Ref, Error *);
    int32_t (*before_memory_hotplug)(Handle *, Ref, const char *, uint64_t, Result **, Error *);
    int32_t (*after_memory_hotplug)(Handle *, Ref, const char *, uint64_t, Error *);
    int32_t (*memory_hotplug_failed)(Handle *, Ref, const char *, uint64_t, Error *);
    int32_t (*after_memory_hotunplug)(Handle *, Ref, const char *, uint64_t, Error *);
    int32_t (*reconcile_begin)(Handle *, uint64_t *, Error *);
    int32_t (*reconcile)(Handle *, uint64_t, const char *const *, uint64_t, Error *);
    int32_t (*get_caps)(Handle *, Result **, Error *);
    int32_t (*get_stats)(Handle *, Result **, Error *);
    int32_t (*plan)(Handle *, const struct hugevm_vm *, Result **, Error *);
    const char *(*result_domain_xml)(const Result *, uint64_t *);
    int32_t (*result_xml_changed)(const Result *);
    const char *(*result_uuid)(const Result *);
    uint64_t (*result_generation)(const Result *);
    const char *(*result_json)(const Result *);
    uint64_t (*result_warning_count)(const Result *);
    const char *(*result_warning)(const Result *, uint64_t);
    void (*result_free)(Result *);
    int32_t (*adapt_incoming_xml)(Handle *, const struct hugevm_vm *, Result **, Error *);
    int32_t (*before_device_hotplug)(Handle *, Ref, const char *, uint64_t, Error *);
};

/* theirs = struct hugevm_NAME, ours = struct NAME_1. */
#define SAME(name, member)                                                                         \
    do {                                                                                           \
        struct name##_1 ours_value = {.size = sizeof ours_value};                                  \
        struct hugevm_##name theirs_value = {.size = sizeof theirs_value};                         \
        __typeof__(&ours_value.member) type_check = &theirs_value.member;                          \
        g_assert_nonnull(type_check);                                                              \
        g_assert_cmpuint(offsetof(struct hugevm_##name, member), ==,                               \
                         offsetof(struct name##_1, member));                                       \
        g_assert_cmpuint(sizeof theirs_value.member, ==, sizeof ours_value.member);                \
    } while (0)

#if UINTPTR_MAX == UINT64_MAX
#define SIZE_IS(name, bytes) g_assert_cmpuint(sizeof(struct hugevm_##name), ==, (bytes))
#else
#define SIZE_IS(name, bytes)                                                                       \
    g_assert_cmpuint(sizeof(struct hugevm_##name), ==, sizeof(struct name##_1))
#endif

static void test_error(void)
{
    SIZE_IS(error, 2064);
    SAME(error, size);
    SAME(error, code);
    SAME(error, system_errno);
    SAME(error, reserved);
    SAME(error, message);
    SAME(error, hint);
}

static void test_host(void)
{
    SIZE_IS(host, 56);
    SAME(host, size);
    SAME(host, abi_major);
    SAME(host, abi_minor);
    SAME(host, features);
    SAME(host, name);
    SAME(host, opaque);
    SAME(host, log);
    SAME(host, progress);
    SAME(host, owner_pid);
}

static void test_options(void)
{
    SIZE_IS(options, 24);
    SAME(options, size);
    SAME(options, reserved);
    SAME(options, root);
    SAME(options, conf_files);
}

/* The one struct without a size: it never grows, for hosts pass arrays of it. */
static void test_property(void)
{
    struct hugevm_property theirs = {"name", "value"};
    struct property_1 ours = {"name", "value"};
    __typeof__(&ours.name) name = &theirs.name;
    __typeof__(&ours.value) value = &theirs.value;
    g_assert_cmpstr(*name, ==, "name");
    g_assert_cmpstr(*value, ==, "value");
    g_assert_cmpuint(sizeof theirs, ==, 2 * sizeof(char *));
    g_assert_cmpuint(offsetof(struct hugevm_property, name), ==, 0);
    g_assert_cmpuint(offsetof(struct hugevm_property, value), ==, sizeof(char *));
}

static void test_vm(void)
{
    SIZE_IS(vm, 64);
    SAME(vm, size);
    SAME(vm, flags);
    SAME(vm, uuid);
    SAME(vm, domain_xml);
    SAME(vm, domain_xml_bytes);
    SAME(vm, properties);
    SAME(vm, property_count);
    SAME(vm, timeout_ms);
    SAME(vm, reserved);
    SAME(vm, libvirt_version);
    SAME(vm, qemu_version);
}

static void test_vm_ref(void)
{
    SIZE_IS(vm_ref, 40);
    SAME(vm_ref, size);
    SAME(vm_ref, flags);
    SAME(vm_ref, uuid);
    SAME(vm_ref, generation);
    SAME(vm_ref, qemu_pid);
    SAME(vm_ref, memory_directories);
}

static void test_plugin_head(void)
{
    SIZE_IS(plugin, 272);
    SAME(plugin, size);
    SAME(plugin, abi_major);
    SAME(plugin, abi_minor);
    SAME(plugin, features);
    SAME(plugin, version);
    SAME(plugin, open);
    SAME(plugin, close);
    SAME(plugin, before_vm_start);
    SAME(plugin, vm_launching);
    SAME(plugin, after_vm_start);
    SAME(plugin, after_vm_destroy);
    SAME(plugin, before_vm_migrate_destination);
    SAME(plugin, after_vm_migrate_destination);
    SAME(plugin, after_vm_migrate_source);
    SAME(plugin, before_vm_dehibernate);
    SAME(plugin, after_vm_hibernate);
    SAME(plugin, vm_start_failed);
}

static void test_plugin_tail(void)
{
    SAME(plugin, before_memory_hotplug);
    SAME(plugin, after_memory_hotplug);
    SAME(plugin, memory_hotplug_failed);
    SAME(plugin, after_memory_hotunplug);
    SAME(plugin, reconcile_begin);
    SAME(plugin, reconcile);
    SAME(plugin, get_caps);
    SAME(plugin, get_stats);
    SAME(plugin, plan);
    SAME(plugin, result_domain_xml);
    SAME(plugin, result_xml_changed);
    SAME(plugin, result_uuid);
    SAME(plugin, result_generation);
    SAME(plugin, result_json);
    SAME(plugin, result_warning_count);
    SAME(plugin, result_warning);
    SAME(plugin, result_free);
    SAME(plugin, adapt_incoming_xml);
    SAME(plugin, before_device_hotplug);
}

static void test_negotiate(void)
{
    typedef int32_t (*Negotiate)(const struct hugevm_host *, const struct hugevm_plugin **,
                                 Error *);
    hugevm_plugin_negotiate_function theirs = NULL;
    Negotiate *function_type = &theirs;
    Negotiate ours = *function_type;
    g_assert_null(ours);
    /* the declaration itself, without linking the module: only its type is looked at */
    Negotiate *declared = (__typeof__(&hugevm_plugin_negotiate) *)&ours;
    g_assert_nonnull(declared);
    g_assert_cmpstr(HUGEVM_NEGOTIATE_SYMBOL, ==, "hugevm_plugin_negotiate");
}

static void test_versions_and_flags(void)
{
    g_assert_cmpuint(HUGEVM_ABI_MAJOR, ==, 1);
    g_assert_cmpuint(HUGEVM_ABI_MINOR, ==, 0);
    g_assert_cmpuint(HUGEVM_LOG_DEBUG, ==, 1);
    g_assert_cmpuint(HUGEVM_LOG_INFO, ==, 2);
    g_assert_cmpuint(HUGEVM_LOG_WARNING, ==, 3);
    g_assert_cmpuint(HUGEVM_VM_WILL_CALL_LAUNCHING, ==, 1);
    g_assert_cmpuint(HUGEVM_VM_CANNOT_EDIT_XML, ==, 2);
    g_assert_cmpuint(HUGEVM_VM_ADOPT_CLAIM, ==, 4);
    g_assert_cmpuint(HUGEVM_VM_HOST_WAITS, ==, 8);
    g_assert_cmpuint(HUGEVM_VM_BY_LIBVIRTD, ==, 16);
    g_assert_cmpuint(HUGEVM_VM_REF_OWN_CLAIM, ==, 1);
    g_assert_cmpuint(HUGEVM_VM_REF_HOST_WAITS, ==, 2);
}

static void test_codes(void)
{
    g_assert_cmpint(HUGEVM_OK, ==, 0);
    g_assert_cmpint(HUGEVM_ERROR_INVALID_ARGUMENT, ==, 1);
    g_assert_cmpint(HUGEVM_ERROR_NOT_SUPPORTED, ==, 2);
    g_assert_cmpint(HUGEVM_ERROR_ABI_MISMATCH, ==, 3);
    g_assert_cmpint(HUGEVM_ERROR_BAD_PROPERTY, ==, 4);
    g_assert_cmpint(HUGEVM_ERROR_BAD_XML, ==, 5);
    g_assert_cmpint(HUGEVM_ERROR_BAD_CONFIG, ==, 6);
    g_assert_cmpint(HUGEVM_ERROR_CONFLICT, ==, 7);
    g_assert_cmpint(HUGEVM_ERROR_SHORTAGE, ==, 8);
    g_assert_cmpint(HUGEVM_ERROR_TIMEOUT, ==, 9);
    g_assert_cmpint(HUGEVM_ERROR_CANCELLED, ==, 10);
    g_assert_cmpint(HUGEVM_ERROR_PERMISSION, ==, 11);
    g_assert_cmpint(HUGEVM_ERROR_LEDGER, ==, 12);
    g_assert_cmpint(HUGEVM_ERROR_SYSTEM, ==, 13);
    g_assert_cmpint(HUGEVM_ERROR_UNKNOWN_VM, ==, 14);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/layout/hugevm_error is as promised", test_error);
    g_test_add_func("/layout/hugevm_host is as promised", test_host);
    g_test_add_func("/layout/hugevm_options is as promised", test_options);
    g_test_add_func("/layout/hugevm_property never grows", test_property);
    g_test_add_func("/layout/hugevm_vm is as promised", test_vm);
    g_test_add_func("/layout/hugevm_vm_ref is as promised", test_vm_ref);
    g_test_add_func("/layout/the first slots are as promised", test_plugin_head);
    g_test_add_func("/layout/the last slots are as promised", test_plugin_tail);
    g_test_add_func("/layout/the exported function is as promised", test_negotiate);
    g_test_add_func("/layout/versions, levels and flags have their numbers",
                    test_versions_and_flags);
    g_test_add_func("/layout/error codes have their numbers", test_codes);
    return g_test_run();
}
