/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A start: what is asked (prepare.c) -> edit the XML -> under the ledger's lock:
 * plan and record the claim -> execute -> guard. From the claim's record on, its
 * pages count as exposed, so no other VM is planned onto them, whoever grows first;
 * once it is guarded, strangers cannot take them either.
 */
#include "lifecycle-private.h"

#include "custody.h"
#include "error.h"

#include <string.h>
#include <unistd.h>

#define EXPOSED_WAIT_US (1 * G_USEC_PER_SEC)
#define EXPOSED_POLL_US (50 * 1000)
#define TAKEN_WAIT_US (3 * G_USEC_PER_SEC)
#define SHORT_LOCK_WAIT_US (1 * G_USEC_PER_SEC)

static void plan_once(HvStart *start, const HvLedger *ledger)
{
    HvWorld world = {start->snapshot, start->settings, ledger, start->outcome->request->uuid};
    hv_plan_free(start->outcome->plan);
    start->outcome->plan = hv_plan_new(&world, start->outcome->request);
}

/*
 * Pages of a VM that runs and has not been reported yet count twice. Before anything
 * is refused or added for that reason, see whether there are such VMs, and then look
 * at the pools again: never at a ledger that is newer than they are. *out_noted: the
 * ledger has changed.
 */
static gboolean plan(HvStart *start, HvLedger *ledger, gboolean *out_noted, GError **error)
{
    const HvRoot *root = start->agent->root;
    plan_once(start, ledger);
    const HvPlan *first = start->outcome->plan;
    *out_noted = (first->refusal != NULL || first->steps->len > 0) &&
                 hv_ledger_note_started(root, ledger, start->outcome->request->uuid);
    if (!*out_noted)
        return TRUE;
    if (!start->is_dry_run)
        hv_custody_sweep(root, ledger);
    hv_snapshot_free(start->snapshot);
    start->snapshot = hv_snapshot_read(root, error);
    if (start->snapshot == NULL)
        return FALSE;
    plan_once(start, ledger);
    return TRUE;
}

HvOutcome *hv_lifecycle_plan(const HvAgent *agent, const HvVm *vm, GError **error)
{
    g_auto(HvStart) start = {.agent = agent, .vm = vm, .is_dry_run = TRUE};
    if (!hv_start_prepare(&start, error))
        return NULL;
    if (start.outcome->request == NULL)
        return g_steal_pointer(&start.outcome);

    g_autoptr(GError) local = NULL;
    g_autoptr(HvLedger) ledger = NULL;
    g_autoptr(HvStore) store = hv_store_open(agent->root, FALSE, &local);
    if (store != NULL)
        ledger = hv_store_read(store, &local);
    else if (g_error_matches(local, G_FILE_ERROR, G_FILE_ERROR_NOENT))
        ledger = hv_ledger_new();
    if (ledger == NULL) {
        g_propagate_error(error, g_steal_pointer(&local));
        return NULL;
    }
    /* as a start would; only this copy changes. Intents: a start settles them first */
    hv_ledger_prune(agent->root, ledger);
    g_array_set_size(ledger->intents, 0);
    gboolean is_noted;
    return plan(&start, ledger, &is_noted, error) ? g_steal_pointer(&start.outcome) : NULL;
}

typedef struct {
    guint64 generation; /* 0: no claim is gone on with */
    HvClaimState state;
    gboolean is_held_back; /* its pages must not be handed over */
} Adopted;

/* What keeps the old claim's pages goes with it: the new one has its own. */
static Adopted adopt(const HvClaim *claim)
{
    HvClaimState state = claim->state;
    if (state == HV_CLAIM_GUARDED)
        state = HV_CLAIM_CLAIMED;
    if (state == HV_CLAIM_MOUNTED)
        state = HV_CLAIM_LAUNCHING;
    return (Adopted){claim->generation, state, !claim->may_hand_over};
}

/*
 * May this VM be claimed now, by us? A claim that may be replaced is removed. One
 * that another agent made for the same start is the one we go on with: *adopted
 * takes its state, and its generation, by which that agent knows it.
 */
static gboolean make_way(const HvStart *start, HvLedger *ledger, const HvProcess *self,
                         Adopted *adopted, GError **error)
{
    const HvRoot *root = start->agent->root;
    HvClaim *claim = hv_ledger_claim(ledger, start->outcome->request->uuid);
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
    if (is_of_another)
        *adopted = adopt(claim);
    hv_ledger_end_claim(root, ledger, claim);
    return TRUE;
}

static void set_refusal(const HvRefusal *refusal, GError **error)
{
    hv_set_error(error, refusal->code, refusal->hint, "%s", refusal->message);
}

typedef enum { CLAIM_FAILED, CLAIM_MADE, CLAIM_AGAIN } ClaimResult;

