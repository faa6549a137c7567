/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Devices other than memory, of a VM that runs. They take no pages; but one whose other side has to
 * map the guest's memory cannot work where that is private, and it is private or shared from the
 * start of the VM to its end. libvirt 9.0 plugs a vhostuser interface all the same, without a
 * word, and it moves no packet. Of a VM without claim nothing is known, and nothing is said.
 */
#include "lifecycle-private.h"

#include "error.h"

/* Whoever has switched hugevm off does not want to hear what it thinks of a device. */
static gboolean is_switched_off(const HvAgent *agent)
{
    g_autoptr(HvSettings) settings =
        hv_settings_load(agent->root, (const char *const *)agent->conf_files, NULL);
    return settings != NULL && !settings->enabled;
}

gboolean hv_lifecycle_check_device(const HvAgent *agent, const HvVmRef *ref, const HvPlug *plug,
                                   GError **error)
{
    g_autofree char *device = NULL;
    if (!hv_device_parse_sharer(plug->xml, plug->xml_bytes, &device, error))
        return FALSE;
    if (device == NULL || is_switched_off(agent))
        return TRUE;
    g_autoptr(HvLedger) ledger = hv_ledger_read(agent->root, error);
    if (ledger == NULL)
        return FALSE;
    const HvClaim *vm = hv_ledger_claim(ledger, ref->uuid);
    if (vm == NULL || vm->shared)
        return TRUE;
    g_autofree char *name = hv_quote(vm->name);
    hv_set_error(error, HV_ERROR_CONFLICT,
                 "set the VM property hugepages_shared=true, or share the memory in the domain "
                 "XML, and start the VM anew",
                 "shared memory is needed by %s, but that of VM %s (%s) is private for as long as "
                 "it runs",
                 device, vm->uuid, name);
    return FALSE;
}
