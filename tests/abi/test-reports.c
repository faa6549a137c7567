/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* get_caps and get_stats: what a host agent publishes. */
#include "abi-host.h"

#include <json-glib/json-glib.h>
#include <string.h>

#define SIZE_2M 2048
#define SIZE_1G 1048576

typedef int32_t (*AbiReport)(struct hugevm_handle *handle, struct hugevm_result **out_result,
                             struct hugevm_error *error);

static int32_t ask(AbiHost *host, AbiReport slot)
{
    host->plugin->result_free(host->result);
    host->result = NULL;
    host->error = (struct hugevm_error){.size = sizeof host->error};
    int32_t code = slot(host->handle, &host->result, &host->error);
    g_assert_cmpint(host->error.code, ==, code);
    g_assert_true((host->result != NULL) == (code == HUGEVM_OK));
    return code;
}

/* The document; to be freed. */
static JsonNode *report(AbiHost *host, AbiReport slot)
{
    g_autoptr(GError) error = NULL;
    g_assert_cmpint(ask(host, slot), ==, HUGEVM_OK);
    JsonNode *node = json_from_string(host->plugin->result_json(host->result), &error);
    g_assert_no_error(error);
    g_assert_cmpint(json_object_get_int_member(json_node_get_object(node), "version"), ==, 1);
    return node;
}

/* The row of a list that is about a page size. */
static JsonObject *row(JsonNode *node, const char *list, gint64 size_kib)
{
    JsonArray *rows = json_object_get_array_member(json_node_get_object(node), list);
    for (guint i = 0; i < json_array_get_length(rows); i++) {
        JsonObject *one = json_array_get_object_element(rows, i);
        if (json_object_get_int_member(one, "size_kib") == size_kib)
            return one;
    }
    g_assert_not_reached();
}

static void assert_member(JsonNode *node, const char *list, const char *name, gint64 value)
{
    JsonObject *object = row(node, list, SIZE_2M);
    g_assert_true(json_object_has_member(object, name));
    g_assert_cmpint(json_object_get_int_member(object, name), ==, value);
}

static void test_stats_take_off_what_is_reserved(AbiHost *host)
{
    abi_write_pool(host, SIZE_2M, 100, 60);
    abi_write_conf(host, "[hugevm]\nreserved = size:2M,count:50\n");
    g_autoptr(JsonNode) node = report(host, host->plugin->get_stats);
    assert_member(node, "sizes", "total", 100);
    assert_member(node, "sizes", "free", 60);
    assert_member(node, "sizes", "reserved", 50);
    assert_member(node, "sizes", "available", 50); /* 40 are in use: the consumer's, all of them */
    assert_member(node, "sizes", "allocatable", 50);
    assert_member(node, "pools", "node", 0);
    assert_member(node, "pools", "available", 50);
    assert_member(node, "pools", "allocatable", 50);
    g_assert_true(json_object_get_boolean_member(row(node, "sizes", SIZE_2M), "default"));
    g_assert_false(json_object_get_boolean_member(row(node, "sizes", SIZE_1G), "default"));
    g_assert_null(strstr(host->plugin->result_json(host->result), "null"));
}

/* The 40 pages in use are somebody else's: Open vSwitch does not run. */
static void test_stats_keep_what_is_reserved_by_name_for_it(AbiHost *host)
{
    abi_write_pool(host, SIZE_2M, 100, 60);
    abi_write_conf(host, "[hugevm]\nreserved = ovs=size:2M,count:50\n");
    g_autoptr(JsonNode) node = report(host, host->plugin->get_stats);
    assert_member(node, "sizes", "available", 60 - 50);
    assert_member(node, "pools", "available", 60 - 50);
}

static void test_stats_take_off_what_is_claimed(AbiHost *host)
{
    abi_write_pool(host, SIZE_2M, 200, 200);
    g_assert_cmpint(abi_begin(host, host->plugin->before_vm_start, "hugepages", "2048"), ==,
                    HUGEVM_OK);
    g_autoptr(JsonNode) node = report(host, host->plugin->get_stats);
    assert_member(node, "sizes", "claimed", 128);
    assert_member(node, "sizes", "available", 200 - 128);
    assert_member(node, "pools", "free", 200);
    assert_member(node, "pools", "allocatable", 200 - 128);
}

/* One block of 2^18 pages: 1 GiB, of which one 64th is left out. */
static void test_stats_forecast_growth_that_is_seen(AbiHost *host)
{
    abi_write(host, "/proc/buddyinfo", "Node 0, zone Normal 0 0 0 0 0 0 0 0 0 0 256\n");
    abi_write(host, "/proc/zoneinfo", "Node 0, zone   Normal\n        managed  4194304\n");
    abi_write_conf(host, DYNAMIC "[hugevm]\nhost_memory_floor = 0,0%\n");
    g_autoptr(JsonNode) node = report(host, host->plugin->get_stats);
    assert_member(node, "pools", "available", 0);
    assert_member(node, "pools", "allocatable", 512 - 512 / 64);
    assert_member(node, "sizes", "allocatable", 512 - 512 / 64);
    abi_write_conf(host, STATIC);
    g_autoptr(JsonNode) fixed = report(host, host->plugin->get_stats);
    assert_member(fixed, "sizes", "allocatable", 0);
}

static void test_stats_promise_no_growth_that_nobody_sees(AbiHost *host)
{
    abi_write_pool(host, SIZE_2M, 10, 10);
    abi_write_conf(host, DYNAMIC "[hugevm]\nhost_memory_floor = 0,0%\n");
    abi_remove(host, "/proc/buddyinfo");
    g_autoptr(JsonNode) node = report(host, host->plugin->get_stats);
    assert_member(node, "pools", "allocatable", 10);
    assert_member(node, "sizes", "allocatable", 10);
}

