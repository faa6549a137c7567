/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "hugevmctl.h"

#include "consumers.h"
#include "file-look.h"
#include "report.h"
#include "zones.h"

#include <stdio.h>

int cmd_status(const CmdGlobals *globals, int argc, char **argv)
{
    int status;
    if (!cmd_parse(NULL, 0, &argc, &argv, &status))
        return status;
    GError *error = NULL;
    g_autoptr(HvAgent) agent = hv_agent_new(globals->root, (const char *const *)globals->conf_files,
                                            "hugevmctl status", 0);
    g_autoptr(HvSettings) settings =
        hv_settings_load(agent->root, (const char *const *)globals->conf_files, &error);
    if (settings == NULL)
        return cmd_fail(error);
    g_autoptr(HvLedger) ledger = cmd_open_ledger(agent, &error);
    if (ledger == NULL)
        return cmd_fail(error);
    g_autoptr(HvSnapshot) snapshot = hv_snapshot_read(agent->root, &error);
    if (snapshot == NULL)
        return cmd_fail(error);
    hv_consumers_read(agent->root, settings, ledger, snapshot);
    snapshot->memory_dir = hv_files_look(agent->root, settings, ledger);
    hv_zones_read(agent->root, snapshot);
    HvWorld world = {snapshot, settings, ledger, NULL};
    g_autofree char *text =
        globals->json ? hv_report_status_json(&world) : hv_report_status_text(&world);
    printf("%s%s", text, globals->json ? "\n" : "");
    g_autoptr(GPtrArray) warnings = hv_report_status_warnings(&world);
    if (!globals->json)
        cmd_print_warnings(warnings);
    return EXIT_DONE;
}
