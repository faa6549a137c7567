/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Memory in files, for the reports on a host. Private to report-*.c. */
#pragma once

#include "json-parts.h"
#include "room.h"

/* The member file_backed; nothing where memory is not in files. */
void hv_json_add_file_room(JsonBuilder *builder, const HvWorld *world);

/* A line; nothing where memory is not in files. */
void hv_text_append_file_room(GString *out, const HvWorld *world);
