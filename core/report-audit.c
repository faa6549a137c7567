/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An audit's findings. Their texts are one line each, with names from outside quoted already. */
#include "audit.h"

#include "json-parts.h"

static void add_findings(JsonBuilder *builder, const char *name, const GPtrArray *findings)
{
    json_builder_set_member_name(builder, name);
    if (findings == NULL) {
        json_builder_add_null_value(builder);
        return;
    }
    json_builder_begin_array(builder);
    for (guint i = 0; i < findings->len; i++) {
        const HvFinding *finding = g_ptr_array_index(findings, i);
        json_builder_begin_object(builder);
        hv_json_add_text(builder, "kind", hv_finding_kind_name(finding->kind));
        hv_json_add_text(builder, "level", hv_finding_is_note(finding) ? "note" : "error");
        hv_json_add_text(builder, "uuid", finding->uuid);
        hv_json_add_text(builder, "text", finding->text);
        hv_json_add_text(builder, "repair", finding->repair);
        hv_json_add_text(builder, "hint", finding->hint);
        json_builder_end_object(builder);
    }
    json_builder_end_array(builder);
}

char *hv_report_audit_json(const GPtrArray *findings, const GPtrArray *remaining)
{
    g_autoptr(JsonBuilder) builder = hv_json_begin();
    add_findings(builder, "findings", findings);
    add_findings(builder, "remaining", remaining);
    return hv_json_end(builder);
}

char *hv_report_audit_text(const GPtrArray *findings)
{
    GString *out = g_string_new(NULL);
    for (guint i = 0; i < findings->len; i++) {
        const HvFinding *finding = g_ptr_array_index(findings, i);
        g_string_append_printf(out, "%s: %s: %s\n", hv_finding_is_note(finding) ? "note" : "error",
                               hv_finding_kind_name(finding->kind), finding->text);
        if (finding->repair != NULL)
            g_string_append_printf(out, "  --repair: %s\n", finding->repair);
        if (finding->hint != NULL)
            g_string_append_printf(out, "  what to do: %s\n", finding->hint);
    }
    return g_string_free(out, FALSE);
}
