/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One VM's life, and what a host tells hugevm at each turn of it:
 *
 *   agent_vm_plan      plan              input that means nothing shows before all else
 *        |
 *   agent_vm_claim     before_vm_start   its pages are got, and kept for nobody else;
 *        |                 \             answers with the XML to start
 *        |                  `- an error: nothing has been taken
 *   agent_vm_start     vm_launching      from here on its pages are QEMU's to map
 *        |             (libvirt starts QEMU)
 *        |                 \
 *        |                  `- it does not start: vm_start_failed, and the pages go back
 *        |             after_vm_start    QEMU has its memory
 *   agent_vm_attend, a thread: agent-attend.c
 *        |  paused, resumed, rebooted    nothing: the same QEMU, the same pages
 *        |  another QEMU                 after_vm_start, with its process
 *        |  a memory device came, grew   after_memory_hotplug
 *        |  a memory device left, shrank after_memory_hotunplug
 *        |
 *        |  it has ended, for whatever reason but these two:  after_vm_destroy
 *        |  it has been saved:                                after_vm_hibernate
 *        |  it has migrated to another host:                  after_vm_migrate_source
 *        v
 *
 * Each VM has a handle of its own, so that a callback of the plugin knows which VM it is
 * about. Slots may be called from any thread.
 */
#include "agent-vm-private.h"

#include "agent-check.h"
#include "agent-memory.h"
#include "agent-say.h"

#include <string.h>

#define PROGRESS_AFTER_US (500 * 1000)

/* --- what the plugin calls ---------------------------------------------------------------- */

static void on_log(void *opaque, uint32_t level, const char *domain, const char *text)
{
    (void)opaque, (void)domain;
    if (level >= HUGEVM_LOG_WARNING)
        agent_say_warning(text);
}

/* A line on a terminal once it takes long; a signal cancels. */
static int32_t on_progress(void *opaque, uint64_t done_pages, uint64_t total_pages,
                           const char *what)
{
    AgentVm *vm = opaque;
    if (g_get_monotonic_time() - vm->begin_us > PROGRESS_AFTER_US)
        agent_say_progress(what, done_pages, total_pages);
    return agent_signals_came(vm->shared->signals) ? 1 : 0;
}

/* --- before it runs ----------------------------------------------------------------------- */

AgentVm *agent_vm_new(const AgentShared *shared, const AgentDomain *domain)
{
    AgentVm *vm = g_new0(AgentVm, 1);
    vm->shared = shared;
    vm->domain = domain;
    vm->machine = hv_root_new(NULL);
    vm->memory = agent_memory_list("");
    return vm;
}

void agent_vm_free(AgentVm *vm)
{
    if (vm == NULL)
        return;
    vm->shared->plugin->result_free(vm->result);
    vm->shared->plugin->close(vm->handle);
    g_hash_table_unref(vm->memory);
    hv_root_free(vm->machine);
    g_free(vm->name);
    g_free(vm->uuid);
    g_free(vm);
}

static int open_handle(AgentVm *vm)
{
    const struct hugevm_host host = {.size = sizeof host,
                                     .abi_major = HUGEVM_ABI_MAJOR,
                                     .abi_minor = HUGEVM_ABI_MINOR,
                                     .name = "hugevmctl run",
                                     .opaque = vm,
                                     .log = on_log,
                                     .progress = on_progress};
    const AgentRun *run = vm->shared->run;
    const struct hugevm_options options = {.size = sizeof options,
                                           .root = run->root,
                                           .conf_files = (const char *const *)run->conf_files};
    struct hugevm_error error = {.size = sizeof error};
    if (vm->shared->plugin->open(&host, &options, &vm->handle, &error) == HUGEVM_OK)
        return EXIT_DONE;
    return agent_say_plugin_error(&error);
}

