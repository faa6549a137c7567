/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Guard of memory that no mount can be made for (memfd), and on hosts without a vault: a SysV
 * segment of huge pages that nobody ever attaches. The kernel reserves its pages when it is made
 * and keeps them for it, whoever dies: nobody else's mmap or touch gets one of them. One per claim
 * and page size; its key and size tell whose it is, so that it is found again also when the ledger
 * is lost.
 *
 * It belongs to the machine's IPC namespace: none of this is for fixture trees.
 */
#pragma once

#include "root.h"

/* Claims that exist at the same time must differ in so many of a generation's low bits. */
#define HV_GUARD_GENERATION_MASK 0x7fff

typedef struct {
    int id; /* shmid */
    guint64 generation_bits;
    guint64 size_kib;
    guint64 bytes;
} HvGuard;

/*
 * Reserves bytes in pages of this size. 0, or errno: ENOMEM where the pages are not
 * there, EEXIST where somebody else's segment has the key, others where the host
 * allows no such segment. Blocks only where the kernel adds surplus pages. Root.
 */
int hv_guard_make(guint64 generation, guint64 size_kib, guint64 bytes);

/* All guards there are (HvGuard), as /proc/sysvipc/shm shows them: root's, never attached. */
GArray *hv_guard_list(const HvRoot *root);

/* Lets go of one; gone already is fine. */
void hv_guard_drop(const HvGuard *guard);

/* FALSE: here a segment dies with the process that made it (kernel.shm_rmid_forced). */
gboolean hv_guard_survives_its_maker(const HvRoot *root);
