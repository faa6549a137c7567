/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a newer hugevm has written into the ledger and this one does not know. After an
 * upgrade, agents that run go on with the module that they hold: they must not take from
 * the others what those have recorded.
 */
#pragma once

#include <json-glib/json-glib.h>

/* Has the document, or a part of it, a member that this version does not write? */
gboolean hv_ledger_has_unknown(JsonObject *document);

/*
 * Copies these members into a document that was written from what was read, each into the
 * part that it stood in: the claim of the same generation, the same pool, the same process.
 * What is gone takes along what was said of it.
 */
void hv_ledger_add_unknown(JsonObject *written, JsonObject *read);
