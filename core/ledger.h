/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Ledger: what hugevm has added to the pools, and which VM holds what. Pure
 * data; store.h keeps it in /run/hugevm.
 *
 * Life of a claim:
 *
 *   state      means                               moved on by
 *   claimed    decided; pages are being got, or    the pages are there, vm_launching,
 *              wait for QEMU                       after_vm_start, or removal
 *   guarded    a guard holds the pages             vm_launching or removal
 *   launching  QEMU is about to map them           after_vm_start or removal
 *   mounted    so it is, and a launch mount holds  after_vm_start or removal
 *              them for it
 *   running    QEMU has mapped and touched them    its end
 *   draining   QEMU is gone, others map its pages  their end, then removal
 *
 * A claim may be seen to run before anybody says so: hv_ledger_note_started().
 *
 * Claimed and launching claims are "exposed": their pages look free to the kernel.
 * In all other states it keeps them. A state moves back only from a launch that
 * has failed, which is to be followed by removal.
 */
#pragma once

#include "backing.h"
#include "process.h"
#include "request.h"

typedef enum {
    HV_CLAIM_CLAIMED,
    HV_CLAIM_GUARDED,
    HV_CLAIM_LAUNCHING,
    HV_CLAIM_MOUNTED,
    HV_CLAIM_RUNNING,
    HV_CLAIM_DRAINING,
} HvClaimState;

typedef struct {
    char *uuid;
    char *name;         /* NULL: none */
    guint64 generation; /* one per start of a VM, never used twice in a boot */
    HvClaimState state;
    char *owner_name;
    HvProcess owner; /* reports for this VM */
    HvProcess qemu;  /* pid 0: not known yet */
    GArray *needs;   /* HvNeed */
    GArray *placed; /* HvNeed, one node each: where its pages are, once it runs; empty: not known */
    gboolean shared;
    gboolean from_hugetlbfs; /* QEMU makes files in a hugetlbfs: not memfd, no virtio-mem */
    gboolean may_hand_over;  /* it keeps every page that it has touched; one page size */
    gboolean is_handed_over; /* it ran when its page size was handed over to the kernel */
    GArray *cells;           /* HvCellRule: of a VM with guest cells; empty: not known */
    char *device_of;         /* UUID of the VM that this memory device is for; NULL: it is a VM */
    guint64 since_s;         /* of a device: when it was claimed, on the clock of the boot */
    guint64 file_kib;        /* memory in files, which has no needs; 0: none */
    char *file_dir;          /* below which those files are; NULL: none */
    guint64 allocated_kib;   /* of file_kib, by hv_ledger_look_at_files(); never recorded */
    GArray *files;           /* HvFileId: what others may map too; empty: not known, not shared */
} HvClaim;

/* Pages hugevm has added to a pool and not yet given back, or has handed over to the kernel. */
typedef struct {
    int node;
    guint64 size_kib;
    guint64 grown_pages;
    guint64 persistent_pages; /* as hugevm left it: tells a change by others */
    guint64 handed_pages;     /* surplus: goes by itself when its users end */
    guint64 regained_pages;   /* of these, made persistent by others since: grown again */
} HvGrown;

/* A pool write that has been begun; outlives its writer only if that was killed. */
typedef struct {
    int node;
    guint64 size_kib;
    guint64 before_pages; /* persistent */
    guint64 target_pages; /* persistent */
    guint64 others_pages; /* of an increase, what stays the administrator's (his page, split) */
    gboolean is_handover; /* a decrease that makes pages in use surplus */
} HvIntent;

struct _JsonObject;

typedef struct {
    guint64 format;              /* as read: a newer version's ledger stays one; 0: it is new */
    guint64 min_reader_format;   /* likewise */
    struct _JsonObject *as_read; /* if it holds what this version does not know; else NULL */
    guint64 last_generation;
    gboolean handover_failed; /* this kernel does not do what a handover needs: no more of them */
    GPtrArray *claims;        /* HvClaim */
    GArray *grown;            /* HvGrown */
    GArray *intents;          /* HvIntent */
} HvLedger;

HvLedger *hv_ledger_new(void);
void hv_ledger_free(HvLedger *ledger);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvLedger, hv_ledger_free)

/* The claim of a start or run of the VM, not one that drains; NULL: there is none. */
HvClaim *hv_ledger_claim(const HvLedger *ledger, const char *uuid);

/* Adds a claim for a request that has a UUID; the ledger owns it. */
HvClaim *hv_ledger_add_claim(HvLedger *ledger, const HvRequest *request, const char *owner_name,
                             const HvProcess *owner);
void hv_ledger_remove_claim(HvLedger *ledger, const char *uuid);

guint64 hv_ledger_grown_pages(const HvLedger *ledger, int node, guint64 size_kib);

/* What of the pool will count as grown once it is settled. */
guint64 hv_ledger_settled_pages(const HvLedger *ledger, const HvPool *pool);

/* Is the pool not as hugevm left it? */
gboolean hv_ledger_has_drifted(const HvLedger *ledger, const HvPool *pool);

/* Of a pool: surplus that goes by itself when its users end. */
guint64 hv_ledger_handed_pages(const HvLedger *ledger, int node, guint64 size_kib);

/* Is a write of this pool announced? */
gboolean hv_ledger_has_intent(const HvLedger *ledger, int node, guint64 size_kib);

/* Records a write about to be made. One per pool: the lock of the size is held. */
void hv_ledger_begin_write(HvLedger *ledger, const HvIntent *intent);

/*
 * Closes the open intent of a pool, of ours or of a writer that was killed, by
 * what the pool shows: credits or debits `grown` by the change of persistent
 * pages, at most by what was intended. Then adopts what others did: a decrease
 * takes from `grown` first; an increase is theirs, but for pages handed over that it
 * made persistent again. The lock of the size is held,
 * so no live writer is between its write and this. TRUE if that changed anything.
 */
gboolean hv_ledger_settle_pool(HvLedger *ledger, const HvPool *pool);

/* Its needs, as far as it is known by where the pages are (HvNeed). Borrowed. */
const GArray *hv_claim_places(const HvClaim *claim);

/* Pages of one size in an array of HvNeed: all, those that only this node may give, those that
 * several nodes may give. */
guint64 hv_needs_pages(const GArray *needs, guint64 size_kib);
guint64 hv_needs_bound_pages(const GArray *needs, guint64 size_kib, int node);
guint64 hv_needs_floating_pages(const GArray *needs, guint64 size_kib);

/* The memory of all of them, of whatever size. */
guint64 hv_needs_kib(const GArray *needs);

const char *hv_claim_state_name(HvClaimState state);

/* Its pages look free to the kernel. */
gboolean hv_claim_is_exposed(const HvClaim *claim);

/* QEMU has its pages, or somebody still has them: they count as in use on their nodes. */
gboolean hv_claim_is_mapped(const HvClaim *claim);
