/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Interfaces and disks that VDSM plugs into a VM that runs. */
#pragma once

#include "vdsm-message.h"

/* Could the device need shared memory? A search for words, no parsing. */
gboolean vdsm_device_may_share(const VdsmRequest *request);

/*
 * TRUE: it cannot work in this VM, and *out_problem says why. FALSE: it may be plugged; a problem
 * is then one of the looking. Needs no root. A new text, or NULL.
 */
gboolean vdsm_device_is_refused(const VdsmRequest *request, char **out_problem);
