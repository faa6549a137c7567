/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Audit: the ledger against the kernel against running VMs. audit-read.c reads, without
 * a lock and without changing anything; audit.c and audit-kernel.c compare, and are pure.
 *
 * What was read one after the other may contradict itself while VMs start and end. So
 * a finding counts only if a second look has it too: hv_audit_lasting().
 */
#pragma once

#include "backing.h"
#include "guard.h"
#include "launch-mount.h"
#include "lifecycle.h"
#include "vault.h"

typedef enum {
    HV_FINDING_LEDGER_MISSING,
    HV_FINDING_LEDGER_DAMAGED,
    HV_FINDING_LEDGER_OTHER_BOOT,
    HV_FINDING_DEAD_CLAIM,
    HV_FINDING_ENDED_CLAIM,
    HV_FINDING_UNKNOWN_TO_LIBVIRT,
    HV_FINDING_LEFT_VM,
    HV_FINDING_OUTSIDE_VM,
    HV_FINDING_HELD_PAGES,
    HV_FINDING_FOREIGN_USE,
    HV_FINDING_OPEN_INTENT,
    HV_FINDING_DRIFT,
    HV_FINDING_GIVE_BACK_DUE,
    HV_FINDING_STRAY_GUARD,
    HV_FINDING_LOST_GUARD,
    HV_FINDING_STRAY_MOUNT,
    HV_FINDING_LOST_MOUNT,
    HV_FINDING_SHORT_LIVED_GUARDS,
    HV_FINDING_HANDOVER_OFF,
} HvFindingKind;

typedef struct {
    HvFindingKind kind;
    char *uuid;   /* of the VM; NULL: of none */
    char *text;   /* one line: what, where, whose */
    char *repair; /* what a repair does about it; NULL: nothing */
    char *hint;   /* what else to do; NULL: nothing */
} HvFinding;

/* "dead-claim": stable words for JSON. */
const char *hv_finding_kind_name(HvFindingKind kind);

/* Nothing is wrong with hugevm: it is said because it explains numbers. */
gboolean hv_finding_is_note(const HvFinding *finding);

void hv_finding_free(gpointer finding);

typedef enum {
    HV_LEDGER_FOUND_GOOD,
    HV_LEDGER_FOUND_NONE,
    HV_LEDGER_FOUND_COPY,       /* the ledger is damaged, its second copy is not */
    HV_LEDGER_FOUND_DAMAGED,    /* both are */
    HV_LEDGER_FOUND_OTHER_BOOT, /* counts for nothing */
} HvLedgerFound;

/* What /proc says of a claim. */
typedef struct {
    gboolean is_owner_alive;
    gint64 qemu_pid;    /* of its QEMU if that is alive, else 0 */
    GPtrArray *holders; /* HvHolder: who maps its pages; looked for if QEMU is gone, else NULL */
} HvClaimFacts;

/* A process that has touched huge pages. */
typedef struct {
    gint64 pid;
    char *name;    /* of the program */
    char *uuid;    /* "-uuid" of its command line; NULL: it has none */
    char *vm_name; /* "-name" of it; NULL: none */
    guint64 huge_kib;
} HvHugeProcess;

/* All that is compared. */
typedef struct {
    HvSnapshot *snapshot;
    HvSettings *settings;
    HvLedger *ledger;
    HvLedgerFound found;
    GArray *facts;        /* HvClaimFacts, one per claim of the ledger */
    GPtrArray *processes; /* HvHugeProcess */
    GArray *guards;       /* HvGuard: segments */
    GArray *vault;        /* HvVaultName: mounts that wait for their VMs; root's to see */
    gboolean sees_vault;
    GPtrArray *mounts;    /* HvLaunchMount */
    GArray *busy_sizes;   /* guint64, KiB: somebody is resizing pools of these just now */
    gboolean guards_die;  /* kernel.shm_rmid_forced */
    GArray *left_pids;    /* gint64: QEMUs of killed runs, for the caller to fill in */
    char **running_uuids; /* what libvirt says that it runs, likewise; NULL: it was not asked */
    const char *libvirt_owner; /* whose claims it knows before they run, likewise; NULL: nobody's */
} HvAuditView;

HvAuditView *hv_audit_view_new(void); /* with an empty ledger and nothing else */
void hv_audit_view_free(HvAuditView *view);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvAuditView, hv_audit_view_free)

/*
 * Reads this host. As an ordinary user it sees less: not who maps another user's
 * pages. Errors: of settings, ledger and snapshot; a damaged ledger is none.
 */
HvAuditView *hv_audit_read(const HvAgent *agent, GError **error);

/*
 * Of that only what is hugevm's own: ledger, guards, mounts. Errors: of the ledger, which then
 * counts as empty.
 */
gboolean hv_audit_read_own(const HvRoot *root, HvAuditView *view, GError **error);

/* Compares: HvFinding, in the order of their kinds as far as they concern one thing. */
GPtrArray *hv_audit(const HvAuditView *view);

/* Parts of it, which need no more than hv_audit_read_own(): the ledger as such, and what this
 * kernel does not do for hugevm. */
void hv_audit_ledger(const HvAuditView *view, GPtrArray *findings);
void hv_audit_promises(const HvAuditView *view, GPtrArray *findings);

/* Those of the second look that the first one had as well. Takes both. */
GPtrArray *hv_audit_lasting(GPtrArray *first, GPtrArray *second);

/* Is there one that is more than a note? */
gboolean hv_audit_is_bad(const GPtrArray *findings);

/* remaining: what a second audit found after a repair; NULL: nothing was to be repaired. */
char *hv_report_audit_json(const GPtrArray *findings, const GPtrArray *remaining);
char *hv_report_audit_text(const GPtrArray *findings);
