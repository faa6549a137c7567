/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "abi-host.h"

#include "loader.h"

#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MEMINFO                                                                                    \
    "MemTotal:       16777216 kB\nMemFree:        12582912 kB\n"                                   \
    "MemAvailable:   12582912 kB\nHugepagesize:       2048 kB\n"
#define NODE_MEMINFO "Node 0 MemTotal:       16777216 kB\nNode 0 MemFree:        12582912 kB\n"

const char *abi_module;

void abi_init(int *argc, char ***argv)
{
    g_test_init(argc, argv, NULL);
    g_test_set_nonfatal_assertions(); /* the tests behind a failed one are run, trees removed */
    if (*argc < 2)
        g_error("usage: %s MODULE", (*argv)[0]);
    abi_module = (*argv)[1];
    umask(022);
}

static void on_log(void *opaque, uint32_t level, const char *domain, const char *text)
{
    AbiHost *host = opaque;
    g_assert_true(level >= HUGEVM_LOG_DEBUG && level <= HUGEVM_LOG_WARNING);
    g_assert_nonnull(domain);
    host->log_calls++;
    for (; *text != '\0'; text++)
        host->is_log_clean = host->is_log_clean && !g_ascii_iscntrl(*text);
}

static int32_t on_progress(void *opaque, uint64_t done_pages, uint64_t total_pages,
                           const char *what)
{
    AbiHost *host = opaque;
    g_assert_cmpuint(done_pages, <=, total_pages);
    g_assert_cmpuint(total_pages, >, 0);
    g_assert_cmpstr(what, !=, "");
    host->progress_calls++;
    return host->cancel;
}

struct hugevm_host abi_offer(AbiHost *host)
{
    return (struct hugevm_host){.size = sizeof(struct hugevm_host),
                                .abi_major = HUGEVM_ABI_MAJOR,
                                .abi_minor = HUGEVM_ABI_MINOR,
                                .name = "abi test",
                                .opaque = host,
                                .log = on_log,
                                .progress = on_progress};
}

void abi_write(const AbiHost *host, const char *path, const char *text)
{
    g_autofree char *real = g_strconcat(host->root, path, NULL);
    g_autofree char *parent = g_path_get_dirname(real);
    g_assert_cmpint(g_mkdir_with_parents(parent, 0755), ==, 0);
    g_assert_true(g_file_set_contents(real, text, -1, NULL));
}

static void write_number(const AbiHost *host, const char *directory, guint size_kib,
                         const char *name, guint value)
{
    g_autofree char *path = g_strdup_printf("%s/hugepages-%ukB/%s", directory, size_kib, name);
    g_autofree char *text = g_strdup_printf("%u\n", value);
    abi_write(host, path, text);
}

void abi_write_pool(const AbiHost *host, guint size_kib, guint total, guint free_pages)
{
    static const char *const directories[] = {"/sys/kernel/mm/hugepages",
                                              "/sys/devices/system/node/node0/hugepages"};
    for (guint i = 0; i < G_N_ELEMENTS(directories); i++) {
        write_number(host, directories[i], size_kib, "nr_hugepages", total);
        write_number(host, directories[i], size_kib, "free_hugepages", free_pages);
        write_number(host, directories[i], size_kib, "surplus_hugepages", 0);
    }
    write_number(host, directories[0], size_kib, "resv_hugepages", 0);
    write_number(host, directories[0], size_kib, "nr_overcommit_hugepages", 0);
}

guint64 abi_total(const AbiHost *host, guint size_kib)
{
    g_autofree char *text = NULL;
    g_autofree char *path =
        g_strdup_printf("%s/sys/devices/system/node/node0/hugepages/hugepages-%ukB/nr_hugepages",
                        host->root, size_kib);
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    return g_ascii_strtoull(text, NULL, 10);
}

void abi_write_conf(const AbiHost *host, const char *text)
{
    g_assert_true(g_file_set_contents(host->conf, text, -1, NULL));
}

static void remove_tree(const char *path)
{
    struct stat st;
    if (lstat(path, &st) != 0)
        return;
    if (S_ISDIR(st.st_mode)) {
        g_chmod(path, 0755);
        GDir *directory = g_dir_open(path, 0, NULL);
        for (const char *name; directory != NULL && (name = g_dir_read_name(directory)) != NULL;) {
            g_autofree char *child = g_build_filename(path, name, NULL);
            remove_tree(child);
        }
        g_clear_pointer(&directory, g_dir_close);
    }
    g_assert_cmpint(g_remove(path), ==, 0);
}

void abi_remove(const AbiHost *host, const char *path)
{
    g_autofree char *real = g_strconcat(host->root, path, NULL);
    remove_tree(real);
}

/* The claim's owner is looked up in the tree: this process must be seen alive there. */
static void write_own_process(const AbiHost *host)
{
    g_autofree char *stat = NULL;
    g_autofree char *path = g_strdup_printf("/proc/%d/stat", (int)getpid());
    g_assert_true(g_file_get_contents(path, &stat, NULL, NULL));
    abi_write(host, path, stat);
}

static void make_tree(AbiHost *host)
{
    host->directory = g_dir_make_tmp("hugevm-abi-XXXXXX", NULL);
    g_assert_nonnull(host->directory);
    g_assert_cmpint(g_chmod(host->directory, 0755), ==, 0);
    host->root = g_build_filename(host->directory, "root", NULL);
    host->conf = g_build_filename(host->directory, "hugevm.conf", NULL);
    abi_write(host, "/proc/meminfo", MEMINFO);
    abi_write(host, "/proc/sys/kernel/arch", "x86_64\n");
    abi_write(host, "/proc/sys/kernel/random/boot_id", "b5a1f6a2-0000-4000-8000-000000000001\n");
    abi_write(host, "/sys/devices/system/node/node0/meminfo", NODE_MEMINFO);
    abi_write(host, "/run/.keep", "");
    abi_write_pool(host, 2048, 0, 0);
    abi_write_pool(host, 1048576, 0, 0);
    write_own_process(host);
    abi_write_conf(host, DYNAMIC);
}

