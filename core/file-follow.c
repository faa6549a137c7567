/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Follow, of a VM whose memory is in files: a file is as large as its cell or device, so what
 * QEMU maps below the directory is what the VM has, allocated or not. While it starts, what
 * it has allocated is no longer free in the file system, but claimed all the same.
 */
#include "file-look.h"
#include "lifecycle-private.h"

#include "page-size.h"

static gboolean is_under_way(const HvClaim *claim, const HvClaim *vm)
{
    return g_strcmp0(claim->device_of, vm->uuid) == 0 && claim->file_kib > 0 &&
           claim->state != HV_CLAIM_DRAINING;
}

static guint64 under_way_kib(const HvLedger *ledger, const HvClaim *vm)
{
    guint64 sum_kib = 0;
    for (guint i = 0; i < ledger->claims->len; i++) {
        const HvClaim *claim = g_ptr_array_index(ledger->claims, i);
        if (is_under_way(claim, vm))
            sum_kib = hv_plus(sum_kib, claim->file_kib);
    }
    return sum_kib;
}

/*
 * Claims of devices that have come: all of them, or the first as large as what is new. What can
 * not be told stays claimed twice until somebody reports, or the time for that is over.
 */
static void drop_devices(HvLedger *ledger, const HvClaim *vm, guint64 new_kib)
{
    gboolean is_all = under_way_kib(ledger, vm) == new_kib;
    for (guint i = ledger->claims->len; i > 0; i--) {
        const HvClaim *claim = g_ptr_array_index(ledger->claims, i - 1);
        if (!is_under_way(claim, vm) || (!is_all && claim->file_kib != new_kib))
            continue;
        g_ptr_array_remove_index(ledger->claims, i - 1);
        if (!is_all)
            return;
    }
}

HvFollowed hv_ledger_follow_files(const HvRoot *root, HvLedger *ledger, HvClaim *vm,
                                  HvFollowWhy why)
{
    guint64 mapped_kib = hv_process_file_kib(root, vm->qemu.pid, vm->file_dir);
    if (mapped_kib == 0) /* it is about to end, or cannot be looked at */
        return HV_FOLLOWED_NOT;
    if (mapped_kib > vm->file_kib)
        drop_devices(ledger, vm, mapped_kib - vm->file_kib);
    else if (mapped_kib == vm->file_kib || why != HV_FOLLOW_SEEN)
        return HV_FOLLOWED_SAME;
    vm->file_kib = mapped_kib;
    return HV_FOLLOWED_CHANGED;
}

gboolean hv_ledger_look_at_files(const HvRoot *root, HvLedger *ledger)
{
    gboolean is_any = FALSE;
    for (guint i = 0; i < ledger->claims->len; i++) {
        HvClaim *claim = g_ptr_array_index(ledger->claims, i);
        if (claim->file_dir == NULL || claim->device_of != NULL || hv_claim_is_mapped(claim))
            continue;
        HvProcess qemu = hv_claim_find_qemu(root, claim);
        claim->allocated_kib =
            qemu.pid != 0 ? hv_process_allocated_file_kib(root, qemu.pid, claim->file_dir) : 0;
        is_any = is_any || claim->allocated_kib > 0;
    }
    return is_any;
}

HvMemoryDir *hv_files_look(const HvRoot *root, const HvSettings *settings, HvLedger *ledger)
{
    hv_ledger_look_at_files(root, ledger);
    return hv_settings_memory_dir(settings, root);
}
