/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Any bytes as what VDSM reports. What is edited must be a document again, and right:
 * a second look finds nothing to change, and the same to complain about.
 */
#include "json-span.h"
#include "vdsm-report.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define FIGURES                                                                                    \
    "{\"sizes\":[{\"size_kib\":2048,\"allocatable\":18446744073709551615}],"                       \
    "\"pools\":[{\"node\":0,\"size_kib\":2048,\"total\":12,\"allocatable\":0}]}"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(gboolean is_true)
{
    if (!is_true)
        abort();
}

static void look(VdsmReport which, const char *document, size_t size)
{
    g_autofree char *problem = NULL;
    g_autofree char *second_problem = NULL;
    JsonSpan whole;
    g_autofree char *text = vdsm_report_edit(which, FIGURES, document, size, &problem);
    if (text == NULL)
        return;
    demand(json_span_whole(document, size, &whole) && json_span_whole(text, strlen(text), &whole));
    g_autofree char *second = vdsm_report_edit(which, FIGURES, text, strlen(text), &second_problem);
    demand(second == NULL && g_strcmp0(problem, second_problem) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    look(VDSM_REPORT_STATS, (const char *)data, size);
    look(VDSM_REPORT_CAPS, (const char *)data, size);
    return 0;
}
