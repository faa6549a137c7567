/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a start does under the ledger's lock: look whether the VM may be claimed, plan,
 * record the claim, and have its pages guarded.
 *
 * The ledger never says that the kernel keeps what it does not: a claim that is to
 * lose its guard is recorded as exposed first, and swept after that.
 */
#include "lifecycle-private.h"

#include "consumers.h"
#include "custody.h"
#include "error.h"
#include "file-backed.h"
#include "file-look.h"
#include "settle.h"
#include "topology.h"

#include <string.h>

static void plan_once(HvStart *start, const HvLedger *ledger)
{
    HvWorld world = {start->snapshot, start->settings, ledger, start->asked->uuid};
    HvPlan *plan;
    HvRequest *request = hv_settle(&world, start->asked, start->spent, &plan);
    hv_plan_free(start->outcome->plan);
    hv_request_free(start->outcome->request);
    start->outcome->plan = plan;
    start->outcome->request = request;
}

/* The pools as they are now. */
static gboolean look_again(HvStart *start, const HvLedger *ledger, GError **error)
{
    hv_snapshot_free(start->snapshot);
    start->snapshot = hv_start_look(start, error);
    if (start->snapshot == NULL)
        return FALSE;
    hv_consumers_read(start->agent->root, start->settings, ledger, start->snapshot);
    if (start->asked->open.bind != HV_BIND_NONE)
        hv_topology_read(start->agent->root, start->snapshot);
    else
        hv_topology_read_for(start->agent->root, start->snapshot, start->asked->needs);
    return TRUE;
}

/* Changes first, then what follows from them for guards and mounts. */
static gboolean commit_and_sweep(const HvStart *start, GError **error)
{
    if (!hv_transaction_commit(start->transaction, error))
        return FALSE;
    hv_custody_sweep(start->agent->root, start->transaction->ledger, NULL);
    return TRUE;
}

/*
 * Pages of a VM that runs and has not been reported yet count twice. Before anything
 * is refused or added for that reason, see whether there are such VMs, and then look
 * at the pools again: never at a ledger that is newer than they are.
 */
gboolean hv_start_plan(HvStart *start, HvLedger *ledger, GError **error)
{
    const HvRoot *root = start->agent->root;
    plan_once(start, ledger);
    const HvPlan *first = start->outcome->plan;
    if (first->refusal == NULL && first->steps->len == 0)
        return TRUE;
    gboolean is_changed = hv_ledger_note_started(root, ledger, start->outcome->request->uuid);
    gboolean is_allocating = start->asked->file_kib > 0 && hv_ledger_look_at_files(root, ledger);
    if (!is_changed && !is_allocating)
        return TRUE;
    if (is_changed && start->transaction != NULL) {
        start->transaction->is_changed = TRUE;
        if (!commit_and_sweep(start, error))
            return FALSE;
    }
    if (!look_again(start, ledger, error))
        return FALSE;
    plan_once(start, ledger);
    return TRUE;
}

/* What keeps the old claim's pages is for it alone: the new one has its own. */
static void expose(HvTransaction *transaction, HvClaim *claim)
{
    if (claim->state == HV_CLAIM_GUARDED)
        claim->state = HV_CLAIM_CLAIMED;
    else if (claim->state == HV_CLAIM_MOUNTED)
        claim->state = HV_CLAIM_LAUNCHING;
    else
        return;
    transaction->is_changed = TRUE;
}

/*
 * May this VM be claimed now, by us? A claim that may be replaced stays until it is,
 * but is exposed from here on. One that another agent made for the same start is the
 * one we go on with: start->adopted has its state, and its generation, by which that agent
 * knows it, also when another choice has to be made after that.
 */
static gboolean make_way(HvStart *start, const HvProcess *self, GError **error)
{
    const HvRoot *root = start->agent->root;
    HvClaim *claim = hv_ledger_claim(start->transaction->ledger, start->outcome->request->uuid);
    if (claim == NULL)
        return TRUE;
    g_autofree char *name = hv_quote(start->outcome->name);
    HvProcess qemu = hv_claim_live_qemu(root, claim);
    if (qemu.pid != 0) {
        hv_set_error(error, HV_ERROR_CONFLICT, "stop it first",
                     "VM %s (%s) runs already: QEMU is process %" G_GINT64_FORMAT, name,
                     claim->uuid, qemu.pid);
        return FALSE;
    }
    gboolean is_ours =
        claim->owner.pid == self->pid && claim->owner.start_ticks == self->start_ticks;
    gboolean is_of_another =
        !is_ours && claim->state != HV_CLAIM_RUNNING && hv_process_is_alive(root, &claim->owner);
    if (is_of_another && !start->vm->adopts) {
        g_autofree char *owner = hv_quote(claim->owner_name);
        hv_set_error(error, HV_ERROR_CONFLICT, "wait for it, or stop that process",
                     "VM %s (%s) is being started by %s, process %" G_GINT64_FORMAT, name,
                     claim->uuid, owner, claim->owner.pid);
        return FALSE;
    }
    expose(start->transaction, claim);
    if (is_of_another)
        start->adopted = (HvAdopted){claim->generation, claim->state, !claim->may_hand_over};
    return TRUE;
}

