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

typedef struct {
    Door door;
    VdsmRequest request;
    VdsmReply reply;
    char *uuid;          /* of the claim that was made */
    uint64_t generation; /* 0: none was */
} Call;

static void call_clear(Call *call)
{
    door_clear(&call->door);
    vdsm_request_clear(&call->request);
    vdsm_reply_clear(&call->reply);
    g_free(call->uuid);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Call, call_clear)

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
    if (slot(call->door.handle, &vm, &result, &error) != HUGEVM_OK) {
        call->reply.problem = door_problem(&error);
        return;
    }
    take_result(call, result);
    call->door.plugin->result_free(result);
    if (door_is_interrupted()) {
        door_take_back(&call->door, call->uuid, call->generation);
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

static void after_vm_start(Call *call)
{
    struct hugevm_vm_ref vm = {.uuid = call->request.uuid};
    door_tell(&call->door, call->door.plugin->after_vm_start, &vm, &call->reply.problem);
}

static void after_vm_destroy(Call *call)
{
    struct hugevm_vm_ref vm = {.uuid = call->request.uuid};
    door_tell(&call->door, call->door.plugin->after_vm_destroy, &vm, &call->reply.problem);
}

static const struct {
    const char *name;
    void (*handle)(Call *call);
} points[] = {
    {"before_vm_start", before_vm_start},
    {"before_vm_migrate_destination", before_vm_migrate_destination},
    {"after_vm_start", after_vm_start},
    {"after_vm_destroy", after_vm_destroy},
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
    if (door_open(&call.door, "vdsm", call.request.owner_pid, &call.reply.problem))
        points[i].handle(&call);
    g_autoptr(GBytes) reply = vdsm_reply_encode(&call.reply);
    if (write_all(STDOUT_FILENO, reply))
        return 0;
    /* nobody hears that there is a claim, so nobody would let go of it */
    door_take_back(&call.door, call.uuid, call.generation);
    return fail("nobody takes the reply");
}
