/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What reports in JSON are made of. */
#pragma once

#include <json-glib/json-glib.h>

/* A document of version 1, one object. */
JsonBuilder *hv_json_begin(void);

/* Its text; nothing in it that a terminal would obey or not show. Newly allocated. */
char *hv_json_end(JsonBuilder *builder);

void hv_json_add_number(JsonBuilder *builder, const char *name, guint64 value);
void hv_json_add_text(JsonBuilder *builder, const char *name, const char *value); /* NULL: null */
void hv_json_add_node(JsonBuilder *builder, int node); /* "node"; below 0: null */
void hv_json_begin_array(JsonBuilder *builder, const char *name);
