/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reports: the same facts as JSON for scripts and as text for people. All newly allocated. */
#pragma once

#include "lifecycle.h"

/* What a report says of a pool beside the kernel's own counters, in pages. */
typedef struct {
    guint64 reserved_pages;
    guint64 grown_pages;
    guint64 claimed_pages; /* bound to this node; the floating ones too where it is the only node */
    guint64 available_pages; /* to a VM bound to this node, without any change of the pool */
    guint64 allocatable_pages;
} HvPoolReport;

HvPoolReport hv_report_pool(const HvWorld *world, const HvPool *pool);

char *hv_report_plan_json(const HvOutcome *outcome);
char *hv_report_plan_text(const HvOutcome *outcome);

/* The plan's JSON where there is no plan: its refusal tells the error. */
char *hv_report_plan_error_json(const GError *error);

/* char *: of the settings, and where they do not fit this host; JSON has them, text has not. */
GPtrArray *hv_report_status_warnings(const HvWorld *world);
char *hv_report_status_json(const HvWorld *world);
char *hv_report_status_text(const HvWorld *world);

/* What the host offers whatever VMs do: page sizes, nodes, what is switched on. */
char *hv_report_caps_json(const HvWorld *world);

/* All that reports on the host are made from. */
typedef struct {
    HvSettings *settings;
    HvLedger *ledger;
    HvSnapshot *snapshot;
} HvHostView;

/*
 * Reads it without a lock and without root; of who holds reserved pages, which takes a look at each
 * process, only where that is asked for: what is available depends on it. Where the kernel does not
 * tell how memory lies, nothing is said to grow: whoever places VMs by it must not be promised what
 * nobody has seen.
 */
HvHostView *hv_host_view_read(const HvAgent *agent, gboolean knows_consumers, GError **error);
void hv_host_view_free(HvHostView *view);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvHostView, hv_host_view_free)

char *hv_report_claims_json(const HvLedger *ledger);
char *hv_report_claims_text(const HvLedger *ledger);

char *hv_report_config_json(const HvSettings *settings);
char *hv_report_config_text(const HvSettings *settings);
