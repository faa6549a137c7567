/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the slots do for a host, on a tree of files: untouched VMs, plans, claims, slots to come. */
#include "abi-host.h"

#include <glib/gstdio.h>
#include <string.h>

#define HUGEPAGES_2M                                                                               \
    "  <memoryBacking><hugepages><page size='2048' unit='KiB'/></hugepages></memoryBacking>\n"

/* Odd on purpose: no byte of it may change. */
#define ODD_XML                                                                                    \
    "<?xml version='1.0'?>\r\n<!-- kept -->\n<domain  type=\"kvm\" >\n\t<name>a&amp;b</name>"      \
    "<memory\nunit='MiB'>256</memory>  <x:y xmlns:x='urn:x' z='1'/></domain >\n\n"

static void assert_untouched(AbiHost *host, const char *xml, const struct hugevm_property *property)
{
    const AbiBegin slots[] = {host->plugin->plan, host->plugin->before_vm_start,
                              host->plugin->before_vm_migrate_destination};
    struct hugevm_vm vm = abi_vm(xml, property);
    for (guint i = 0; i < G_N_ELEMENTS(slots); i++) {
        uint64_t bytes = 0;
        g_assert_cmpint(abi_begin_vm(host, slots[i], &vm), ==, HUGEVM_OK);
        const char *out = host->plugin->result_domain_xml(host->result, &bytes);
        g_assert_cmpmem(out, bytes, xml, strlen(xml));
        g_assert_cmpint(host->plugin->result_xml_changed(host->result), ==, 0);
        g_assert_cmpuint(host->plugin->result_generation(host->result), ==, 0);
    }
}

static void test_without_hugepages(AbiHost *host)
{
    assert_untouched(host, ODD_XML, NULL);
    g_autofree char *run = g_strconcat(host->root, "/run/hugevm", NULL);
    g_assert_false(g_file_test(run, G_FILE_TEST_EXISTS));
}

static void test_without_hugepages_by_property(AbiHost *host)
{
    const struct hugevm_property off[] = {
        {"hugepages", ""}, {"hugepages", "0"}, {"hugepages_shared", "true"}, {"other", "abc"}};
    for (guint i = 0; i < G_N_ELEMENTS(off); i++)
        assert_untouched(host, ODD_XML, &off[i]);
}

static void test_broken_configuration(AbiHost *host)
{
    abi_write_conf(host, "\x01\xff[[[\nnothing\n");
    assert_untouched(host, ODD_XML, NULL);
    g_assert_cmpint(g_remove(host->conf), ==, 0);
    assert_untouched(host, ODD_XML, NULL);
}

static void test_no_sys(AbiHost *host)
{
    abi_remove(host, "/sys");
    assert_untouched(host, ODD_XML, NULL);
    abi_remove(host, "");
    assert_untouched(host, ODD_XML, NULL);
}

static void test_ledger_directory_is_a_file(AbiHost *host)
{
    abi_write(host, "/run/hugevm", "a file");
    assert_untouched(host, ODD_XML, NULL);
}

static void test_garbage_ledger(AbiHost *host)
{
    abi_write(host, "/run/hugevm/ledger.json", "{{{ garbage");
    abi_write(host, "/run/hugevm/ledger.copy.json", "");
    assert_untouched(host, ODD_XML, NULL);
}

/* The three at once, and what the call would need is asked of nobody. */
static void test_everything_broken(AbiHost *host)
{
    abi_write_conf(host, "garbage");
    abi_remove(host, "");
    g_assert_true(g_file_set_contents(host->root, "a file", -1, NULL));
    assert_untouched(host, ODD_XML, NULL);
}

static void assert_json_has(const AbiHost *host, const char *pattern)
{
    const char *json = host->plugin->result_json(host->result);
    if (!g_regex_match_simple(pattern, json, G_REGEX_DOTALL, 0))
        g_error("no %s in %s", pattern, json);
}

static void test_plan_grows(AbiHost *host)
{
    abi_write_pool(host, 2048, 28, 28);
    g_assert_cmpint(abi_begin(host, host->plugin->plan, "hugepages", "2048"), ==, HUGEVM_OK);
    assert_json_has(host, "\"need\" : \\[.*\"size_kib\" : 2048,\\s*\"pages\" : 128");
    assert_json_has(host, "\"action\" : \"grow\",\\s*\"node\" : 0,\\s*\"size_kib\" : 2048,\\s*"
                          "\"pages\" : 100");
    assert_json_has(host, "\"refusal\" : null");
    g_assert_cmpuint(abi_total(host, 2048), ==, 28);
    g_assert_cmpuint(host->plugin->result_generation(host->result), ==, 0);
    g_assert_cmpstr(host->plugin->result_uuid(host->result), ==, UUID_A);
    g_autofree char *run = g_strconcat(host->root, "/run/hugevm", NULL);
    g_assert_false(g_file_test(run, G_FILE_TEST_EXISTS));
}