void abi_reopen(AbiHost *host, const struct hugevm_options *options)
{
    const char *const conf_files[] = {host->conf, NULL};
    const struct hugevm_options own = {
        .size = sizeof own, .root = host->root, .conf_files = conf_files};
    struct hugevm_host offer = abi_offer(host);
    host->plugin->close(host->handle);
    host->handle = NULL;
    host->error = (struct hugevm_error){.size = sizeof host->error};
    int32_t code =
        host->plugin->open(&offer, options != NULL ? options : &own, &host->handle, &host->error);
    g_assert_cmpint(code, ==, HUGEVM_OK);
    g_assert_nonnull(host->handle);
}

AbiHost *abi_host_new(void)
{
    AbiHost *host = g_new0(AbiHost, 1);
    char message[512] = "";
    struct hugevm_host offer = abi_offer(host);
    host->is_log_clean = TRUE;
    host->plugin = hugevm_load(abi_module, &offer, message, sizeof message);
    if (host->plugin == NULL)
        g_error("%s", message);
    make_tree(host);
    abi_reopen(host, NULL);
    return host;
}

void abi_host_free(AbiHost *host)
{
    g_assert_true(host->is_log_clean);
    host->plugin->result_free(host->result);
    host->plugin->close(host->handle);
    remove_tree(host->directory);
    g_free(host->directory);
    g_free(host->root);
    g_free(host->conf);
    g_free(host);
}

static void run_test(gconstpointer data)
{
    void (*test)(AbiHost * host);
    memcpy(&test, data, sizeof test);
    AbiHost *host = abi_host_new();
    test(host);
    abi_host_free(host);
}

void abi_add(const char *name, void (*test)(AbiHost *host))
{
    g_test_add_data_func_full(name, g_memdup2(&test, sizeof test), run_test, g_free);
}

char *abi_domain(const char *uuid, const char *inside)
{
    return g_strdup_printf("<domain type='qemu'>\n  <name>probe</name>\n  <uuid>%s</uuid>\n"
                           "  <memory unit='MiB'>256</memory>\n  <vcpu>1</vcpu>\n"
                           "  <os><type arch='x86_64'>hvm</type></os>\n%s</domain>\n",
                           uuid, inside != NULL ? inside : "");
}

struct hugevm_vm abi_vm(const char *xml, const struct hugevm_property *property)
{
    gboolean has_property = property != NULL && property->name != NULL;
    return (struct hugevm_vm){.size = sizeof(struct hugevm_vm),
                              .flags = HUGEVM_VM_WILL_CALL_LAUNCHING,
                              .domain_xml = xml,
                              .domain_xml_bytes = strlen(xml),
                              .properties = has_property ? property : NULL,
                              .property_count = has_property ? 1 : 0};
}

static gboolean is_one_clean_line(const char *text)
{
    for (const char *p = text; *p != '\0'; p++)
        if (g_ascii_iscntrl(*p))
            return FALSE;
    return g_utf8_validate(text, -1, NULL);
}

/* Rules of every failure: the code stands in both places, the texts are clean. */
static void check_error(const AbiHost *host, int32_t code)
{
    const struct hugevm_error *error = &host->error;
    g_assert_cmpuint(error->size, ==, sizeof *error);
    g_assert_nonnull(memchr(error->message, '\0', sizeof error->message));
    g_assert_nonnull(memchr(error->hint, '\0', sizeof error->hint));
    g_assert_true(is_one_clean_line(error->message));
    g_assert_true(is_one_clean_line(error->hint));
    if (code == HUGEVM_OK)
        return;
    g_assert_cmpint(error->code, ==, code);
    g_assert_cmpstr(error->message, !=, "");
}

int32_t abi_begin_vm(AbiHost *host, AbiBegin slot, const struct hugevm_vm *vm)
{
    struct hugevm_result *const untouched = (struct hugevm_result *)host;
    struct hugevm_result *result = untouched;
    g_clear_pointer(&host->result, host->plugin->result_free);
    host->error = (struct hugevm_error){.size = sizeof host->error};
    int32_t code = slot(host->handle, vm, &result, &host->error);
    check_error(host, code);
    if (code == HUGEVM_OK) {
        g_assert_true(result != untouched && result != NULL);
        host->result = result;
    } else {
        g_assert_true(result == untouched);
    }
    return code;
}

int32_t abi_begin(AbiHost *host, AbiBegin slot, const char *name, const char *value)
{
    g_autofree char *xml = abi_domain(UUID_A, NULL);
    struct hugevm_property property = {name, value};
    struct hugevm_vm vm = abi_vm(xml, &property);
    return abi_begin_vm(host, slot, &vm);
}

int32_t abi_tell(AbiHost *host, AbiTell slot, const char *uuid, guint64 generation)
{
    struct hugevm_vm_ref ref = {.size = sizeof ref, .uuid = uuid, .generation = generation};
    host->error = (struct hugevm_error){.size = sizeof host->error};
    int32_t code = slot(host->handle, &ref, &host->error);
    check_error(host, code);
    return code;
}

void abi_assert_error(const AbiHost *host, int32_t code, const char *text)
{
    g_assert_cmpint(host->error.code, ==, code);
    if (strstr(host->error.message, text) == NULL)
        g_error("'%s' is not in: %s", text, host->error.message);
}
