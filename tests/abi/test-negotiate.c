/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Meeting the plugin: versions, the table, opening and closing, loading it twice. */
#include "abi-host.h"

#include "loader.h"

#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

static hugevm_plugin_negotiate_function find_negotiate(void)
{
    hugevm_plugin_negotiate_function negotiate;
    void *module = dlopen(abi_module, RTLD_NOW | RTLD_LOCAL);
    g_assert_nonnull(module);
    void *symbol = dlsym(module, HUGEVM_NEGOTIATE_SYMBOL);
    g_assert_nonnull(symbol);
    memcpy(&negotiate, &symbol, sizeof negotiate);
    return negotiate;
}

static void assert_both_versions(const char *message)
{
    g_autofree char *ours = g_strdup_printf("%u.%u", HUGEVM_ABI_MAJOR, HUGEVM_ABI_MINOR);
    g_assert_nonnull(strstr(message, "2.7"));
    g_assert_nonnull(strstr(message, ours));
}

static void test_other_major(AbiHost *host)
{
    struct hugevm_host offer = abi_offer(host);
    const struct hugevm_plugin *plugin = (const struct hugevm_plugin *)host;
    struct hugevm_error error = {.size = sizeof error};
    offer.abi_major = 2;
    offer.abi_minor = 7;
    g_assert_cmpint(find_negotiate()(&offer, &plugin, &error), ==, HUGEVM_ERROR_ABI_MISMATCH);
    g_assert_cmpint(error.code, ==, HUGEVM_ERROR_ABI_MISMATCH);
    assert_both_versions(error.message);
    g_assert_true(plugin == (const struct hugevm_plugin *)host);
}

/* "Checks both versions before anything else": also before it looks at what it does not know. */
static void test_other_major_with_more_fields(AbiHost *host)
{
    struct {
        struct hugevm_host host;
        uint64_t field_of_version_2;
    } offer = {abi_offer(host), 42};
    const struct hugevm_plugin *plugin = NULL;
    struct hugevm_error error = {.size = sizeof error};
    offer.host.size = sizeof offer;
    offer.host.abi_major = 2;
    offer.host.abi_minor = 7;
    g_assert_cmpint(find_negotiate()(&offer.host, &plugin, &error), ==, HUGEVM_ERROR_ABI_MISMATCH);
    assert_both_versions(error.message);
}

static void test_other_major_in_open(AbiHost *host)
{
    struct hugevm_host offer = abi_offer(host);
    struct hugevm_handle *handle = NULL;
    struct hugevm_error error = {.size = sizeof error};
    offer.abi_major = 2;
    offer.abi_minor = 7;
    g_assert_cmpint(host->plugin->open(&offer, NULL, &handle, &error), ==,
                    HUGEVM_ERROR_ABI_MISMATCH);
    assert_both_versions(error.message);
    g_assert_null(handle);
}

static void test_loader_tells_mismatch(AbiHost *host)
{
    struct hugevm_host offer = abi_offer(host);
    char message[512] = "";
    offer.abi_major = 2;
    offer.abi_minor = 7;
    g_assert_null(hugevm_load(abi_module, &offer, message, sizeof message));
    assert_both_versions(message);
}

static void test_loader_tells_what_is_no_module(AbiHost *host)
{
    char message[512] = "";
    g_assert_null(hugevm_load("/nonexistent/hugevm.so", NULL, message, sizeof message));
    g_assert_nonnull(strstr(message, "/nonexistent/hugevm.so"));
    g_assert_null(hugevm_load(host->conf, NULL, message, sizeof message));
    g_assert_nonnull(strstr(message, host->conf));
}

static void test_newer_minor(AbiHost *host)
{
    struct hugevm_host offer = abi_offer(host);
    const struct hugevm_plugin *plugin = NULL;
    offer.abi_minor = 99;
    g_assert_cmpint(find_negotiate()(&offer, &plugin, NULL), ==, HUGEVM_OK);
    g_assert_true(plugin == host->plugin);
}

static void test_no_host(AbiHost *host)
{
    const struct hugevm_plugin *plugin = NULL;
    g_assert_cmpint(find_negotiate()(NULL, &plugin, NULL), ==, HUGEVM_OK);
    g_assert_true(plugin == host->plugin);
}

static void test_no_place_for_table(AbiHost *host)
{
    struct hugevm_host offer = abi_offer(host);
    struct hugevm_error error = {.size = sizeof error};
    g_assert_cmpint(find_negotiate()(&offer, NULL, &error), ==, HUGEVM_ERROR_INVALID_ARGUMENT);
    g_assert_cmpint(error.code, ==, HUGEVM_ERROR_INVALID_ARGUMENT);
    g_assert_cmpint(find_negotiate()(&offer, NULL, NULL), ==, HUGEVM_ERROR_INVALID_ARGUMENT);
}

static void test_table(AbiHost *host)
{
    const struct hugevm_plugin *plugin = host->plugin;
    g_assert_cmpuint(plugin->size, >=, sizeof *plugin);
    g_assert_cmpuint(plugin->abi_major, ==, HUGEVM_ABI_MAJOR);
    g_assert_cmpuint(plugin->abi_minor, >=, HUGEVM_ABI_MINOR);
    g_assert_cmpuint(plugin->features, ==, 0);
    g_assert_true(g_regex_match_simple("^[0-9]+\\.[0-9]+\\.[0-9]+", plugin->version, 0, 0));
}

