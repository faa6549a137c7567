/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A VM that runs: the second half of the life in agent-vm.c.
 *
 * That a VM has ended libvirt says; but only a QEMU that is gone lets go of its pages. So
 * where libvirt's word is missing, since a daemon is away, QEMU's process counts, and as
 * long as that lives nothing is given back.
 */
#include "agent-vm-private.h"

#include "agent-memory.h"
#include "agent-say.h"
#include "error.h"

#include <stdlib.h>
#include <string.h>

#define LOOK_EVERY_MS 1000
#define QEMU_END_WAIT_MS 5000
#define END_TRIES 5
#define END_RETRY_US G_USEC_PER_SEC

/* --- memory devices ----------------------------------------------------------------------- */

typedef int32_t (*MemorySlot)(struct hugevm_handle *handle, const struct hugevm_vm_ref *vm,
                              const char *device_xml, uint64_t device_xml_bytes,
                              struct hugevm_error *error);

/* Whoever has plugged it in may have claimed its pages, or not: unknown is no failure. */
static void tell_memory(const AgentVm *vm, MemorySlot slot, const AgentMemory *memory)
{
    const struct hugevm_vm_ref ref = {.size = sizeof ref, .uuid = vm->uuid};
    struct hugevm_error error = {.size = sizeof error};
    int32_t code = slot(vm->handle, &ref, memory->xml, strlen(memory->xml), &error);
    if (code != HUGEVM_OK && code != HUGEVM_ERROR_UNKNOWN_VM)
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

/* A device has come, left or changed its size; alias: it may be of any kind. What is requested of
 * one that has shrunk only its present XML says. */
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
        tell_memory(vm, plugin->after_memory_hotunplug, is != NULL ? is : was);
}

/* --- its end ------------------------------------------------------------------------------ */

static void end(AgentVm *vm, const char *why, EventSlot slot)
{
    struct hugevm_error error = {.size = sizeof error};
    agent_say("ending", vm->name, why);
    if (agent_vm_call(vm, slot, NULL, &error) != HUGEVM_OK)
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
    gboolean is_ended = word == AGENT_LIBVIRT_HAS_IT_NOT;
    gboolean may_be_ended = is_ended || (word == AGENT_LIBVIRT_IS_AWAY && vm->qemu.pid != 0);
    if (may_be_ended &&
        hv_process_wait_end(vm->machine, &vm->qemu, is_ended ? QEMU_END_WAIT_MS : 0))
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
        vm->is_unsure = vm->was_missing = FALSE;
        agent_vm_tell_started(vm);
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

static void say_alone(const AgentVm *vm)
{
    g_autofree char *name = hv_quote(vm->name);
    g_autofree char *text =
        g_strdup_printf("libvirt is away; VM %s goes on, and is looked after by its process", name);
    agent_say_warning(text);
}

/* An older QEMU's end may be told late, or libvirt has put another one in its place. */
static gboolean handle_stopped(AgentVm *vm, int detail)
{
    if (agent_libvirt_ask(vm->shared->libvirt, vm->uuid, NULL) == AGENT_LIBVIRT_HAS_IT) {
        agent_vm_tell_started(vm);
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
        agent_vm_tell_started(vm);
        break;
    case AGENT_DEVICE_ADDED:
    case AGENT_DEVICE_REMOVED:
    case AGENT_DEVICE_RESIZED:
        follow_memory(vm, event->device);
        break;
    case AGENT_LIBVIRT_LOST:
        say_alone(vm);
        vm->is_unsure = TRUE;
        break;
    }
    return FALSE;
}

gpointer agent_vm_attend(gpointer data)
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