static void test_plan_uses_free_pages(AbiHost *host)
{
    abi_write_pool(host, 2048, 128, 128);
    g_assert_cmpint(abi_begin(host, host->plugin->plan, "hugepages", "2M"), ==, HUGEVM_OK);
    assert_json_has(host, "\"steps\" : \\[\\]");
    assert_json_has(host, "\"refusal\" : null");
}

/* "A refusal by lack of pages is a success with `refusal` in the JSON." */
static void test_plan_refusal(AbiHost *host)
{
    abi_write_conf(host, STATIC);
    g_assert_cmpint(abi_begin(host, host->plugin->plan, "hugepages", "2048"), ==, HUGEVM_OK);
    assert_json_has(host, "\"refusal\" : \\{.*\"code\" : \"shortage\".*128 pages.*0 available");
    assert_json_has(host, "\"steps\" : \\[\\]");
}

static void test_claim_edits_xml(AbiHost *host)
{
    uint64_t bytes = 0;
    abi_write_pool(host, 2048, 128, 128);
    g_assert_cmpint(abi_begin(host, host->plugin->before_vm_start, "hugepages", "2048"), ==,
                    HUGEVM_OK);
    const char *xml = host->plugin->result_domain_xml(host->result, &bytes);
    g_assert_cmpuint(strlen(xml), ==, bytes);
    g_assert_nonnull(strstr(xml, "<hugepages>"));
    g_assert_nonnull(strstr(xml, "2048"));
    g_assert_cmpint(host->plugin->result_xml_changed(host->result), ==, 1);
    g_assert_cmpuint(host->plugin->result_generation(host->result), >, 0);
    g_assert_cmpuint(host->progress_calls, ==, 0);
    g_assert_cmpuint(host->log_calls, >, 0);
    g_assert_cmpuint(abi_total(host, 2048), ==, 128);
}

static void test_claim_grows(AbiHost *host)
{
    g_assert_cmpint(abi_begin(host, host->plugin->before_vm_start, "hugepages", "2048"), ==,
                    HUGEVM_OK);
    g_assert_cmpuint(abi_total(host, 2048), ==, 128);
    g_assert_cmpuint(host->progress_calls, >, 0);
}

/* An XML that says it all is started as it is; also where the host cannot edit it. */
static void test_claim_without_edit(AbiHost *host)
{
    g_autofree char *xml = abi_domain(UUID_A, HUGEPAGES_2M);
    struct hugevm_vm vm = abi_vm(xml, NULL);
    uint64_t bytes = 0;
    vm.flags |= HUGEVM_VM_CANNOT_EDIT_XML;
    g_assert_cmpint(abi_begin_vm(host, host->plugin->before_vm_start, &vm), ==, HUGEVM_OK);
    const char *out = host->plugin->result_domain_xml(host->result, &bytes);
    g_assert_cmpmem(out, bytes, xml, strlen(xml));
    g_assert_cmpint(host->plugin->result_xml_changed(host->result), ==, 0);
    g_assert_cmpuint(host->plugin->result_generation(host->result), >, 0);
}

/* Only domain_xml_bytes bytes are read: what follows them is the host's own. */
static void test_xml_needs_no_end(AbiHost *host)
{
    g_autofree char *xml = abi_domain(UUID_A, NULL);
    g_autofree char *longer = g_strconcat(xml, "<trailing garbage", NULL);
    struct hugevm_vm vm = abi_vm(longer, NULL);
    vm.domain_xml_bytes = strlen(xml);
    g_assert_cmpint(abi_begin_vm(host, host->plugin->plan, &vm), ==, HUGEVM_OK);
}

static void test_uuid_is_added(AbiHost *host)
{
    static const char xml[] = "<domain type='qemu'><name>n</name><memory unit='MiB'>256</memory>"
                              "</domain>";
    struct hugevm_property property = {"hugepages", "2048"};
    struct hugevm_vm vm = abi_vm(xml, &property);
    vm.uuid = UUID_B;
    g_assert_cmpint(abi_begin_vm(host, host->plugin->before_vm_start, &vm), ==, HUGEVM_OK);
    g_assert_cmpstr(host->plugin->result_uuid(host->result), ==, UUID_B);
    const char *out = host->plugin->result_domain_xml(host->result, NULL);
    g_assert_nonnull(strstr(out, "<uuid>" UUID_B "</uuid>"));
}

