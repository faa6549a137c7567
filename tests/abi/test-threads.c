/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * "Any slot may be called from any thread at any time, also at once, also with the
 * same handle": eight threads on two handles. Meant for the thread sanitizer too.
 */
#include "abi-host.h"

#include <string.h>

#define THREADS 8
#define ROUNDS 25

typedef struct {
    const struct hugevm_plugin *plugin;
    struct hugevm_handle *handle;
    guint number;
} Worker;

static char *uuid_of(const Worker *worker)
{
    return g_strdup_printf("6b3c1a52-7d0e-4a9e-9a44-0000000000%02u", worker->number);
}

/* Everything a call gets is this thread's own; only the handle is shared. */
static struct hugevm_result *begin(const Worker *worker, AbiBegin slot, const char *uuid)
{
    g_autofree char *xml = abi_domain(uuid, NULL);
    struct hugevm_property property = {"hugepages", "2048"};
    struct hugevm_vm vm = abi_vm(xml, &property);
    struct hugevm_error error = {.size = sizeof error};
    struct hugevm_result *result = NULL;
    vm.timeout_ms = 60 * 1000;
    if (slot(worker->handle, &vm, &result, &error) != HUGEVM_OK)
        g_error("thread %u: %s", worker->number, error.message);
    return result;
}

static gpointer plan_often(gpointer data)
{
    const Worker *worker = data;
    g_autofree char *uuid = uuid_of(worker);
    for (guint i = 0; i < ROUNDS; i++) {
        struct hugevm_result *result = begin(worker, worker->plugin->plan, uuid);
        g_assert_cmpstr(worker->plugin->result_uuid(result), ==, uuid);
        g_assert_nonnull(strstr(worker->plugin->result_json(result), uuid));
        worker->plugin->result_free(result);
    }
    return NULL;
}

static void tell(const Worker *worker, AbiTell slot, const char *uuid, guint64 generation)
{
    const struct hugevm_vm_ref ref = {.size = sizeof ref, .uuid = uuid, .generation = generation};
    struct hugevm_error error = {.size = sizeof error};
    if (slot(worker->handle, &ref, &error) != HUGEVM_OK)
        g_error("thread %u: %s", worker->number, error.message);
}

static gpointer claim_often(gpointer data)
{
    const Worker *worker = data;
    const struct hugevm_plugin *plugin = worker->plugin;
    g_autofree char *uuid = uuid_of(worker);
    for (guint i = 0; i < ROUNDS; i++) {
        struct hugevm_result *result = begin(worker, plugin->before_vm_start, uuid);
        guint64 generation = plugin->result_generation(result);
        plugin->result_free(result);
        g_assert_cmpuint(generation, >, 0);
        tell(worker, plugin->vm_launching, uuid, generation);
        tell(worker, plugin->after_vm_destroy, uuid, generation);
    }
    return NULL;
}

static void run_on_two_handles(AbiHost *host, GThreadFunc function)
{
    const char *const conf_files[] = {host->conf, NULL};
    const struct hugevm_options options = {
        .size = sizeof options, .root = host->root, .conf_files = conf_files};
    const struct hugevm_host offer = {.size = sizeof offer, .abi_major = HUGEVM_ABI_MAJOR};
    struct hugevm_handle *handles[2] = {NULL, NULL};
    Worker workers[THREADS];
    GThread *threads[THREADS];
    for (guint i = 0; i < G_N_ELEMENTS(handles); i++)
        g_assert_cmpint(host->plugin->open(&offer, &options, &handles[i], NULL), ==, HUGEVM_OK);
    for (guint i = 0; i < THREADS; i++) {
        workers[i] = (Worker){host->plugin, handles[i % 2], i};
        threads[i] = g_thread_new("worker", function, &workers[i]);
    }
    for (guint i = 0; i < THREADS; i++)
        g_thread_join(threads[i]);
    for (guint i = 0; i < G_N_ELEMENTS(handles); i++)
        host->plugin->close(handles[i]);
}

static void test_plans(AbiHost *host)
{
    run_on_two_handles(host, plan_often);
}

/* Enough free pages for all: no growth, which needs a kernel. */
static void test_claims(AbiHost *host)
{
    abi_write_pool(host, 2048, THREADS * 128, THREADS * 128);
    run_on_two_handles(host, claim_often);
    g_assert_cmpuint(abi_total(host, 2048), ==, THREADS * 128);
    g_autofree char *ledger = NULL;
    g_autofree char *path = g_strconcat(host->root, "/run/hugevm/ledger.json", NULL);
    g_assert_true(g_file_get_contents(path, &ledger, NULL, NULL));
    g_autofree char *last = g_strdup_printf("\"last_generation\" : %d", THREADS * ROUNDS);
    g_assert_nonnull(strstr(ledger, last));
    g_assert_nonnull(strstr(ledger, "\"claims\" : []"));
}

int main(int argc, char **argv)
{
    abi_init(&argc, &argv);
    abi_add("/threads/eight threads plan at once on two handles", test_plans);
    abi_add("/threads/eight threads claim and let go at once, each VM once", test_claims);
    return g_test_run();
}
