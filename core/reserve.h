/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reserved pages that this host does not have: said aloud, as they protect nobody. Pure. */
#pragma once

#include "settings.h"
#include "snapshot.h"

/* char *: what is reserved on nodes or of sizes that are missing, or beyond a pool. */
GPtrArray *hv_reserve_warnings(const HvSettings *settings, const HvSnapshot *snapshot);
