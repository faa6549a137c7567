/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A start: what is asked (prepare.c) -> edit the XML -> plan and record the claim, under
 * the ledger's lock (claim.c) -> execute -> guard. From the claim's record on, its
 * pages count as exposed, so no other VM is planned onto them, whoever grows first;
 * once it is guarded, strangers cannot take them either.
 */
#include "lifecycle-private.h"

#include "consumers.h"
#include "custody.h"
#include "error.h"
#include "explain.h"
#include "zones.h"

#include <string.h>
#include <unistd.h>

#define EXPOSED_WAIT_US (1 * G_USEC_PER_SEC)
#define EXPOSED_POLL_US (50 * 1000)
#define TAKEN_WAIT_US (3 * G_USEC_PER_SEC)
#define SHORT_LOCK_WAIT_US (1 * G_USEC_PER_SEC)

/* Warnings of what the plan chose; those of the request itself are there already. */
static void add_settled_warnings(const HvStart *start)
{
    const GPtrArray *warnings = start->outcome->request->warnings;
    for (guint i = start->asked->warnings->len; i < warnings->len; i++)
        g_ptr_array_add(start->outcome->warnings, g_strdup(g_ptr_array_index(warnings, i)));
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

HvOutcome *hv_lifecycle_plan(const HvAgent *agent, const HvVm *vm, GError **error)
{
    g_auto(HvStart) start = {.agent = agent, .vm = vm};
    if (!hv_start_prepare(&start, error))
        return NULL;
    if (start.outcome->request == NULL)
        return g_steal_pointer(&start.outcome);

    g_autoptr(HvLedger) ledger = hv_ledger_read(agent->root, error);
    if (ledger == NULL)
        return NULL;
    /* as a start would; only this copy changes. Intents: a start settles them first */
    hv_ledger_prune(agent->root, ledger);
    g_array_set_size(ledger->intents, 0);
    hv_consumers_read(agent->root, start.settings, ledger, start.snapshot);
    if (!hv_start_plan(&start, ledger, error))
        return NULL;
    add_settled_warnings(&start);
    if (start.outcome->plan->refusal == NULL && !edit_xml(&start, error))
        return NULL;
    HvWorld world = {start.snapshot, start.settings, ledger, start.outcome->request->uuid};
    hv_zones_read(agent->root, start.snapshot);
    if (start.snapshot->zones_fault != NULL)
        g_ptr_array_add(start.outcome->warnings, g_strdup(start.snapshot->zones_fault));
    hv_forecast_warn(&world, start.outcome->request, start.outcome->plan, start.outcome->warnings);
    start.outcome->table = hv_explain(&world, start.outcome->request, start.outcome->plan);
    return g_steal_pointer(&start.outcome);
}

/*
 * A VM between mmap and "started" counts twice for a moment: look again for up to a
 * second. The same where the kernel keeps no pages for the claim although they are there:
 * somebody may hold them for a moment. Or it never will (its promises stop at the caller's
 * memory policy): then the claim goes without.
 */
static gboolean claim_pages(HvStart *start, HvStore *store, gint64 deadline_us, GError **error)
{
    gint64 give_up_us = MIN(deadline_us, g_get_monotonic_time() + EXPOSED_WAIT_US);
    for (;;) {
        HvClaimResult result = hv_start_try_claim(start, store, deadline_us, error);
        if (result != HV_CLAIM_AGAIN)
            return result == HV_CLAIM_MADE;
        if (g_get_monotonic_time() >= give_up_us && start->outcome->plan->refusal != NULL) {
            hv_set_refusal(start->outcome->plan->refusal, error);
            return FALSE;
        }
        start->goes_unguarded = g_get_monotonic_time() >= give_up_us;
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
    hv_hand_over(start->agent, store); /* what was pinned for this start */
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
                           .progress_data = start->vm->progress_data,
                           .spent = start->spent};
    return hv_execute_steps(&executor, start->outcome->request, plan->steps, error);
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
        hv_set_taken_by_others(start, error);
        return FALSE;
    }
    g_autoptr(GError) local = NULL;
    if (missing->refusal == NULL && missing->steps->len == 0) {
        start->goes_unguarded = now_us >= start->give_up_us; /* as in claim_pages */
        g_usleep(EXPOSED_POLL_US);
        return TRUE;
    }
    if (missing->refusal != NULL)
        hv_set_refusal(missing->refusal, &local);
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
    start->give_up_us =
        MIN(g_get_monotonic_time() + TAKEN_WAIT_US, deadline_us - 2 * EXPOSED_POLL_US);
    for (;;) {
        g_autoptr(HvPlan) missing = NULL;
        gint64 lock_deadline_us = MAX(deadline_us, g_get_monotonic_time() + SHORT_LOCK_WAIT_US);
        if (!hv_start_guard(start, store, lock_deadline_us, &missing, error))
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
        hv_set_refusal(request->refusal, error);
        return FALSE;
    }
    if (request->uuid == NULL) {
        hv_set_error(error, HV_ERROR_XML, "add <uuid> to the domain",
                     "the domain XML has no <uuid>, and the caller gave none");
        return FALSE;
    }
    return TRUE;
}

