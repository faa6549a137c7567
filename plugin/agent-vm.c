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
 *   attend, a thread
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
 *
 * That a VM has ended libvirt says; but only a QEMU that is gone lets go of its pages. So
 * where libvirt's word is missing, since a daemon is away, QEMU's process counts, and as
 * long as that lives nothing is given back.
 */
#include "agent-vm.h"

#include "agent-check.h"
#include "agent-memory.h"
#include "agent-say.h"
#include "process.h"

#include <stdlib.h>
#include <string.h>

#define PROGRESS_AFTER_US (500 * 1000)
#define LOOK_EVERY_MS 1000
#define END_TRIES 5
#define END_RETRY_US G_USEC_PER_SEC

struct AgentVm {
    const AgentShared *shared;
    const AgentDomain *domain;
    struct hugevm_handle *handle;
    struct hugevm_result *result; /* of the last slot that gives one */
    gint64 begin_us;
    char *name;
    char *uuid; /* NULL: the domain has none, until it is claimed or started */
    gboolean is_claimed;
    gboolean is_unsure;   /* whether it runs: to be looked at again and again */
    gboolean was_missing; /* at the last look */
    HvProcess qemu;       /* pid 0: not known */
    HvRoot *machine;
    GHashTable *memory; /* agent-memory.h: devices that the VM has */
    GThread *thread;    /* NULL: it has not started */
    gint status;        /* atomic: exit status of its end */
};

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
    const struct hugevm_vm description = {.size = sizeof description,
                                          .flags = HUGEVM_VM_WILL_CALL_LAUNCHING,
                                          .uuid = vm->uuid,
                                          .domain_xml = vm->domain->xml,
                                          .domain_xml_bytes = vm->domain->xml_bytes,
                                          .properties = properties,
                                          .property_count = count};
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

typedef int32_t (*EventSlot)(struct hugevm_handle *handle, const struct hugevm_vm_ref *vm,
                             struct hugevm_error *error);

/* HUGEVM_OK for a VM without claim, as there is nothing to tell. */
static int32_t call(const AgentVm *vm, EventSlot slot, char **directories,
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
    return call(vm, slot, NULL, &error) == HUGEVM_OK ? EXIT_DONE : agent_say_plugin_error(&error);
}

static int tell_launching(const AgentVm *vm)
{
    struct hugevm_error error = {.size = sizeof error};
    g_auto(GStrv) directories = agent_libvirt_memory_directories(vm->shared->libvirt);
    if (call(vm, vm->shared->plugin->vm_launching, directories, &error) == HUGEVM_OK)
        return EXIT_DONE;
    return agent_say_plugin_error(&error);
}

static HvProcess find_qemu(const AgentVm *vm)
{
    gint64 pid = agent_libvirt_qemu_pid(vm->shared->libvirt, vm->name);
    return pid != 0 ? hv_process_identify(vm->machine, pid)
                    : hv_process_find_qemu(vm->machine, vm->uuid);
}

/* QEMU has its memory: the first one, or another that libvirt has put in its place. */
static int tell_started(AgentVm *vm)
{
    HvProcess qemu = find_qemu(vm);
    if (vm->qemu.pid != 0 && (qemu.pid == 0 || memcmp(&qemu, &vm->qemu, sizeof qemu) == 0))
        return EXIT_DONE;
    struct hugevm_error error = {.size = sizeof error};
    vm->qemu = qemu;
    int32_t code = call(vm, vm->shared->plugin->after_vm_start, NULL, &error);
    /* unknown: it has ended already, and another command has seen that first */
    return code == HUGEVM_OK || code == HUGEVM_ERROR_UNKNOWN_VM ? EXIT_DONE
                                                                : agent_say_plugin_error(&error);
}

typedef int32_t (*MemorySlot)(struct hugevm_handle *handle, const struct hugevm_vm_ref *vm,
                              const char *device_xml, uint64_t device_xml_bytes,
                              struct hugevm_error *error);

