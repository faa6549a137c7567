/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The commands on claims: claims, release, reconcile. */
#include "hugevmctl.h"

#include "leftovers.h"
#include "report.h"

#include <stdio.h>
#include <unistd.h>

/*
 * Every command on claims first sets right what a killed agent left, the VM of a
 * killed run included, so that what it shows is true; without root it shows the
 * ledger as it is.
 */
static void recover_as_root(const HvAgent *agent)
{
    g_autoptr(GPtrArray) warnings = g_ptr_array_new_with_free_func(g_free);
    if (geteuid() == 0) {
        if (hv_root_is_machine(agent->root))
            slots_end_leftovers();
        hv_lifecycle_recover(agent, warnings, NULL);
    }
    cmd_print_warnings(warnings);
}

HvLedger *cmd_open_ledger(const HvAgent *agent, GError **error)
{
    recover_as_root(agent);
    return hv_ledger_read(agent->root, error);
}

int cmd_claims(const CmdGlobals *globals, int argc, char **argv)
{
    int status;
    if (!cmd_parse(NULL, 0, &argc, &argv, &status))
        return status;
    GError *error = NULL;
    g_autoptr(HvAgent) agent = hv_agent_new(globals->root, (const char *const *)globals->conf_files,
                                            "hugevmctl claims", 0);
    g_autoptr(HvLedger) ledger = cmd_open_ledger(agent, &error);
    if (ledger == NULL)
        return cmd_fail(error);
    g_autofree char *text =
        globals->json ? hv_report_claims_json(ledger) : hv_report_claims_text(ledger);
    printf("%s%s", text, globals->json ? "\n" : "");
    return EXIT_DONE;
}

int cmd_release(const CmdGlobals *globals, int argc, char **argv)
{
    int status;
    if (!cmd_parse(NULL, 1, &argc, &argv, &status))
        return status;
    g_autofree char *uuid = hv_uuid_normalize(argv[1]);
    g_autofree char *quoted = hv_quote(argv[1]);
    if (uuid == NULL)
        return cmd_fail_usage("release ", "%s is no UUID", quoted);
    GError *error = NULL;
    gboolean is_known = FALSE;
    g_autoptr(HvAgent) agent = hv_agent_new(globals->root, (const char *const *)globals->conf_files,
                                            "hugevmctl release", 0);
    HvVmRef vm = {.uuid = uuid};
    recover_as_root(agent);
    if (!hv_lifecycle_gone(agent, &vm, &is_known, &error))
        return cmd_fail(error);
    if (!is_known)
        fprintf(stderr, "hugevmctl: there is no claim for VM %s\n", uuid);
    return EXIT_DONE;
}

int cmd_reconcile(const CmdGlobals *globals, int argc, char **argv)
{
    int status;
    if (!cmd_parse(NULL, 0, &argc, &argv, &status))
        return status;
    GError *error = NULL;
    g_autoptr(GPtrArray) warnings = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(HvAgent) agent = hv_agent_new(globals->root, (const char *const *)globals->conf_files,
                                            "hugevmctl reconcile", 0);
    if (geteuid() == 0 && hv_root_is_machine(agent->root))
        slots_end_leftovers();
    gboolean is_good = hv_lifecycle_recover(agent, warnings, &error);
    cmd_print_warnings(warnings);
    return is_good ? EXIT_DONE : cmd_fail(error);
}
