/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What prepare.c, start.c and lifecycle.c share. */
#pragma once

#include "lifecycle.h"

#define HV_LOCK_WAIT_US (10 * G_USEC_PER_SEC)

/* How long an event may wait for all its locks; monotonic clock. */
gint64 hv_event_deadline_us(const HvAgent *agent, const HvVmRef *vm);

/* QEMU of a VM that has a claim, by what it maps; pid 0: there is none. */
HvProcess hv_claim_find_qemu(const HvRoot *root, const HvClaim *claim);

/* QEMU of a claim, known or found; pid 0: there is none. */
HvProcess hv_claim_live_qemu(const HvRoot *root, const HvClaim *claim);

/*
 * A claim whose VM is gone: removed, or draining as long as others map its pages.
 * TRUE if that changed anything. What was kept for it is for a sweep.
 */
gboolean hv_ledger_end_claim(const HvRoot *root, HvLedger *ledger, HvClaim *claim);

/* Does that for all that are gone; TRUE if it changed anything. */
gboolean hv_ledger_prune(const HvRoot *root, HvLedger *ledger);

/* How long the claim of a memory device waits to be reported plugged. */
#define HV_PLUG_TIMEOUT_S 60

/* The clock of HvClaim.since_s. */
guint64 hv_boot_seconds(void);

/* Where the kernel has put a VM's pages, for needs that several nodes may serve. */
void hv_claim_note_places(const HvRoot *root, HvClaim *claim);

typedef enum {
    HV_FOLLOW_STARTED, /* it may not have mapped all of its memory yet */
    HV_FOLLOW_SEEN,    /* memory devices may have come and gone since */
} HvFollowWhy;

typedef enum {
    HV_FOLLOWED_NOT, /* what the VM has cannot be seen */
    HV_FOLLOWED_SAME,
    HV_FOLLOWED_CHANGED, /* the claim, or those of its devices */
} HvFollowed;

/*
 * Makes the claim of a VM that runs what its QEMU maps (follow.c). Reads little where
 * they agree; where not, the kernel walks QEMU's page tables.
 */
HvFollowed hv_ledger_follow_vm(const HvRoot *root, HvLedger *ledger, HvClaim *vm, HvFollowWhy why);

/* virtio-mem devices that QEMU maps, and what they may become together; -1: that cannot be seen.
 * Of a VM with several of them nobody can tell which has what. */
int hv_qemu_count_virtio_mem(const HvRoot *root, const HvProcess *qemu, guint64 *out_size_kib);

/* What the virtio-mem of a VM has been granted, taken by the guest or not. */
guint64 hv_ledger_granted_kib(const HvLedger *ledger, const HvClaim *vm);

/* So much is granted from now on: what is not taken is let go of. TRUE if that changed anything. */
gboolean hv_ledger_limit_granted(HvLedger *ledger, HvClaim *vm, guint64 limit_kib);

/* The same for a VM whose memory is in files (file-follow.c). */
HvFollowed hv_ledger_follow_files(const HvRoot *root, HvLedger *ledger, HvClaim *vm,
                                  HvFollowWhy why);

/* That of all VMs that run; TRUE if it changed anything. */
gboolean hv_ledger_follow(const HvRoot *root, HvLedger *ledger);

/* The needs of a device become its VM's, which may have had no claim; the device's goes. */
void hv_ledger_settle_device(const HvRoot *root, HvLedger *ledger, HvClaim *device);

/* QEMU has its memory. pid 0: it is not known which process that is. */
void hv_claim_note_running(const HvRoot *root, HvClaim *claim, const HvProcess *qemu);

/*
 * Claims whose QEMU has all its pages are running, whoever has not said so yet, or
 * never will: not every host reports the end of each kind of start. Looks through
 * /proc for each claim that does not run yet, so it is for when that matters.
 */
gboolean hv_ledger_note_started(const HvRoot *root, HvLedger *ledger, const char *self_uuid);

/*
 * As hv_lifecycle_recover, but for a start: waits for the ledger until deadline_us at most, and
 * what cannot be taken out of the vault is for others.
 */
gboolean hv_recover_until(const HvAgent *agent, gint64 deadline_us, GError **error);

/*
 * The claim that is meant; NULL: there is none, it is another start's, or it is for a
 * start to come that another owner has claimed. A VM that runs is everybody's to report.
 */
HvClaim *hv_ledger_claim_meant(const HvLedger *ledger, const HvVmRef *vm);

/*
 * Removes the claim if it still is the one meant; *out_known tells.
 * Claims of others that are gone go along.
 */
