/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sharing: who besides QEMU may map the guest's memory, and who must. Pure. */
#pragma once

#include "request-build.h"

/* Is all memory of the domain that counts shared, by what its XML says of it or by default? */
gboolean hv_sharing_is_complete(const HvDomain *domain);

/* Somebody wants memory shared, or it is: then normal pages would not do. */
gboolean hv_sharing_is_wanted(const HvBuild *build);

/* Fills in request->shared and edit.make_shared; the needs must be there. */
void hv_sharing_settle(HvBuild *build);

/* For the table of agreements. */
char *hv_sharing_find_auto(const HvBuild *build);
char *hv_sharing_find_explicit(const HvBuild *build);
char *hv_sharing_find_private_part(const HvBuild *build);
char *hv_sharing_find_denied(const HvBuild *build);
char *hv_sharing_find_private_against_property(const HvBuild *build);
char *hv_sharing_find_shared_against_property(const HvBuild *build);
