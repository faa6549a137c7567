/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Trusts nothing that it is told. The request comes from a user who may ask root
 * for exactly this; the XML is text that he has read, so no file of his is opened
 * here. Everything in it is checked by the module as any host's is. What is left to
 * that user: to claim pages within the configured limits, and to let go of a claim
 * whose QEMU is dead; see hugevm-hooks(8).
 */
#include "vdsm-root.h"

#include "ancestor.h"
#include "door.h"
#include "vdsm-message.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Whose claims are those of VDSM's hooks. */
#define VDSM "vdsm"

typedef struct {
    Door door;
    VdsmRequest request;
    VdsmReply reply;
    char *uuid;          /* of the claim that was made */
    uint64_t generation; /* 0: none was */
    gboolean is_device;  /* that is a device's claim, not a VM's */
} Call;

static void call_clear(Call *call)
{
    door_clear(&call->door);
    vdsm_request_clear(&call->request);
    vdsm_reply_clear(&call->reply);
    g_free(call->uuid);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Call, call_clear)

/* Lets go of what was claimed in this call. */
static void take_back(const Call *call)
{
    const struct hugevm_vm_ref vm = {
        .size = sizeof vm, .uuid = call->request.uuid, .generation = call->generation};
    if (!call->is_device)
        door_take_back(&call->door, call->uuid, call->generation);
    else if (call->generation != 0)
        call->door.plugin->memory_hotplug_failed(call->door.handle, &vm, call->request.xml,
                                                 call->request.xml_bytes, NULL);
}

typedef int32_t (*BeginSlot)(struct hugevm_handle *handle, const struct hugevm_vm *vm,
                             struct hugevm_result **out_result, struct hugevm_error *error);

static void take_result(Call *call, const struct hugevm_result *result)
{
    const struct hugevm_plugin *plugin = call->door.plugin;
    g_autoptr(GStrvBuilder) warnings = g_strv_builder_new();
    for (uint64_t i = 0; i < plugin->result_warning_count(result); i++)
        g_strv_builder_add(warnings, plugin->result_warning(result, i));
    call->reply.warnings = g_strv_builder_end(warnings);
    call->uuid = g_strdup(plugin->result_uuid(result));
    call->generation = plugin->result_generation(result);
    if (!plugin->result_xml_changed(result))
        return;
    uint64_t bytes = 0;
    const char *xml = plugin->result_domain_xml(result, &bytes);
    call->reply.changed_xml = g_strndup(xml, bytes);
    call->reply.changed_xml_bytes = bytes;
}

/* A module that does not do this leaves things as they were: so does a newer hook with it. */
static gboolean has_failed(Call *call, int32_t code, const struct hugevm_error *error)
{
    if (code != HUGEVM_OK && code != HUGEVM_ERROR_NOT_SUPPORTED)
        call->reply.problem = door_problem(error);
    return code != HUGEVM_OK;
}

static void begin(Call *call, BeginSlot slot, uint32_t flags)
{
    const VdsmRequest *request = &call->request;
    struct hugevm_property properties[2];
    uint64_t count = 0;
    if (request->hugepages != NULL)
        properties[count++] = (struct hugevm_property){"hugepages", request->hugepages};
    if (request->shared != NULL)
        properties[count++] = (struct hugevm_property){"hugepages_shared", request->shared};
    const struct hugevm_vm vm = {.size = sizeof vm,
                                 .flags = flags | HUGEVM_VM_BY_LIBVIRTD,
                                 .uuid = request->uuid[0] != '\0' ? request->uuid : NULL,
                                 .domain_xml = request->xml,
                                 .domain_xml_bytes = request->xml_bytes,
                                 .properties = properties,
                                 .property_count = count};
    struct hugevm_result *result = NULL;
    struct hugevm_error error = {.size = sizeof error};
    if (has_failed(call, slot(call->door.handle, &vm, &result, &error), &error))
        return;
    take_result(call, result);
    call->door.plugin->result_free(result);
    if (door_is_interrupted()) {
        take_back(call);
        call->reply.problem = g_strdup(DOOR_INTERRUPTED);
    }
}

