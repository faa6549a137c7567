/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "hugevmctl.h"

#include "verify.h"

#include <stdio.h>

int cmd_verify(const CmdGlobals *globals, int argc, char **argv)
{
    int status;
    if (!cmd_parse(NULL, 1, &argc, &argv, &status))
        return status;
    GError *error = NULL;
    g_autoptr(HvRoot) root = hv_root_new(globals->root);
    g_autoptr(HvVerifyView) view = hv_verify_read(root, argv[1], &error);
    if (view == NULL)
        return cmd_fail(error);
    g_autofree char *text =
        globals->json ? hv_report_verify_json(view) : hv_report_verify_text(view);
    printf("%s%s", text, globals->json ? "\n" : "");
    fflush(stdout); /* before the reason, where both go to one place */
    return hv_verify_check(view, &error) ? EXIT_DONE : cmd_fail(error);
}
