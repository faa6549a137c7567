/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A start: parse the XML -> (no huge pages: done) -> settings, snapshot ->
 * request -> under the ledger's lock: plan and record the claim -> execute ->
 * edited XML. From the claim's record on, its pages count as exposed, so no other
 * VM is planned onto them, whoever grows first.
 *
 * A claim is gone when its agent and its QEMU are both dead: between the agent's
 * decision and QEMU's first breath there is no QEMU yet.
 */
#include "lifecycle.h"

#include "error.h"
#include "page-size.h"

#include <string.h>
#include <unistd.h>

#define LOCK_WAIT_US (10 * G_USEC_PER_SEC)
#define IDLE_LOCK_WAIT_US (50 * 1000)
#define QEMU_END_WAIT_MS 5000
#define EXPOSED_WAIT_US (1 * G_USEC_PER_SEC)
#define EXPOSED_POLL_US (50 * 1000)

HvAgent *hv_agent_new(const char *root, const char *const *conf_files, const char *owner_name,
                      gint64 owner_pid)
{
    HvAgent *agent = g_new0(HvAgent, 1);
    agent->root = hv_root_new(root);
    agent->conf_files = g_strdupv((char **)conf_files);
    agent->owner_name = g_strdup(owner_name);
    agent->owner_pid = owner_pid > 0 ? owner_pid : (gint64)getpid();
    return agent;
}

void hv_agent_free(HvAgent *agent)
{
    if (agent == NULL)
        return;
    hv_root_free(agent->root);
    g_strfreev(agent->conf_files);
    g_free(agent->owner_name);
    g_free(agent);
}

void hv_outcome_free(HvOutcome *outcome)
{
    if (outcome == NULL)
        return;
    g_free(outcome->xml);
    hv_request_free(outcome->request);
    hv_plan_free(outcome->plan);
    g_free(outcome->uuid);
    g_free(outcome->name);
    g_clear_pointer(&outcome->warnings, g_ptr_array_unref);
    g_free(outcome);
}

static void add_warnings(GPtrArray *to, const GPtrArray *from)
{
    for (guint i = 0; i < from->len; i++)
        g_ptr_array_add(to, g_strdup(g_ptr_array_index(from, i)));
}

static HvOutcome *outcome_new(const HvVm *vm, const HvDomain *domain, GError **error)
{
    g_autoptr(HvOutcome) outcome = g_new0(HvOutcome, 1);
    outcome->warnings = g_ptr_array_new_with_free_func(g_free);
    outcome->uuid = g_strdup(domain->uuid != NULL ? domain->uuid : vm->uuid);
    outcome->name = g_strdup(domain->name);
    outcome->xml = g_try_malloc(vm->xml_bytes + 1);
    if (outcome->xml == NULL) {
        hv_set_error(error, HV_ERROR_SYSTEM, NULL, "no memory for a copy of the domain XML");
        return NULL;
    }
    memcpy(outcome->xml, vm->xml, vm->xml_bytes);
    outcome->xml[vm->xml_bytes] = '\0';
    outcome->xml_bytes = vm->xml_bytes;
    return g_steal_pointer(&outcome);
}

/* What a start needs while it is worked on. */
typedef struct {
    const HvAgent *agent;
    const HvVm *vm;
    HvDomain *domain;
    HvSettings *settings;
    HvSnapshot *snapshot;
    HvOutcome *outcome;  /* request and plan are in here */
    gboolean has_pruned; /* claims of dead VMs were removed: their pages may be left over */
} Start;

static void start_clear(Start *start)
{
    hv_domain_free(start->domain);
    hv_settings_free(start->settings);
    hv_snapshot_free(start->snapshot);
    hv_outcome_free(start->outcome);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Start, start_clear)

/* A host that starts its own XML must have in it what the properties ask for. */
static gboolean check_no_edit_needed(const Start *start, GError **error)
{
    const HvDomainEdit *edit = &start->outcome->request->edit;
    if (!start->vm->cannot_edit)
        return TRUE;
    if (edit->add_hugepages_kib != 0) {
        g_autofree char *hint =
            g_strdup_printf("add <memoryBacking><hugepages><page size='%" G_GUINT64_FORMAT
                            "' unit='KiB'/></hugepages></memoryBacking> to the domain",
                            edit->add_hugepages_kib);
        hv_set_error(error, HV_ERROR_CONFLICT, hint,
                     "property hugepages asks for huge pages, but the domain XML has none and "
                     "cannot be edited here");
        return FALSE;
    }
    if (edit->make_shared) {
        hv_set_error(error, HV_ERROR_CONFLICT,
                     start->domain->has_cells
                         ? "set memAccess='shared' on each <cell> of the domain"
                         : "add <access mode='shared'/> to <memoryBacking> of the domain",
                     "guest memory must be shared, but the domain XML does not say so and cannot "
                     "be edited here");
        return FALSE;
    }
    return TRUE;
}