static struct hugevm_property *list_properties(GHashTable *table, guint64 *out_count)
{
    GHashTableIter iter;
    gpointer name, value;
    guint count = g_hash_table_size(table), i = 0;
    struct hugevm_property *list = g_new0(struct hugevm_property, count + 1);
    g_hash_table_iter_init(&iter, table);
    while (g_hash_table_iter_next(&iter, &name, &value))
        list[i++] = (struct hugevm_property){name, value};
    *out_count = count;
    return list;
}

typedef int32_t (*BeginSlot)(struct hugevm_handle *handle, const struct hugevm_vm *vm,
                             struct hugevm_result **out_result, struct hugevm_error *error);

static int begin(AgentVm *vm, BeginSlot slot)
{
    guint64 count;
    g_autofree struct hugevm_property *properties =
        list_properties(vm->shared->run->properties, &count);
    HvVersions versions = agent_libvirt_versions(vm->shared->libvirt);
    const struct hugevm_vm description = {.size = sizeof description,
                                          .flags = HUGEVM_VM_WILL_CALL_LAUNCHING,
                                          .uuid = vm->uuid,
                                          .domain_xml = vm->domain->xml,
                                          .domain_xml_bytes = vm->domain->xml_bytes,
                                          .properties = properties,
                                          .property_count = count,
                                          .libvirt_version = versions.libvirt,
                                          .qemu_version = versions.qemu};
    struct hugevm_error error = {.size = sizeof error};
    vm->shared->plugin->result_free(vm->result);
    vm->result = NULL;
    vm->begin_us = g_get_monotonic_time();
    int32_t code = slot(vm->handle, &description, &vm->result, &error);
    agent_say_progress(NULL, 0, 0);
    return code == HUGEVM_OK ? EXIT_DONE : agent_say_plugin_error(&error);
}

int agent_vm_plan(AgentVm *vm)
{
    const struct hugevm_plugin *plugin = vm->shared->plugin;
    GError *error = NULL;
    int status = open_handle(vm);
    if (status == EXIT_DONE)
        status = begin(vm, plugin->plan);
    if (status != EXIT_DONE)
        return status;
    g_autofree char *json = g_strdup(plugin->result_json(vm->result));
    vm->uuid = g_strdup(plugin->result_uuid(vm->result));
    vm->name = agent_check_name(json);
    if (agent_check_is_refused(json) && (status = agent_vm_claim(vm)) != EXIT_DONE)
        return status;
    if (agent_check_mounts(json, &error))
        return EXIT_DONE;
    agent_say_error(error);
    return EXIT_REFUSED;
}

const char *agent_vm_likeness(const AgentVm *vm, const AgentVm *other)
{
    if (vm->uuid != NULL && g_strcmp0(vm->uuid, other->uuid) == 0)
        return "UUID";
    return strcmp(vm->name, other->name) == 0 ? "name" : NULL;
}

/* A domain without UUID gets one, so that its claim has a name. */
int agent_vm_claim(AgentVm *vm)
{
    const struct hugevm_plugin *plugin = vm->shared->plugin;
    if (vm->is_claimed)
        return EXIT_DONE;
    if (vm->uuid == NULL)
        vm->uuid = g_uuid_string_random();
    int status = begin(vm, plugin->before_vm_start);
    if (status != EXIT_DONE)
        return status;
    vm->is_claimed = TRUE;
    for (uint64_t i = 0; i < plugin->result_warning_count(vm->result); i++)
        agent_say_warning(plugin->result_warning(vm->result, i));
    return EXIT_DONE;
}

/* --- telling the plugin ------------------------------------------------------------------- */

int32_t agent_vm_call(const AgentVm *vm, EventSlot slot, char **directories,
                      struct hugevm_error *error)
{
    const struct hugevm_vm_ref ref = {.size = sizeof ref,
                                      .memory_directories = (const char *const *)directories,
                                      .uuid = vm->uuid,
                                      .qemu_pid = vm->qemu.pid,
                                      .generation =
                                          vm->shared->plugin->result_generation(vm->result)};
    return ref.generation != 0 ? slot(vm->handle, &ref, error) : HUGEVM_OK;
}

