/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the commands of hugevmctl share. */
#pragma once

#include "error.h"
#include "lifecycle.h"

#include <glib.h>

enum {
    EXIT_DONE = 0,
    EXIT_REFUSED = 1, /* the reason is on stderr */
    EXIT_USAGE = 2,
    EXIT_SYSTEM = 3,
};

/* Options that every command takes, before or behind its name. */
typedef struct {
    char *root;
    char **conf_files;
    gboolean json;
} CmdGlobals;

typedef struct {
    const char *name;
    const char *arguments; /* for usage: "DOMAIN.xml" */
    const char *summary;
    int (*run)(const CmdGlobals *globals, int argc, char **argv);
} Cmd;

int cmd_plan(const CmdGlobals *globals, int argc, char **argv);
int cmd_status(const CmdGlobals *globals, int argc, char **argv);
int cmd_claims(const CmdGlobals *globals, int argc, char **argv);
int cmd_release(const CmdGlobals *globals, int argc, char **argv);
int cmd_reconcile(const CmdGlobals *globals, int argc, char **argv);
int cmd_drain(const CmdGlobals *globals, int argc, char **argv);
int cmd_audit(const CmdGlobals *globals, int argc, char **argv);
int cmd_verify(const CmdGlobals *globals, int argc, char **argv);
int cmd_doctor(const CmdGlobals *globals, int argc, char **argv);
int cmd_config(const CmdGlobals *globals, int argc, char **argv);
int cmd_define(const CmdGlobals *globals, int argc, char **argv);
int cmd_set(const CmdGlobals *globals, int argc, char **argv);
int cmd_run(const CmdGlobals *globals, int argc, char **argv);

/*
 * Parses the options of the command named by argv[0], its own (entries may be NULL)
 * beside the global ones, and leaves exactly n_arguments operands in argv[1..]; below 0: at least
 * so many. FALSE: usage has been printed, return *out_exit.
 */
gboolean cmd_parse(const GOptionEntry *entries, int n_arguments, int *argc, char ***argv,
                   int *out_exit);

/* Prints the error (message, then the hint) to stderr; the exit status that fits. Frees it. */
int cmd_fail(GError *error);

/* The same for what a plan says. */
int cmd_fail_refused(const HvRefusal *refusal);

/* A usage error in one line; EXIT_USAGE. */
int cmd_fail_usage(const char *command, const char *format, ...) G_GNUC_PRINTF(2, 3);

void cmd_print_warnings(const GPtrArray *warnings);

/* A file of at most max_bytes, or standard input for "-". */
char *cmd_read_file(const char *path, gsize max_bytes, gsize *out_bytes, GError **error);

/* The ledger for a report, after setting right what a killed agent left. */
HvLedger *cmd_open_ledger(const HvAgent *agent, GError **error);

/* The options of commands that do not ask libvirt; to be freed. */
typedef struct {
    char *libvirt; /* "9.0.0"; NULL: not given, and not known */
    char *qemu;
} CmdVersions;

#define CMD_VERSION_ENTRIES(versions)                                                              \
    {"libvirt-version",                                                                            \
     0,                                                                                            \
     0,                                                                                            \
     G_OPTION_ARG_STRING,                                                                          \
     &(versions).libvirt,                                                                          \
     "Of the libvirt that would start it (default: not known)",                                    \
     "VERSION"},                                                                                   \
    {                                                                                              \
        "qemu-version", 0, 0, G_OPTION_ARG_STRING, &(versions).qemu,                               \
            "Of the QEMU that would run it (default: not known)", "VERSION"                        \
    }

void cmd_versions_clear(CmdVersions *versions);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(CmdVersions, cmd_versions_clear)
gboolean cmd_parse_versions(const CmdVersions *texts, HvVersions *out_versions, GError **error);

/* "K=V" strings to a table; NULL with an error for one without '='. */
GHashTable *cmd_parse_properties(char **pairs, GError **error);
