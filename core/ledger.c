/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The arithmetic of `grown`. Invariants: grown never exceeds what recorded
 * writes added; it never exceeds the pool's persistent pages; each intent is
 * settled once, by whoever next holds the lock of its size.
 */
#include "ledger.h"

#include "guard.h"
#include "page-size.h"

#include <json-glib/json-glib.h>
#include <string.h>

#define NAME_MAX_CHARS 255

static void claim_free(gpointer data)
{
    HvClaim *claim = data;
    g_free(claim->uuid);
    g_free(claim->name);
    g_free(claim->owner_name);
    g_array_unref(claim->needs);
    g_array_unref(claim->placed);
    g_array_unref(claim->cells);
    g_free(claim->device_of);
    g_free(claim->file_dir);
    g_array_unref(claim->files);
    g_free(claim);
}

HvLedger *hv_ledger_new(void)
{
    HvLedger *ledger = g_new0(HvLedger, 1);
    ledger->claims = g_ptr_array_new_with_free_func(claim_free);
    ledger->grown = g_array_new(FALSE, TRUE, sizeof(HvGrown));
    ledger->intents = g_array_new(FALSE, TRUE, sizeof(HvIntent));
    return ledger;
}

void hv_ledger_free(HvLedger *ledger)
{
    if (ledger == NULL)
        return;
    g_ptr_array_unref(ledger->claims);
    g_array_unref(ledger->grown);
    g_array_unref(ledger->intents);
    g_clear_pointer(&ledger->as_read, json_object_unref);
    g_free(ledger);
}

HvClaim *hv_ledger_claim(const HvLedger *ledger, const char *uuid)
{
    for (guint i = 0; i < ledger->claims->len; i++) {
        HvClaim *claim = g_ptr_array_index(ledger->claims, i);
        if (claim->state != HV_CLAIM_DRAINING && strcmp(claim->uuid, uuid) == 0)
            return claim;
    }
    return NULL;
}

/* A name is there to be recognised; one of megabytes would only slow each transaction down. */
static char *shorten(const char *name)
{
    return name != NULL ? g_utf8_substring(name, 0, MIN(g_utf8_strlen(name, -1), NAME_MAX_CHARS))
                        : NULL;
}

/* Guards are told apart by the low bits only. */
static gboolean is_like_another(const HvLedger *ledger, guint64 generation)
{
    for (guint i = 0; i < ledger->claims->len; i++) {
        const HvClaim *claim = g_ptr_array_index(ledger->claims, i);
        if (((claim->generation ^ generation) & HV_GUARD_GENERATION_MASK) == 0)
            return TRUE;
    }
    return FALSE;
}

static guint64 next_generation(HvLedger *ledger)
{
    do
        ledger->last_generation++;
    while (ledger->claims->len <= HV_GUARD_GENERATION_MASK &&
           is_like_another(ledger, ledger->last_generation));
    return ledger->last_generation;
}

HvClaim *hv_ledger_add_claim(HvLedger *ledger, const HvRequest *request, const char *owner_name,
                             const HvProcess *owner)
{
    HvClaim *claim = g_new0(HvClaim, 1);
    claim->uuid = g_strdup(request->uuid);
    claim->name = shorten(request->name);
    claim->generation = next_generation(ledger);
    claim->state = HV_CLAIM_CLAIMED;
    claim->owner_name = g_strdup(owner_name);
    claim->owner = *owner;
    claim->needs = g_array_copy(request->needs);
    claim->shared = request->shared;
    claim->from_hugetlbfs = request->may_mount;
    claim->file_kib = request->file_kib;
    claim->file_dir = g_strdup(request->file_dir);
    claim->placed = g_array_new(FALSE, TRUE, sizeof(HvNeed));
    claim->cells = g_array_new(FALSE, TRUE, sizeof(HvCellRule));
    if (request->cells != NULL)
        g_array_append_vals(claim->cells, request->cells->data, request->cells->len);
    claim->files = g_array_new(FALSE, TRUE, sizeof(HvFileId));
    g_ptr_array_add(ledger->claims, claim);
    return claim;
}

void hv_ledger_remove_claim(HvLedger *ledger, const char *uuid)
{
    HvClaim *claim = hv_ledger_claim(ledger, uuid);
    if (claim != NULL)
        g_ptr_array_remove(ledger->claims, claim);
}

static HvGrown *find_grown(const HvLedger *ledger, int node, guint64 size_kib)
{
    for (guint i = 0; i < ledger->grown->len; i++) {
        HvGrown *grown = &g_array_index(ledger->grown, HvGrown, i);
        if (grown->node == node && grown->size_kib == size_kib)
            return grown;
    }
    return NULL;
}

guint64 hv_ledger_grown_pages(const HvLedger *ledger, int node, guint64 size_kib)
{
    const HvGrown *grown = find_grown(ledger, node, size_kib);
    return grown != NULL ? grown->grown_pages : 0;
}