/* Is there one whose writer is not at work any more? */
static gboolean has_left_intent(HvStore *store, const HvLedger *ledger)
{
    for (guint i = 0; i < ledger->intents->len; i++) {
        guint64 size_kib = g_array_index(ledger->intents, HvIntent, i).size_kib;
        g_auto(HvFd) lock = hv_store_lock_size(store, size_kib, 0, NULL);
        if (lock >= 0)
            return TRUE;
    }
    return FALSE;
}

/* What a killed writer announced counts as taken until it is settled: settle it before planning. */
static gboolean settle_first(const HvAgent *agent, HvStore *store, gint64 deadline_us,
                             GError **error)
{
    g_autoptr(HvLedger) ledger = hv_store_read(store, NULL);
    return ledger == NULL || !has_left_intent(store, ledger) ||
           hv_recover_until(agent, deadline_us, error);
}

/* Another choice of what the request leaves open is worth a try: the pages of this one are not to
 * be had, and time is left. */
static gboolean may_choose_again(const HvStart *start, guint spent_before, gint64 deadline_us,
                                 const GError *error)
{
    return hv_request_is_open(start->asked) && start->spent->len > spent_before &&
           g_get_monotonic_time() < deadline_us &&
           g_error_matches(error, HV_ERROR, HV_ERROR_SHORTAGE);
}

/* The time is up, but the VM may start without huge pages, or with those that are free. */
static gboolean may_do_without_growth(HvStart *start, gint64 *deadline_us, const GError *error)
{
    if (!start->asked->open.may_be_normal || !start->settings->use_dynamic_hugepages ||
        !g_error_matches(error, HV_ERROR, HV_ERROR_TIMEOUT))
        return FALSE;
    start->settings->use_dynamic_hugepages = FALSE;
    *deadline_us = g_get_monotonic_time() + SHORT_LOCK_WAIT_US;
    return TRUE;
}

static gboolean try_to_get(HvStart *start, HvStore *store, gint64 deadline_us,
                           gboolean *out_claimed, GError **error)
{
    start->goes_unguarded = FALSE;
    *out_claimed = claim_pages(start, store, deadline_us, error);
    if (!*out_claimed)
        return FALSE;
    if (start->outcome->generation == 0 || get_pages(start, store, deadline_us, error))
        return TRUE;
    roll_back(start, store, error);
    start->outcome->generation = 0;
    return FALSE;
}