static void test_no_slot_is_null(AbiHost *host)
{
    const gsize first = offsetof(struct hugevm_plugin, open);
    const gsize count = (host->plugin->size - first) / sizeof(void *);
    g_assert_cmpuint(count, >=, 29);
    for (gsize i = 0; i < count; i++) {
        void *slot;
        memcpy(&slot, (const char *)host->plugin + first + i * sizeof slot, sizeof slot);
        if (slot == NULL)
            g_error("slot %" G_GSIZE_FORMAT " is NULL", i);
    }
}

static void test_open_without_options(AbiHost *host)
{
    struct hugevm_host offer = abi_offer(host);
    struct hugevm_handle *handle = NULL;
    g_assert_cmpint(host->plugin->open(&offer, NULL, &handle, NULL), ==, HUGEVM_OK);
    g_assert_nonnull(handle);
    host->plugin->close(handle);
    host->plugin->close(NULL);
}

static void test_open_without_host_or_place(AbiHost *host)
{
    struct hugevm_host offer = abi_offer(host);
    struct hugevm_handle *handle = (struct hugevm_handle *)host;
    struct hugevm_error error = {.size = sizeof error};
    g_assert_cmpint(host->plugin->open(NULL, NULL, &handle, &error), ==,
                    HUGEVM_ERROR_INVALID_ARGUMENT);
    g_assert_true(handle == (struct hugevm_handle *)host);
    g_assert_cmpint(host->plugin->open(&offer, NULL, NULL, &error), ==,
                    HUGEVM_ERROR_INVALID_ARGUMENT);
}

static void test_open_reads_no_configuration(AbiHost *host)
{
    const char *const conf_files[] = {"/nonexistent/hugevm.conf", NULL};
    const struct hugevm_options options = {
        .size = sizeof options, .root = "/nonexistent", .conf_files = conf_files};
    abi_reopen(host, &options);
}

/* "Copied by open: the struct need not live longer." */
static void test_open_copies(AbiHost *host)
{
    g_autofree char *root = g_strdup(host->root);
    g_autofree char *conf = g_strdup(host->conf);
    const char *conf_files[] = {conf, NULL};
    struct hugevm_options options = {
        .size = sizeof options, .root = root, .conf_files = conf_files};
    abi_reopen(host, &options);
    memset(root, 'x', strlen(root));
    memset(conf, 'x', strlen(conf));
    memset(conf_files, 0, sizeof conf_files);
    memset(&options, 0xff, sizeof options);
    g_assert_cmpint(abi_begin(host, host->plugin->plan, "hugepages", "2048"), ==, HUGEVM_OK);
}

static void test_load_again(AbiHost *host)
{
    const struct hugevm_plugin *again = NULL;
    hugevm_plugin_negotiate_function negotiate;
    void *module = dlopen(abi_module, RTLD_NOW | RTLD_LOCAL);
    g_assert_nonnull(module);
    for (int i = 0; i < 8; i++)
        dlclose(module); /* more often than opened by us, should the loader's own count too */
    void *resident = dlopen(abi_module, RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
    g_assert_nonnull(resident);
    void *symbol = dlsym(resident, HUGEVM_NEGOTIATE_SYMBOL);
    memcpy(&negotiate, &symbol, sizeof negotiate);
    g_assert_cmpint(negotiate(NULL, &again, NULL), ==, HUGEVM_OK);
    g_assert_true(again == host->plugin);
    g_assert_cmpint(abi_begin(host, again->plan, "hugepages", "2048"), ==, HUGEVM_OK);
}

int main(int argc, char **argv)
{
    abi_init(&argc, &argv);
    abi_add("/negotiate/another major version is refused, and both are named", test_other_major);
    abi_add("/negotiate/the same with fields that this version does not know",
            test_other_major_with_more_fields);
    abi_add("/negotiate/open checks the major version too", test_other_major_in_open);
    abi_add("/negotiate/the loader passes the refusal on", test_loader_tells_mismatch);
    abi_add("/negotiate/the loader names the file that is no module",
            test_loader_tells_what_is_no_module);
    abi_add("/negotiate/a newer minor version of the host is fine", test_newer_minor);
    abi_add("/negotiate/a host may offer nothing", test_no_host);
    abi_add("/negotiate/without a place for the table it is an error", test_no_place_for_table);
    abi_add("/negotiate/the table names versions", test_table);
    abi_add("/negotiate/no slot is NULL", test_no_slot_is_null);
    abi_add("/negotiate/open needs no options, close no handle", test_open_without_options);
    abi_add("/negotiate/open needs a host and a place for the handle",
            test_open_without_host_or_place);
    abi_add("/negotiate/open reads no configuration", test_open_reads_no_configuration);
    abi_add("/negotiate/open keeps nothing of its options", test_open_copies);
    abi_add("/negotiate/dlclose unloads nothing, dlopen finds it again", test_load_again);
    return g_test_run();
}