gboolean hv_ledger_has_drifted(const HvLedger *ledger, const HvPool *pool)
{
    const HvGrown *grown = find_grown(ledger, pool->node, pool->size_kib);
    return grown != NULL && (grown->persistent_pages != hv_pool_persistent(pool) ||
                             grown->handed_pages > pool->surplus_pages);
}

gboolean hv_ledger_has_intent(const HvLedger *ledger, int node, guint64 size_kib)
{
    for (guint i = 0; i < ledger->intents->len; i++) {
        const HvIntent *intent = &g_array_index(ledger->intents, HvIntent, i);
        if (intent->node == node && intent->size_kib == size_kib)
            return TRUE;
    }
    return FALSE;
}

guint64 hv_ledger_handed_pages(const HvLedger *ledger, int node, guint64 size_kib)
{
    const HvGrown *grown = find_grown(ledger, node, size_kib);
    return grown != NULL ? grown->handed_pages : 0;
}

void hv_ledger_begin_write(HvLedger *ledger, const HvIntent *intent)
{
    g_array_append_vals(ledger->intents, intent, 1);
}

/* Takes the pool's intent out of the ledger; FALSE: there is none. */
static gboolean take_intent(HvLedger *ledger, const HvPool *pool, HvIntent *out_intent)
{
    for (guint i = 0; i < ledger->intents->len; i++) {
        HvIntent intent = g_array_index(ledger->intents, HvIntent, i);
        if (intent.node != pool->node || intent.size_kib != pool->size_kib)
            continue;
        g_array_remove_index(ledger->intents, i);
        *out_intent = intent;
        return TRUE;
    }
    return FALSE;
}

/* Moves grown and the expected persistent count by what an intent brought about. */
static void credit(HvGrown *grown, const HvIntent *intent, guint64 now_pages)
{
    if (intent->target_pages >= intent->before_pages) {
        guint64 added = MIN(hv_minus(now_pages, intent->before_pages),
                            intent->target_pages - intent->before_pages);
        grown->grown_pages += hv_minus(added, intent->others_pages);
        grown->persistent_pages = intent->before_pages + added;
    } else {
        guint64 taken = MIN(hv_minus(intent->before_pages, now_pages),
                            intent->before_pages - intent->target_pages);
        grown->grown_pages = hv_minus(grown->grown_pages, taken);
        grown->persistent_pages = intent->before_pages - taken;
    }
}

/* The write of 0 left none, or was not made. Where there are some, but fewer than before, others
 * have written since. */
static void credit_handover(HvGrown *grown, const HvIntent *intent, guint64 now_pages)
{
    if (now_pages >= intent->before_pages)
        return;
    grown->grown_pages = hv_minus(grown->grown_pages, intent->before_pages);
    grown->persistent_pages = 0;
    grown->handed_pages = hv_plus(grown->handed_pages, intent->before_pages);
    grown->regained_pages = 0;
}

/* Pages of this pool that VMs may have which still run as they did when their size was handed
 * over, less what came back since: more cannot have been made persistent again. */
static guint64 regainable_pages(const HvLedger *ledger, const HvGrown *of)
{
    guint64 pages = 0;
    for (guint i = 0; i < ledger->claims->len; i++) {
        const HvClaim *claim = g_ptr_array_index(ledger->claims, i);
        for (guint k = 0; k < claim->needs->len; k++) {
            const HvNeed *need = &g_array_index(claim->needs, HvNeed, k);
            gboolean is_here =
                hv_node_set_is_any(&need->nodes) || hv_node_set_contains(&need->nodes, of->node);
            if (claim->is_handed_over && claim->state == HV_CLAIM_RUNNING && is_here &&
                need->size_kib == of->size_kib)
                pages = hv_plus(pages, need->pages);
        }
    }
    for (guint i = 0; i < ledger->grown->len; i++) {
        const HvGrown *grown = &g_array_index(ledger->grown, HvGrown, i);
        if (grown->size_kib == of->size_kib)
            pages = hv_minus(pages, grown->regained_pages);
    }
    return pages;
}

/*
 * What others did. Surplus of ours that is none any more has either gone with its VM,
 * or was made persistent by a write upwards: the second only as far as the count has
 * risen, pages are in use, and such VMs still run.
 */
static void adopt_drift(const HvLedger *ledger, HvGrown *grown, const HvPool *pool)
{
    guint64 now_pages = hv_pool_persistent(pool);
    guint64 rise = hv_minus(now_pages, grown->persistent_pages);
    guint64 no_surplus = hv_minus(grown->handed_pages, pool->surplus_pages);
    guint64 in_use = MIN(hv_pool_in_use(pool), regainable_pages(ledger, grown));
    guint64 regained = MIN(MIN(rise, no_surplus), in_use);
    grown->grown_pages = hv_minus(grown->grown_pages, hv_minus(grown->persistent_pages, now_pages));
    grown->grown_pages = MIN(hv_plus(grown->grown_pages, regained), now_pages);
    grown->persistent_pages = now_pages;
    grown->handed_pages = MIN(grown->handed_pages, pool->surplus_pages);
    grown->regained_pages = grown->handed_pages > 0 ? hv_plus(grown->regained_pages, regained) : 0;
}