/* Whoever has plugged it in may have claimed its pages, or not: unknown is no failure. */
static void tell_memory(const AgentVm *vm, MemorySlot slot, const AgentMemory *memory)
{
    const struct hugevm_vm_ref ref = {.size = sizeof ref, .uuid = vm->uuid};
    struct hugevm_error error = {.size = sizeof error};
    int32_t code = slot(vm->handle, &ref, memory->xml, strlen(memory->xml), &error);
    if (code != HUGEVM_OK && code != HUGEVM_ERROR_UNKNOWN_VM && code != HUGEVM_ERROR_NOT_SUPPORTED)
        agent_say_plugin_error(&error);
}

static void note_memory(AgentVm *vm)
{
    virDomainPtr domain = NULL;
    agent_libvirt_ask(vm->shared->libvirt, vm->uuid, &domain);
    char *xml = domain != NULL ? virDomainGetXMLDesc(domain, 0) : NULL;
    if (xml != NULL) {
        g_hash_table_unref(vm->memory);
        vm->memory = agent_memory_list(xml);
    }
    free(xml);
    if (domain != NULL)
        virDomainFree(domain);
}

/* A device has come, left or changed its size; alias: it may be of any kind. */
static void follow_memory(AgentVm *vm, const char *alias)
{
    const struct hugevm_plugin *plugin = vm->shared->plugin;
    g_autoptr(GHashTable) before = g_hash_table_ref(vm->memory);
    note_memory(vm);
    const AgentMemory *was = g_hash_table_lookup(before, alias);
    const AgentMemory *is = g_hash_table_lookup(vm->memory, alias);
    guint64 was_kib = was != NULL ? was->size_kib : 0;
    guint64 is_kib = is != NULL ? is->size_kib : 0;
    if (is_kib > was_kib)
        tell_memory(vm, plugin->after_memory_hotplug, is);
    else if (is_kib < was_kib)
        tell_memory(vm, plugin->after_memory_hotunplug, was);
}

/* --- its end ------------------------------------------------------------------------------ */

static void end(AgentVm *vm, const char *why, EventSlot slot)
{
    const struct hugevm_plugin *plugin = vm->shared->plugin;
    struct hugevm_error error = {.size = sizeof error};
    agent_say("ending", vm->name, why);
    int32_t code = call(vm, slot, NULL, &error);
    if (code == HUGEVM_ERROR_NOT_SUPPORTED)
        code = call(vm, plugin->after_vm_destroy, NULL, &error);
    if (code != HUGEVM_OK)
        g_atomic_int_set(&vm->status, agent_say_plugin_error(&error));
    vm->is_claimed = FALSE;
}

static void end_stopped(AgentVm *vm, int detail)
{
    static const char *const reasons[] = {
        [VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN] = "the guest has shut down",
        [VIR_DOMAIN_EVENT_STOPPED_DESTROYED] = "destroyed from outside",
        [VIR_DOMAIN_EVENT_STOPPED_CRASHED] = "the guest has crashed",
        [VIR_DOMAIN_EVENT_STOPPED_MIGRATED] = "it has migrated to another host",
        [VIR_DOMAIN_EVENT_STOPPED_SAVED] = "it has been saved",
        [VIR_DOMAIN_EVENT_STOPPED_FAILED] = "QEMU has failed",
        [VIR_DOMAIN_EVENT_STOPPED_FROM_SNAPSHOT] = "stopped by a snapshot",
    };
    const struct hugevm_plugin *plugin = vm->shared->plugin;
    gboolean is_known = detail >= 0 && (guint)detail < G_N_ELEMENTS(reasons);
    end(vm, is_known ? reasons[detail] : "the VM has ended",
        detail == VIR_DOMAIN_EVENT_STOPPED_MIGRATED ? plugin->after_vm_migrate_source
        : detail == VIR_DOMAIN_EVENT_STOPPED_SAVED  ? plugin->after_vm_hibernate
                                                    : plugin->after_vm_destroy);
}