/* Could it be that only VMs which have mapped but not yet reported stand in the way? */
static gboolean is_refused_by_exposure(const HvStart *start, const HvLedger *ledger)
{
    HvWorld world = {start->snapshot, start->settings, ledger, start->outcome->request->uuid};
    const HvRefusal *refusal = start->outcome->plan->refusal;
    const GArray *needs = start->outcome->request->needs;
    for (guint i = 0; refusal->code == HV_ERROR_SHORTAGE && i < needs->len; i++)
        if (hv_room_of_size(&world, g_array_index(needs, HvNeed, i).size_kib).exposed > 0)
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

/*
 * FALSE: somebody has taken pages that are planned for the claim. Beside surplus, to
 * let go of a guard would cost others free pages: then it is pinned first, or, where
 * nothing may be written, there is no guard.
 */
static gboolean guard_claim(const HvStart *start, HvClaim *claim)
{
    g_autofree char *warning = NULL;
    if (claim->state != HV_CLAIM_CLAIMED || !start->vm->tells_launch || start->has_surplus)
        return TRUE;
    HvGuardResult result = hv_custody_guard(start->agent->root, claim, &warning);
    if (warning != NULL)
        g_ptr_array_add(start->outcome->warnings, g_steal_pointer(&warning));
    return result != HV_GUARD_SHORT;
}

static void set_taken_by_others(const HvStart *start, GError **error)
{
    g_autofree char *name = hv_quote(start->outcome->name);
    hv_set_error(error, HV_ERROR_SHORTAGE, "start it again, or find out who takes huge pages",
                 "pages for VM %s were taken by another process each time before they could be "
                 "kept for it",
                 name);
}

/* Records the claim, with its guard where no page has to be got first. */
static ClaimResult record_claim(HvStart *start, HvTransaction *transaction, const HvProcess *self,
                                const Adopted *adopted, GError **error)
{
    HvClaim *claim = hv_ledger_add_claim(transaction->ledger, start->outcome->request,
                                         start->agent->owner_name, self);
    if (adopted->generation != 0) {
        claim->generation = adopted->generation;
        claim->state = adopted->state;
    }
    const GArray *needs = claim->needs;
    guint64 size_kib = g_array_index(needs, HvNeed, 0).size_kib;
    claim->may_hand_over = start->outcome->request->keeps_pages && !start->vm->is_incoming &&
                           !adopted->is_held_back &&
                           hv_needs_pages(needs, size_kib) * size_kib == hv_needs_kib(needs);
    start->has_surplus = has_surplus(start);
    start->outcome->generation = claim->generation;
    transaction->is_changed = TRUE;
    if (start->outcome->plan->steps->len == 0 && !guard_claim(start, claim))
        return CLAIM_AGAIN;
    if (hv_transaction_commit(transaction, error))
        return CLAIM_MADE;
    hv_ledger_remove_claim(transaction->ledger, claim->uuid);
    hv_custody_sweep(start->agent->root, transaction->ledger);
    return CLAIM_FAILED;
}

/* One look under the ledger's lock: plan, and if the plan stands, record the claim. */
static ClaimResult try_claim(HvStart *start, HvStore *store, gint64 deadline_us, GError **error)
{
    const HvAgent *agent = start->agent;
    g_autoptr(HvTransaction) transaction = hv_transaction_begin(store, deadline_us, error);
    if (transaction == NULL)
        return CLAIM_FAILED;
    if (transaction->warning != NULL)
        g_ptr_array_add(start->outcome->warnings, g_strdup(transaction->warning));
    if (hv_ledger_prune(agent->root, transaction->ledger))
        start->has_pruned = TRUE;
    HvProcess self = hv_process_identify(agent->root, agent->owner_pid);
    if (self.pid == 0 && hv_root_is_machine(agent->root)) {
        hv_set_error(error, HV_ERROR_INVALID, NULL,
                     "the owner, process %" G_GINT64_FORMAT ", does not exist here",
                     agent->owner_pid);
        return CLAIM_FAILED;
    }
    Adopted adopted = {0};
    if (!make_way(start, transaction->ledger, &self, &adopted, error))
        return CLAIM_FAILED;
    hv_custody_sweep(agent->root, transaction->ledger);
    hv_snapshot_free(start->snapshot);
    start->snapshot = hv_snapshot_read(agent->root, error);
    if (start->snapshot == NULL)
        return CLAIM_FAILED;
    gboolean is_noted;
    if (!plan(start, transaction->ledger, &is_noted, error))
        return CLAIM_FAILED;
    if (is_noted)
        transaction->is_changed = TRUE;
    if (start->outcome->plan->refusal != NULL) {
        if (is_refused_by_exposure(start, transaction->ledger))
            return CLAIM_AGAIN;
        set_refusal(start->outcome->plan->refusal, error);
        return CLAIM_FAILED;
    }
    return record_claim(start, transaction, &self, &adopted, error);
}

/* A VM between mmap and "started" counts twice for a moment: look again for up to a second. */
static gboolean claim_pages(HvStart *start, HvStore *store, gint64 deadline_us, GError **error)
{
    gint64 give_up_us = MIN(deadline_us, g_get_monotonic_time() + EXPOSED_WAIT_US);
    for (;;) {
        ClaimResult result = try_claim(start, store, deadline_us, error);
        if (result != CLAIM_AGAIN)
            return result == CLAIM_MADE;
        if (g_get_monotonic_time() >= give_up_us) {
            if (start->outcome->plan->refusal != NULL)
                set_refusal(start->outcome->plan->refusal, error);
            else
                set_taken_by_others(start, error);
            return FALSE;
        }
        g_usleep(EXPOSED_POLL_US);
    }
}

static gboolean give_back(const HvStart *start, HvStore *store, GError **error)
{
    if (start->vm->host_waits) /* it has waited long enough: what is busy goes with a later call */
        return hv_give_back_if_idle(start->agent, store, error);
    HvExecutor executor = hv_give_back_executor(start->agent, store, start->settings);
    return hv_execute_give_back(&executor, error);
}

/* Leaves everything as it was before the claim; says so where that is not possible. */
static void roll_back(const HvStart *start, HvStore *store, GError **error)
{
    gboolean was_known;
    g_autoptr(GError) local = NULL;
    const HvVmRef vm = {.uuid = start->outcome->request->uuid,
                        .generation = start->outcome->generation};
    gint64 wait_us = start->vm->host_waits ? SHORT_LOCK_WAIT_US : HV_LOCK_WAIT_US;
    gint64 deadline_us = g_get_monotonic_time() + wait_us;
    if (!hv_store_drop_claim(store, start->agent->root, &vm, deadline_us, &was_known, &local) ||
        !give_back(start, store, &local)) {
        g_autofree char *message = hv_error_message(local);
        g_prefix_error(error, "(not all could be given back, the next call goes on: %s) ", message);
    }
}

static gboolean edit_xml(HvStart *start, GError **error)
{
    HvOutcome *outcome = start->outcome;
    gsize bytes = 0;
    char *edited = hv_domain_edit(start->domain, start->vm->xml, start->vm->xml_bytes,
                                  &outcome->request->edit, &bytes, error);
    if (edited == NULL)
        return FALSE;
    outcome->xml_changed =
        bytes != start->vm->xml_bytes || memcmp(edited, start->vm->xml, bytes) != 0;
    g_free(outcome->xml);
    outcome->xml = edited;
    outcome->xml_bytes = bytes;
    g_free(outcome->uuid);
    outcome->uuid = g_strdup(outcome->request->uuid);
    return TRUE;
}

static gboolean carry_out(const HvStart *start, HvStore *store, const HvPlan *plan,
                          gint64 deadline_us, GError **error)
{
    HvExecutor executor = {.writer = {.root = start->agent->root,
                                      .store = store,
                                      .settings = start->settings,
                                      .deadline_us = deadline_us,
                                      .self_uuid = start->outcome->request->uuid},
                           .progress = start->vm->progress,
                           .progress_data = start->vm->progress_data};
    return hv_execute_steps(&executor, plan->steps, error);
}

/*
 * The pages are in the pools: guard them. Somebody may have let go of the claim
 * meanwhile, or have started the VM anew. *out_missing: others were quicker with some
 * of the pages, and this is how to get those; NULL: all is well.
 */
static gboolean guard_pages(HvStart *start, HvStore *store, gint64 deadline_us,
                            HvPlan **out_missing, GError **error)
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
        return hv_transaction_commit(transaction, error);
    }
    g_autoptr(HvSnapshot) snapshot = hv_snapshot_read(start->agent->root, error);
    HvWorld world = {snapshot, start->settings, transaction->ledger, uuid};
    *out_missing = snapshot != NULL ? hv_plan_new(&world, start->outcome->request) : NULL;
    return snapshot != NULL;
}