guint64 hv_ledger_settled_pages(const HvLedger *ledger, const HvPool *pool)
{
    const HvGrown *grown = find_grown(ledger, pool->node, pool->size_kib);
    HvGrown settled = {0};
    if (grown == NULL)
        return 0;
    settled = *grown;
    adopt_drift(ledger, &settled, pool);
    return settled.grown_pages;
}

static HvGrown *ensure_grown(HvLedger *ledger, const HvIntent *intent)
{
    HvGrown *grown = find_grown(ledger, intent->node, intent->size_kib);
    if (grown != NULL)
        return grown;
    HvGrown fresh = {.node = intent->node,
                     .size_kib = intent->size_kib,
                     .persistent_pages = intent->before_pages};
    g_array_append_val(ledger->grown, fresh);
    return find_grown(ledger, intent->node, intent->size_kib);
}

static void remove_empty(HvLedger *ledger)
{
    for (guint i = ledger->grown->len; i > 0; i--)
        if (g_array_index(ledger->grown, HvGrown, i - 1).grown_pages == 0 &&
            g_array_index(ledger->grown, HvGrown, i - 1).handed_pages == 0)
            g_array_remove_index(ledger->grown, i - 1);
}

gboolean hv_ledger_settle_pool(HvLedger *ledger, const HvPool *pool)
{
    HvIntent intent;
    gboolean has_intent = take_intent(ledger, pool, &intent);
    HvGrown *grown =
        has_intent ? ensure_grown(ledger, &intent) : find_grown(ledger, pool->node, pool->size_kib);
    if (grown == NULL)
        return FALSE;
    HvGrown before = *grown;
    guint64 now_pages = hv_pool_persistent(pool);
    if (has_intent && intent.is_handover)
        credit_handover(grown, &intent, now_pages);
    else if (has_intent)
        credit(grown, &intent, now_pages);
    adopt_drift(ledger, grown, pool);
    gboolean is_changed = has_intent || grown->grown_pages != before.grown_pages ||
                          grown->persistent_pages != before.persistent_pages ||
                          grown->handed_pages != before.handed_pages;
    remove_empty(ledger);
    return is_changed;
}

const GArray *hv_claim_places(const HvClaim *claim)
{
    return claim->placed->len > 0 ? claim->placed : claim->needs;
}

guint64 hv_needs_pages(const GArray *needs, guint64 size_kib)
{
    guint64 pages = 0;
    for (guint i = 0; i < needs->len; i++) {
        const HvNeed *need = &g_array_index(needs, HvNeed, i);
        if (need->size_kib == size_kib)
            pages = hv_plus(pages, need->pages);
    }
    return pages;
}

guint64 hv_needs_bound_pages(const GArray *needs, guint64 size_kib, int node)
{
    guint64 pages = 0;
    for (guint i = 0; i < needs->len; i++) {
        const HvNeed *need = &g_array_index(needs, HvNeed, i);
        /* one bit first: of many VMs on many nodes few are on this one */
        gboolean may_match = node < 0 || hv_node_set_contains(&need->nodes, node);
        if (need->size_kib == size_kib && may_match && hv_node_set_single(&need->nodes) == node)
            pages = hv_plus(pages, need->pages);
    }
    return pages;
}

guint64 hv_needs_floating_pages(const GArray *needs, guint64 size_kib)
{
    return hv_needs_bound_pages(needs, size_kib, -1);
}

guint64 hv_needs_kib(const GArray *needs)
{
    guint64 sum_kib = 0;
    for (guint i = 0; i < needs->len; i++) {
        const HvNeed *need = &g_array_index(needs, HvNeed, i);
        guint64 kib;
        if (!hv_checked_mul(need->pages, need->size_kib, &kib))
            return G_MAXUINT64;
        sum_kib = hv_plus(sum_kib, kib);
    }
    return sum_kib;
}

const char *hv_claim_state_name(HvClaimState state)
{
    switch (state) {
    case HV_CLAIM_CLAIMED:
        return "claimed";
    case HV_CLAIM_GUARDED:
        return "guarded";
    case HV_CLAIM_LAUNCHING:
        return "launching";
    case HV_CLAIM_MOUNTED:
        return "mounted";
    case HV_CLAIM_RUNNING:
        return "running";
    case HV_CLAIM_DRAINING:
        return "draining";
    }
    return "unknown";
}

gboolean hv_claim_is_exposed(const HvClaim *claim)
{
    return claim->state == HV_CLAIM_CLAIMED || claim->state == HV_CLAIM_LAUNCHING;
}

gboolean hv_claim_is_mapped(const HvClaim *claim)
{
    return claim->state == HV_CLAIM_RUNNING || claim->state == HV_CLAIM_DRAINING;
}
