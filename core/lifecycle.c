/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The events after a start's decision (which is in start.c).
 */
#include "lifecycle-private.h"

#include "custody.h"
#include "error.h"
#include "page-size.h"

#include <string.h>
#include <unistd.h>

#define QEMU_END_WAIT_MS 5000

HvAgent *hv_agent_new(const char *root, const char *const *conf_files, const char *owner_name,
                      gint64 owner_pid)
{
    HvAgent *agent = g_new0(HvAgent, 1);
    agent->root = hv_root_new(root);
    agent->conf_files = g_strdupv((char **)conf_files);
    agent->owner_name = g_utf8_make_valid(owner_name, -1); /* as the ledger will have it */
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

HvClaim *hv_ledger_claim_meant(const HvLedger *ledger, const HvVmRef *vm)
{
    HvClaim *claim = hv_ledger_claim(ledger, vm->uuid);
    if (claim == NULL || (vm->generation != 0 && vm->generation != claim->generation))
        return NULL;
    gboolean is_own = vm->owner_name == NULL || strcmp(vm->owner_name, claim->owner_name) == 0;
    return (is_own && !vm->has_run) || claim->state == HV_CLAIM_RUNNING ? claim : NULL;
}

HvExecutor hv_give_back_executor(const HvAgent *agent, HvStore *store, const HvSettings *settings)
{
    return (HvExecutor){.writer = {.root = agent->root,
                                   .store = store,
                                   .settings = settings,
                                   .deadline_us = g_get_monotonic_time() + HV_LOCK_WAIT_US}};
}

gboolean hv_store_drop_claim(HvStore *store, const HvRoot *root, const HvVmRef *vm,
                             gint64 deadline_us, gboolean *out_known, GError **error)
{
    g_autoptr(HvTransaction) transaction = hv_transaction_begin(store, deadline_us, error);
    if (transaction == NULL)
        return FALSE;
    HvClaim *claim = hv_ledger_claim_meant(transaction->ledger, vm);
    *out_known = claim != NULL;
    gboolean was_in_vault = claim != NULL && hv_custody_is_in_vault(root, claim);
    if (claim != NULL)
        hv_ledger_end_claim(root, transaction->ledger, claim);
    /* a give-back is to come: what guests have left of virtio-mem is free, but theirs */
    if (hv_ledger_prune(root, transaction->ledger) || *out_known)
        transaction->is_changed = TRUE;
    if (!hv_transaction_commit(transaction, error))
        return FALSE;
    return hv_custody_sweep(root, transaction->ledger, was_in_vault ? error : NULL) ||
           !was_in_vault;
}

/* Settings for a give-back: built-in ones if the files have an error, as pages must come back
 * all the same; what they then miss are reserved pages, which no give-back may touch anyway. */
static HvSettings *load_settings_or_default(const HvAgent *agent)
{
    HvSettings *settings =
        hv_settings_load(agent->root, (const char *const *)agent->conf_files, NULL);
    return settings != NULL ? settings : hv_settings_new();
}

gint64 hv_event_deadline_us(const HvAgent *agent, const HvVmRef *vm)
{
    gint64 now_us = g_get_monotonic_time();
    if (!vm->host_waits)
        return now_us + HV_LOCK_WAIT_US;
    g_autoptr(HvSettings) settings = load_settings_or_default(agent);
    return now_us + MIN(HV_LOCK_WAIT_US, (gint64)settings->hook_timeout_ms * 1000);
}

gboolean hv_give_back_if_idle(const HvAgent *agent, HvStore *store, GError **error)
{
    g_autoptr(HvSettings) settings = load_settings_or_default(agent);
    g_autoptr(GError) local = NULL;
    HvExecutor executor = hv_give_back_executor(agent, store, settings);
    executor.writer.deadline_us = g_get_monotonic_time();
    if (hv_execute_give_back(&executor, &local) ||
        g_error_matches(local, HV_ERROR, HV_ERROR_TIMEOUT))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

gboolean hv_store_open_existing(const HvAgent *agent, HvStore **out_store, GError **error)
{
    g_autoptr(GError) local = NULL;
    *out_store = hv_store_open(agent->root, FALSE, &local);
    if (*out_store != NULL || g_error_matches(local, G_FILE_ERROR, G_FILE_ERROR_NOENT))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

void hv_pin_for_claim(const HvAgent *agent, HvStore *store, const HvVmRef *vm,
                      const char *const *directories, gint64 deadline_us)
{
    g_autoptr(HvLedger) ledger = hv_store_read(store, NULL);
    const HvClaim *claim = ledger != NULL ? hv_ledger_claim_meant(ledger, vm) : NULL;
    if (claim == NULL || (claim->state != HV_CLAIM_GUARDED && claim->state != HV_CLAIM_MOUNTED) ||
        hv_custody_keeps(agent->root, claim, directories))
        return;
    g_autoptr(HvSettings) settings = load_settings_or_default(agent);
    HvPoolWriter writer = hv_give_back_executor(agent, store, settings).writer;
    writer.deadline_us = deadline_us;
    for (guint i = 0; settings->use_dynamic_hugepages && i < claim->needs->len; i++)
        hv_pool_pin(&writer, g_array_index(claim->needs, HvNeed, i).size_kib, NULL);
}

void hv_hand_over(const HvAgent *agent, HvStore *store)
{
    g_autoptr(HvSettings) settings = load_settings_or_default(agent);
    HvExecutor executor = hv_give_back_executor(agent, store, settings);
    hv_execute_hand_over(&executor, NULL);
}

/* Opens a transaction on an event's claim; *out_claim is NULL where none is meant. */
static HvTransaction *begin_event(const HvAgent *agent, const HvVmRef *vm, HvStore *store,
                                  HvClaim **out_claim, GError **error)
{
    HvTransaction *transaction =
        hv_transaction_begin(store, hv_event_deadline_us(agent, vm), error);
    if (transaction != NULL)
        *out_claim = hv_ledger_claim_meant(transaction->ledger, vm);
    return transaction;
}

gboolean hv_lifecycle_launching(const HvAgent *agent, const HvVmRef *vm, gboolean *out_known,
                                GError **error)
{
    g_autoptr(HvStore) store = NULL;
    HvClaim *claim = NULL;
    g_autofree char *warning = NULL;
    *out_known = FALSE;
    if (!hv_store_open_existing(agent, &store, error))
        return FALSE;
    if (store == NULL)
        return TRUE;
    hv_pin_for_claim(agent, store, vm, vm->memory_directories, hv_event_deadline_us(agent, vm));
    g_autoptr(HvTransaction) transaction = begin_event(agent, vm, store, &claim, error);
    if (transaction == NULL)
        return FALSE;
    *out_known = claim != NULL;
    if (claim == NULL || claim->state >= HV_CLAIM_LAUNCHING)
        return TRUE;
    gboolean is_held =
        hv_custody_launch(agent->root, claim, vm->memory_directories, &warning, error);
    gboolean is_exposed = warning != NULL;
    if (vm->out_warning != NULL)
        *vm->out_warning = g_steal_pointer(&warning);
    transaction->is_changed = TRUE;
    gboolean is_good = hv_transaction_commit(transaction, is_held ? error : NULL) && is_held;
    if (is_held && !is_good)
        claim->state = HV_CLAIM_CLAIMED; /* that could not be recorded: it will not start */
    if (!is_good || is_exposed)
        hv_custody_sweep(agent->root, transaction->ledger, NULL);
    return is_good;
}

/*
 * Are there pages in use that no other claim and no reservation accounts for? Only where
 * QEMU cannot be seen is that asked: it may be in a place of its own. A guard is let go of at
 * the launch, so what it keeps no QEMU has.
 */
static gboolean may_run_unseen(const HvAgent *agent, HvLedger *ledger, const HvClaim *claim)
{
    g_autoptr(HvSettings) settings = load_settings_or_default(agent);
    g_autoptr(HvSnapshot) snapshot = hv_snapshot_read(agent->root, NULL);
    HvWorld world = {snapshot, settings, ledger, claim->uuid};
    if (snapshot == NULL || claim->state == HV_CLAIM_GUARDED)
        return FALSE;
    for (guint i = 0; i < claim->needs->len; i++) {
        guint64 size_kib = g_array_index(claim->needs, HvNeed, i).size_kib;
        HvRoom room = hv_room_of_size(&world, size_kib);
        /* it may be these that have come */
        guint64 others = hv_plus(hv_room_unmapped_pages(&world, size_kib), room.reserved);
        if (room.foreign < hv_plus(hv_needs_pages(claim->needs, size_kib), others))
            return FALSE;
    }
    return TRUE;
}

/*
 * Notes what a report says of the claim; FALSE: nothing new. A late report, of an earlier
 * start, comes when that QEMU has ended and that of the next one is yet to come, or is known.
 */
static gboolean note_started(const HvAgent *agent, const HvVmRef *vm, HvLedger *ledger,
                             HvClaim *claim)
{
    gboolean is_other_qemu = vm->qemu_pid != 0 && vm->qemu_pid != claim->qemu.pid;
    if (claim->state == HV_CLAIM_RUNNING && !is_other_qemu)
        return FALSE;
    HvProcess qemu = vm->qemu_pid != 0 ? hv_process_identify(agent->root, vm->qemu_pid)
                                       : hv_claim_find_qemu(agent->root, claim);
    if (qemu.pid == 0 && (vm->qemu_pid != 0 || !may_run_unseen(agent, ledger, claim)))
        return FALSE;
    hv_claim_note_running(agent->root, claim, &qemu);
    return TRUE;
}

gboolean hv_lifecycle_started(const HvAgent *agent, const HvVmRef *vm, gboolean *out_known,
                              GError **error)
{
    g_autoptr(HvStore) store = NULL;
    HvClaim *claim = NULL;
    *out_known = FALSE;
    if (!hv_store_open_existing(agent, &store, error))
        return FALSE;
    if (store == NULL)
        return TRUE;
    g_autoptr(HvTransaction) transaction = begin_event(agent, vm, store, &claim, error);
    if (transaction == NULL)
        return FALSE;
    *out_known = claim != NULL;
    if (claim == NULL)
        return TRUE;
    gboolean is_news = note_started(agent, vm, transaction->ledger, claim);
    if (hv_ledger_follow_vm(agent->root, transaction->ledger, claim, HV_FOLLOW_STARTED) ==
        HV_FOLLOWED_CHANGED)
        is_news = TRUE;
    transaction->is_changed = is_news;
    if (!hv_transaction_commit(transaction, error))
        return FALSE;
    if (is_news)
        hv_custody_sweep(agent->root, transaction->ledger, NULL);
    gboolean may_hand_over = claim->may_hand_over && (is_news || !claim->is_handed_over);
    g_clear_pointer(&transaction, hv_transaction_end);
    if (may_hand_over)
        hv_hand_over(agent, store);
    return TRUE;
}

/*
 * The QEMU that must be dead before the claim may go; pid 0: there is none. From
 * here on it is this claim that is meant, whatever is claimed while we wait.
 */
static HvProcess qemu_of(const HvAgent *agent, HvStore *store, HvVmRef *vm)
{
    HvProcess none = {0};
    g_autoptr(HvLedger) ledger = hv_store_read(store, NULL);
    const HvClaim *claim = ledger != NULL ? hv_ledger_claim_meant(ledger, vm) : NULL;
    if (claim == NULL)
        return none;
    vm->generation = claim->generation;
    return hv_claim_live_qemu(agent->root, claim);
}

gboolean hv_lifecycle_gone(const HvAgent *agent, const HvVmRef *vm, gboolean *out_known,
                           GError **error)
{
    g_autoptr(HvStore) store = NULL;
    *out_known = FALSE;
    if (!hv_store_open_existing(agent, &store, error))
        return FALSE;
    if (store == NULL)
        return TRUE;
    HvVmRef meant = *vm;
    HvProcess qemu = qemu_of(agent, store, &meant);
    if (qemu.pid != 0 && !hv_process_wait_end(agent->root, &qemu, QEMU_END_WAIT_MS)) {
        hv_set_error(error, HV_ERROR_CONFLICT, "stop it first",
                     "VM %s still runs: QEMU is process %" G_GINT64_FORMAT, vm->uuid, qemu.pid);
        return FALSE;
    }
    g_autoptr(HvSettings) settings = load_settings_or_default(agent);
    gint64 deadline_us = hv_event_deadline_us(agent, vm);
    hv_pin_for_claim(agent, store, &meant, NULL, deadline_us);
    if (!hv_store_drop_claim(store, agent->root, &meant, deadline_us, out_known, error))
        return FALSE;
    HvExecutor executor = hv_give_back_executor(agent, store, settings);
    if (vm->host_waits)
        executor.writer.deadline_us = deadline_us;
    if (!hv_execute_give_back(&executor, error))
        return FALSE;
    hv_execute_hand_over(&executor, NULL); /* this one may have stood in the way for the others */
    return TRUE;
}

gboolean hv_lifecycle_left(const HvAgent *agent, const HvVmRef *vm, gboolean *out_known,
                           GError **error)
{
    HvVmRef runner = *vm;
    runner.has_run = TRUE;
    return hv_lifecycle_gone(agent, &runner, out_known, error);
}
