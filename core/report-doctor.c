/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Diagnoses. Their texts are one line each, with names from outside quoted already. */
#include "doctor.h"

#include "json-parts.h"

char *hv_report_doctor_json(const GPtrArray *diagnoses)
{
    g_autoptr(JsonBuilder) builder = hv_json_begin();
    hv_json_begin_array(builder, "checks");
    for (guint i = 0; i < diagnoses->len; i++) {
        const HvDiagnosis *diagnosis = g_ptr_array_index(diagnoses, i);
        json_builder_begin_object(builder);
        hv_json_add_text(builder, "check", diagnosis->check);
        hv_json_add_text(builder, "level", hv_doctor_level_name(diagnosis->level));
        hv_json_add_text(builder, "text", diagnosis->text);
        hv_json_add_text(builder, "hint", diagnosis->hint);
        json_builder_end_object(builder);
    }
    json_builder_end_array(builder);
    return hv_json_end(builder);
}

char *hv_report_doctor_text(const GPtrArray *diagnoses)
{
    GString *out = g_string_new(NULL);
    for (guint i = 0; i < diagnoses->len; i++) {
        const HvDiagnosis *diagnosis = g_ptr_array_index(diagnoses, i);
        g_string_append_printf(out, "%s: %s: %s\n", hv_doctor_level_name(diagnosis->level),
                               diagnosis->check, diagnosis->text);
        if (diagnosis->hint != NULL)
            g_string_append_printf(out, "  what to do: %s\n", diagnosis->hint);
    }
    return g_string_free(out, FALSE);
}
