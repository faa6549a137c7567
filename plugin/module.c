/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The module: the C ABI of include/hugevm/plugin.h on one side, core's lifecycle
 * on the other; with module-*.c all that knows both. It holds no state but the handles
 * it gives out, and those are read-only: so every slot may run on any thread.
 *
 * What comes from the host is checked here: struct sizes, unknown non-zero tails,
 * missing pointers, UUIDs. What goes back is plain memory of ours (results) or of
 * theirs (errors, filled up to their size).
 */
#include "module-private.h"

#include <string.h>

#define LOG_DOMAIN "hugevm"
#define MAX_RUNNING (1024 * 1024)
#define MAX_PROPERTIES 4096
#define ALL_VM_FLAGS                                                                               \
    (HUGEVM_VM_WILL_CALL_LAUNCHING | HUGEVM_VM_CANNOT_EDIT_XML | HUGEVM_VM_ADOPT_CLAIM |           \
     HUGEVM_VM_HOST_WAITS | HUGEVM_VM_BY_LIBVIRTD)
#define ALL_REF_FLAGS (HUGEVM_VM_REF_OWN_CLAIM | HUGEVM_VM_REF_HOST_WAITS)

/*
 * Major versions first: of another major's struct only its first fields are known.
 * FALSE with an error, *out_code its code.
 */
static gboolean take_host(struct hugevm_host *to, const struct hugevm_host *from,
                          struct hugevm_error *error, int32_t *out_code)
{
    uint32_t size, major = 0, minor = 0;
    memcpy(&size, from, sizeof size);
    if (size >= offsetof(struct hugevm_host, features)) {
        major = from->abi_major;
        minor = from->abi_minor;
    }
    if (size >= offsetof(struct hugevm_host, features) && major != HUGEVM_ABI_MAJOR) {
        g_autofree char *message =
            g_strdup_printf("the host speaks hugevm ABI %u.%u, this plugin %u.%u", major, minor,
                            HUGEVM_ABI_MAJOR, HUGEVM_ABI_MINOR);
        *out_code = module_fail(error, HUGEVM_ERROR_ABI_MISMATCH, message,
                                "use a plugin of the host's major version");
        return FALSE;
    }
    if (major == HUGEVM_ABI_MAJOR && module_take_struct(to, sizeof *to, from))
        return TRUE;
    *out_code =
        module_fail_invalid(error, "hugevm_host is too small to hold a version, or has fields of "
                                   "a newer version set");
    return FALSE;
}

static int32_t module_open(const struct hugevm_host *host, const struct hugevm_options *options,
                           struct hugevm_handle **out_handle, struct hugevm_error *error)
{
    struct hugevm_host own_host;
    struct hugevm_options own_options = {.size = sizeof own_options};
    int32_t code;
    if (host == NULL || out_handle == NULL)
        return module_fail_invalid(error, "open: host or out_handle is NULL");
    if (!take_host(&own_host, host, error, &code))
        return code;
    if (options != NULL && !module_take_struct(&own_options, sizeof own_options, options))
        return module_fail_invalid(error,
                                   "hugevm_options has no size, or fields of a newer version set");
    struct hugevm_handle *handle = g_new0(struct hugevm_handle, 1);
    handle->host = own_host;
    handle->agent =
        hv_agent_new(own_options.root, own_options.conf_files,
                     own_host.name != NULL ? own_host.name : "unnamed", own_host.owner_pid);
    *out_handle = handle;
    return HUGEVM_OK;
}

static void module_close(struct hugevm_handle *handle)
{
    if (handle == NULL)
        return;
    hv_agent_free(handle->agent);
    g_free(handle);
}

static void log_text(const struct hugevm_handle *handle, uint32_t level, const char *text)
{
    if (handle->host.log != NULL)
        handle->host.log(handle->host.opaque, level, LOG_DOMAIN, text);
}

G_GNUC_PRINTF(2, 3)
static void log_line(const struct hugevm_handle *handle, const char *format, ...)
{
    if (handle->host.log == NULL)
        return;
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    log_text(handle, HUGEVM_LOG_DEBUG, text);
}

