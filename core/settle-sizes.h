/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Page sizes of guest cells, chosen by planning. Private to settle*.c. */
#pragma once

#include "planner.h"

/*
 * Settles the open sizes of a request whose needs are placed as they are to be: fills in needs and
 * chosen. The plan for that comes back, perhaps with a refusal.
 */
HvPlan *hv_settle_sizes(const HvWorld *world, HvRequest *request, GArray *spent);
