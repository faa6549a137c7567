/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What libvirt or QEMU would refuse is refused here as well, before pages are taken for it, and
 * with the reason; what they let pass, though it does harm, is said.
 */
#include "agreements.h"

#include "sharing.h"

#include <string.h>

static char *quote_name(const HvBuild *build)
{
    return hv_quote(build->domain->name);
}

static char *find_ondemand(const HvBuild *build)
{
    return build->domain->traits.allocation == HV_ALLOCATION_ONDEMAND ? quote_name(build) : NULL;
}

static char *find_anonymous(const HvBuild *build)
{
    return build->domain->traits.source == HV_SOURCE_ANONYMOUS ? quote_name(build) : NULL;
}

const HvAgreement hv_agreements[] = {
    {.id = "ondemand-hugepages",
     .parties = "<allocation mode='ondemand'/> and huge pages",
     .effect = HV_AGREEMENT_REFUSES,
     .code = HV_ERROR_CONFLICT,
     .message = "VM {} asks for huge pages, and for memory that is allocated on demand; libvirt "
                "does not start it so",
     .hint = "take <allocation mode='ondemand'/> out of <memoryBacking>",
     .reason = "Huge pages are always allocated at the start of a VM, so that it cannot run out of "
               "them later.",
     .find = find_ondemand},
    {.id = "anonymous-hugepages",
     .parties = "<source type='anonymous'/> and huge pages",
     .effect = HV_AGREEMENT_REFUSES,
     .code = HV_ERROR_CONFLICT,
     .message = "VM {} asks for huge pages, and for memory without a file; libvirt does not start "
                "it so",
     .hint = "take <source type='anonymous'/> out of <memoryBacking>",
     .reason = "QEMU gets huge pages from a file of hugetlbfs, or from a memfd.",
     .find = find_anonymous},
    {.id = "device-shares",
     .parties = "A device that needs shared memory, and memory of which nothing is said",
     .effect = HV_AGREEMENT_WARNS,
     .message = "shared memory is needed by {}: the guest's memory is made shared",
     .reason = "The other side of the device is a process that maps the guest's memory. With "
               "shared_memory = auto, as it is by default, the XML gets what it lacks.",
     .find = hv_sharing_find_auto},
    {.id = "device-explicit",
     .parties = "A device that needs shared memory, and shared_memory = explicit",
     .effect = HV_AGREEMENT_REFUSES,
     .code = HV_ERROR_CONFLICT,
     .message = "shared memory is needed by {}, but the guest's memory is private, and "
                "shared_memory = explicit leaves it so",
     .hint = "set the VM property hugepages_shared=true, or share the memory in the domain XML",
     .reason = "The device would not work: its other side is a process that has to map the "
               "guest's memory.",
     .find = hv_sharing_find_explicit},
    {.id = "device-private",
     .parties = "A device that needs shared memory, and memory that the XML makes private",
     .effect = HV_AGREEMENT_REFUSES,
     .code = HV_ERROR_CONFLICT,
     .message = "shared memory is needed by {}",
     .hint = "take that out of the domain XML, or the device",
     .reason = "Such a device reaches all of the guest's memory, as its buffers may be anywhere; "
               "and what is written is not changed to its opposite.",
     .find = hv_sharing_find_private_part},
    {.id = "device-denied",
     .parties = "A device that needs shared memory, and hugepages_shared=false",
     .effect = HV_AGREEMENT_REFUSES,
     .code = HV_ERROR_CONFLICT,
     .message = "the VM property hugepages_shared is false, but shared memory is needed by {}",
     .hint = "remove the property or the device",
     .reason = "The device would not work.",
     .find = hv_sharing_find_denied},
    {.id = "shared-private",
     .parties = "hugepages_shared=true, and memory that the XML makes private",
     .effect = HV_AGREEMENT_REFUSES,
     .code = HV_ERROR_CONFLICT,
     .message = "the VM property hugepages_shared is true, but {}",
     .hint = "take that out of the domain XML, or remove the property",
     .reason = "Of two who say the opposite neither can be taken at its word; the XML gets only "
               "what it does not say.",
     .find = hv_sharing_find_private_against_property},
    {.id = "unshared-shared",
     .parties = "hugepages_shared=false, and memory that the XML shares",
     .effect = HV_AGREEMENT_WARNS,
     .message = "the VM property hugepages_shared is false, but {}: it stays shared",
     .reason = "The VM works, and where false is what a manager says by default it means nothing.",
     .find = hv_sharing_find_shared_against_property},
};

const guint hv_n_agreements = G_N_ELEMENTS(hv_agreements);

static char *fill(const char *message, const char *found)
{
    const char *place = strstr(message, "{}");
    return place == NULL
               ? g_strdup(message)
               : g_strdup_printf("%.*s%s%s", (int)(place - message), message, found, place + 2);
}

void hv_agreements_check(HvBuild *build)
{
    for (guint i = 0; build->request->needs->len > 0 && i < hv_n_agreements; i++) {
        const HvAgreement *row = &hv_agreements[i];
        g_autofree char *found = row->find(build);
        if (found == NULL)
            continue;
        g_autofree char *message = fill(row->message, found);
        if (row->effect == HV_AGREEMENT_WARNS)
            hv_build_warn(build, "%s", message);
        else
            hv_build_refuse(build, hv_refusal_new(row->code, row->hint, "%s", message));
    }
}
