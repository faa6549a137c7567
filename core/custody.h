/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Custody: what the kernel does for a claim until QEMU has its pages. A guard from the
 * moment they are there: a mount in the vault (vault.h), which at launch is moved onto the
 * VM's directory and is then its launch mount (launch-mount.h); or, where that cannot be,
 * a segment (guard.h). Called inside a transaction, so that the ledger and what it says
 * about the kernel change together.
 */
#pragma once

#include "guard.h"
#include "launch-mount.h"
#include "vault.h"
#include "ledger.h"

typedef enum {
    HV_GUARDED,     /* the claim's state says so */
    HV_GUARD_SHORT, /* the pages are not there: somebody was quicker */
    HV_GUARD_NONE,  /* this host allows none; the claim goes on, exposed */
} HvGuardResult;

/*
 * Before a claim is recorded that is to be guarded later: takes what a guard needs
 * beside the pages. So the room that is left for the ledger does not shrink in between.
 */
void hv_custody_prepare(const HvRoot *root, const HvClaim *claim);

/* Guards for all that the claim needs, or none. *out_warning: why there is none. */
HvGuardResult hv_custody_guard(const HvRoot *root, HvClaim *claim, char **out_warning);

/*
 * QEMU is about to map. Guards become launch mounts over the directories (NULL-
 * terminated or NULL; state mounted), or go where that cannot be (state launching:
 * exposed); *out_warning says why if the host does not allow it. FALSE, and the VM must
 * not be started: pages were lost between the two (state claimed: another launch would
 * find nothing kept), or cannot be got at (guarded, as before, and may be tried again).
 */
gboolean hv_custody_launch(const HvRoot *root, HvClaim *claim, const char *const *directories,
                           char **out_warning, GError **error);

/* Is the claim's guard a mount in the vault? */
gboolean hv_custody_is_in_vault(const HvRoot *root, const HvClaim *claim);

/* FALSE: a launch on these directories lets go of a guard before QEMU or a mount has its pages. */
gboolean hv_custody_keeps(const HvRoot *root, const HvClaim *claim, const char *const *directories);

/*
 * Takes away every guard and launch mount that no claim is entitled to: what killed
 * processes left, and what claims have let go of. After each change that ends a
 * claim or its need for them. What it cannot take away the next one finds again; that is
 * an error only for who cares: PERMISSION where this program may not enter the vault.
 */
gboolean hv_custody_sweep(const HvRoot *root, const HvLedger *ledger, GError **error);

/*
 * Looks for copies of launch mounts in the mount namespaces of all processes, and takes away those
 * that no claim is entitled to. A sweep does so by itself where it detaches one whose copies the
 * kernel leaves; this is for what a killed one has left, and costs a walk through /proc.
 */
void hv_custody_sweep_elsewhere(const HvRoot *root, const HvLedger *ledger);

/* Is some claim entitled to it? What is not, a sweep takes away. */
gboolean hv_custody_may_keep_guard(const HvLedger *ledger, const HvGuard *guard);
gboolean hv_custody_may_keep_mount(const HvLedger *ledger, const HvLaunchMount *mount);
gboolean hv_custody_may_keep_in_vault(const HvLedger *ledger, const HvVaultName *name);
