/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What there is to see of memory files besides claims. Waits for nobody, needs no lock. */
#pragma once

#include "ledger.h"
#include "settings.h"

/*
 * How much of their files VMs that start have allocated, in allocated_kib: look before the free
 * space is looked at. FALSE: nothing of any, as far as this user may see.
 */
gboolean hv_ledger_look_at_files(const HvRoot *root, HvLedger *ledger);

/* That, and then the directory; NULL: memory is in no files, or hugevm is switched off. */
HvMemoryDir *hv_files_look(const HvRoot *root, const HvSettings *settings, HvLedger *ledger);