static int tell(const AgentVm *vm, EventSlot slot)
{
    struct hugevm_error error = {.size = sizeof error};
    return agent_vm_call(vm, slot, NULL, &error) == HUGEVM_OK ? EXIT_DONE
                                                              : agent_say_plugin_error(&error);
}

static int tell_launching(const AgentVm *vm)
{
    struct hugevm_error error = {.size = sizeof error};
    g_auto(GStrv) directories = agent_libvirt_memory_directories(vm->shared->libvirt);
    if (agent_vm_call(vm, vm->shared->plugin->vm_launching, directories, &error) == HUGEVM_OK)
        return EXIT_DONE;
    return agent_say_plugin_error(&error);
}

static HvProcess find_qemu(const AgentVm *vm)
{
    const HvMemoryDir *dir = vm->shared->memory_dir;
    gint64 pid = agent_libvirt_qemu_pid(vm->shared->libvirt, vm->name);
    if (pid != 0)
        return hv_process_identify(vm->machine, pid);
    return dir != NULL && dir->real_path != NULL
               ? hv_process_find_qemu_of_files(vm->machine, vm->uuid, dir->real_path)
               : hv_process_find_qemu(vm->machine, vm->uuid);
}

int agent_vm_tell_started(AgentVm *vm)
{
    HvProcess qemu = find_qemu(vm);
    if (vm->qemu.pid != 0 && (qemu.pid == 0 || memcmp(&qemu, &vm->qemu, sizeof qemu) == 0))
        return EXIT_DONE;
    struct hugevm_error error = {.size = sizeof error};
    vm->qemu = qemu;
    int32_t code = agent_vm_call(vm, vm->shared->plugin->after_vm_start, NULL, &error);
    /* unknown: it has ended already, and another command has seen that first */
    return code == HUGEVM_OK || code == HUGEVM_ERROR_UNKNOWN_VM ? EXIT_DONE
                                                                : agent_say_plugin_error(&error);
}

/* --- its start, and waiting for its end --------------------------------------------------- */

static int create(AgentVm *vm)
{
    char uuid[VIR_UUID_STRING_BUFLEN];
    uint64_t bytes;
    const char *xml = vm->shared->plugin->result_domain_xml(vm->result, &bytes);
    agent_events_follow(vm->shared->events, vm->uuid);
    virDomainPtr domain = agent_libvirt_create(vm->shared->libvirt, xml);
    if (domain == NULL)
        return agent_say_libvirt_error(vm->name, "does not start");
    if (virDomainGetUUIDString(domain, uuid) == 0 && strcmp(uuid, vm->uuid) != 0) {
        g_free(vm->uuid); /* a VM without claim keeps the XML it has, and libvirt makes one up */
        vm->uuid = g_strdup(uuid);
        agent_events_follow(vm->shared->events, vm->uuid);
    }
    virDomainFree(domain);
    return EXIT_DONE;
}

int agent_vm_start(AgentVm *vm)
{
    int status = tell_launching(vm);
    if (status == EXIT_DONE && agent_signals_came(vm->shared->signals)) {
        agent_say_failure("interrupted before the VM was started; its pages are given back");
        status = EXIT_REFUSED;
    }
    if (status == EXIT_DONE)
        status = create(vm);
    if (status != EXIT_DONE)
        return status;
    vm->is_unsure = TRUE; /* it may have ended already */
    status = agent_vm_tell_started(vm);
    if (status == EXIT_DONE)
        agent_say("running", vm->name, NULL);
    vm->thread = g_thread_new("vm", agent_vm_attend, vm);
    return status;
}

void agent_vm_want_end(AgentVm *vm, AgentWish why)
{
    if (vm->thread != NULL)
        agent_events_send(vm->shared->events, vm->uuid, AGENT_END_WANTED, why);
}

int agent_vm_wait_end(AgentVm *vm)
{
    if (vm->thread != NULL)
        g_thread_join(g_steal_pointer(&vm->thread));
    else if (vm->is_claimed)
        return tell(vm, vm->shared->plugin->vm_start_failed);
    return g_atomic_int_get(&vm->status);
}