/* Each round asks one pool for less than the one before, or is the last. */
static gboolean claim_and_get(HvStart *start, HvStore *store, gint64 deadline_us, GError **error)
{
    g_autoptr(GError) first = NULL;
    start->spent = g_array_new(FALSE, TRUE, sizeof(HvStep));
    for (;;) {
        g_autoptr(GError) local = NULL;
        gboolean is_claimed = FALSE;
        guint spent_before = start->spent->len;
        if (try_to_get(start, store, deadline_us, &is_claimed, &local))
            return TRUE;
        gboolean may_go_on =
            (is_claimed && may_choose_again(start, spent_before, deadline_us, local)) ||
            may_do_without_growth(start, &deadline_us, local);
        /* a plan without these pages says only that they are gone, not what was wrong with them */
        if (first == NULL || !g_error_matches(local, HV_ERROR, HV_ERROR_SHORTAGE)) {
            g_clear_error(&first);
            first = g_steal_pointer(&local);
        }
        if (!may_go_on) {
            g_propagate_error(error, g_steal_pointer(&first));
            return FALSE;
        }
    }
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

typedef gboolean (*Finish)(HvStart *start, GError **error);

/* Claims and gets what the request needs; finish (NULL: nothing) is the last that may fail. */
static gboolean take(HvStart *start, Finish finish, GError **error)
{
    const HvAgent *agent = start->agent;
    gint64 deadline_us = g_get_monotonic_time() + (gint64)timeout_ms(start) * 1000;
    if (geteuid() != 0 && hv_root_is_machine(agent->root)) {
        hv_set_error(error, HV_ERROR_PERMISSION, "run it as root",
                     "claiming huge pages needs root");
        return FALSE;
    }
    g_autoptr(HvStore) store = hv_store_open(agent->root, TRUE, error);
    if (store == NULL || !settle_first(agent, store, deadline_us, error))
        return FALSE;
    gboolean is_good = claim_and_get(start, store, deadline_us, error);
    if (is_good && finish != NULL && !finish(start, error)) {
        roll_back(start, store, error);
        is_good = FALSE;
    }
    if (start->has_pruned)
        hv_recover_until(agent, g_get_monotonic_time() + SHORT_LOCK_WAIT_US, NULL);
    return is_good;
}

gboolean hv_start_take_device(HvStart *start, GError **error)
{
    return check_before_taking(start, error) && take(start, NULL, error);
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
    /* what is open the plan settles, and the XML says it only then */
    gboolean is_open = hv_request_is_open(start.asked);
    if (!check_before_taking(&start, error) || (!is_open && !edit_xml(&start, error)))
        return NULL;
    if (!hv_request_takes_anything(start.outcome->request))
        return g_steal_pointer(&start.outcome);
    if (!take(&start, is_open ? edit_xml : NULL, error))
        return NULL;
    add_settled_warnings(&start);
    return g_steal_pointer(&start.outcome);
}

/* The claim that a caller's before_vm_start made for a VM that comes back without huge pages. */
static void drop_earlier_claim(const HvAgent *agent, const char *uuid, GPtrArray *warnings)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(HvStore) store = NULL;
    if (!hv_store_open_existing(agent, &store, NULL) || store == NULL)
        return;
    g_autoptr(HvLedger) ledger = hv_store_read(store, NULL);
    const HvClaim *claim = ledger != NULL ? hv_ledger_claim(ledger, uuid) : NULL;
    if (claim == NULL || claim->state == HV_CLAIM_RUNNING ||
        strcmp(claim->owner_name, agent->owner_name) != 0)
        return;
    gboolean is_known;
    const HvVmRef vm = {
        .uuid = uuid, .generation = claim->generation, .owner_name = agent->owner_name};
    if (hv_lifecycle_gone(agent, &vm, &is_known, &error))
        return;
    g_autofree char *message = hv_error_message(error);
    g_ptr_array_add(warnings, g_strdup_printf("the claim of VM %s, which comes back without huge "
                                              "pages, could not be let go of: %s",
                                              uuid, message));
}

HvOutcome *hv_lifecycle_claim_restored(const HvAgent *agent, const HvVm *vm, GError **error)
{
    HvVm restored = *vm;
    restored.is_incoming = TRUE;
    restored.is_restored = TRUE;
    HvOutcome *outcome = hv_lifecycle_claim(agent, &restored, error);
    if (outcome != NULL && outcome->generation == 0 && outcome->uuid != NULL)
        drop_earlier_claim(agent, outcome->uuid, outcome->warnings);
    return outcome;
}