/* Starts come through VDSM first: a claim of libvirt's that is there already was left behind. */
static void before_vm_start(Call *call)
{
    begin(call, call->door.plugin->before_vm_start, HUGEVM_VM_ADOPT_CLAIM);
}

/* VDSM starts the source's XML whatever we say, and the source waits for us. */
static void before_vm_migrate_destination(Call *call)
{
    begin(call, call->door.plugin->before_vm_migrate_destination,
          HUGEVM_VM_ADOPT_CLAIM | HUGEVM_VM_CANNOT_EDIT_XML | HUGEVM_VM_HOST_WAITS);
}

/*
 * VDSM has called before_vm_start with what the engine thinks the VM is; this is what it will be.
 * Where that cannot be, the first claim goes too: nothing will be started.
 */
static void before_vm_dehibernate(Call *call)
{
    const struct hugevm_vm_ref vm = {
        .size = sizeof vm, .flags = HUGEVM_VM_REF_OWN_CLAIM, .uuid = call->request.uuid};
    begin(call, call->door.plugin->before_vm_dehibernate,
          HUGEVM_VM_ADOPT_CLAIM | HUGEVM_VM_CANNOT_EDIT_XML);
    if (call->reply.problem != NULL)
        call->door.plugin->vm_start_failed(call->door.handle, &vm, NULL);
}

static void tell(Call *call, DoorEvent event)
{
    struct hugevm_vm_ref vm = {.uuid = call->request.uuid};
    door_tell(&call->door, event, &vm, &call->reply.problem);
}

static void after_vm_start(Call *call)
{
    tell(call, call->door.plugin->after_vm_start);
}

static void after_vm_migrate_destination(Call *call)
{
    tell(call, call->door.plugin->after_vm_migrate_destination);
}

static void after_vm_destroy(Call *call)
{
    tell(call, call->door.plugin->after_vm_destroy);
}

static void after_vm_migrate_source(Call *call)
{
    tell(call, call->door.plugin->after_vm_migrate_source);
}

static void after_vm_hibernate(Call *call)
{
    tell(call, call->door.plugin->after_vm_hibernate);
}

static void before_memory_hotplug(Call *call)
{
    const VdsmRequest *request = &call->request;
    struct hugevm_vm_ref vm = {.size = sizeof vm, .uuid = request->uuid};
    struct hugevm_result *result = NULL;
    struct hugevm_error error = {.size = sizeof error};
    int32_t code = call->door.plugin->before_memory_hotplug(call->door.handle, &vm, request->xml,
                                                            request->xml_bytes, &result, &error);
    if (has_failed(call, code, &error))
        return;
    take_result(call, result);
    call->door.plugin->result_free(result);
    call->is_device = TRUE;
    if (door_is_interrupted()) {
        take_back(call);
        call->reply.problem = g_strdup(DOOR_INTERRUPTED);
    }
}

static void after_memory_hotplug(Call *call)
{
    const VdsmRequest *request = &call->request;
    struct hugevm_vm_ref vm = {.size = sizeof vm, .uuid = request->uuid};
    struct hugevm_error error = {.size = sizeof error};
    has_failed(call,
               call->door.plugin->after_memory_hotplug(call->door.handle, &vm, request->xml,
                                                       request->xml_bytes, &error),
               &error);
}

static const struct {
    const char *name;
    void (*handle)(Call *call);
} points[] = {
    {"before_vm_start", before_vm_start},
    {"before_vm_migrate_destination", before_vm_migrate_destination},
    {"before_vm_dehibernate", before_vm_dehibernate},
    {"after_vm_start", after_vm_start},
    {"after_vm_migrate_destination", after_vm_migrate_destination},
    {"after_vm_destroy", after_vm_destroy},
    {"after_vm_migrate_source", after_vm_migrate_source},
    {"after_vm_hibernate", after_vm_hibernate},
    {"before_memory_hotplug", before_memory_hotplug},
    {"after_memory_hotplug", after_memory_hotplug},
};

