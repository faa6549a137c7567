/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "hugevmctl.h"

#include "report.h"

#include <stdio.h>
#include <unistd.h>

static int print_plan(const CmdGlobals *globals, const HvOutcome *outcome)
{
    g_autofree char *text =
        globals->json ? hv_report_plan_json(outcome) : hv_report_plan_text(outcome);
    printf("%s%s", text, globals->json ? "\n" : "");
    if (!globals->json)
        cmd_print_warnings(outcome->warnings);
    if (outcome->plan == NULL || outcome->plan->refusal == NULL)
        return EXIT_DONE;
    return cmd_fail_refused(outcome->plan->refusal);
}

int cmd_plan(const CmdGlobals *globals, int argc, char **argv)
{
    g_auto(GStrv) pairs = NULL;
    HvVersions versions = {0};
    g_auto(CmdVersions) texts = {0};
    const GOptionEntry entries[] = {
        {"property", 'p', 0, G_OPTION_ARG_STRING_ARRAY, &pairs,
         "VM property: hugepages=SIZE, hugepages_shared=true", "KEY=VALUE"},
        CMD_VERSION_ENTRIES(texts),
        {NULL, 0, 0, 0, NULL, NULL, NULL},
    };
    int status;
    if (!cmd_parse(entries, 1, &argc, &argv, &status))
        return status;
    GError *error = NULL;
    if (!cmd_parse_versions(&texts, &versions, &error))
        return cmd_fail(error);
    g_autoptr(GHashTable) properties = cmd_parse_properties(pairs, &error);
    if (properties == NULL)
        return cmd_fail(error);
    gsize bytes = 0;
    g_autofree char *xml = cmd_read_file(argv[1], HV_DOMAIN_XML_MAX_BYTES, &bytes, &error);
    g_autoptr(HvOutcome) outcome = NULL;
    if (xml != NULL) {
        g_autoptr(HvAgent) agent = hv_agent_new(
            globals->root, (const char *const *)globals->conf_files, "hugevmctl plan", 0);
        HvVm vm = {.xml = xml, .xml_bytes = bytes, .properties = properties, .versions = versions};
        outcome = hv_lifecycle_plan(agent, &vm, &error);
    }
    if (outcome != NULL)
        return print_plan(globals, outcome);
    if (globals->json) {
        g_autofree char *json = hv_report_plan_error_json(error);
        printf("%s\n", json);
    }
    return cmd_fail(error);
}