/* Request and settings. outcome->request stays NULL for a VM without huge pages. */
static gboolean prepare(Start *start, GError **error)
{
    const HvVm *vm = start->vm;
    start->domain = hv_domain_parse(vm->xml, vm->xml_bytes, error);
    if (start->domain == NULL)
        return FALSE;
    g_autoptr(HvProperties) properties = hv_properties_read(vm->properties, start->domain, error);
    if (properties == NULL)
        return FALSE;
    start->outcome = outcome_new(vm, start->domain, error);
    if (start->outcome == NULL)
        return FALSE;
    if (!hv_request_wants_hugepages(start->domain, properties)) {
        add_warnings(start->outcome->warnings, properties->warnings);
        return TRUE;
    }
    start->settings =
        hv_settings_load(start->agent->root, (const char *const *)start->agent->conf_files, error);
    if (start->settings == NULL)
        return FALSE;
    start->snapshot = hv_snapshot_read(start->agent->root, error);
    if (start->snapshot == NULL)
        return FALSE;
    start->outcome->request = hv_request_new(start->domain, properties, vm->uuid, start->settings,
                                             start->snapshot, error);
    if (start->outcome->request == NULL)
        return FALSE;
    add_warnings(start->outcome->warnings, start->settings->warnings);
    add_warnings(start->outcome->warnings, start->outcome->request->warnings);
    return check_no_edit_needed(start, error);
}

/* QEMU of a claim, known or found; pid 0: there is none. */
static HvProcess live_qemu(const HvRoot *root, const HvClaim *claim)
{
    HvProcess none = {0};
    if (claim->qemu.pid == 0)
        return hv_process_find_qemu(root, claim->uuid);
    return hv_process_is_alive(root, &claim->qemu) ? claim->qemu : none;
}

static gboolean is_gone(const HvRoot *root, const HvClaim *claim)
{
    return !hv_process_is_alive(root, &claim->owner) && live_qemu(root, claim).pid == 0;
}

/* Removes claims that are gone; TRUE if there were any. */
static gboolean prune(const HvRoot *root, HvLedger *ledger)
{
    guint before = ledger->claims->len;
    for (guint i = ledger->claims->len; i > 0; i--) {
        const HvClaim *claim = g_ptr_array_index(ledger->claims, i - 1);
        if (is_gone(root, claim))
            g_ptr_array_remove_index(ledger->claims, i - 1);
    }
    return ledger->claims->len != before;
}

static HvPlan *plan_with(const Start *start, const HvLedger *ledger)
{
    HvWorld world = {start->snapshot, start->settings, ledger, start->outcome->request->uuid};
    return hv_plan_new(&world, start->outcome->request);
}

HvOutcome *hv_lifecycle_plan(const HvAgent *agent, const HvVm *vm, GError **error)
{
    g_auto(Start) start = {.agent = agent, .vm = vm};
    if (!prepare(&start, error))
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
    prune(agent->root, ledger); /* as a start would; only this copy changes */
    start.outcome->plan = plan_with(&start, ledger);
    return g_steal_pointer(&start.outcome);
}

/* May this VM be claimed now, by us? A claim that may be replaced is removed. */
static gboolean make_way(const Start *start, HvLedger *ledger, const HvProcess *self,
                         GError **error)
{
    const HvRoot *root = start->agent->root;
    HvClaim *claim = hv_ledger_claim(ledger, start->outcome->request->uuid);
    if (claim == NULL)
        return TRUE;
    g_autofree char *name = hv_quote(start->outcome->name);
    HvProcess qemu = live_qemu(root, claim);
    if (qemu.pid != 0) {
        hv_set_error(error, HV_ERROR_CONFLICT, "stop it first",
                     "VM %s (%s) runs already: QEMU is process %" G_GINT64_FORMAT, name,
                     claim->uuid, qemu.pid);
        return FALSE;
    }
    gboolean is_ours =
        claim->owner.pid == self->pid && claim->owner.start_ticks == self->start_ticks;
    if (!is_ours && claim->state != HV_CLAIM_RUNNING && hv_process_is_alive(root, &claim->owner)) {
        g_autofree char *owner = hv_quote(claim->owner_name);
        hv_set_error(error, HV_ERROR_CONFLICT, "wait for it, or stop that process",
                     "VM %s (%s) is being started by %s, process %" G_GINT64_FORMAT, name,
                     claim->uuid, owner, claim->owner.pid);
        return FALSE;
    }
    hv_ledger_remove_claim(ledger, claim->uuid);
    return TRUE;
}

