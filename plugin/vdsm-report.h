/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * VDSM's capabilities and statistics, with the figures that VDSM gets wrong put right.
 * Runs as user vdsm, every few seconds, and never does harm: whatever is odd, VDSM's
 * document stays as it is.
 */
#pragma once

#include <glib.h>

typedef enum { VDSM_REPORT_CAPS, VDSM_REPORT_STATS } VdsmReport;

/*
 * The document with the module's figures in it; NULL: nothing is to be changed.
 * *out_problem: one line, or NULL: what could not be put right.
 */
char *vdsm_report_edit(VdsmReport which, const char *figures, const char *document, gsize n,
                       char **out_problem);

/* Serves the hook point: rewrites the file that _hook_json names. 0 always. */
int vdsm_report_main(VdsmReport which);
