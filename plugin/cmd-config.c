/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "hugevmctl.h"

#include "report.h"

#include <stdio.h>

int cmd_config(const CmdGlobals *globals, int argc, char **argv)
{
    int status;
    if (!cmd_parse(NULL, 0, &argc, &argv, &status))
        return status;
    GError *error = NULL;
    g_autoptr(HvRoot) root = hv_root_new(globals->root);
    g_autoptr(HvSettings) settings =
        hv_settings_load(root, (const char *const *)globals->conf_files, &error);
    if (settings == NULL)
        return cmd_fail(error);
    g_autofree char *text =
        globals->json ? hv_report_config_json(settings) : hv_report_config_text(settings);
    printf("%s%s", text, globals->json ? "\n" : "");
    cmd_print_warnings(settings->warnings);
    return EXIT_DONE;
}