static void set_refusal(const HvRefusal *refusal, GError **error)
{
    hv_set_error(error, refusal->code, refusal->hint, "%s", refusal->message);
}

typedef enum { CLAIM_FAILED, CLAIM_MADE, CLAIM_AGAIN } ClaimResult;

/* Could it be that only VMs which have mapped but not yet reported stand in the way? */
static gboolean is_refused_by_exposure(const Start *start, const HvLedger *ledger)
{
    HvWorld world = {start->snapshot, start->settings, ledger, start->outcome->request->uuid};
    const HvRefusal *refusal = start->outcome->plan->refusal;
    const GArray *needs = start->outcome->request->needs;
    for (guint i = 0; refusal->code == HV_ERROR_SHORTAGE && i < needs->len; i++)
        if (hv_room_of_size(&world, g_array_index(needs, HvNeed, i).size_kib).exposed > 0)
            return TRUE;
    return FALSE;
}

/* One look under the ledger's lock: plan, and if the plan stands, record the claim. */
static ClaimResult try_claim(Start *start, HvStore *store, gint64 deadline_us, GError **error)
{
    const HvAgent *agent = start->agent;
    g_autoptr(HvTransaction) transaction = hv_transaction_begin(store, deadline_us, error);
    if (transaction == NULL)
        return CLAIM_FAILED;
    if (transaction->warning != NULL)
        g_ptr_array_add(start->outcome->warnings, g_strdup(transaction->warning));
    if (prune(agent->root, transaction->ledger))
        start->has_pruned = TRUE;
    HvProcess self = hv_process_identify(agent->root, agent->owner_pid);
    if (!make_way(start, transaction->ledger, &self, error))
        return CLAIM_FAILED;

    hv_snapshot_free(start->snapshot);
    start->snapshot = hv_snapshot_read(agent->root, error);
    if (start->snapshot == NULL)
        return CLAIM_FAILED;
    hv_plan_free(start->outcome->plan);
    start->outcome->plan = plan_with(start, transaction->ledger);
    if (start->outcome->plan->refusal != NULL) {
        if (is_refused_by_exposure(start, transaction->ledger))
            return CLAIM_AGAIN;
        set_refusal(start->outcome->plan->refusal, error);
        return CLAIM_FAILED;
    }
    const HvClaim *claim =
        hv_ledger_add_claim(transaction->ledger, start->outcome->request, agent->owner_name, &self);
    start->outcome->generation = claim->generation;
    transaction->is_changed = TRUE;
    return hv_transaction_commit(transaction, error) ? CLAIM_MADE : CLAIM_FAILED;
}

/* A VM between mmap and "started" counts twice for a moment: look again for up to a second. */
static gboolean claim_pages(Start *start, HvStore *store, gint64 deadline_us, GError **error)
{
    gint64 give_up_us = MIN(deadline_us, g_get_monotonic_time() + EXPOSED_WAIT_US);
    for (;;) {
        ClaimResult result = try_claim(start, store, deadline_us, error);
        if (result != CLAIM_AGAIN)
            return result == CLAIM_MADE;
        if (g_get_monotonic_time() >= give_up_us) {
            set_refusal(start->outcome->plan->refusal, error);
            return FALSE;
        }
        g_usleep(EXPOSED_POLL_US);
    }
}

static HvExecutor give_back_executor(const HvAgent *agent, HvStore *store,
                                     const HvSettings *settings)
{
    return (HvExecutor){.writer = {.root = agent->root,
                                   .store = store,
                                   .settings = settings,
                                   .deadline_us = g_get_monotonic_time() + LOCK_WAIT_US}};
}