gboolean hv_store_drop_claim(HvStore *store, const HvRoot *root, const HvVmRef *vm,
                             gint64 deadline_us, gboolean *out_known, GError **error);

/* Gives back, but leaves a size that somebody is resizing right now to the next call. */
gboolean hv_give_back_if_idle(const HvAgent *agent, HvStore *store, GError **error);

/*
 * Before what is kept for a claim is let go of, which a launch on the directories (NULL: an end)
 * may do: makes surplus of its sizes persistent, which would be paid for with pages that others
 * need. Best effort, until deadline_us.
 */
void hv_pin_for_claim(const HvAgent *agent, HvStore *store, const HvVmRef *vm,
                      const char *const *directories, gint64 deadline_us);

/* Hands over to the kernel what may be. Best effort: the next call does what this one cannot. */
void hv_hand_over(const HvAgent *agent, HvStore *store);

/* Opens the ledger for an event; *out_store is NULL where hugevm has never claimed anything. */
gboolean hv_store_open_existing(const HvAgent *agent, HvStore **out_store, GError **error);

/* An executor with time enough to wait for a resize by others. */
HvExecutor hv_give_back_executor(const HvAgent *agent, HvStore *store, const HvSettings *settings);

/* A claim that another agent made for the same start, and that this one goes on with. */
typedef struct {
    guint64 generation; /* 0: there is none */
    HvClaimState state;
    gboolean is_held_back; /* its pages must not be handed over */
} HvAdopted;

/* What a start needs while it is worked on. */
typedef struct {
    const HvAgent *agent;
    const HvVm *vm;
    HvDomain *domain;
    HvSettings *settings;
    HvSnapshot *snapshot;
    HvRequest *asked;           /* as it was before a plan settled what it leaves open */
    HvOutcome *outcome;         /* request, settled, and plan are in here */
    GArray *spent;              /* HvStep: what fell short in earlier attempts at this start */
    HvTransaction *transaction; /* while the ledger is locked for it; NULL: it is not */
    HvAdopted adopted;
    gboolean goes_unguarded; /* the kernel does not keep these pages for anybody */
    gboolean has_surplus;    /* in a size that the VM needs: a guard has to wait for a pin */
    gint64 give_up_us;       /* until when pages that others took are waited for; monotonic clock */
    const char *device_of;   /* UUID of the VM that it is a memory device for; NULL: a VM */
    HvProcess qemu;          /* of that VM */
    gboolean has_pruned;     /* claims of dead VMs were removed: their pages may be left over */
} HvStart;

/* Claims and gets the pages of a start that is a memory device's; asked and outcome are filled. */
gboolean hv_start_take_device(HvStart *start, GError **error);

typedef enum { HV_CLAIM_FAILED, HV_CLAIM_MADE, HV_CLAIM_AGAIN } HvClaimResult;

void hv_start_clear(HvStart *start);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(HvStart, hv_start_clear)

/* What a VM begins with: its XML as it came. */
HvOutcome *hv_outcome_new(const HvVm *vm, const HvDomain *domain, GError **error);

/*
 * Fills in all but the plan. outcome->request stays NULL for a VM without huge
 * pages, and while hugevm is switched off. Errors: of the XML, the properties, the
 * settings, and where the host cannot start the VM so.
 */
gboolean hv_start_prepare(HvStart *start, GError **error);

/* The pools as they are now, and where memory files would be. The settings must be there. */
HvSnapshot *hv_start_look(const HvStart *start, GError **error);

/* Plans by the ledger given; looks for VMs that run unreported before it refuses or grows. */
gboolean hv_start_plan(HvStart *start, HvLedger *ledger, GError **error);

/*
 * One look under the ledger's lock: plans, and if the plan stands, records the claim,
 * with its guard where no page has to be got. AGAIN: what stands in the way may pass.
 */
HvClaimResult hv_start_try_claim(HvStart *start, HvStore *store, gint64 deadline_us,
                                 GError **error);

/*
 * The pages are in the pools: guards them. Somebody may have let go of the claim
 * meanwhile, or have started the VM anew. *out_missing: others were quicker with some
 * of the pages, and this is how to get those; NULL: all is well.
 */
gboolean hv_start_guard(HvStart *start, HvStore *store, gint64 deadline_us, HvPlan **out_missing,
                        GError **error);

/* The errors of a refusal, and of a start that others were quicker than each time. */
void hv_set_refusal(const HvRefusal *refusal, GError **error);
void hv_set_taken_by_others(const HvStart *start, GError **error);