void hv_set_refusal(const HvRefusal *refusal, GError **error)
{
    hv_set_error(error, refusal->code, refusal->hint, "%s", refusal->message);
}

/* Could it be that only VMs which have mapped but not yet reported stand in the way? */
static gboolean is_refused_by_exposure(const HvStart *start, const HvLedger *ledger)
{
    HvWorld world = {start->snapshot, start->settings, ledger, start->outcome->request->uuid};
    const HvRefusal *refusal = start->outcome->plan->refusal;
    const GArray *needs = start->outcome->request->needs;
    if (refusal->code == HV_ERROR_SHORTAGE &&
        hv_file_room_may_come(&world, start->outcome->request))
        return TRUE;
    for (guint i = 0; refusal->code == HV_ERROR_SHORTAGE && i < needs->len; i++)
        if (hv_room_unmapped_pages(&world, g_array_index(needs, HvNeed, i).size_kib) > 0)
            return TRUE;
    return FALSE;
}

static gboolean has_surplus(const HvStart *start)
{
    const GArray *pools = start->snapshot->pools;
    for (guint i = 0; i < pools->len; i++) {
        const HvPool *pool = &g_array_index(pools, HvPool, i);
        if (pool->surplus_pages > 0 &&
            hv_needs_pages(start->outcome->request->needs, pool->size_kib) > 0)
            return TRUE;
    }
    return FALSE;
}

static gboolean is_to_be_guarded(const HvStart *start, const HvClaim *claim)
{
    return claim->state == HV_CLAIM_CLAIMED && claim->needs->len > 0 && start->vm->tells_launch &&
           !start->goes_unguarded;
}

/*
 * FALSE: somebody has taken pages that are planned for the claim. Beside surplus, to
 * let go of a guard would cost others free pages: then it is pinned first, or, where
 * nothing may be written, there is no guard.
 */
static gboolean guard_claim(const HvStart *start, HvClaim *claim)
{
    g_autofree char *warning = NULL;
    if (!is_to_be_guarded(start, claim) || start->has_surplus)
        return TRUE;
    HvGuardResult result = hv_custody_guard(start->agent->root, claim, &warning);
    if (warning != NULL)
        g_ptr_array_add(start->outcome->warnings, g_steal_pointer(&warning));
    return result != HV_GUARD_SHORT;
}

void hv_set_taken_by_others(const HvStart *start, GError **error)
{
    g_autofree char *name = hv_quote(start->outcome->name);
    hv_set_error(error, HV_ERROR_SHORTAGE, "start it again, or find out who takes huge pages",
                 "pages for VM %s were taken by another process each time before they could be "
                 "kept for it",
                 name);
}

/* The one that made way. */
static gboolean remove_old_claim(const HvStart *start)
{
    HvLedger *ledger = start->transaction->ledger;
    HvClaim *old = hv_ledger_claim(ledger, start->outcome->request->uuid);
    if (old != NULL && old->state == HV_CLAIM_RUNNING)
        hv_ledger_end_claim(start->agent->root, ledger, old);
    else if (old != NULL)
        hv_ledger_remove_claim(ledger, old->uuid);
    return old != NULL;
}

/* A VM that asked for any pages gets normal ones. */
static HvClaimResult record_nothing(HvStart *start, GError **error)
{
    if (!remove_old_claim(start))
        return HV_CLAIM_MADE;
    start->has_pruned = TRUE;
    start->transaction->is_changed = TRUE;
    return commit_and_sweep(start, error) ? HV_CLAIM_MADE : HV_CLAIM_FAILED;
}

static HvClaim *add_claim(const HvStart *start, const HvProcess *self)
{
    HvLedger *ledger = start->transaction->ledger;
    remove_old_claim(start);
    return hv_ledger_add_claim(ledger, start->outcome->request, start->agent->owner_name, self);
}

static gboolean has_one_size(const GArray *needs)
{
    guint64 size_kib = needs->len > 0 ? g_array_index(needs, HvNeed, 0).size_kib : 0;
    return needs->len > 0 && hv_needs_pages(needs, size_kib) * size_kib == hv_needs_kib(needs);
}