/* Removes the claim if it still is this one; *out_known tells. */
static gboolean drop_claim(HvStore *store, const char *uuid, guint64 generation,
                           gboolean *out_known, GError **error)
{
    g_autoptr(HvTransaction) transaction =
        hv_transaction_begin(store, g_get_monotonic_time() + LOCK_WAIT_US, error);
    if (transaction == NULL)
        return FALSE;
    const HvClaim *claim = hv_ledger_claim(transaction->ledger, uuid);
    *out_known = claim != NULL && (generation == 0 || claim->generation == generation);
    if (!*out_known)
        return TRUE;
    hv_ledger_remove_claim(transaction->ledger, uuid);
    transaction->is_changed = TRUE;
    return hv_transaction_commit(transaction, error);
}

/* Leaves everything as it was before the claim. What fails here is left to the next call. */
static void roll_back(const Start *start, HvStore *store)
{
    gboolean was_known;
    HvExecutor executor = give_back_executor(start->agent, store, start->settings);
    drop_claim(store, start->outcome->request->uuid, start->outcome->generation, &was_known, NULL);
    hv_execute_give_back(&executor, NULL);
}

static gboolean edit_xml(Start *start, GError **error)
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

static gboolean get_pages(Start *start, HvStore *store, gint64 deadline_us, GError **error)
{
    HvExecutor executor = {.writer = {.root = start->agent->root,
                                      .store = store,
                                      .settings = start->settings,
                                      .deadline_us = deadline_us,
                                      .self_uuid = start->outcome->request->uuid},
                           .progress = start->vm->progress,
                           .progress_data = start->vm->progress_data};
    return hv_execute_steps(&executor, start->outcome->plan->steps, error);
}

/* Refusals that need neither lock nor ledger. */
static gboolean check_before_taking(const Start *start, GError **error)
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

/* Settings for a give-back: built-in ones if the files have an error, as pages must come back
 * all the same; what they then miss are reserved pages, which no give-back may touch anyway. */
static HvSettings *load_settings_or_default(const HvAgent *agent)
{
    HvSettings *settings =
        hv_settings_load(agent->root, (const char *const *)agent->conf_files, NULL);
    return settings != NULL ? settings : hv_settings_new();
}

