/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The ledger against pools, guards and launch mounts. */
#include "audit-private.h"

#include "custody.h"
#include "domain-xml.h"
#include "error.h"
#include "page-size.h"
#include "planner.h"

#include <string.h>

static gboolean is_busy(const HvAuditView *view, guint64 size_kib)
{
    for (guint i = 0; i < view->busy_sizes->len; i++)
        if (g_array_index(view->busy_sizes, guint64, i) == size_kib)
            return TRUE;
    return FALSE;
}

/* --- pools ----------------------------------------------------------------------------------- */

static void check_intents(const HvAuditView *view, GPtrArray *findings)
{
    for (guint i = 0; i < view->ledger->intents->len; i++) {
        const HvIntent *intent = &g_array_index(view->ledger->intents, HvIntent, i);
        const HvPool *pool = hv_snapshot_pool(view->snapshot, intent->node, intent->size_kib);
        if (is_busy(view, intent->size_kib))
            continue;
        g_autofree char *size = hv_format_kib(intent->size_kib);
        HvFinding *finding = hv_audit_add(
            findings, HV_FINDING_OPEN_INTENT, NULL,
            "a change of the pages of %s on node %d from %" G_GUINT64_FORMAT
            " to %" G_GUINT64_FORMAT " was begun by a process that was killed; now there are "
            "%" G_GUINT64_FORMAT,
            size, intent->node, intent->before_pages, intent->target_pages,
            pool != NULL ? hv_pool_persistent(pool) : 0);
        if (pool != NULL)
            finding->repair = g_strdup("records what came of it, and gives back what nobody needs");
        else
            finding->hint = g_strdup("this node has no such pages any more: reboot the host");
    }
}

/* Legitimate: the next write to the pool takes it over. */
static void check_drift(const HvAuditView *view, GPtrArray *findings)
{
    for (guint i = 0; i < view->ledger->grown->len; i++) {
        const HvGrown *grown = &g_array_index(view->ledger->grown, HvGrown, i);
        const HvPool *pool = hv_snapshot_pool(view->snapshot, grown->node, grown->size_kib);
        if (pool == NULL || is_busy(view, grown->size_kib) ||
            hv_ledger_has_intent(view->ledger, grown->node, grown->size_kib) ||
            hv_pool_persistent(pool) == grown->persistent_pages)
            continue;
        g_autofree char *size = hv_format_kib(grown->size_kib);
        hv_audit_add(
            findings, HV_FINDING_DRIFT, NULL,
            "node %d has %" G_GUINT64_FORMAT " pages of %s where hugevm left %" G_GUINT64_FORMAT
            ": somebody else has resized the pool; with hugevm's next change of it, "
            "%" G_GUINT64_FORMAT " of them count as added by hugevm (now: %" G_GUINT64_FORMAT ")",
            grown->node, pool->total_pages, size,
            hv_plus(grown->persistent_pages, grown->handed_pages),
            hv_ledger_settled_pages(view->ledger, pool),
            hv_plus(grown->grown_pages, grown->handed_pages));
    }
}

static void check_give_back(const HvAuditView *view, GPtrArray *findings)
{
    HvWorld world = {view->snapshot, view->settings, view->ledger, NULL};
    for (guint i = 0; i < view->snapshot->pools->len; i++) {
        const HvPool *pool = &g_array_index(view->snapshot->pools, HvPool, i);
        guint64 pages = hv_plan_give_back_pages(&world, pool);
        if (pages == 0 || is_busy(view, pool->size_kib) ||
            hv_ledger_has_intent(view->ledger, pool->node, pool->size_kib))
            continue;
        g_autofree char *size = hv_format_kib(pool->size_kib);
        HvFinding *finding = hv_audit_add(
            findings, HV_FINDING_GIVE_BACK_DUE, NULL,
            "%" G_GUINT64_FORMAT " pages of %s on node %d were added by hugevm and are needed by "
            "no VM any more",
            pages, size, pool->node);
        finding->repair = g_strdup("gives them back");
    }
}

/* --- guards and launch mounts ---------------------------------------------------------------- */

static void check_stray_custody(const HvAuditView *view, GPtrArray *findings)
{
    for (guint i = 0; i < view->guards->len; i++) {
        const HvGuard *guard = &g_array_index(view->guards, HvGuard, i);
        if (hv_custody_may_keep_guard(view->ledger, guard))
            continue;
        g_autofree char *size = hv_format_kib(guard->size_kib);
        HvFinding *finding = hv_audit_add(findings, HV_FINDING_STRAY_GUARD, NULL,
                                          "the shared memory segment %d keeps %" G_GUINT64_FORMAT
                                          " pages of %s for a VM that is not about to start",
                                          guard->id, guard->bytes / 1024 / guard->size_kib, size);
        finding->repair = g_strdup("removes it");
    }
    for (guint i = 0; i < view->vault->len; i++) {
        const HvVaultName *name = &g_array_index(view->vault, HvVaultName, i);
        if (hv_custody_may_keep_in_vault(view->ledger, name))
            continue;
        g_autofree char *size = hv_format_kib(name->size_kib);
        HvFinding *finding =
            hv_audit_add(findings, HV_FINDING_STRAY_GUARD, name->uuid,
                         "hugevm's vault keeps pages of %s for VM %s, which is not about to start",
                         size, name->uuid);
        finding->repair = g_strdup("lets go of them");
    }
    for (guint i = 0; i < view->mounts->len; i++) {
        const HvLaunchMount *mount = g_ptr_array_index(view->mounts, i);
        if (hv_custody_may_keep_mount(view->ledger, mount))
            continue;
        g_autofree char *path = hv_escape(mount->path);
        g_autofree char *quoted = hv_quote(mount->uuid);
        g_autofree char *uuid = hv_uuid_normalize(mount->uuid);
        HvFinding *finding =
            hv_audit_add(findings, HV_FINDING_STRAY_MOUNT, uuid,
                         "the hugetlbfs on %s keeps pages for VM %s, which is not about to "
                         "start",
                         path, uuid != NULL ? uuid : quoted);
        finding->repair = g_strdup("unmounts it");
    }
}