/* Records the claim, with its guard where no page has to be got first. */
static HvClaimResult record_claim(HvStart *start, const HvProcess *self, GError **error)
{
    const HvAdopted *adopted = &start->adopted;
    HvTransaction *transaction = start->transaction;
    HvClaim *claim = add_claim(start, self);
    if (adopted->generation != 0) {
        claim->generation = adopted->generation;
        claim->state = adopted->state;
    }
    if (start->device_of != NULL) {
        claim->device_of = g_strdup(start->device_of);
        claim->qemu = start->qemu;
        claim->since_s = hv_boot_seconds();
    }
    claim->may_hand_over = start->outcome->request->keeps_pages && !start->vm->is_incoming &&
                           !adopted->is_held_back && has_one_size(claim->needs);
    start->has_surplus = has_surplus(start);
    start->outcome->generation = claim->generation;
    transaction->is_changed = TRUE;
    if (start->outcome->plan->steps->len == 0 && !guard_claim(start, claim))
        return HV_CLAIM_AGAIN;
    if (is_to_be_guarded(start, claim))
        hv_custody_prepare(start->agent->root, claim);
    if (hv_transaction_commit(transaction, error))
        return HV_CLAIM_MADE;
    hv_ledger_remove_claim(transaction->ledger, claim->uuid);
    hv_custody_sweep(start->agent->root, transaction->ledger, NULL);
    return HV_CLAIM_FAILED;
}

static HvClaimResult claim_in_transaction(HvStart *start, GError **error)
{
    const HvAgent *agent = start->agent;
    HvTransaction *transaction = start->transaction;
    HvProcess self = hv_process_identify(agent->root, agent->owner_pid);
    if (self.pid == 0 && hv_root_is_machine(agent->root)) {
        hv_set_error(error, HV_ERROR_INVALID, NULL,
                     "the owner, process %" G_GINT64_FORMAT ", does not exist here",
                     agent->owner_pid);
        return HV_CLAIM_FAILED;
    }
    if (!make_way(start, &self, error) || !commit_and_sweep(start, error))
        return HV_CLAIM_FAILED;
    if (!look_again(start, transaction->ledger, error) ||
        !hv_start_plan(start, transaction->ledger, error))
        return HV_CLAIM_FAILED;
    if (start->outcome->plan->refusal == NULL &&
        !hv_request_takes_anything(start->outcome->request))
        return record_nothing(start, error);
    if (start->outcome->plan->refusal == NULL)
        return record_claim(start, &self, error);
    if (is_refused_by_exposure(start, transaction->ledger))
        return HV_CLAIM_AGAIN;
    hv_set_refusal(start->outcome->plan->refusal, error);
    return HV_CLAIM_FAILED;
}

HvClaimResult hv_start_try_claim(HvStart *start, HvStore *store, gint64 deadline_us, GError **error)
{
    g_autoptr(HvTransaction) transaction = hv_transaction_begin(store, deadline_us, error);
    if (transaction == NULL)
        return HV_CLAIM_FAILED;
    if (transaction->warning != NULL)
        g_ptr_array_add(start->outcome->warnings, g_strdup(transaction->warning));
    if (hv_ledger_prune(start->agent->root, transaction->ledger)) {
        start->has_pruned = TRUE;
        transaction->is_changed = TRUE;
    }
    start->transaction = transaction;
    HvClaimResult result = claim_in_transaction(start, error);
    start->transaction = NULL;
    return result;
}

gboolean hv_start_guard(HvStart *start, HvStore *store, gint64 deadline_us, HvPlan **out_missing,
                        GError **error)
{
    const char *uuid = start->outcome->request->uuid;
    g_autoptr(HvTransaction) transaction = hv_transaction_begin(store, deadline_us, error);
    if (transaction == NULL)
        return FALSE;
    HvClaim *claim = hv_ledger_claim(transaction->ledger, uuid);
    if (claim == NULL || claim->generation != start->outcome->generation) {
        hv_set_error(error, HV_ERROR_CANCELLED, NULL,
                     "the claim of VM %s was released while pages were got for it", uuid);
        return FALSE;
    }
    if (guard_claim(start, claim)) {
        transaction->is_changed = claim->state == HV_CLAIM_GUARDED;
        if (hv_transaction_commit(transaction, error))
            return TRUE;
        claim->state = HV_CLAIM_CLAIMED; /* as the ledger has it */
        hv_custody_sweep(start->agent->root, transaction->ledger, NULL);
        return FALSE;
    }
    g_autoptr(HvSnapshot) snapshot = hv_snapshot_read(start->agent->root, error);
    if (snapshot == NULL)
        return FALSE;
    hv_consumers_read(start->agent->root, start->settings, transaction->ledger, snapshot);
    hv_topology_read_for(start->agent->root, snapshot, start->outcome->request->needs);
    HvWorld world = {snapshot, start->settings, transaction->ledger, uuid};
    HvAttempt attempt = {.spent = start->spent};
    *out_missing = hv_plan_again(&world, start->outcome->request, &attempt);
    return TRUE;
}
