/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is reserved by name, as parts of the report on a host. */
#pragma once

#include "json-parts.h"
#include "room.h"

/* The member "reserved": an entry per named reservation. */
void hv_report_add_reserved(JsonBuilder *builder, const HvWorld *world);

/* A line per named reservation. */
void hv_report_append_reserved(GString *out, const HvWorld *world);