static gboolean report_progress(gpointer data, guint64 done_pages, guint64 total_pages,
                                const char *what)
{
    const struct hugevm_handle *handle = data;
    return handle->host.progress(handle->host.opaque, done_pages, total_pages, what) != 0;
}

/* The host's properties as a table; NULL: a name or value is missing. */
static GHashTable *take_properties(const struct hugevm_vm *vm)
{
    g_autoptr(GHashTable) table = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    if (vm->property_count > MAX_PROPERTIES || (vm->property_count > 0 && vm->properties == NULL))
        return NULL;
    for (uint64_t i = 0; i < vm->property_count; i++) {
        const struct hugevm_property *property = &vm->properties[i];
        if (property->name == NULL || property->value == NULL)
            return NULL;
        g_hash_table_insert(table, g_strdup(property->name), g_strdup(property->value));
    }
    return g_steal_pointer(&table);
}

typedef HvOutcome *(*Begin)(const HvAgent *agent, const HvVm *vm, GError **error);

/* What before_vm_start and plan have in common. */
static int32_t begin_vm(struct hugevm_handle *handle, const struct hugevm_vm *vm, Begin begin,
                        struct hugevm_result **out_result, struct hugevm_error *error)
{
    struct hugevm_vm own;
    if (handle == NULL || vm == NULL || out_result == NULL)
        return module_fail_invalid(error, "handle, vm or out_result is NULL");
    if (!module_take_struct(&own, sizeof own, vm))
        return module_fail_invalid(error,
                                   "hugevm_vm has no size, or fields of a newer version set");
    if (own.domain_xml == NULL)
        return module_fail_invalid(error, "hugevm_vm.domain_xml is NULL");
    if ((own.flags & ~ALL_VM_FLAGS) != 0)
        return module_fail_invalid(error, "hugevm_vm.flags has unknown bits");
    g_autoptr(GHashTable) properties = take_properties(&own);
    if (properties == NULL)
        return module_fail_invalid(error, "hugevm_vm.properties has a NULL, or too many entries");

    HvVm request = {.xml = own.domain_xml,
                    .xml_bytes = own.domain_xml_bytes,
                    .uuid = own.uuid,
                    .properties = properties,
                    .cannot_edit = (own.flags & HUGEVM_VM_CANNOT_EDIT_XML) != 0,
                    .adopts = (own.flags & HUGEVM_VM_ADOPT_CLAIM) != 0,
                    .host_waits = (own.flags & HUGEVM_VM_HOST_WAITS) != 0,
                    .by_libvirtd = (own.flags & HUGEVM_VM_BY_LIBVIRTD) != 0,
                    .tells_launch = (own.flags & HUGEVM_VM_WILL_CALL_LAUNCHING) != 0,
                    .timeout_ms = own.timeout_ms,
                    .versions = {own.libvirt_version, own.qemu_version},
                    .progress = handle->host.progress != NULL ? report_progress : NULL,
                    .progress_data = handle};
    GError *cause = NULL;
    HvOutcome *outcome = begin(handle->agent, &request, &cause);
    if (outcome == NULL)
        return module_fail_with(error, cause);
    return module_give_result(outcome, out_result);
}

static int32_t module_before_vm_start(struct hugevm_handle *handle, const struct hugevm_vm *vm,
                                      struct hugevm_result **out_result, struct hugevm_error *error)
{
    int32_t code = begin_vm(handle, vm, hv_lifecycle_claim, out_result, error);
    if (code == HUGEVM_OK && (*out_result)->outcome->generation != 0)
        log_line(handle, "claimed pages for VM %s, generation %" G_GUINT64_FORMAT,
                 (*out_result)->outcome->uuid, (*out_result)->outcome->generation);
    return code;
}

static int32_t module_before_vm_migrate_destination(struct hugevm_handle *handle,
                                                    const struct hugevm_vm *vm,
                                                    struct hugevm_result **out_result,
                                                    struct hugevm_error *error)
{
    return begin_vm(handle, vm, hv_lifecycle_claim_incoming, out_result, error);
}

