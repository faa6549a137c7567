/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Consumers: the processes that named reservations are for, as Open vSwitch with DPDK, and
 * the huge pages that they hold.
 */
#pragma once

#include "ledger.h"

/* A process that a named reservation means. */
typedef struct {
    gint64 pid;
    char *comm;           /* as in /proc/PID/comm */
    char *process;        /* as in HvReserved: which reservations are for it */
    gboolean is_readable; /* else nobody but root sees what it holds */
    GArray *placed;       /* HvPlacedPages: its huge pages, each counted for one consumer only */
} HvConsumer;

/*
 * Finds them, some dozens of each name at most, and puts them into snapshot->consumers; NULL stays
 * where no reservation has a name, and costs nothing. The pools must have been read before: of a
 * consumer that restarts in between, pages are then missed, rather than given away.
 *
 * A process is meant by the name of its program or, where that is another, by its comm, if that is
 * the reservation's or begins with it and '-', '_' or '.'; of several the longest counts. It must
 * run as a user of the system's: a stranger who takes such a name shall not use up what is kept for
 * it. What it maps of VMs does not count: files that the ledger knows, or that QEMU has named. What
 * cannot be seen counts as not held, so that more is kept.
 */
void hv_consumers_read(const HvRoot *root, const HvSettings *settings, const HvLedger *ledger,
                       HvSnapshot *snapshot);

HvConsumer *hv_consumer_new(gint64 pid, const char *comm, const char *process); /* holds nothing */
void hv_consumer_free(gpointer consumer);

/* Does a reservation for this process mean a program or comm of that name? */
gboolean hv_consumer_is_meant(const char *process, const char *name);
