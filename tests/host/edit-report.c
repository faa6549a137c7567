/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usage: edit-report caps|stats FIGURES DOCUMENT: prints the document as VDSM's hook
 * would leave it, and on standard error what it would say.
 */
#include "vdsm-report.h"

#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    g_autofree char *figures = NULL;
    g_autofree char *document = NULL;
    g_autofree char *problem = NULL;
    gsize n = 0;
    if (argc != 4 || !g_file_get_contents(argv[2], &figures, NULL, NULL) ||
        !g_file_get_contents(argv[3], &document, &n, NULL))
        return 2;
    VdsmReport which = strcmp(argv[1], "caps") == 0 ? VDSM_REPORT_CAPS : VDSM_REPORT_STATS;
    g_autofree char *text = vdsm_report_edit(which, figures, document, n, &problem);
    if (problem != NULL)
        fprintf(stderr, "%s\n", problem);
    if (text != NULL)
        fputs(text, stdout);
    else
        fwrite(document, 1, n, stdout);
    return 0;
}
