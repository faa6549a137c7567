/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent-check.h"

#include "mounts.h"

#include <json-glib/json-glib.h>
#include <stdio.h>
#include <sys/stat.h>

/*
 * libvirt tests /dev/kvm with the rights of QEMU's user, but probes QEMU as root:
 * where the two disagree it throws its probes away and begins anew, several times
 * for one start.
 */
void agent_check_kvm(void)
{
    struct stat st;
    if (stat("/dev/kvm", &st) == 0 && (st.st_mode & (S_IRGRP | S_IROTH)) == 0)
        fprintf(stderr, "hugevmctl: warning: /dev/kvm is closed to QEMU's user, so libvirt takes "
                        "a minute to start a VM\n"
                        "  what to do: chgrp kvm /dev/kvm && chmod 660 /dev/kvm\n");
}

/* The plan's object lives as long as the parser. */
static JsonObject *parse_plan(JsonParser *parser, const char *plan_json, GError **error)
{
    if (!json_parser_load_from_data(parser, plan_json, -1, error))
        return NULL;
    return json_node_get_object(json_parser_get_root(parser));
}

gboolean agent_check_is_refused(const char *plan_json)
{
    g_autoptr(JsonParser) parser = json_parser_new();
    JsonObject *plan = parse_plan(parser, plan_json, NULL);
    return plan != NULL && !json_object_get_null_member(plan, "refusal");
}

char *agent_check_name(const char *plan_json)
{
    g_autoptr(JsonParser) parser = json_parser_new();
    JsonObject *plan = parse_plan(parser, plan_json, NULL);
    JsonObject *vm = plan != NULL ? json_object_get_object_member(plan, "vm") : NULL;
    return g_strdup(vm != NULL ? json_object_get_string_member_with_default(vm, "name", "") : "");
}

gboolean agent_check_mounts(const char *plan_json, GError **error)
{
    g_autoptr(HvRoot) root = hv_root_new(NULL);
    g_autoptr(JsonParser) parser = json_parser_new();
    JsonObject *plan = parse_plan(parser, plan_json, error);
    if (plan == NULL)
        return FALSE;
    JsonArray *need = json_object_get_array_member(plan, "need");
    gboolean needs_mount = json_object_get_boolean_member(plan, "hugetlbfs");
    for (guint i = 0; needs_mount && i < json_array_get_length(need); i++) {
        JsonObject *row = json_array_get_object_element(need, i);
        guint64 size_kib = (guint64)json_object_get_int_member(row, "size_kib");
        if (!hv_mounts_check(root, size_kib, HV_LIBVIRT_EMBEDDED, error))
            return FALSE;
    }
    return TRUE;
}