static gboolean pin(const HvStart *start, HvStore *store, gint64 deadline_us, GError **error)
{
    const GArray *needs = start->outcome->request->needs;
    HvPoolWriter writer = {.root = start->agent->root,
                           .store = store,
                           .settings = start->settings,
                           .deadline_us = deadline_us};
    for (guint i = 0; i < needs->len; i++)
        if (!hv_pool_pin(&writer, g_array_index(needs, HvNeed, i).size_kib, error))
            return FALSE;
    return TRUE;
}

/* Pages for those that others took. Who took them may let go of them in a moment: until then a
 * shortage is no reason to give up. */
static gboolean make_up(HvStart *start, HvStore *store, const HvPlan *missing, gint64 deadline_us,
                        GError **error)
{
    gint64 now_us = g_get_monotonic_time();
    if (now_us >= deadline_us) {
        set_taken_by_others(start, error);
        return FALSE;
    }
    g_autoptr(GError) local = NULL;
    if (missing->refusal != NULL)
        set_refusal(missing->refusal, &local);
    else if (carry_out(start, store, missing, deadline_us, &local))
        return TRUE;
    if (g_error_matches(local, HV_ERROR, HV_ERROR_SHORTAGE) && now_us < start->give_up_us) {
        g_usleep(EXPOSED_POLL_US);
        return TRUE;
    }
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

/* Gets the pages and guards them, again where others take them in between. */
static gboolean get_pages(HvStart *start, HvStore *store, gint64 deadline_us, GError **error)
{
    gboolean must_pin = start->has_surplus && start->settings->use_dynamic_hugepages;
    if (start->outcome->plan->steps->len == 0 && !must_pin)
        return TRUE;
    if (!carry_out(start, store, start->outcome->plan, deadline_us, error))
        return FALSE;
    if (must_pin && !pin(start, store, deadline_us, error))
        return FALSE;
    start->has_surplus = FALSE;
    start->give_up_us = g_get_monotonic_time() + TAKEN_WAIT_US;
    for (;;) {
        g_autoptr(HvPlan) missing = NULL;
        gint64 lock_deadline_us = MAX(deadline_us, g_get_monotonic_time() + SHORT_LOCK_WAIT_US);
        if (!guard_pages(start, store, lock_deadline_us, &missing, error))
            return FALSE;
        if (missing == NULL)
            return TRUE;
        if (!make_up(start, store, missing, deadline_us, error))
            return FALSE;
    }
}

/* Refusals that need neither lock nor ledger. */
static gboolean check_before_taking(const HvStart *start, GError **error)
{
    const HvRequest *request = start->outcome->request;
    if (request->refusal != NULL) {
        set_refusal(request->refusal, error);
        return FALSE;
    }
    if (request->uuid == NULL) {
        hv_set_error(error, HV_ERROR_XML, "add <uuid> to the domain",
                     "the domain XML has no <uuid>, and the caller gave none");
        return FALSE;
    }
    return TRUE;
}

/* What a killed writer announced counts as taken until it is settled: settle it before planning. */
static gboolean settle_first(const HvAgent *agent, HvStore *store, gint64 deadline_us,
                             GError **error)
{
    g_autoptr(HvLedger) ledger = hv_store_read(store, NULL);
    return ledger == NULL || ledger->intents->len == 0 ||
           hv_recover_until(agent, deadline_us, NULL, error);
}

/* How long getting pages may take. */
static guint64 timeout_ms(const HvStart *start)
{
    const HvSettings *settings = start->settings;
    guint64 configured_ms = settings->allocation_timeout_ms;
    if (start->vm->host_waits)
        configured_ms = MIN(configured_ms, settings->hook_timeout_ms);
    return start->vm->timeout_ms != 0 ? start->vm->timeout_ms : configured_ms;
}

HvOutcome *hv_lifecycle_claim_incoming(const HvAgent *agent, const HvVm *vm, GError **error)
{
    HvVm incoming = *vm;
    incoming.is_incoming = TRUE;
    return hv_lifecycle_claim(agent, &incoming, error);
}

HvOutcome *hv_lifecycle_claim(const HvAgent *agent, const HvVm *vm, GError **error)
{
    g_auto(HvStart) start = {.agent = agent, .vm = vm};
    if (!hv_start_prepare(&start, error))
        return NULL;
    if (start.outcome->request == NULL)
        return g_steal_pointer(&start.outcome);
    if (!check_before_taking(&start, error) || !edit_xml(&start, error))
        return NULL;
    if (start.outcome->request->needs->len == 0)
        return g_steal_pointer(&start.outcome);

    gint64 deadline_us = g_get_monotonic_time() + (gint64)timeout_ms(&start) * 1000;
    if (geteuid() != 0 && hv_root_is_machine(agent->root)) {
        hv_set_error(error, HV_ERROR_PERMISSION, "run it as root",
                     "claiming huge pages needs root");
        return NULL;
    }
    g_autoptr(HvStore) store = hv_store_open(agent->root, TRUE, error);
    if (store == NULL)
        return NULL;
    if (!settle_first(agent, store, deadline_us, error))
        return NULL;
    gboolean is_claimed = claim_pages(&start, store, deadline_us, error);
    gboolean is_good = is_claimed && get_pages(&start, store, deadline_us, error);
    if (is_claimed && !is_good)
        roll_back(&start, store, error);
    if (start.has_pruned)
        hv_recover_until(agent, g_get_monotonic_time() + SHORT_LOCK_WAIT_US, NULL, NULL);
    return !is_good ? NULL : g_steal_pointer(&start.outcome);
}
