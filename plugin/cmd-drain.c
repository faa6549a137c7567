/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * `drain`: empties the host of hugevm, as far as it can, and says what is left. What is
 * left are VMs as a rule: nothing can be taken from them while they run.
 */
#include "hugevmctl.h"

#include "drain.h"
#include "leftovers.h"

#include <stdio.h>
#include <unistd.h>

#define POLL_US (500 * 1000)

/* Once, or until nothing is left or the time is over. NULL with an error. */
static HvRemains *drain_until(const HvAgent *agent, gint64 deadline_us, GError **error)
{
    for (;;) {
        g_autoptr(GPtrArray) warnings = g_ptr_array_new_with_free_func(g_free);
        if (geteuid() == 0 && hv_root_is_machine(agent->root))
            slots_end_leftovers();
        g_autoptr(HvRemains) remains = hv_lifecycle_drain(agent, warnings, error);
        cmd_print_warnings(warnings);
        if (remains == NULL || hv_remains_is_empty(remains) ||
            g_get_monotonic_time() >= deadline_us)
            return g_steal_pointer(&remains);
        g_usleep(POLL_US);
    }
}

static int report(const HvRemains *remains, gboolean json)
{
    g_autofree char *text = hv_report_drain_text(remains);
    if (json) {
        g_autofree char *document = hv_report_drain_json(remains);
        printf("%s\n", document);
    }
    if (hv_remains_is_empty(remains))
        return EXIT_DONE;
    fprintf(stderr, "hugevmctl: the host is not empty yet\n%s", text);
    return EXIT_REFUSED;
}

int cmd_drain(const CmdGlobals *globals, int argc, char **argv)
{
    int wait_s = 0, status;
    const GOptionEntry entries[] = {
        {"wait", 0, 0, G_OPTION_ARG_INT, &wait_s,
         "Wait so long for VMs to end or to be migrated away (default: 0)", "SECONDS"},
        {NULL, 0, 0, 0, NULL, NULL, NULL},
    };
    if (!cmd_parse(entries, 0, &argc, &argv, &status))
        return status;
    if (wait_s < 0)
        return cmd_fail_usage("drain ", "--wait=%d: seconds, not below 0", wait_s);
    GError *error = NULL;
    g_autoptr(HvAgent) agent =
        hv_agent_new(globals->root, (const char *const *)globals->conf_files, "hugevmctl drain", 0);
    g_autoptr(HvRemains) remains =
        drain_until(agent, g_get_monotonic_time() + (gint64)wait_s * G_USEC_PER_SEC, &error);
    return remains != NULL ? report(remains, globals->json) : cmd_fail(error);
}
