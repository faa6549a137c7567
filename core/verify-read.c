/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Finds the process that was meant. A number is a process, as no UUID is one; a VM whose
 * name is a number goes by its UUID. A process has a claim only if it is the very QEMU that
 * the ledger knows: numbers are used again.
 */
#include "verify.h"

#include "domain-xml.h"
#include "error.h"
#include "lifecycle-private.h"
#include "page-size.h"

#include <string.h>

void hv_verify_view_free(HvVerifyView *view)
{
    if (view == NULL)
        return;
    hv_ledger_free(view->ledger);
    hv_residence_free(view->residence);
    hv_verdict_free(view->verdict);
    g_free(view);
}

/* --- whom the words mean --------------------------------------------------------------------- */

static gboolean find_process(const HvRoot *root, guint64 pid, HvVerifyView *view, GError **error)
{
    view->process = hv_process_identify(root, pid <= G_MAXINT32 ? (gint64)pid : 0);
    if (view->process.pid == 0) {
        hv_set_error(error, HV_ERROR_SYSTEM, NULL, "there is no process %" G_GUINT64_FORMAT, pid);
        return FALSE;
    }
    for (guint i = 0; i < view->ledger->claims->len && view->claim == NULL; i++) {
        const HvClaim *claim = g_ptr_array_index(view->ledger->claims, i);
        if (hv_claim_live_qemu(root, claim).pid == view->process.pid)
            view->claim = claim;
    }
    return TRUE;
}

static gboolean find_qemu_of_claim(const HvRoot *root, HvVerifyView *view, GError **error)
{
    const HvClaim *claim = view->claim;
    g_autofree char *name = hv_quote(claim->name);
    view->process = hv_claim_live_qemu(root, claim);
    if (view->process.pid != 0)
        return TRUE;
    if (claim->qemu.pid != 0)
        hv_set_error(error, HV_ERROR_SYSTEM, "hugevmctl audit says what is left of it",
                     "VM %s %s does not run: its QEMU, process %" G_GINT64_FORMAT ", has ended",
                     claim->uuid, name, claim->qemu.pid);
    else
        hv_set_error(error, HV_ERROR_SYSTEM, NULL,
                     "VM %s %s is %s: there is no QEMU yet that has huge pages", claim->uuid, name,
                     hv_claim_state_name(claim->state));
    return FALSE;
}

static gboolean find_uuid(const HvRoot *root, const char *uuid, HvVerifyView *view, GError **error)
{
    view->claim = hv_ledger_claim(view->ledger, uuid);
    if (view->claim != NULL)
        return find_qemu_of_claim(root, view, error);
    view->process = hv_process_find_qemu(root, uuid);
    if (view->process.pid == 0)
        hv_set_error(error, HV_ERROR_SYSTEM, "hugevmctl claims lists the VMs that are known",
                     "VM %s does not run with huge pages", uuid);
    return view->process.pid != 0;
}

static gboolean find_name(const HvRoot *root, const char *name, HvVerifyView *view, GError **error)
{
    g_autofree char *quoted = hv_quote(name);
    for (guint i = 0; i < view->ledger->claims->len; i++) {
        const HvClaim *claim = g_ptr_array_index(view->ledger->claims, i);
        if (claim->state == HV_CLAIM_DRAINING || claim->device_of != NULL ||
            g_strcmp0(claim->name, name) != 0)
            continue;
        if (view->claim != NULL) {
            hv_set_error(error, HV_ERROR_SYSTEM, "name it by its UUID",
                         "several VMs are called %s: %s and %s", quoted, view->claim->uuid,
                         claim->uuid);
            return FALSE;
        }
        view->claim = claim;
    }
    if (view->claim != NULL)
        return find_qemu_of_claim(root, view, error);
    hv_set_error(
        error, HV_ERROR_SYSTEM,
        "hugevmctl claims lists those that have; name others by the number of their QEMU's "
        "process",
        "no VM called %s has a claim", quoted);
    return FALSE;
}

static gboolean find_target(const HvRoot *root, const char *target, HvVerifyView *view,
                            GError **error)
{
    guint64 pid;
    g_autofree char *uuid = hv_uuid_normalize(target);
    if (hv_parse_u64(target, &pid))
        return find_process(root, pid, view, error);
    if (uuid != NULL)
        return find_uuid(root, uuid, view, error);
    return find_name(root, target, view, error);
}

/* --------------------------------------------------------------------------------------------- */

/* The VM's own, and what its virtio-mem has been granted and not taken yet. */
static GArray *needs_of(const HvVerifyView *view)
{
    GArray *needs = g_array_copy(view->claim->needs);
    for (guint i = 0; i < view->ledger->claims->len; i++) {
        const HvClaim *claim = g_ptr_array_index(view->ledger->claims, i);
        if (g_strcmp0(claim->device_of, view->claim->uuid) == 0 && claim->since_s == 0)
            g_array_append_vals(needs, claim->needs->data, claim->needs->len);
    }
    return needs;
}

HvVerifyView *hv_verify_read(const HvRoot *root, const char *target, GError **error)
{
    g_autoptr(HvVerifyView) view = g_new0(HvVerifyView, 1);
    view->ledger = hv_ledger_read(root, error);
    if (view->ledger == NULL || !find_target(root, target, view, error))
        return NULL;
    g_autoptr(HvSnapshot) snapshot = hv_snapshot_read(root, error);
    if (snapshot == NULL)
        return NULL;
    int only_node =
        snapshot->nodes->len == 1 ? g_array_index(snapshot->nodes, HvNode, 0).id : HV_NODE_UNKNOWN;
    view->residence = hv_residence_read(root, &view->process, only_node, error);
    if (view->residence == NULL)
        return NULL;
    if (view->claim == NULL)
        return g_steal_pointer(&view);
    g_autoptr(GArray) needs = needs_of(view);
    view->verdict = hv_verify(needs, view->residence);
    return g_steal_pointer(&view);
}
