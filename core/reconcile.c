/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Setting right what killed agents, hooks and hosts have left. Three sources, in the
 * order of what they cost:
 *
 *   the kernel alone     claims whose processes are dead, guards and mounts that no
 *                        claim is entitled to, intents, grown pages that are free
 *   an agent's list      claims of VMs that the agent says do not run, although it
 *                        lives itself: it has missed their end
 *   libvirt's list       the same, for the claims of its hook, and for the VMs of all
 *                        agents that are said to run (hugevmctl audit)
 *
 * A list is older than what happens while it is made: it speaks only for claims that
 * were there before it was begun.
 */
#include "lifecycle-private.h"

#include "custody.h"
#include "guard.h"
#include "launch-mount.h"

#include <unistd.h>

/* Without a ledger nothing can be claimed, and whatever of ours the kernel keeps is stale. */
static gboolean has_lost_ledger(const HvAgent *agent)
{
    if (!hv_root_is_machine(agent->root) || geteuid() != 0)
        return FALSE;
    g_autoptr(GArray) guards = hv_guard_list(agent->root);
    g_autoptr(GPtrArray) mounts = hv_launch_mount_list(agent->root);
    return guards->len > 0 || mounts->len > 0;
}

/* Ends the transaction, and goes on with what needs other locks. must_sweep: what stays in the
 * vault is an error. */
static gboolean set_right(const HvAgent *agent, HvStore *store, HvTransaction *ended,
                          gboolean must_sweep, GError **error)
{
    g_autoptr(HvTransaction) transaction = ended;
    if (hv_ledger_note_started(agent->root, transaction->ledger, NULL))
        transaction->is_changed = TRUE;
    if (hv_ledger_prune(agent->root, transaction->ledger))
        transaction->is_changed = TRUE;
    if (!hv_transaction_commit(transaction, error))
        return FALSE;
    g_autoptr(GError) local = NULL;
    gboolean is_swept = hv_custody_sweep(agent->root, transaction->ledger, &local);
    if (must_sweep)
        hv_custody_sweep_elsewhere(agent->root, transaction->ledger);
    g_clear_pointer(&transaction, hv_transaction_end);
    if (!hv_give_back_if_idle(agent, store, error))
        return FALSE;
    hv_hand_over(agent, store);
    if (is_swept || !must_sweep)
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

static gboolean recover(const HvAgent *agent, gint64 deadline_us, gboolean must_sweep,
                        GPtrArray *out_warnings, GError **error)
{
    g_autoptr(HvStore) store = NULL;
    if (!hv_store_open_existing(agent, &store, error))
        return FALSE;
    if (store == NULL && has_lost_ledger(agent))
        store = hv_store_open(agent->root, TRUE, error);
    else if (store == NULL)
        return TRUE;
    if (store == NULL)
        return FALSE;
    g_autoptr(HvTransaction) transaction = hv_transaction_begin(store, deadline_us, error);
    if (transaction == NULL)
        return FALSE;
    if (transaction->warning != NULL && out_warnings != NULL)
        g_ptr_array_add(out_warnings, g_strdup(transaction->warning));
    return set_right(agent, store, g_steal_pointer(&transaction), must_sweep, error);
}

gboolean hv_recover_until(const HvAgent *agent, gint64 deadline_us, GError **error)
{
    return recover(agent, deadline_us, FALSE, NULL, error);
}

gboolean hv_lifecycle_recover(const HvAgent *agent, GPtrArray *out_warnings, GError **error)
{
    return recover(agent, g_get_monotonic_time() + HV_LOCK_WAIT_US, TRUE, out_warnings, error);
}

gboolean hv_lifecycle_reconcile_begin(const HvAgent *agent, guint64 *out_sequence, GError **error)
{
    g_autoptr(HvStore) store = NULL;
    guint64 sequence = 0;
    if (!hv_store_open_existing(agent, &store, error))
        return FALSE;
    if (store != NULL) {
        g_autoptr(HvLedger) ledger = hv_store_read(store, error);
        if (ledger == NULL)
            return FALSE;
        sequence = ledger->last_generation;
    }
    *out_sequence = sequence;
    return TRUE;
}

/* Does the list speak for the claim, and say that its VM does not run? */
static gboolean is_denied(const HvAgent *agent, const HvClaim *claim, const HvRunning *running)
{
    if (claim->device_of != NULL) /* it ends with its VM */
        return FALSE;
    /* somebody else's VM that is about to start may be unknown to whoever made the list */
    gboolean is_spoken_for = g_strcmp0(claim->owner_name, running->owner_name) == 0 ||
                             (running->all_running && claim->state == HV_CLAIM_RUNNING);
    if (!is_spoken_for || claim->generation > running->sequence ||
        g_strv_contains(running->uuids, claim->uuid))
        return FALSE;
    return hv_claim_live_qemu(agent->root, claim).pid == 0;
}

gboolean hv_lifecycle_reconcile(const HvAgent *agent, const HvRunning *running, GError **error)
{
    g_autoptr(HvStore) store = NULL;
    if (!hv_store_open_existing(agent, &store, error))
        return FALSE;
    if (store == NULL)
        return TRUE;
    g_autoptr(HvTransaction) transaction =
        hv_transaction_begin(store, g_get_monotonic_time() + HV_LOCK_WAIT_US, error);
    if (transaction == NULL)
        return FALSE;
    const GPtrArray *claims = transaction->ledger->claims;
    for (guint i = claims->len; i > 0; i--) {
        HvClaim *claim = g_ptr_array_index(claims, i - 1);
        if (is_denied(agent, claim, running) &&
            hv_ledger_end_claim(agent->root, transaction->ledger, claim))
            transaction->is_changed = TRUE;
    }
    return set_right(agent, store, g_steal_pointer(&transaction), FALSE, error);
}
