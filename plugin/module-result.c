/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What slots give out: the outcome of a start or a dry run, or a report on the host. */
#include "module-private.h"

#include "report.h"

int32_t module_give_result(HvOutcome *outcome, struct hugevm_result **out_result)
{
    struct hugevm_result *result = g_new0(struct hugevm_result, 1);
    result->outcome = outcome;
    result->json = hv_report_plan_json(outcome);
    *out_result = result;
    return HUGEVM_OK;
}

typedef struct {
    char *(*write)(const HvWorld *world);
    gboolean knows_consumers;
} Report;

static int32_t report_host(struct hugevm_handle *handle, const Report *report,
                           struct hugevm_result **out_result, struct hugevm_error *error)
{
    GError *cause = NULL;
    if (handle == NULL || out_result == NULL)
        return module_fail_invalid(error, "handle or out_result is NULL");
    g_autoptr(HvHostView) view = hv_host_view_read(handle->agent, report->knows_consumers, &cause);
    if (view == NULL)
        return module_fail_with(error, cause);
    HvWorld world = {view->snapshot, view->settings, view->ledger, NULL};
    struct hugevm_result *result = g_new0(struct hugevm_result, 1);
    result->outcome = g_new0(HvOutcome, 1);
    result->outcome->warnings = hv_report_status_warnings(&world);
    result->json = report->write(&world);
    *out_result = result;
    return HUGEVM_OK;
}

int32_t module_get_caps(struct hugevm_handle *handle, struct hugevm_result **out_result,
                        struct hugevm_error *error)
{
    static const Report caps = {hv_report_caps_json, FALSE};
    return report_host(handle, &caps, out_result, error);
}

int32_t module_get_stats(struct hugevm_handle *handle, struct hugevm_result **out_result,
                         struct hugevm_error *error)
{
    static const Report stats = {hv_report_status_json, TRUE};
    return report_host(handle, &stats, out_result, error);
}

const char *module_result_domain_xml(const struct hugevm_result *result, uint64_t *out_bytes)
{
    if (out_bytes != NULL)
        *out_bytes = result->outcome->xml_bytes;
    return result->outcome->xml;
}

int32_t module_result_xml_changed(const struct hugevm_result *result)
{
    return result->outcome->xml_changed ? 1 : 0;
}

const char *module_result_uuid(const struct hugevm_result *result)
{
    return result->outcome->uuid;
}

uint64_t module_result_generation(const struct hugevm_result *result)
{
    return result->outcome->generation;
}

const char *module_result_json(const struct hugevm_result *result)
{
    return result->json;
}

uint64_t module_result_warning_count(const struct hugevm_result *result)
{
    return result->outcome->warnings->len;
}

const char *module_result_warning(const struct hugevm_result *result, uint64_t index)
{
    const GPtrArray *warnings = result->outcome->warnings;
    return index < warnings->len ? g_ptr_array_index(warnings, index) : NULL;
}

void module_result_free(struct hugevm_result *result)
{
    if (result == NULL)
        return;
    hv_outcome_free(result->outcome);
    g_free(result->json);
    g_free(result);
}
