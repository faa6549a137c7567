/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * `run`: everything about it is in the agent's object, which links libvirt. Here
 * only the command line is read.
 */
#include "hugevmctl.h"

#include "agent.h"
#include "object.h"

int cmd_run(const CmdGlobals *globals, int argc, char **argv)
{
    g_auto(GStrv) pairs = NULL;
    g_autofree char *uri = NULL;
    gint64 seconds = 0;
    const GOptionEntry entries[] = {
        {"property", 'p', 0, G_OPTION_ARG_STRING_ARRAY, &pairs,
         "VM property: hugepages=SIZE, hugepages_shared=true", "KEY=VALUE"},
        {"connect", 'c', 0, G_OPTION_ARG_STRING, &uri,
         "libvirt connection (default: the embedded driver, no daemon)", "URI"},
        {"for", 0, 0, G_OPTION_ARG_INT64, &seconds,
         "End the VM after so many seconds (0: when it ends)", "SECONDS"},
        {NULL, 0, 0, 0, NULL, NULL, NULL},
    };
    int status;
    if (!cmd_parse(entries, 1, &argc, &argv, &status))
        return status;
    if (seconds < 0 || seconds > G_MAXINT32)
        return cmd_fail_usage("run ", "--for takes seconds, 0 (no end) to %d", G_MAXINT32);
    GError *error = NULL;
    g_autoptr(GHashTable) properties = cmd_parse_properties(pairs, &error);
    if (properties == NULL)
        return cmd_fail(error);
    gsize bytes = 0;
    g_autofree char *xml = cmd_read_file(argv[1], HV_DOMAIN_XML_MAX_BYTES, &bytes, &error);
    AgentRunFunction agent_run = NULL;
    if (xml != NULL)
        agent_run = (AgentRunFunction)object_load_agent(HUGEVM_AGENT_RUN_SYMBOL, &error);
    if (agent_run == NULL)
        return cmd_fail(error);
    g_autofree char *module = object_find("hugevm.so");
    AgentRun run = {.module_path = module,
                    .root = globals->root,
                    .conf_files = globals->conf_files,
                    .xml = xml,
                    .xml_bytes = bytes,
                    .uri = uri,
                    .properties = properties,
                    .for_seconds = seconds};
    return agent_run(&run);
}