static int32_t module_plan(struct hugevm_handle *handle, const struct hugevm_vm *vm,
                           struct hugevm_result **out_result, struct hugevm_error *error)
{
    return begin_vm(handle, vm, hv_lifecycle_plan, out_result, error);
}

static int32_t module_adapt_incoming_xml(struct hugevm_handle *handle, const struct hugevm_vm *vm,
                                         struct hugevm_result **out_result,
                                         struct hugevm_error *error)
{
    return begin_vm(handle, vm, hv_lifecycle_adapt_incoming, out_result, error);
}

/* Takes in a reference; *out_uuid is its UUID in the ledger's spelling. */
static gboolean take_ref(const struct hugevm_vm_ref *vm, const HvAgent *agent, HvVmRef *out_ref,
                         char **out_uuid)
{
    struct hugevm_vm_ref own;
    if (vm == NULL || !module_take_struct(&own, sizeof own, vm) || own.uuid == NULL)
        return FALSE;
    *out_uuid = hv_uuid_normalize(own.uuid);
    if (*out_uuid == NULL || own.qemu_pid < 0 || (own.flags & ~ALL_REF_FLAGS) != 0)
        return FALSE;
    *out_ref = (HvVmRef){.uuid = *out_uuid,
                         .generation = own.generation,
                         .qemu_pid = own.qemu_pid,
                         .owner_name =
                             (own.flags & HUGEVM_VM_REF_OWN_CLAIM) != 0 ? agent->owner_name : NULL,
                         .host_waits = (own.flags & HUGEVM_VM_REF_HOST_WAITS) != 0,
                         .memory_directories = own.memory_directories};
    return TRUE;
}

typedef gboolean (*Event)(const HvAgent *agent, const HvVmRef *vm, gboolean *out_known,
                          GError **error);

static int32_t pass_event(struct hugevm_handle *handle, const struct hugevm_vm_ref *vm, Event event,
                          gboolean must_know, struct hugevm_error *error)
{
    HvVmRef ref;
    g_autofree char *uuid = NULL;
    g_autofree char *warning = NULL;
    gboolean is_known = FALSE;
    GError *cause = NULL;
    if (handle == NULL || !take_ref(vm, handle->agent, &ref, &uuid))
        return module_fail_invalid(
            error, "handle is NULL, or hugevm_vm_ref has no size, no valid UUID, or "
                   "unknown flags");
    ref.out_warning = &warning;
    if (!event(handle->agent, &ref, &is_known, &cause))
        return module_fail_with(error, cause);
    if (warning != NULL)
        log_text(handle, HUGEVM_LOG_WARNING, warning);
    if (is_known || !must_know)
        return HUGEVM_OK;
    g_autofree char *message = g_strdup_printf("there is no claim for VM %s", uuid);
    return module_fail(error, HUGEVM_ERROR_UNKNOWN_VM, message, NULL);
}

static int32_t module_vm_launching(struct hugevm_handle *handle, const struct hugevm_vm_ref *vm,
                                   struct hugevm_error *error)
{
    return pass_event(handle, vm, hv_lifecycle_launching, TRUE, error);
}

static int32_t module_after_vm_start(struct hugevm_handle *handle, const struct hugevm_vm_ref *vm,
                                     struct hugevm_error *error)
{
    return pass_event(handle, vm, hv_lifecycle_started, TRUE, error);
}

static int32_t module_after_vm_destroy(struct hugevm_handle *handle, const struct hugevm_vm_ref *vm,
                                       struct hugevm_error *error)
{
    return pass_event(handle, vm, hv_lifecycle_gone, FALSE, error);
}

static int32_t module_vm_left(struct hugevm_handle *handle, const struct hugevm_vm_ref *vm,
                              struct hugevm_error *error)
{
    return pass_event(handle, vm, hv_lifecycle_left, FALSE, error);
}

static int32_t module_before_vm_dehibernate(struct hugevm_handle *handle,
                                            const struct hugevm_vm *vm,
                                            struct hugevm_result **out_result,
                                            struct hugevm_error *error)
{
    return begin_vm(handle, vm, hv_lifecycle_claim_restored, out_result, error);
}