/* Where libvirt cannot do it, the VM outlives this run, and its pages stay its own. */
static void end_wanted(AgentVm *vm, AgentWish wish)
{
    static const char *const wishes[] = {
        [AGENT_WISH_TIME_IS_UP] = "time is up",
        [AGENT_WISH_INTERRUPTED] = "interrupted",
        [AGENT_WISH_OTHER_FAILED] = "another VM of this run does not start",
    };
    AgentLibvirtWord word = agent_libvirt_destroy(vm->shared->libvirt, vm->uuid);
    for (guint i = 0; word == AGENT_LIBVIRT_IS_AWAY && i < END_TRIES; i++) {
        g_usleep(END_RETRY_US);
        word = agent_libvirt_destroy(vm->shared->libvirt, vm->uuid);
    }
    if (word == AGENT_LIBVIRT_HAS_IT_NOT && !hv_process_is_alive(vm->machine, &vm->qemu))
        end(vm, wishes[wish], vm->shared->plugin->after_vm_destroy);
    else
        g_atomic_int_set(&vm->status,
                         agent_say_libvirt_error(vm->name, "cannot be ended, so it goes on with "
                                                           "its pages"));
}

/* --- while it runs ------------------------------------------------------------------------ */

/* Nobody has said anything: does it run? TRUE: it has ended. */
static gboolean look(AgentVm *vm)
{
    AgentLibvirtWord word = agent_libvirt_ask(vm->shared->libvirt, vm->uuid, NULL);
    gboolean qemu_lives = hv_process_is_alive(vm->machine, &vm->qemu);
    if (word == AGENT_LIBVIRT_HAS_IT) {
        vm->is_unsure = FALSE;
        tell_started(vm);
        return FALSE;
    }
    gboolean may_live = qemu_lives || (word == AGENT_LIBVIRT_IS_AWAY && vm->qemu.pid == 0);
    gboolean was_missing = vm->was_missing; /* once more: the reason may be on its way */
    vm->was_missing = !may_live;
    if (may_live || !was_missing)
        return FALSE;
    end(vm, "the VM has ended unseen", vm->shared->plugin->after_vm_destroy);
    return TRUE;
}

/* An older QEMU's end may be told late, or libvirt has put another one in its place. */
static gboolean handle_stopped(AgentVm *vm, int detail)
{
    if (agent_libvirt_ask(vm->shared->libvirt, vm->uuid, NULL) == AGENT_LIBVIRT_HAS_IT) {
        tell_started(vm);
        return FALSE;
    }
    end_stopped(vm, detail);
    return TRUE;
}

/* TRUE: the VM's life is over. */
static gboolean handle(AgentVm *vm, const AgentEvent *event)
{
    switch (event->kind) {
    case AGENT_VM_STOPPED:
        return handle_stopped(vm, event->detail);
    case AGENT_END_WANTED:
        end_wanted(vm, (AgentWish)event->detail);
        return TRUE;
    case AGENT_VM_REBOOTED:
        agent_say("rebooted", vm->name, NULL);
        break;
    case AGENT_VM_STARTED:
        tell_started(vm);
        break;
    case AGENT_DEVICE_ADDED:
    case AGENT_DEVICE_REMOVED:
    case AGENT_DEVICE_RESIZED:
        follow_memory(vm, event->device);
        break;
    case AGENT_LIBVIRT_LOST:
        vm->is_unsure = TRUE;
        break;
    }
    return FALSE;
}

static gpointer attend(gpointer data)
{
    AgentVm *vm = data;
    gboolean is_over = FALSE;
    note_memory(vm);
    while (!is_over) {
        g_autoptr(AgentEvent) event =
            agent_events_next(vm->shared->events, vm->uuid, vm->is_unsure ? LOOK_EVERY_MS : 0);
        is_over = event != NULL ? handle(vm, event) : look(vm);
    }
    agent_signals_count_end(vm->shared->signals);
    return NULL;
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
    status = tell_started(vm);
    if (status == EXIT_DONE)
        agent_say("running", vm->name, NULL);
    vm->thread = g_thread_new("vm", attend, vm);
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
