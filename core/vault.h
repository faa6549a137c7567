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
 * pages are not there, ENOSYS and others where this host allows no vault. Root.
 */
int hv_vault_put(const HvVaultName *name, guint64 bytes);

/*
 * Moves the mount onto the open directory and gives it the directory's owner and
 * mode. 0, or errno (ENOENT: there is no such mount in the vault).
 */
int hv_vault_take(const HvVaultName *name, int directory_fd);

/* All there are (HvVaultName). Empty where there is no vault. */
GArray *hv_vault_list(void);

/* Lets go of one; gone already is fine. */
void hv_vault_drop(const HvVaultName *name);