/* Takes in what the hotplug slots are given. */
static gboolean take_plug(struct hugevm_handle *handle, const struct hugevm_vm_ref *vm,
                          HvPlug *plug, HvVmRef *out_ref, char **out_uuid)
{
    if (handle == NULL || plug->xml == NULL || !take_ref(vm, handle->agent, out_ref, out_uuid))
        return FALSE;
    plug->progress = handle->host.progress != NULL ? report_progress : NULL;
    plug->progress_data = handle;
    return TRUE;
}

#define BAD_PLUG                                                                                   \
    "handle or device_xml is NULL, or hugevm_vm_ref has no size, no valid UUID, or unknown flags"

static int32_t module_before_memory_hotplug(struct hugevm_handle *handle,
                                            const struct hugevm_vm_ref *vm, const char *device_xml,
                                            uint64_t device_xml_bytes,
                                            struct hugevm_result **out_result,
                                            struct hugevm_error *error)
{
    HvVmRef ref;
    g_autofree char *uuid = NULL;
    HvPlug plug = {.xml = device_xml, .xml_bytes = device_xml_bytes};
    GError *cause = NULL;
    if (out_result == NULL || !take_plug(handle, vm, &plug, &ref, &uuid))
        return module_fail_invalid(error, out_result == NULL ? "out_result is NULL" : BAD_PLUG);
    HvOutcome *outcome = hv_lifecycle_plug(handle->agent, &ref, &plug, &cause);
    return outcome != NULL ? module_give_result(outcome, out_result)
                           : module_fail_with(error, cause);
}

static int32_t module_before_device_hotplug(struct hugevm_handle *handle,
                                            const struct hugevm_vm_ref *vm, const char *device_xml,
                                            uint64_t device_xml_bytes, struct hugevm_error *error)
{
    HvVmRef ref;
    g_autofree char *uuid = NULL;
    HvPlug plug = {.xml = device_xml, .xml_bytes = device_xml_bytes};
    GError *cause = NULL;
    if (!take_plug(handle, vm, &plug, &ref, &uuid))
        return module_fail_invalid(error, BAD_PLUG);
    return hv_lifecycle_check_device(handle->agent, &ref, &plug, &cause)
               ? HUGEVM_OK
               : module_fail_with(error, cause);
}

static int32_t end_plug(struct hugevm_handle *handle, const struct hugevm_vm_ref *vm, HvPlug plug,
                        HvPlugEnd end, struct hugevm_error *error)
{
    HvVmRef ref;
    g_autofree char *uuid = NULL;
    GError *cause = NULL;
    if (!take_plug(handle, vm, &plug, &ref, &uuid))
        return module_fail_invalid(error, BAD_PLUG);
    return hv_lifecycle_plug_ended(handle->agent, &ref, &plug, end, &cause)
               ? HUGEVM_OK
               : module_fail_with(error, cause);
}

static int32_t module_after_memory_hotplug(struct hugevm_handle *handle,
                                           const struct hugevm_vm_ref *vm, const char *device_xml,
                                           uint64_t device_xml_bytes, struct hugevm_error *error)
{
    HvPlug plug = {.xml = device_xml, .xml_bytes = device_xml_bytes};
    return end_plug(handle, vm, plug, HV_PLUG_DONE, error);
}

static int32_t module_memory_hotplug_failed(struct hugevm_handle *handle,
                                            const struct hugevm_vm_ref *vm, const char *device_xml,
                                            uint64_t device_xml_bytes, struct hugevm_error *error)
{
    HvPlug plug = {.xml = device_xml, .xml_bytes = device_xml_bytes};
    return end_plug(handle, vm, plug, HV_PLUG_FAILED, error);
}

static int32_t module_after_memory_hotunplug(struct hugevm_handle *handle,
                                             const struct hugevm_vm_ref *vm, const char *device_xml,
                                             uint64_t device_xml_bytes, struct hugevm_error *error)
{
    HvPlug plug = {.xml = device_xml, .xml_bytes = device_xml_bytes};
    return end_plug(handle, vm, plug, HV_PLUG_UNDONE, error);
}

