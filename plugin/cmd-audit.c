/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * `audit`: unlike the other commands it repairs nothing before it has shown what it
 * found, and nothing at all unless told to.
 */
#include "hugevmctl.h"

#include "agent.h"
#include "audit.h"
#include "door.h"
#include "leftovers.h"
#include "object.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SECOND_LOOK_US (400 * 1000)

typedef struct {
    const HvAgent *agent;
    AgentRunningFunction list_running; /* NULL: libvirt is not asked */
    const char *uri;
} Audit;

/* Only the system's daemon runs the hook. */
static const char *hook_owner(const char *uri)
{
    g_autofree char *path = NULL, *query = NULL;
    if (uri == NULL || !g_uri_split(uri, G_URI_FLAGS_PARSE_RELAXED, NULL, NULL, NULL, NULL, &path,
                                    &query, NULL, NULL))
        return NULL;
    /* a query may name another daemon's socket */
    return strcmp(path, "/system") == 0 && query == NULL ? DOOR_LIBVIRT : NULL;
}

static HvAuditView *read_view(const Audit *audit, GError **error)
{
    g_autoptr(HvAuditView) view = hv_audit_read(audit->agent, error);
    if (view == NULL)
        return NULL;
    if (hv_root_is_machine(audit->agent->root) && geteuid() == 0) {
        g_array_unref(view->left_pids);
        view->left_pids = slots_list_leftovers();
    }
    if (audit->list_running != NULL) {
        view->running_uuids = audit->list_running(audit->uri, error);
        if (view->running_uuids == NULL)
            return NULL;
        view->libvirt_owner = hook_owner(audit->uri);
    }
    return g_steal_pointer(&view);
}

static GPtrArray *look_once(const Audit *audit, GError **error)
{
    g_autoptr(HvAuditView) view = read_view(audit, error);
    return view != NULL ? hv_audit(view) : NULL;
}

static GPtrArray *look(const Audit *audit, GError **error)
{
    g_autoptr(GPtrArray) first = look_once(audit, error);
    if (first == NULL || first->len == 0)
        return g_steal_pointer(&first);
    g_usleep(SECOND_LOOK_US);
    GPtrArray *second = look_once(audit, error);
    return second != NULL ? hv_audit_lasting(g_steal_pointer(&first), second) : NULL;
}

static gboolean reconcile(const Audit *audit, GError **error)
{
    HvRunning running = {.owner_name = hook_owner(audit->uri), .all_running = TRUE};
    if (!hv_lifecycle_reconcile_begin(audit->agent, &running.sequence, error))
        return FALSE;
    g_auto(GStrv) uuids = audit->list_running(audit->uri, error);
    running.uuids = (const char *const *)uuids;
    return uuids != NULL && hv_lifecycle_reconcile(audit->agent, &running, error);
}

static gboolean repair(const Audit *audit, GError **error)
{
    g_autoptr(GPtrArray) warnings = g_ptr_array_new_with_free_func(g_free);
    if (hv_root_is_machine(audit->agent->root) && geteuid() == 0)
        slots_end_leftovers();
    gboolean is_good = hv_lifecycle_recover(audit->agent, warnings, error) &&
                       (audit->list_running == NULL || reconcile(audit, error));
    cmd_print_warnings(warnings);
    return is_good;
}

static void print_text(FILE *out, const char *heading, const GPtrArray *findings)
{
    g_autofree char *text = hv_report_audit_text(findings);
    fprintf(out, "%s%s", heading, findings->len > 0 ? text : "nothing found\n");
    fflush(out);
}

/* JSON is one document and can be written only when all is known; a person, or a log, is told
 * before anything is touched all the same. */
static int repair_and_report(const Audit *audit, const GPtrArray *findings, gboolean json)
{
    GError *error = NULL;
    print_text(json ? stderr : stdout, "", findings);
    gboolean is_repaired = repair(audit, &error);
    GError *look_error = NULL;
    g_autoptr(GPtrArray) remaining = look(audit, &look_error);
    if (remaining != NULL && json) {
        g_autofree char *text = hv_report_audit_json(findings, remaining);
        printf("%s\n", text);
    } else if (remaining != NULL) {
        print_text(stdout, "after the repair:\n", remaining);
    }
    if (!is_repaired) {
        g_clear_error(&look_error);
        return cmd_fail(error);
    }
    if (remaining == NULL)
        return cmd_fail(look_error);
    return hv_audit_is_bad(remaining) ? EXIT_REFUSED : EXIT_DONE;
}

static int run_audit(const Audit *audit, gboolean with_repair, gboolean json)
{
    GError *error = NULL;
    g_autoptr(GPtrArray) findings = look(audit, &error);
    if (findings == NULL)
        return cmd_fail(error);
    if (with_repair && (findings->len > 0 || audit->list_running != NULL))
        return repair_and_report(audit, findings, json);
    if (json) {
        g_autofree char *text = hv_report_audit_json(findings, with_repair ? findings : NULL);
        printf("%s\n", text);
    } else {
        print_text(stdout, "", findings);
    }
    return hv_audit_is_bad(findings) ? EXIT_REFUSED : EXIT_DONE;
}

int cmd_audit(const CmdGlobals *globals, int argc, char **argv)
{
    g_autofree char *uri = NULL;
    gboolean with_repair = FALSE;
    const GOptionEntry entries[] = {
        {"connect", 'c', 0, G_OPTION_ARG_STRING, &uri,
         "Ask this libvirt too which VMs run (default: look at processes only)", "URI"},
        {"repair", 0, 0, G_OPTION_ARG_NONE, &with_repair,
         "Set right what was found, and look again", NULL},
        {NULL, 0, 0, 0, NULL, NULL, NULL},
    };
    int status;
    if (!cmd_parse(entries, 0, &argc, &argv, &status))
        return status;
    GError *error = NULL;
    g_autoptr(HvAgent) agent =
        hv_agent_new(globals->root, (const char *const *)globals->conf_files, "hugevmctl audit", 0);
    Audit audit = {.agent = agent, .uri = uri};
    if (uri != NULL) {
        audit.list_running =
            (AgentRunningFunction)object_load_agent(HUGEVM_AGENT_RUNNING_SYMBOL, &error);
        if (audit.list_running == NULL)
            return cmd_fail(error);
    }
    if (geteuid() != 0 && hv_root_is_machine(agent->root))
        fprintf(stderr, "hugevmctl: warning: without root it is not seen who maps whose memory\n");
    return run_audit(&audit, with_repair, globals->json);
}
