/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Vault: a mount namespace of hugevm's own, kept by a file in /run/hugevm, in which
 * hugetlbfs mounts wait for their VMs. The kernel keeps their min_size for them,
 * whoever dies, and nobody sees them: libvirt, DPDK and others adopt every hugetlbfs
 * in /proc/mounts. A mount is moved out onto its VM's directory in one step, so that
 * its pages are never open to others.
 *
 * Needs Linux 5.2 (open_tree, move_mount). None of this is for fixture trees.
 */
#pragma once

#include "root.h"

/* What a mount in the vault is called: tells the claim and the page size, without the ledger. */
typedef struct {
    char uuid[40];
    guint64 generation;
    guint64 size_kib;
} HvVaultName;

/* FALSE: the kernel is too old to move a mount out of it. */
gboolean hv_vault_is_supported(void);

/* Makes the vault where there is none yet. 0, or errno. Root. */
int hv_vault_prepare(void);

/*
 * Reserves bytes in pages of this size under a name. 0, or errno: ENOMEM where the
 * pages are not there (and for no other reason), ENOSYS and others where this host
 * allows no vault. Root.
 */
int hv_vault_put(const HvVaultName *name, guint64 bytes);

/*
 * Moves the mount onto the open directory and gives it the directory's owner and
 * mode. 0, or errno (ENOENT: there is no such mount, or no vault).
 */
int hv_vault_take(const HvVaultName *name, int directory_fd);

/* All there are (HvVaultName); none where there is no vault. 0, or why they are not known. */
int hv_vault_list(GArray **out_names);

/* Lets go of one. 0, also if it is gone already, or errno: it may be there still. */
int hv_vault_drop(const HvVaultName *name);

/*
 * Ends the vault, if it is empty, with all that was mounted for it here; the next claim makes a
 * new one. Under the ledger's lock. 0, or errno: EBUSY where it is not empty. Root.
 */
int hv_vault_remove(void);
