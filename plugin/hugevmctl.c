/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * hugevmctl: the command line. Links no libvirt; `run`, `define`, `set` and
 * `audit` load an object of its own for that. Exit status: 0 done, 1 refused, 2 usage, 3 system
 * error.
 */
#include "hugevmctl.h"

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fd.h"

static const Cmd commands[] = {
    {"run", "DOMAIN.xml...", "start VMs with their pages, wait for their end, give them back",
     cmd_run},
    {"plan", "DOMAIN.xml", "what a start would do; changes nothing", cmd_plan},
    {"define", "DOMAIN.xml", "have libvirt keep a VM, with what its huge pages need in its XML",
     cmd_define},
    {"set", "VM KEY=VALUE...", "change the huge pages of a VM that libvirt keeps", cmd_set},
    {"status", "", "pools per node and page size; as root, first as reconcile", cmd_status},
    {"claims", "", "which VM holds which pages; as root, first as reconcile", cmd_claims},
    {"release", "UUID", "let go of one VM's claim by hand", cmd_release},
    {"reconcile", "", "let go of the claims of VMs whose agent and QEMU are gone", cmd_reconcile},
    {"drain", "", "empty the host of hugevm, and say what is left", cmd_drain},
    {"audit", "", "the ledger against the kernel and the VMs; --repair sets right what it finds",
     cmd_audit},
    {"verify", "VM|PID", "where a running VM's memory is, and whether that was planned",
     cmd_verify},
    {"doctor", "", "is this host fit for hugevm? checks with cause and remedy", cmd_doctor},
    {"config", "", "effective settings, and where each comes from", cmd_config},
};

static CmdGlobals globals;

static const GOptionEntry global_entries[] = {
    {"root", 0, 0, G_OPTION_ARG_FILENAME, &globals.root, "Prefix of every kernel and system path",
     "DIR"},
    {"conf", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &globals.conf_files,
     "Configuration file instead of the standard ones; may be repeated", "FILE"},
    {"json", 0, 0, G_OPTION_ARG_NONE, &globals.json, "Print JSON", NULL},
    {NULL, 0, 0, 0, NULL, NULL, NULL},
};

static char *list_commands(void)
{
    GString *out = g_string_new("Commands:\n");
    for (guint i = 0; i < G_N_ELEMENTS(commands); i++)
        g_string_append_printf(out, "  %-9s %-15s %s\n", commands[i].name, commands[i].arguments,
                               commands[i].summary);
    g_string_append(out, "\nEach takes --help. Exit status: 0 done, 1 refused, 2 usage, "
                         "3 system error.");
    return g_string_free(out, FALSE);
}

int cmd_fail_usage(const char *command, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *message = g_strdup_vprintf(format, args);
    va_end(args);
    fprintf(stderr, "hugevmctl: %s\nTry: hugevmctl %s--help\n", message,
            command != NULL ? command : "");
    return EXIT_USAGE;
}

gboolean cmd_parse(const GOptionEntry *entries, int n_arguments, int *argc, char ***argv,
                   int *out_exit)
{
    g_autofree char *name = g_strdup((*argv)[0]);
    const Cmd *cmd = commands;
    while (strcmp(cmd->name, name) != 0)
        cmd++;
    g_autofree char *prefix = g_strdup_printf("%s ", name);
    g_autoptr(GOptionContext) context =
        g_option_context_new(n_arguments != 0 ? cmd->arguments : "");
    g_autoptr(GError) error = NULL;
    g_autofree char *program = g_strdup_printf("hugevmctl %s", name);
    g_set_prgname(program);
    g_option_context_set_summary(context, cmd->summary);
    g_option_context_add_main_entries(context, global_entries, NULL);
    if (entries != NULL)
        g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, argc, argv, &error)) {
        *out_exit = cmd_fail_usage(prefix, "%s", error->message);
        return FALSE;
    }
    int n_given = *argc - 1;
    if (n_arguments < 0 ? n_given < -n_arguments : n_given != n_arguments) {
        *out_exit = cmd_fail_usage(prefix, "%s takes %s", name,
                                   n_arguments == 0 ? "no operands" : cmd->arguments);
        return FALSE;
    }
    return TRUE;
}

static int exit_status_of(const GError *error)
{
    if (error->domain != HV_ERROR)
        return EXIT_SYSTEM;
    switch ((HvErrorCode)error->code) {
    case HV_ERROR_PROPERTY:
    case HV_ERROR_XML:
    case HV_ERROR_CONFLICT:
    case HV_ERROR_SHORTAGE:
    case HV_ERROR_TIMEOUT:
    case HV_ERROR_CANCELLED:
        return EXIT_REFUSED;
    case HV_ERROR_INVALID:
        return EXIT_USAGE;
    case HV_ERROR_CONFIG:
    case HV_ERROR_PERMISSION:
    case HV_ERROR_LEDGER:
    case HV_ERROR_SYSTEM:
        break;
    }
    return EXIT_SYSTEM;
}

int cmd_fail(GError *error)
{
    g_autoptr(GError) owned = error;
    g_autofree char *message = hv_error_message(owned);
    const char *hint = hv_error_hint(owned);
    fprintf(stderr, "hugevmctl: %s\n", message);
    if (hint != NULL)
        fprintf(stderr, "  what to do: %s\n", hint);
    return exit_status_of(owned);
}

