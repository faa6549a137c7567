/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What libvirt or QEMU would refuse is refused here as well, before pages are taken for it, and
 * with the reason; what they let pass, though it does harm, is said.
 */
#include "agreements.h"

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