static void test_generations_rise(AbiHost *host)
{
    abi_write_pool(host, 2048, 128, 128);
    g_assert_cmpint(abi_begin(host, host->plugin->before_vm_start, "hugepages", "2048"), ==,
                    HUGEVM_OK);
    guint64 first = host->plugin->result_generation(host->result);
    g_assert_cmpint(abi_tell(host, host->plugin->vm_start_failed, UUID_A, first), ==, HUGEVM_OK);
    g_assert_cmpint(abi_begin(host, host->plugin->before_vm_start, "hugepages", "2048"), ==,
                    HUGEVM_OK);
    guint64 second = host->plugin->result_generation(host->result);
    g_assert_cmpuint(second, >, first);
    g_assert_cmpint(abi_tell(host, host->plugin->vm_launching, UUID_A, first), ==,
                    HUGEVM_ERROR_UNKNOWN_VM);
    g_assert_cmpint(abi_tell(host, host->plugin->after_vm_destroy, UUID_A, first), ==, HUGEVM_OK);
    g_assert_cmpint(abi_tell(host, host->plugin->vm_launching, UUID_A, second), ==, HUGEVM_OK);
    g_assert_cmpint(abi_tell(host, host->plugin->after_vm_destroy, UUID_A, second), ==, HUGEVM_OK);
    g_assert_cmpint(abi_tell(host, host->plugin->vm_launching, UUID_A, 0), ==,
                    HUGEVM_ERROR_UNKNOWN_VM);
}

static void test_warnings(AbiHost *host)
{
    g_assert_cmpint(abi_begin(host, host->plugin->plan, "hugepages", "16384"), ==, HUGEVM_OK);
    const uint64_t count = host->plugin->result_warning_count(host->result);
    g_assert_cmpuint(count, >=, 1);
    g_assert_nonnull(strstr(host->plugin->result_warning(host->result, 0), "16"));
    g_assert_null(host->plugin->result_warning(host->result, count));
    g_assert_null(host->plugin->result_warning(host->result, UINT64_MAX));
    host->plugin->result_free(NULL);
}

static void test_results_outlive_handle(AbiHost *host)
{
    g_assert_cmpint(abi_begin(host, host->plugin->plan, "hugepages", "2048"), ==, HUGEVM_OK);
    abi_reopen(host, NULL);
    g_assert_nonnull(strstr(host->plugin->result_json(host->result), UUID_A));
}

static void test_reconcile(AbiHost *host)
{
    const struct hugevm_plugin *p = host->plugin;
    const char *const running[] = {"0000000A-0000-0000-0000-000000000000"};
    const char *const wrong[] = {"all of them"};
    struct hugevm_error error = {.size = sizeof error};
    uint64_t sequence = 7;
    g_assert_cmpint(p->reconcile_begin(host->handle, &sequence, &error), ==, HUGEVM_OK);
    g_assert_cmpuint(sequence, ==, 0); /* nothing was ever claimed here */
    g_assert_cmpint(p->reconcile(host->handle, sequence, running, 1, &error), ==, HUGEVM_OK);
    g_assert_cmpint(p->reconcile(host->handle, sequence, NULL, 0, &error), ==, HUGEVM_OK);
    g_assert_cmpint(p->reconcile(host->handle, sequence, NULL, 1, &error), ==,
                    HUGEVM_ERROR_INVALID_ARGUMENT);
    g_assert_cmpint(p->reconcile(host->handle, sequence, wrong, 1, &error), ==,
                    HUGEVM_ERROR_INVALID_ARGUMENT);
    g_assert_cmpint(p->reconcile_begin(NULL, &sequence, &error), ==, HUGEVM_ERROR_INVALID_ARGUMENT);
    g_assert_cmpint(p->reconcile_begin(host->handle, NULL, &error), ==,
                    HUGEVM_ERROR_INVALID_ARGUMENT);
}

int main(int argc, char **argv)
{
    abi_init(&argc, &argv);
    abi_add("/no-hugepages/the same bytes come back, and no ledger is made",
            test_without_hugepages);
    abi_add("/no-hugepages/properties that switch off leave the bytes alone",
            test_without_hugepages_by_property);
    abi_add("/no-hugepages/broken configuration does not matter", test_broken_configuration);
    abi_add("/no-hugepages/a missing sys does not matter", test_no_sys);
    abi_add("/no-hugepages/a file in place of the ledger's directory does not matter",
            test_ledger_directory_is_a_file);
    abi_add("/no-hugepages/a garbage ledger does not matter", test_garbage_ledger);
    abi_add("/no-hugepages/everything broken at once does not matter", test_everything_broken);
    abi_add("/plan/names the growth and does nothing", test_plan_grows);
    abi_add("/plan/has no steps where free pages are enough", test_plan_uses_free_pages);
    abi_add("/plan/a shortage is a success with a refusal in it", test_plan_refusal);
    abi_add("/claim/names the pages in the XML", test_claim_edits_xml);
    abi_add("/claim/grows the pool, with progress", test_claim_grows);
    abi_add("/claim/leaves an XML alone that says it all", test_claim_without_edit);
    abi_add("/claim/reads no byte behind the XML", test_xml_needs_no_end);
    abi_add("/claim/adds a UUID that the XML lacks", test_uuid_is_added);
    abi_add("/claim/an older generation is unknown and frees nothing", test_generations_rise);
    abi_add("/result/has warnings, and none behind the last", test_warnings);
    abi_add("/result/outlives its handle", test_results_outlive_handle);
    abi_add("/reconcile/takes a list of running VMs", test_reconcile);
    return g_test_run();
}
