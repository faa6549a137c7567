/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * `run`: everything about it is in the agent's object, which links libvirt. Here
 * only the command line is read and the object loaded.
 */
#include "hugevmctl.h"

#include "agent.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Beside this program (a build tree), else where it was installed. Never from the environment. */
static char *find_object(const char *name)
{
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *directory = g_path_get_dirname(self != NULL ? self : "");
    g_autofree char *beside = g_build_filename(directory, name, NULL);
    if (self != NULL && access(beside, F_OK) == 0)
        return g_steal_pointer(&beside);
    return g_build_filename(HUGEVM_MODULE_DIR, name, NULL);
}

static AgentRunFunction load_agent(GError **error)
{
    AgentRunFunction function;
    g_autofree char *path = find_object("hugevm-agent.so");
    void *object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    void *symbol = object != NULL ? dlsym(object, HUGEVM_AGENT_RUN_SYMBOL) : NULL;
    if (symbol == NULL) {
        hv_set_error(error, HV_ERROR_SYSTEM, "install libvirt's client library",
                     "cannot load the agent: %s", dlerror());
        return NULL;
    }
    memcpy(&function, &symbol, sizeof function);
    return function;
}

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
    AgentRunFunction agent_run = xml != NULL ? load_agent(&error) : NULL;
    if (agent_run == NULL)
        return cmd_fail(error);
    g_autofree char *module = find_object("hugevm.so");
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
