/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Verify: where a running VM's memory is, against what its claim says. verify-read.c finds
 * the VM and reads; verify.c compares, and is pure.
 */
#pragma once

#include "ledger.h"
#include "residence.h"

/* What was planned for one place, and what came of it. Counts are pages of size_kib. */
typedef struct {
    HvNodeSet nodes; /* that were to give them; empty: any */
    guint64 size_kib;
    guint64 planned;
    guint64 present;   /* there, where they were to be */
    GArray *elsewhere; /* HvPlacedPages: there, on other nodes */
    guint64 untouched; /* mapped, and on no node before somebody touches them */
    guint64 missing;   /* not even mapped */
} HvVerifyRow;

typedef struct {
    GPtrArray *rows;   /* HvVerifyRow: bound needs by node first, floating ones last */
    GArray *unplanned; /* HvPlacedPages: huge pages beyond what was planned */
    gboolean is_as_planned;
} HvVerdict;

/*
 * needs: of the claim. A need of one node is judged by that node. Needs of several nodes
 * are judged by their sum, together with those that share a node with them; so are those
 * that any node may serve, and all where it is not known on which node a page is.
 * Untouched and unplanned pages contradict no plan.
 */
HvVerdict *hv_verify(const GArray *needs, const HvResidence *residence);
void hv_verdict_free(HvVerdict *verdict);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvVerdict, hv_verdict_free)

/* A VM that runs, or another process. */
typedef struct {
    HvLedger *ledger;
    const HvClaim *claim; /* NULL: the ledger has none for this process */
    HvProcess process;
    HvResidence *residence;
    HvVerdict *verdict; /* NULL without a claim */
} HvVerifyView;

/*
 * target: a process number, or UUID or name of a VM with a claim; of a VM without one, its UUID.
 * Reads without a lock and changes nothing. HV_ERROR_SYSTEM: there is no such process, or
 * several VMs have this name; others as of ledger, snapshot and hv_residence_read().
 */
HvVerifyView *hv_verify_read(const HvRoot *root, const char *target, GError **error);
void hv_verify_view_free(HvVerifyView *view);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvVerifyView, hv_verify_view_free)

/* "node 1: 0 of 256 x 2 MiB planned; they are on node 0" */
char *hv_verify_row_text(const HvVerifyRow *row);

/* HV_ERROR_CONFLICT naming VM and places, where memory is not as planned. TRUE without a claim. */
gboolean hv_verify_check(const HvVerifyView *view, GError **error);

char *hv_report_verify_json(const HvVerifyView *view);
char *hv_report_verify_text(const HvVerifyView *view);