static gboolean is_in_vault(const HvAuditView *view, const HvClaim *claim, guint64 size_kib)
{
    for (guint i = 0; i < view->vault->len; i++) {
        const HvVaultName *name = &g_array_index(view->vault, HvVaultName, i);
        if (name->generation == claim->generation && name->size_kib == size_kib &&
            strcmp(name->uuid, claim->uuid) == 0)
            return TRUE;
    }
    return FALSE;
}

static gboolean has_guard(const HvAuditView *view, const HvClaim *claim, guint64 size_kib)
{
    /* who cannot look into the vault cannot say that something is missing there */
    if ((claim->from_hugetlbfs && !view->sees_vault) || is_in_vault(view, claim, size_kib))
        return TRUE;
    for (guint i = 0; i < view->guards->len; i++) {
        const HvGuard *guard = &g_array_index(view->guards, HvGuard, i);
        if (guard->size_kib == size_kib &&
            guard->generation_bits == (claim->generation & HV_GUARD_GENERATION_MASK) &&
            hv_custody_may_keep_guard(view->ledger, guard))
            return TRUE;
    }
    return FALSE;
}

static gboolean has_all_guards(const HvAuditView *view, const HvClaim *claim)
{
    for (guint i = 0; i < claim->needs->len; i++)
        if (!has_guard(view, claim, g_array_index(claim->needs, HvNeed, i).size_kib))
            return FALSE;
    return TRUE;
}

static gboolean has_mount(const HvAuditView *view, const HvClaim *claim)
{
    for (guint i = 0; i < view->mounts->len; i++) {
        const HvLaunchMount *mount = g_ptr_array_index(view->mounts, i);
        if (mount->generation == claim->generation && strcmp(mount->uuid, claim->uuid) == 0)
            return TRUE;
    }
    return FALSE;
}

/* A claim that is counted as protected, and is not. */
static void check_lost_custody(const HvAuditView *view, const HvClaim *claim, GPtrArray *findings)
{
    g_autofree char *vm = hv_audit_describe_claim(claim);
    if (claim->state == HV_CLAIM_GUARDED && !has_all_guards(view, claim)) {
        HvFinding *finding =
            hv_audit_add(findings, HV_FINDING_LOST_GUARD, claim->uuid,
                         "%s has lost the guard that keeps its pages: somebody else may "
                         "take them before it starts",
                         vm);
        finding->hint = g_strdup("find out who removes shared memory segments (ipcrm, "
                                 "RemoveIPC), or unmounts /run/hugevm/vault; start the VM again "
                                 "if it fails");
    }
    if (claim->state == HV_CLAIM_MOUNTED && !has_mount(view, claim)) {
        HvFinding *finding = hv_audit_add(
            findings, HV_FINDING_LOST_MOUNT, claim->uuid,
            "%s has no launch mount in this mount namespace: somebody else may take its pages "
            "before it has them",
            vm);
        finding->hint = g_strdup("call hugevmctl where libvirt runs, not in a container; else "
                                 "find out who unmounts; start the VM again if it fails");
    }
}

void hv_audit_promises(const HvAuditView *view, GPtrArray *findings)
{
    if (view->guards_die) {
        HvFinding *finding = hv_audit_add(
            findings, HV_FINDING_SHORT_LIVED_GUARDS, NULL,
            "kernel.shm_rmid_forced is 1: pages cannot be kept for a VM before its QEMU has them");
        finding->hint = g_strdup("set it to 0: sysctl kernel.shm_rmid_forced=0");
    }
    if (view->ledger->handover_failed)
        hv_audit_add(findings, HV_FINDING_HANDOVER_OFF, NULL,
                     "this kernel did not take pages over as it should have: hugevm hands none "
                     "over until the next boot");
}

void hv_audit_kernel(const HvAuditView *view, GPtrArray *findings)
{
    for (guint i = 0; i < view->ledger->claims->len; i++) {
        const HvClaimFacts *facts = &g_array_index(view->facts, HvClaimFacts, i);
        if (facts->is_owner_alive || facts->qemu_pid != 0)
            check_lost_custody(view, g_ptr_array_index(view->ledger->claims, i), findings);
    }
    check_stray_custody(view, findings);
    check_intents(view, findings);
    check_drift(view, findings);
    check_give_back(view, findings);
    hv_audit_promises(view, findings);
}
