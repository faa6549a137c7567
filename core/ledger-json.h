/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The ledger as text: a JSON document, valid for one boot.
 *
 * Several versions of hugevm use it at once: after an upgrade, agents that run keep the module
 * that they have loaded. So a newer version may add members, of every kind that stands in it
 * today; an older one passes them on (ledger-unknown.c). What an older one would get wrong
 * without knowing them, as a new state of a claim, raises HV_LEDGER_MIN_READER: then it says so
 * and touches nothing.
 */
#pragma once

#include "ledger.h"

#define HV_LEDGER_FORMAT 1     /* that this version writes */
#define HV_LEDGER_MIN_READER 1 /* the oldest format whose versions may use what this one writes */

typedef enum {
    HV_LEDGER_TEXT_GOOD,
    HV_LEDGER_TEXT_OTHER_BOOT,   /* out_ledger is a new, empty one */
    HV_LEDGER_TEXT_NEWER_FORMAT, /* not for this version; out_ledger is NULL */
    HV_LEDGER_TEXT_DAMAGED,      /* out_ledger is NULL */
} HvLedgerText;

char *hv_ledger_to_json(const HvLedger *ledger, const char *boot_id);
HvLedgerText hv_ledger_from_json(const char *text, const char *boot_id, HvLedger **out_ledger);
