/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The module only looks into the ledger, which everybody may read: sudo is not asked. */
#include "vdsm-device.h"

#include "door.h"

#include <stddef.h>
#include <string.h>

gboolean vdsm_device_may_share(const VdsmRequest *request)
{
    static const char *const words[] = {"vhost", "virtiofs"};
    for (guint i = 0; i < G_N_ELEMENTS(words); i++)
        if (memmem(request->xml, request->xml_bytes, words[i], strlen(words[i])) != NULL)
            return TRUE;
    return FALSE;
}

gboolean vdsm_device_is_refused(const VdsmRequest *request, char **out_problem)
{
    g_auto(Door) door = {0};
    struct hugevm_error error = {.size = sizeof error};
    const struct hugevm_vm_ref vm = {.size = sizeof vm, .uuid = request->uuid};
    if (!door_open(&door, "vdsm", 0, out_problem))
        return FALSE;
    if (door.plugin->size < offsetof(struct hugevm_plugin, before_device_hotplug) +
                                sizeof door.plugin->before_device_hotplug)
        return FALSE; /* a module from before an upgrade */
    int32_t code = door.plugin->before_device_hotplug(door.handle, &vm, request->xml,
                                                      request->xml_bytes, &error);
    if (code != HUGEVM_OK)
        *out_problem = door_problem(&error);
    return code == HUGEVM_ERROR_CONFLICT;
}