static void test_stats_say_what_is_switched_on(AbiHost *host)
{
    abi_write_conf(host, DYNAMIC "[hugevm]\nenabled = false\n");
    g_autoptr(JsonNode) node = report(host, host->plugin->get_stats);
    JsonObject *object = json_node_get_object(node);
    g_assert_false(json_object_get_boolean_member(object, "enabled"));
    g_assert_true(json_object_get_boolean_member(object, "dynamic"));
}

static void test_stats_warn(AbiHost *host)
{
    abi_write_conf(host, "[hugevm]\nreserved = size:2M,count:1,node:7\n");
    g_assert_cmpint(ask(host, host->plugin->get_stats), ==, HUGEVM_OK);
    g_assert_cmpuint(host->plugin->result_warning_count(host->result), ==, 1);
    g_assert_nonnull(strstr(host->plugin->result_warning(host->result, 0), "node 7"));
}

static void test_caps_tell_what_is_offered(AbiHost *host)
{
    abi_write_pool(host, SIZE_2M, 100, 60);
    abi_write_conf(host, DYNAMIC "[hugevm]\ncompact = false\n");
    g_autoptr(JsonNode) node = report(host, host->plugin->get_caps);
    JsonObject *object = json_node_get_object(node);
    g_assert_cmpstr(json_object_get_string_member(object, "hugevm"), ==, host->plugin->version);
    g_assert_true(json_object_has_member(object, "architecture"));
    g_assert_cmpint(json_object_get_int_member(object, "base_page_kib"), >, 0);
    g_assert_cmpint(json_object_get_int_member(object, "default_size_kib"), ==, SIZE_2M);
    g_assert_cmpuint(json_array_get_length(json_object_get_array_member(object, "sizes")), ==, 2);
    g_assert_cmpuint(json_array_get_length(json_object_get_array_member(object, "nodes")), ==, 1);
    assert_member(node, "pools", "total", 100);
    const char *json = host->plugin->result_json(host->result);
    g_assert_nonnull(strstr(json, "\"use_dynamic_hugepages\""));
    g_assert_null(strstr(json, "\"compact\""));
}

static void test_reports_are_no_vms(AbiHost *host)
{
    const AbiReport slots[] = {host->plugin->get_caps, host->plugin->get_stats};
    for (guint i = 0; i < G_N_ELEMENTS(slots); i++) {
        uint64_t bytes = 7;
        g_assert_cmpint(ask(host, slots[i]), ==, HUGEVM_OK);
        g_assert_null(host->plugin->result_domain_xml(host->result, &bytes));
        g_assert_cmpuint(bytes, ==, 0);
        g_assert_false(host->plugin->result_xml_changed(host->result));
        g_assert_null(host->plugin->result_uuid(host->result));
        g_assert_cmpuint(host->plugin->result_generation(host->result), ==, 0);
    }
    g_autofree char *ledger = g_build_filename(host->root, "run/hugevm", NULL);
    g_assert_false(g_file_test(ledger, G_FILE_TEST_EXISTS)); /* looking leaves no trace */
}

static void test_reports_refuse(AbiHost *host)
{
    const AbiReport slots[] = {host->plugin->get_caps, host->plugin->get_stats};
    for (guint i = 0; i < G_N_ELEMENTS(slots); i++) {
        g_assert_cmpint(slots[i](NULL, &host->result, NULL), ==, HUGEVM_ERROR_INVALID_ARGUMENT);
        g_assert_cmpint(slots[i](host->handle, NULL, NULL), ==, HUGEVM_ERROR_INVALID_ARGUMENT);
        abi_write_conf(host, "[hugevm]\nno_such_key = 1\n");
        g_assert_cmpint(ask(host, slots[i]), ==, HUGEVM_ERROR_BAD_CONFIG);
        g_assert_nonnull(strstr(host->error.message, "no_such_key"));
        abi_write_conf(host, STATIC);
        abi_write(host, "/run/hugevm/ledger.json", "{ none");
        abi_write(host, "/run/hugevm/ledger.copy.json", "{ none");
        g_assert_cmpint(ask(host, slots[i]), ==, HUGEVM_ERROR_LEDGER);
        g_assert_nonnull(strstr(host->error.message, "ledger.json"));
        abi_remove(host, "/run/hugevm/ledger.json");
        abi_remove(host, "/run/hugevm/ledger.copy.json");
        g_assert_cmpint(ask(host, slots[i]), ==, HUGEVM_OK);
    }
}

int main(int argc, char **argv)
{
    abi_init(&argc, &argv);
    abi_add("/stats/what is reserved is not available", test_stats_take_off_what_is_reserved);
    abi_add("/stats/what is reserved by name is kept for it",
            test_stats_keep_what_is_reserved_by_name_for_it);
    abi_add("/stats/what is claimed is not available", test_stats_take_off_what_is_claimed);
    abi_add("/stats/growth that is seen is allocatable", test_stats_forecast_growth_that_is_seen);
    abi_add("/stats/growth that nobody sees is not", test_stats_promise_no_growth_that_nobody_sees);
    abi_add("/stats/say what is switched on", test_stats_say_what_is_switched_on);
    abi_add("/stats/warn of settings", test_stats_warn);
    abi_add("/caps/tell what is offered", test_caps_tell_what_is_offered);
    abi_add("/reports/are of no VM, and leave no trace", test_reports_are_no_vms);
    abi_add("/reports/refuse broken configuration and ledger", test_reports_refuse);
    return g_test_run();
}
