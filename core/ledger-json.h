/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The ledger as text: a JSON document with a format version, valid for one boot. */
#pragma once

#include "ledger.h"

#define HV_LEDGER_FORMAT 1

typedef enum {
    HV_LEDGER_TEXT_GOOD,
    HV_LEDGER_TEXT_OTHER_BOOT,   /* out_ledger is a new, empty one */
    HV_LEDGER_TEXT_NEWER_FORMAT, /* out_ledger is NULL */
    HV_LEDGER_TEXT_DAMAGED,      /* out_ledger is NULL */
} HvLedgerText;

char *hv_ledger_to_json(const HvLedger *ledger, const char *boot_id);
HvLedgerText hv_ledger_from_json(const char *text, const char *boot_id, HvLedger **out_ledger);