/* Gives back, but leaves a size that somebody is resizing right now to the next call. */
static gboolean give_back_if_idle(const HvAgent *agent, HvStore *store, GError **error)
{
    g_autoptr(HvSettings) settings = load_settings_or_default(agent);
    g_autoptr(GError) local = NULL;
    HvExecutor executor = give_back_executor(agent, store, settings);
    executor.writer.deadline_us = g_get_monotonic_time() + IDLE_LOCK_WAIT_US;
    if (hv_execute_give_back(&executor, &local) ||
        g_error_matches(local, HV_ERROR, HV_ERROR_TIMEOUT))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

HvOutcome *hv_lifecycle_claim(const HvAgent *agent, const HvVm *vm, GError **error)
{
    g_auto(Start) start = {.agent = agent, .vm = vm};
    if (!prepare(&start, error))
        return NULL;
    if (start.outcome->request == NULL)
        return g_steal_pointer(&start.outcome);
    if (!check_before_taking(&start, error) || !edit_xml(&start, error))
        return NULL;
    if (start.outcome->request->needs->len == 0)
        return g_steal_pointer(&start.outcome);

    guint64 timeout_ms =
        vm->timeout_ms != 0 ? vm->timeout_ms : start.settings->allocation_timeout_ms;
    gint64 deadline_us = g_get_monotonic_time() + (gint64)timeout_ms * 1000;
    if (geteuid() != 0 && hv_root_is_machine(agent->root)) {
        hv_set_error(error, HV_ERROR_PERMISSION, "run it as root",
                     "claiming huge pages needs root");
        return NULL;
    }
    g_autoptr(HvStore) store = hv_store_open(agent->root, TRUE, error);
    if (store == NULL || !claim_pages(&start, store, deadline_us, error))
        return NULL;
    if (!get_pages(&start, store, deadline_us, error)) {
        roll_back(&start, store);
        return NULL;
    }
    if (start.has_pruned)
        give_back_if_idle(agent, store, NULL);
    return g_steal_pointer(&start.outcome);
}

/* Opens the ledger for an event; *out_store is NULL where hugevm has never claimed anything. */
static gboolean open_existing(const HvAgent *agent, HvStore **out_store, GError **error)
{
    g_autoptr(GError) local = NULL;
    *out_store = hv_store_open(agent->root, FALSE, &local);
    if (*out_store != NULL || g_error_matches(local, G_FILE_ERROR, G_FILE_ERROR_NOENT))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

static gboolean move_on(const HvAgent *agent, const HvVmRef *vm, HvClaimState state,
                        gboolean *out_known, GError **error)
{
    g_autoptr(HvStore) store = NULL;
    *out_known = FALSE;
    if (!open_existing(agent, &store, error))
        return FALSE;
    if (store == NULL)
        return TRUE;
    g_autoptr(HvTransaction) transaction =
        hv_transaction_begin(store, g_get_monotonic_time() + LOCK_WAIT_US, error);
    if (transaction == NULL)
        return FALSE;
    HvClaim *claim = hv_ledger_claim(transaction->ledger, vm->uuid);
    *out_known = claim != NULL && (vm->generation == 0 || claim->generation == vm->generation);
    if (!*out_known || claim->state >= state)
        return TRUE;
    claim->state = state;
    transaction->is_changed = TRUE;
    if (state == HV_CLAIM_RUNNING)
        claim->qemu = vm->qemu_pid != 0 ? hv_process_identify(agent->root, vm->qemu_pid)
                                        : hv_process_find_qemu(agent->root, vm->uuid);
    return hv_transaction_commit(transaction, error);
}

gboolean hv_lifecycle_launching(const HvAgent *agent, const HvVmRef *vm, gboolean *out_known,
                                GError **error)
{
    return move_on(agent, vm, HV_CLAIM_LAUNCHING, out_known, error);
}

gboolean hv_lifecycle_started(const HvAgent *agent, const HvVmRef *vm, gboolean *out_known,
                              GError **error)
{
    return move_on(agent, vm, HV_CLAIM_RUNNING, out_known, error);
}

/* The QEMU that must be dead before the claim may go; pid 0: there is none. */
static HvProcess qemu_of(const HvAgent *agent, HvStore *store, const HvVmRef *vm)
{
    HvProcess none = {0};
    g_autoptr(HvLedger) ledger = hv_store_read(store, NULL);
    const HvClaim *claim = ledger != NULL ? hv_ledger_claim(ledger, vm->uuid) : NULL;
    gboolean is_current =
        claim != NULL && (vm->generation == 0 || claim->generation == vm->generation);
    return is_current ? live_qemu(agent->root, claim) : none;
}

gboolean hv_lifecycle_gone(const HvAgent *agent, const HvVmRef *vm, gboolean *out_known,
                           GError **error)
{
    g_autoptr(HvStore) store = NULL;
    *out_known = FALSE;
    if (!open_existing(agent, &store, error))
        return FALSE;
    if (store == NULL)
        return TRUE;
    HvProcess qemu = qemu_of(agent, store, vm);
    if (qemu.pid != 0 && !hv_process_wait_end(agent->root, &qemu, QEMU_END_WAIT_MS)) {
        hv_set_error(error, HV_ERROR_CONFLICT, "stop it first",
                     "VM %s still runs: QEMU is process %" G_GINT64_FORMAT, vm->uuid, qemu.pid);
        return FALSE;
    }
    if (!drop_claim(store, vm->uuid, vm->generation, out_known, error))
        return FALSE;
    g_autoptr(HvSettings) settings = load_settings_or_default(agent);
    HvExecutor executor = give_back_executor(agent, store, settings);
    return hv_execute_give_back(&executor, error);
}

gboolean hv_lifecycle_recover(const HvAgent *agent, GPtrArray *out_warnings, GError **error)
{
    g_autoptr(HvStore) store = NULL;
    if (!open_existing(agent, &store, error))
        return FALSE;
    if (store == NULL)
        return TRUE;
    g_autoptr(HvTransaction) transaction =
        hv_transaction_begin(store, g_get_monotonic_time() + LOCK_WAIT_US, error);
    if (transaction == NULL)
        return FALSE;
    if (transaction->warning != NULL && out_warnings != NULL)
        g_ptr_array_add(out_warnings, g_strdup(transaction->warning));
    if (prune(agent->root, transaction->ledger))
        transaction->is_changed = TRUE;
    if (!hv_transaction_commit(transaction, error))
        return FALSE;
    g_clear_pointer(&transaction, hv_transaction_end);
    return give_back_if_idle(agent, store, error);
}
