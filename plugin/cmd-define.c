/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * `define` and `set`: core makes the XML, the agent's object talks to libvirt.
 */
#include "hugevmctl.h"

#include "agent-define.h"
#include "define.h"
#include "object.h"

#include <stdio.h>
#include <string.h>

#define DEFAULT_URI "qemu:///system"

typedef struct {
    const HvAgent *agent;
    HvWish wish;
    const char *file_xml; /* of `define` */
    gsize file_bytes;
    HvDefinition *definition; /* what came of it */
} Define;

static gboolean bad_pair(GError **error, const char *text, const char *what)
{
    g_autofree char *quoted = hv_quote(text);
    hv_set_error(error, HV_ERROR_INVALID, "hugepages=SIZE|large|any|off, shared=true|false|auto",
                 "%s %s", quoted, what);
    return FALSE;
}

static gboolean read_pair(const char *pair, HvWish *wish, GError **error)
{
    const char *equals = strchr(pair, '=');
    if (equals == NULL)
        return bad_pair(error, pair, "is no KEY=VALUE, by which a VM property is set");
    g_autofree char *key = g_strndup(pair, (gsize)(equals - pair));
    const char **value = NULL;
    if (strcmp(key, "hugepages") == 0)
        value = &wish->hugepages;
    else if (strcmp(key, "shared") == 0 || strcmp(key, "hugepages_shared") == 0)
        value = &wish->shared;
    if (value == NULL)
        return bad_pair(error, key, "is no VM property that can be set");
    if (*value != NULL)
        return bad_pair(error, key, "is given twice");
    *value = equals + 1;
    return TRUE;
}

static gboolean read_pairs(char **pairs, HvWish *wish, GError **error)
{
    for (guint i = 0; pairs != NULL && pairs[i] != NULL; i++)
        if (!read_pair(pairs[i], wish, error))
            return FALSE;
    return hv_wish_check(wish, error);
}

static char *edit(const char *xml, gpointer data, GError **error)
{
    Define *define = data;
    const char *text = xml != NULL ? xml : define->file_xml;
    gsize bytes = xml != NULL ? strlen(xml) : define->file_bytes;
    hv_definition_free(define->definition); /* of an earlier look */
    define->definition = hv_define(define->agent, text, bytes, &define->wish, error);
    return define->definition != NULL ? g_strdup(define->definition->xml) : NULL;
}

static void print_report(const CmdGlobals *globals, const HvDefinition *definition,
                         const HvDefined *defined)
{
    g_autofree char *text = NULL;
    if (globals->json)
        text = hv_report_define_json(definition, defined);
    else if (defined->is_printed)
        text = g_strdup(definition->xml);
    else
        text = hv_report_define_text(definition, defined);
    printf("%s%s", text, globals->json ? "\n" : "");
    if (!globals->json)
        cmd_print_warnings(definition->warnings);
}

static int run_define(const CmdGlobals *globals, Define *define, const char *uri, const char *vm)
{
    GError *error = NULL;
    AgentDefine result = {.uri = uri != NULL ? uri : DEFAULT_URI,
                          .vm = vm,
                          .edit = edit,
                          .data = define,
                          .out_versions = &define->wish.versions};
    AgentDefineFunction agent_define =
        (AgentDefineFunction)object_load_agent(HUGEVM_AGENT_DEFINE_SYMBOL, &error);
    gboolean is_good = agent_define != NULL && agent_define(&result, &error);
    const HvDefined defined = {
        .uuid = result.uuid, .is_defined = result.is_defined, .is_active = result.is_active};
    if (is_good)
        print_report(globals, define->definition, &defined);
    g_free(result.uuid);
    return is_good ? EXIT_DONE : cmd_fail(error);
}

static int print_xml(const CmdGlobals *globals, Define *define)
{
    GError *error = NULL;
    g_autofree char *text = edit(NULL, define, &error);
    if (text == NULL)
        return cmd_fail(error);
    const HvDefined defined = {.is_printed = TRUE};
    print_report(globals, define->definition, &defined);
    return EXIT_DONE;
}

int cmd_define(const CmdGlobals *globals, int argc, char **argv)
{
    g_auto(GStrv) pairs = NULL;
    g_autofree char *uri = NULL;
    gboolean prints = FALSE;
    g_auto(CmdVersions) versions = {0};
    const GOptionEntry entries[] = {
        {"property", 'p', 0, G_OPTION_ARG_STRING_ARRAY, &pairs,
         "VM property: hugepages=SIZE, shared=true", "KEY=VALUE"},
        {"connect", 'c', 0, G_OPTION_ARG_STRING, &uri,
         "libvirt connection (default: " DEFAULT_URI ")", "URI"},
        {"print", 0, 0, G_OPTION_ARG_NONE, &prints,
         "Print the XML instead of defining it; asks no libvirt", NULL},
        CMD_VERSION_ENTRIES(versions),
        {NULL, 0, 0, 0, NULL, NULL, NULL},
    };
    int status;
    if (!cmd_parse(entries, 1, &argc, &argv, &status))
        return status;
    if (!prints && (versions.libvirt != NULL || versions.qemu != NULL))
        return cmd_fail_usage("define ", "a version is for --print: libvirt is asked otherwise");
    GError *error = NULL;
    g_autoptr(HvAgent) agent = hv_agent_new(globals->root, (const char *const *)globals->conf_files,
                                            "hugevmctl define", 0);
    Define define = {.agent = agent};
    g_autofree char *xml = NULL;
    if (cmd_parse_versions(&versions, &define.wish.versions, &error) &&
        read_pairs(pairs, &define.wish, &error))
        xml = cmd_read_file(argv[1], HV_DOMAIN_XML_MAX_BYTES, &define.file_bytes, &error);
    if (xml == NULL)
        return cmd_fail(error);
    define.file_xml = xml;
    status = prints ? print_xml(globals, &define) : run_define(globals, &define, uri, NULL);
    hv_definition_free(define.definition);
    return status;
}

int cmd_set(const CmdGlobals *globals, int argc, char **argv)
{
    g_autofree char *uri = NULL;
    const GOptionEntry entries[] = {
        {"connect", 'c', 0, G_OPTION_ARG_STRING, &uri,
         "libvirt connection (default: " DEFAULT_URI ")", "URI"},
        {NULL, 0, 0, 0, NULL, NULL, NULL},
    };
    int status;
    if (!cmd_parse(entries, -2, &argc, &argv, &status))
        return status;
    GError *error = NULL;
    g_autoptr(HvAgent) agent =
        hv_agent_new(globals->root, (const char *const *)globals->conf_files, "hugevmctl set", 0);
    Define define = {.agent = agent, .wish.replaces_pages = TRUE};
    if (!read_pairs(argv + 2, &define.wish, &error))
        return cmd_fail(error);
    status = run_define(globals, &define, uri, argv[1]);
    hv_definition_free(define.definition);
    return status;
}