static int32_t module_reconcile_begin(struct hugevm_handle *handle, uint64_t *out_sequence,
                                      struct hugevm_error *error)
{
    guint64 sequence;
    GError *cause = NULL;
    if (handle == NULL || out_sequence == NULL)
        return module_fail_invalid(error, "handle or out_sequence is NULL");
    if (!hv_lifecycle_reconcile_begin(handle->agent, &sequence, &cause))
        return module_fail_with(error, cause);
    *out_sequence = sequence;
    return HUGEVM_OK;
}

static int32_t module_reconcile(struct hugevm_handle *handle, uint64_t sequence,
                                const char *const *running_uuids, uint64_t running_count,
                                struct hugevm_error *error)
{
    GError *cause = NULL;
    if (handle == NULL || (running_uuids == NULL && running_count > 0) ||
        running_count > MAX_RUNNING)
        return module_fail_invalid(error, "handle or running_uuids is NULL, or there are too many");
    g_auto(GStrv) uuids = g_new0(char *, running_count + 1);
    for (uint64_t i = 0; i < running_count; i++) {
        uuids[i] = running_uuids[i] != NULL ? hv_uuid_normalize(running_uuids[i]) : NULL;
        if (uuids[i] == NULL)
            return module_fail_invalid(error, "running_uuids has something that is no UUID");
    }
    HvRunning running = {.sequence = sequence,
                         .uuids = (const char *const *)uuids,
                         .owner_name = handle->agent->owner_name};
    return hv_lifecycle_reconcile(handle->agent, &running, &cause) ? HUGEVM_OK
                                                                   : module_fail_with(error, cause);
}

static const struct hugevm_plugin plugin = {
    .size = sizeof plugin,
    .abi_major = HUGEVM_ABI_MAJOR,
    .abi_minor = HUGEVM_ABI_MINOR,
    .version = HUGEVM_VERSION,
    .open = module_open,
    .close = module_close,
    .before_vm_start = module_before_vm_start,
    .vm_launching = module_vm_launching,
    .after_vm_start = module_after_vm_start,
    .after_vm_destroy = module_after_vm_destroy,
    .before_vm_migrate_destination = module_before_vm_migrate_destination,
    .after_vm_migrate_destination = module_after_vm_start,
    .after_vm_migrate_source = module_vm_left,
    .before_vm_dehibernate = module_before_vm_dehibernate,
    .after_vm_hibernate = module_vm_left,
    .vm_start_failed = module_after_vm_destroy,
    .before_memory_hotplug = module_before_memory_hotplug,
    .after_memory_hotplug = module_after_memory_hotplug,
    .memory_hotplug_failed = module_memory_hotplug_failed,
    .after_memory_hotunplug = module_after_memory_hotunplug,
    .reconcile_begin = module_reconcile_begin,
    .reconcile = module_reconcile,
    .get_caps = module_get_caps,
    .get_stats = module_get_stats,
    .plan = module_plan,
    .result_domain_xml = module_result_domain_xml,
    .result_xml_changed = module_result_xml_changed,
    .result_uuid = module_result_uuid,
    .result_generation = module_result_generation,
    .result_json = module_result_json,
    .result_warning_count = module_result_warning_count,
    .result_warning = module_result_warning,
    .result_free = module_result_free,
    .adapt_incoming_xml = module_adapt_incoming_xml,
    .before_device_hotplug = module_before_device_hotplug,
};

__attribute__((visibility("default"))) int32_t hugevm_plugin_negotiate(
    const struct hugevm_host *host, const struct hugevm_plugin **out_plugin,
    struct hugevm_error *error)
{
    struct hugevm_host own_host;
    int32_t code;
    if (out_plugin == NULL)
        return module_fail_invalid(error, "negotiate: out_plugin is NULL");
    if (host != NULL && !take_host(&own_host, host, error, &code))
        return code;
    *out_plugin = &plugin;
    return HUGEVM_OK;
}
