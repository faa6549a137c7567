/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * `run`: what it does is in the agent's object, which links libvirt. Here the command line is
 * read, and --config-only answered, which needs no libvirt.
 */
#include "hugevmctl.h"

#include "agent.h"
#include "object.h"

#include <stdio.h>

static void domain_clear(gpointer data)
{
    g_free(((AgentDomain *)data)->xml);
}

/* NULL: one cannot be read. */
static GArray *read_domains(char **paths, GError **error)
{
    g_autoptr(GArray) domains = g_array_new(FALSE, TRUE, sizeof(AgentDomain));
    g_array_set_clear_func(domains, domain_clear);
    for (; *paths != NULL; paths++) {
        AgentDomain domain = {0};
        domain.xml = cmd_read_file(*paths, HV_DOMAIN_XML_MAX_BYTES, &domain.xml_bytes, error);
        if (domain.xml == NULL)
            return NULL;
        g_array_append_val(domains, domain);
    }
    return g_steal_pointer(&domains);
}

/* Prints what would be started, and nothing else to standard output. */
static int print_config(const CmdGlobals *globals, const AgentRun *run, const CmdVersions *versions)
{
    GError *error = NULL;
    HvVm vm = {.xml = run->domains->xml,
               .xml_bytes = run->domains->xml_bytes,
               .properties = run->properties};
    if (!cmd_parse_versions(versions, &vm.versions, &error))
        return cmd_fail(error);
    g_autoptr(HvAgent) agent =
        hv_agent_new(globals->root, (const char *const *)globals->conf_files, "hugevmctl run", 0);
    g_autoptr(HvOutcome) outcome = hv_lifecycle_plan(agent, &vm, &error);
    if (outcome == NULL)
        return cmd_fail(error);
    cmd_print_warnings(outcome->warnings);
    if (outcome->plan != NULL && outcome->plan->refusal != NULL)
        return cmd_fail_refused(outcome->plan->refusal);
    fwrite(outcome->xml, 1, outcome->xml_bytes, stdout);
    return EXIT_DONE;
}

static int run_agent(const CmdGlobals *globals, AgentRun *run)
{
    GError *error = NULL;
    AgentRunFunction agent_run =
        (AgentRunFunction)object_load_agent(HUGEVM_AGENT_RUN_SYMBOL, &error);
    if (agent_run == NULL)
        return cmd_fail(error);
    g_autofree char *module = object_find("hugevm.so");
    run->module_path = module;
    run->root = globals->root;
    run->conf_files = globals->conf_files;
    return agent_run(run);
}

int cmd_run(const CmdGlobals *globals, int argc, char **argv)
{
    g_auto(GStrv) pairs = NULL;
    g_autofree char *uri = NULL;
    gint64 seconds = 0;
    gboolean config_only = FALSE;
    g_auto(CmdVersions) versions = {0};
    const GOptionEntry entries[] = {
        {"property", 'p', 0, G_OPTION_ARG_STRING_ARRAY, &pairs,
         "VM property: hugepages=SIZE, hugepages_shared=true", "KEY=VALUE"},
        {"connect", 'c', 0, G_OPTION_ARG_STRING, &uri,
         "libvirt connection (default: the embedded driver, no daemon)", "URI"},
        {"for", 0, 0, G_OPTION_ARG_INT64, &seconds,
         "End the VMs after so many seconds (0: when they end)", "SECONDS"},
        {"config-only", 0, 0, G_OPTION_ARG_NONE, &config_only,
         "Print the domain XML that would be started, and start nothing", NULL},
        CMD_VERSION_ENTRIES(versions),
        {NULL, 0, 0, 0, NULL, NULL, NULL},
    };
    int status;
    if (!cmd_parse(entries, -1, &argc, &argv, &status))
        return status;
    if (seconds < 0 || seconds > G_MAXINT32)
        return cmd_fail_usage("run ", "--for takes seconds, 0 (no end) to %d", G_MAXINT32);
    if (config_only && argc > 2)
        return cmd_fail_usage("run ", "--config-only takes one DOMAIN.xml");
    if (!config_only && (versions.libvirt != NULL || versions.qemu != NULL))
        return cmd_fail_usage("run ", "a version is for --config-only: libvirt is asked otherwise");
    GError *error = NULL;
    g_autoptr(GHashTable) properties = cmd_parse_properties(pairs, &error);
    g_autoptr(GArray) domains = properties != NULL ? read_domains(argv + 1, &error) : NULL;
    if (domains == NULL)
        return cmd_fail(error);
    AgentRun run = {.domains = (const AgentDomain *)domains->data,
                    .domain_count = domains->len,
                    .uri = uri,
                    .properties = properties,
                    .for_seconds = seconds};
    return config_only ? print_config(globals, &run, &versions) : run_agent(globals, &run);
}
