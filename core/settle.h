/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Settle: the request as it is planned, with what it left open chosen. Pure, as the planner is. */
#pragma once

#include "planner.h"

/*
 * What is open is tried and planned; the best plan counts, and the copy of the request that comes
 * back (newly allocated) says what that chose: needs, chosen, binding, edit, warnings. spent: steps
 * that have fallen short in earlier attempts, none of which is planned again; or NULL.
 */
HvRequest *hv_settle(const HvWorld *world, const HvRequest *request, GArray *spent,
                     HvPlan **out_plan);