int cmd_fail_refused(const HvRefusal *refusal)
{
    GError *error = NULL;
    hv_set_error(&error, refusal->code, refusal->hint, "%s", refusal->message);
    return cmd_fail(error);
}

void cmd_print_warnings(const GPtrArray *warnings)
{
    for (guint i = 0; i < warnings->len; i++)
        fprintf(stderr, "hugevmctl: warning: %s\n", (const char *)g_ptr_array_index(warnings, i));
}

char *cmd_read_file(const char *path, gsize max_bytes, gsize *out_bytes, GError **error)
{
    gboolean is_stdin = strcmp(path, "-") == 0;
    g_autofree char *quoted = hv_quote(path);
    g_auto(HvFd) fd = is_stdin ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC);
    g_autoptr(GString) text = g_string_new(NULL);
    char buffer[16 * 1024];
    ssize_t n = fd < 0 ? -1 : 0;
    while (fd >= 0 && text->len <= max_bytes && (n = read(fd, buffer, sizeof buffer)) > 0)
        g_string_append_len(text, buffer, n);
    if (n < 0) {
        hv_set_error(error, HV_ERROR_SYSTEM, NULL, "cannot read %s: %s", quoted, g_strerror(errno));
        return NULL;
    }
    if (text->len > max_bytes) {
        hv_set_error(error, HV_ERROR_XML, NULL,
                     "%s is larger than the %" G_GSIZE_FORMAT " MiB a domain XML may have", quoted,
                     max_bytes / 1024 / 1024);
        return NULL;
    }
    *out_bytes = text->len;
    return g_string_free(g_steal_pointer(&text), FALSE);
}

GHashTable *cmd_parse_properties(char **pairs, GError **error)
{
    g_autoptr(GHashTable) table = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    for (guint i = 0; pairs != NULL && pairs[i] != NULL; i++) {
        const char *equals = strchr(pairs[i], '=');
        if (equals == NULL || equals == pairs[i]) {
            g_autofree char *quoted = hv_quote(pairs[i]);
            hv_set_error(error, HV_ERROR_INVALID, NULL, "--property takes KEY=VALUE, not %s",
                         quoted);
            return NULL;
        }
        g_hash_table_insert(table, g_strndup(pairs[i], (gsize)(equals - pairs[i])),
                            g_strdup(equals + 1));
    }
    return g_steal_pointer(&table);
}

static gboolean parse_version(const char *option, const char *text, guint *out_version,
                              GError **error)
{
    if (text == NULL || hv_version_parse(text, out_version))
        return TRUE;
    g_autofree char *quoted = hv_quote(text);
    hv_set_error(error, HV_ERROR_INVALID, NULL, "%s takes a version as 9.0.0, not %s", option,
                 quoted);
    return FALSE;
}

void cmd_versions_clear(CmdVersions *versions)
{
    g_free(versions->libvirt);
    g_free(versions->qemu);
}

gboolean cmd_parse_versions(const CmdVersions *texts, HvVersions *out_versions, GError **error)
{
    return parse_version("--libvirt-version", texts->libvirt, &out_versions->libvirt, error) &&
           parse_version("--qemu-version", texts->qemu, &out_versions->qemu, error);
}

static gboolean print_version(const char *name, const char *value, gpointer data, GError **error)
{
    (void)name, (void)value, (void)data, (void)error;
    printf("hugevmctl %s\n", HUGEVM_VERSION);
    exit(EXIT_DONE);
}

/* A report that did not reach its reader is a failure, whatever it said. */
static int finish(int status)
{
    if (fflush(stdout) == 0 && ferror(stdout) == 0)
        return status;
    fprintf(stderr, "hugevmctl: cannot write to standard output: %s\n", g_strerror(errno));
    return status != EXIT_DONE ? status : EXIT_SYSTEM;
}

int main(int argc, char **argv)
{
    const GOptionEntry version_entries[] = {
        {"version", 0, G_OPTION_FLAG_NO_ARG, G_OPTION_ARG_CALLBACK, print_version,
         "Print the version", NULL},
        {NULL, 0, 0, 0, NULL, NULL, NULL},
    };
    setlocale(LC_CTYPE, "");
    g_autoptr(GOptionContext) context = g_option_context_new("COMMAND ...");
    g_autofree char *description = list_commands();
    g_autoptr(GError) error = NULL;
    g_option_context_set_summary(context, "Huge-page memory for virtual machines.");
    g_option_context_set_description(context, description);
    g_option_context_add_main_entries(context, global_entries, NULL);
    g_option_context_add_main_entries(context, version_entries, NULL);
    g_option_context_set_strict_posix(context, TRUE); /* what follows COMMAND is its own */
    if (!g_option_context_parse(context, &argc, &argv, &error))
        return cmd_fail_usage(NULL, "%s", error->message);
    if (argc < 2)
        return cmd_fail_usage(NULL, "which command?");
    for (guint i = 0; i < G_N_ELEMENTS(commands); i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return finish(commands[i].run(&globals, argc - 1, argv + 1));
    g_autofree char *quoted = hv_quote(argv[1]);
    return cmd_fail_usage(NULL, "there is no command %s", quoted);
}
