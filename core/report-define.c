/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "define.h"

#include "error.h"
#include "json-parts.h"

static void add_texts(JsonBuilder *builder, const char *name, const GPtrArray *texts)
{
    hv_json_begin_array(builder, name);
    for (guint i = 0; i < texts->len; i++)
        json_builder_add_string_value(builder, g_ptr_array_index(texts, i));
    json_builder_end_array(builder);
}

static void add_flag(JsonBuilder *builder, const char *name, gboolean value)
{
    json_builder_set_member_name(builder, name);
    json_builder_add_boolean_value(builder, value);
}

char *hv_report_define_json(const HvDefinition *definition, const HvDefined *defined)
{
    g_autoptr(JsonBuilder) builder = hv_json_begin();
    json_builder_set_member_name(builder, "vm");
    json_builder_begin_object(builder);
    hv_json_add_text(builder, "uuid", defined->uuid != NULL ? defined->uuid : definition->uuid);
    hv_json_add_text(builder, "name", definition->name);
    json_builder_end_object(builder);
    add_flag(builder, "defined", defined->is_defined);
    add_flag(builder, "active", defined->is_active);
    hv_json_add_text(builder, "hugepages", definition->hugepages);
    hv_json_add_text(builder, "shared", definition->shared);
    add_texts(builder, "changes", definition->changes);
    add_texts(builder, "warnings", definition->warnings);
    hv_json_add_text(builder, "xml", defined->is_printed ? definition->xml : NULL);
    return hv_json_end(builder);
}

char *hv_report_define_text(const HvDefinition *definition, const HvDefined *defined)
{
    g_autofree char *name = hv_quote(definition->name);
    GString *out = g_string_new(NULL);
    g_string_append_printf(out, "%s: %s", defined->is_defined ? "defined" : "unchanged", name);
    for (guint i = 0; i < definition->changes->len; i++)
        g_string_append_printf(out, "%s%s", i == 0 ? ": " : ", ",
                               (const char *)g_ptr_array_index(definition->changes, i));
    g_string_append_c(out, '\n');
    if (defined->is_defined && defined->is_active)
        g_string_append_printf(out, "%s runs: this takes effect at its next start\n", name);
    return g_string_free(out, FALSE);
}
