/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "hugevmctl.h"

#include "doctor.h"

#include <stdio.h>

int cmd_doctor(const CmdGlobals *globals, int argc, char **argv)
{
    int status;
    if (!cmd_parse(NULL, 0, &argc, &argv, &status))
        return status;
    GError *error = NULL;
    g_autoptr(HvAgent) agent = hv_agent_new(globals->root, (const char *const *)globals->conf_files,
                                            "hugevmctl doctor", 0);
    g_autoptr(HvDoctorView) view = hv_doctor_read(agent, &error);
    if (view == NULL)
        return cmd_fail(error);
    g_autoptr(GPtrArray) diagnoses = hv_doctor(view);
    g_autofree char *text =
        globals->json ? hv_report_doctor_json(diagnoses) : hv_report_doctor_text(diagnoses);
    printf("%s%s", text, globals->json ? "\n" : "");
    fflush(stdout); /* before the reason, where both go to one place */
    guint problems = hv_doctor_problems(diagnoses);
    if (problems > 0)
        fprintf(stderr, "hugevmctl: %u problem%s\n", problems, problems > 1 ? "s" : "");
    return problems > 0 ? EXIT_REFUSED : EXIT_DONE;
}