static int fail(const char *message)
{
    fprintf(stderr, "%s\n", message);
    return 3;
}

static gboolean write_all(int fd, GBytes *bytes)
{
    gsize n = 0;
    const char *data = g_bytes_get_data(bytes, &n);
    while (n > 0) {
        ssize_t written = write(fd, data, n);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return FALSE;
        data += written;
        n -= (gsize)written;
    }
    return TRUE;
}

int vdsm_root_main(const char *point)
{
    g_auto(Call) call = {0};
    gsize n = 0, i = 0;
    while (i < G_N_ELEMENTS(points) && strcmp(points[i].name, point) != 0)
        i++;
    if (i == G_N_ELEMENTS(points))
        return fail("this point is not served");
    if (geteuid() != 0)
        return fail("this half must run as root");
    signal(SIGPIPE, SIG_IGN);
    door_catch_signals();
    char *text = door_read(STDIN_FILENO, &n);
    g_autoptr(GBytes) bytes = g_bytes_new_take(text, text != NULL ? n : 0);
    if (!vdsm_request_decode(&call.request, bytes))
        return fail("the request is none");
    if (!ancestor_is(call.request.owner_pid))
        return fail("the request names an owner that did not ask for it");
    if (door_open(&call.door, VDSM, call.request.owner_pid, &call.reply.problem))
        points[i].handle(&call);
    g_autoptr(GBytes) reply = vdsm_reply_encode(&call.reply);
    if (write_all(STDOUT_FILENO, reply))
        return 0;
    /* nobody hears that there is a claim, so nobody would let go of it */
    take_back(&call);
    return fail("nobody takes the reply");
}

static void warn(const struct hugevm_error *error)
{
    g_autofree char *problem = door_problem(error);
    fprintf(stderr, "hugevm: warning: %s\n", problem);
}

/* Settings that are odd, among them VDSM's own switch: said once, where VDSM's log begins. */
static void warn_of_settings(const Door *door)
{
    struct hugevm_result *result = NULL;
    struct hugevm_error error = {.size = sizeof error};
    if (door->plugin->get_stats(door->handle, &result, &error) != HUGEVM_OK) {
        warn(&error);
        return;
    }
    for (uint64_t i = 0; i < door->plugin->result_warning_count(result); i++)
        fprintf(stderr, "hugevm: warning: %s\n", door->plugin->result_warning(result, i));
    door->plugin->result_free(result);
}

/*
 * VDSM does not run, so nobody is about to start a VM of its: a claim of VDSM's that has no QEMU
 * has missed its end. No list of VMs is needed for that: a QEMU is seen by its process.
 */
static gboolean reconcile(const Door *door, char **out_problem)
{
    uint64_t sequence = 0;
    struct hugevm_error error = {.size = sizeof error};
    int32_t code = door->plugin->reconcile_begin(door->handle, &sequence, &error);
    if (code == HUGEVM_ERROR_LEDGER) /* only looked at so far; this sets a damaged one aside */
        warn(&error);
    if ((code == HUGEVM_OK || code == HUGEVM_ERROR_LEDGER) &&
        door->plugin->reconcile(door->handle, sequence, NULL, 0, &error) == HUGEVM_OK)
        return TRUE;
    *out_problem = door_problem(&error);
    return FALSE;
}

int vdsm_root_before_vdsm_start(void)
{
    g_auto(Door) door = {0};
    g_autofree char *problem = NULL;
    if (geteuid() != 0)
        problem = g_strdup("before_vdsm_start is for root");
    else if (door_open(&door, VDSM, 0, &problem) && reconcile(&door, &problem))
        warn_of_settings(&door);
    if (problem == NULL)
        return 0;
    fprintf(stderr, "hugevm: %s\n", problem);
    return 1;
}
