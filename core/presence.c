/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who of a claim is still there: the agent that reports for it, its QEMU, and others
 * that map its pages.
 *
 *   running, its QEMU known       gone with that QEMU, whoever still lives
 *   anything before               gone when agent and QEMU are both dead: between the
 *                                 decision and QEMU's first breath there is none yet
 *   gone, but others map it       drains until they have let go
 *   a memory device's             gone with its VM, or when its plugging takes too long
 */
#include "lifecycle-private.h"

HvProcess hv_claim_find_qemu(const HvRoot *root, const HvClaim *claim)
{
    return claim->file_dir != NULL
               ? hv_process_find_qemu_of_files(root, claim->uuid, claim->file_dir)
               : hv_process_find_qemu(root, claim->uuid);
}

HvProcess hv_claim_live_qemu(const HvRoot *root, const HvClaim *claim)
{
    HvProcess none = {0};
    if (claim->state == HV_CLAIM_DRAINING || claim->device_of != NULL)
        return none;
    if (claim->qemu.pid == 0)
        return hv_claim_find_qemu(root, claim);
    return hv_process_is_alive(root, &claim->qemu) ? claim->qemu : none;
}

/* Its VM has ended; or its plugging is over, but nobody has said so. */
static gboolean is_device_gone(const HvRoot *root, const HvClaim *device)
{
    const HvProcess *witness = device->qemu.pid != 0 ? &device->qemu : &device->owner;
    if (!hv_process_is_alive(root, witness))
        return TRUE;
    return device->since_s != 0 && hv_boot_seconds() >= device->since_s + HV_PLUG_TIMEOUT_S;
}

static gboolean is_gone(const HvRoot *root, const HvClaim *claim)
{
    if (claim->state == HV_CLAIM_DRAINING)
        return TRUE;
    if (claim->device_of != NULL)
        return is_device_gone(root, claim);
    if (claim->state == HV_CLAIM_RUNNING && claim->qemu.pid != 0)
        return !hv_process_is_alive(root, &claim->qemu);
    return !hv_process_is_alive(root, &claim->owner) && hv_claim_live_qemu(root, claim).pid == 0;
}

gboolean hv_ledger_end_claim(const HvRoot *root, HvLedger *ledger, HvClaim *claim)
{
    g_autoptr(GPtrArray) holders = hv_backing_holders(root, claim->files);
    if (holders->len == 0) {
        g_ptr_array_remove(ledger->claims, claim);
        return TRUE;
    }
    gboolean is_changed = claim->state != HV_CLAIM_DRAINING;
    claim->state = HV_CLAIM_DRAINING;
    return is_changed;
}

gboolean hv_ledger_prune(const HvRoot *root, HvLedger *ledger)
{
    /* first: what was plugged in unreported is its VM's */
    gboolean is_changed = hv_ledger_follow(root, ledger);
    for (guint i = ledger->claims->len; i > 0; i--) {
        HvClaim *claim = g_ptr_array_index(ledger->claims, i - 1);
        if (is_gone(root, claim) && hv_ledger_end_claim(root, ledger, claim))
            is_changed = TRUE;
    }
    return is_changed;
}

void hv_claim_note_running(const HvRoot *root, HvClaim *claim, const HvProcess *qemu)
{
    claim->state = HV_CLAIM_RUNNING;
    if (claim->qemu.pid != qemu->pid || claim->qemu.start_ticks != qemu->start_ticks)
        claim->is_handed_over = FALSE; /* that was another one's memory */
    claim->qemu = *qemu;
    hv_claim_note_places(root, claim);
    /* what comes from elsewhere may be thrown away and come again, page by page */
    if (hv_process_has_word(root, qemu->pid, "-incoming"))
        claim->may_hand_over = FALSE;
    /* only shared memory has other users; looking for its files takes time */
    if (!claim->shared || qemu->pid == 0)
        return;
    g_array_unref(claim->files);
    claim->files = claim->file_dir != NULL ? hv_backing_below(root, qemu->pid, claim->file_dir)
                                           : hv_backing_of(root, qemu->pid);
}

/* What QEMU has once it has all that it begins with: of virtio-mem the guest takes its part later.
 */
static guint64 initial_kib(const HvClaim *claim)
{
    g_autoptr(GArray) fixed = g_array_new(FALSE, TRUE, sizeof(HvNeed));
    for (guint i = 0; i < claim->needs->len; i++)
        if (!g_array_index(claim->needs, HvNeed, i).is_elastic)
            g_array_append_val(fixed, g_array_index(claim->needs, HvNeed, i));
    return hv_needs_kib(fixed);
}

static gboolean has_all_memory(const HvRoot *root, const HvClaim *claim, gint64 pid)
{
    if (claim->file_dir != NULL)
        return hv_process_allocated_file_kib(root, pid, claim->file_dir) >= claim->file_kib;
    return hv_process_hugetlb_kib(root, pid) >= initial_kib(claim);
}

gboolean hv_ledger_note_started(const HvRoot *root, HvLedger *ledger, const char *self_uuid)
{
    gboolean is_changed = FALSE;
    for (guint i = 0; i < ledger->claims->len; i++) {
        HvClaim *claim = g_ptr_array_index(ledger->claims, i);
        if (hv_claim_is_mapped(claim) || claim->device_of != NULL ||
            g_strcmp0(claim->uuid, self_uuid) == 0)
            continue;
        HvProcess qemu = hv_claim_find_qemu(root, claim);
        if (qemu.pid == 0 || !has_all_memory(root, claim, qemu.pid))
            continue;
        hv_claim_note_running(root, claim, &qemu);
        is_changed = TRUE;
    }
    return hv_ledger_follow(root, ledger) || is_changed;
}
