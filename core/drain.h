/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Emptying a host before hugevm is removed from it. */
#pragma once

#include "lifecycle.h"

/* What is left after all has been let go of that nobody needs. */
typedef struct {
    HvLedger *ledger; /* its claims, grown pages and open writes */
    guint n_guards;   /* segments and mounts that could not be taken away, or belong to claims */
} HvRemains;

void hv_remains_free(HvRemains *remains);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvRemains, hv_remains_free)

/* TRUE: nothing of hugevm is on this host but its files. */
gboolean hv_remains_is_empty(const HvRemains *remains);

/* Pages of a pool that are there because of hugevm: kept, and such that go with their users. */
guint64 hv_remaining_pages(const HvGrown *grown);

/*
 * As hv_lifecycle_recover, then looks what is left. Where nothing is, the vault goes too, so
 * that /run/hugevm may be removed.
 */
HvRemains *hv_lifecycle_drain(const HvAgent *agent, GPtrArray *out_warnings, GError **error);

char *hv_report_drain_json(const HvRemains *remains);
char *hv_report_drain_text(const HvRemains *remains); /* "" where nothing is left */
