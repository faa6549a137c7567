/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who of a claim is still there: the agent that reports for it, its QEMU, and others
 * that map its pages.
 *
 *   running, its QEMU known       gone with that QEMU, whoever still lives
 *   anything before               gone when agent and QEMU are both dead: between the
 *                                 decision and QEMU's first breath there is none yet
 *   gone, but others map it       drains until they have let go
 */
#include "lifecycle-private.h"

#include "residence.h"

#define LIST_MAX_BYTES (16 * 1024)

HvProcess hv_claim_live_qemu(const HvRoot *root, const HvClaim *claim)
{
    HvProcess none = {0};
    if (claim->state == HV_CLAIM_DRAINING)
        return none;
    if (claim->qemu.pid == 0)
        return hv_process_find_qemu(root, claim->uuid);
    return hv_process_is_alive(root, &claim->qemu) ? claim->qemu : none;
}

static gboolean is_gone(const HvRoot *root, const HvClaim *claim)
{
    if (claim->state == HV_CLAIM_DRAINING)
        return TRUE;
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
    gboolean is_changed = FALSE;
    for (guint i = ledger->claims->len; i > 0; i--) {
        HvClaim *claim = g_ptr_array_index(ledger->claims, i - 1);
        if (is_gone(root, claim) && hv_ledger_end_claim(root, ledger, claim))
            is_changed = TRUE;
    }
    return is_changed;
}

/* A host with several nodes that have memory; one that does not say which has one. */
static gboolean has_several_nodes(const HvRoot *root)
{
    HvNodeSet nodes = {0};
    g_autofree char *text =
        hv_root_read_text(root, "/sys/devices/system/node/has_memory", LIST_MAX_BYTES, NULL);
    return text != NULL && hv_node_set_parse(g_strstrip(text), &nodes) &&
           hv_node_set_count(&nodes) > 1;
}

static gboolean is_placed_by_needs(const HvClaim *claim)
{
    for (guint i = 0; i < claim->needs->len; i++)
        if (hv_node_set_single(&g_array_index(claim->needs, HvNeed, i).nodes) < 0)
            return FALSE;
    return TRUE;
}

/* All pages of each size are there: it has touched them, and none is anybody else's. */
static gboolean is_complete(const HvClaim *claim, const HvResidence *residence)
{
    for (guint i = 0; i < claim->needs->len; i++) {
        guint64 size_kib = g_array_index(claim->needs, HvNeed, i).size_kib;
        if (hv_placed_pages(residence->placed, size_kib) != hv_needs_pages(claim->needs, size_kib))
            return FALSE;
    }
    return residence->knows_nodes;
}

/*
 * Where the kernel has put the pages of needs that several nodes may serve: from here on they
 * count there, and no other node is kept free for them.
 */
static void note_places(const HvRoot *root, HvClaim *claim)
{
    g_array_set_size(claim->placed, 0);
    if (claim->qemu.pid == 0 || is_placed_by_needs(claim) || !has_several_nodes(root))
        return;
    g_autoptr(HvResidence) residence = hv_residence_read(root, &claim->qemu, HV_NODE_UNKNOWN, NULL);
    if (residence == NULL || !is_complete(claim, residence))
        return;
    for (guint i = 0; i < residence->placed->len; i++) {
        const HvPlacedPages *placed = &g_array_index(residence->placed, HvPlacedPages, i);
        HvNeed need = {.size_kib = placed->size_kib, .pages = placed->pages};
        if (placed->node < 0 || placed->node >= HV_MAX_NODES)
            continue;
        hv_node_set_add(&need.nodes, placed->node);
        g_array_append_val(claim->placed, need);
    }
}

void hv_claim_note_running(const HvRoot *root, HvClaim *claim, const HvProcess *qemu)
{
    claim->state = HV_CLAIM_RUNNING;
    if (claim->qemu.pid != qemu->pid || claim->qemu.start_ticks != qemu->start_ticks)
        claim->is_handed_over = FALSE; /* that was another one's memory */
    claim->qemu = *qemu;
    note_places(root, claim);
    /* what comes from elsewhere may be thrown away and come again, page by page */
    if (hv_process_has_word(root, qemu->pid, "-incoming"))
        claim->may_hand_over = FALSE;
    /* only shared memory has other users; looking for its files takes time */
    if (!claim->shared || qemu->pid == 0)
        return;
    g_array_unref(claim->files);
    claim->files = hv_backing_of(root, qemu->pid);
}

gboolean hv_ledger_note_started(const HvRoot *root, HvLedger *ledger, const char *self_uuid)
{
    gboolean is_changed = FALSE;
    for (guint i = 0; i < ledger->claims->len; i++) {
        HvClaim *claim = g_ptr_array_index(ledger->claims, i);
        if (hv_claim_is_mapped(claim) || g_strcmp0(claim->uuid, self_uuid) == 0)
            continue;
        HvProcess qemu = hv_process_find_qemu(root, claim->uuid);
        if (qemu.pid == 0 || hv_process_hugetlb_kib(root, qemu.pid) < hv_needs_kib(claim->needs))
            continue;
        hv_claim_note_running(root, claim, &qemu);
        is_changed = TRUE;
    }
    return is_changed;
}
