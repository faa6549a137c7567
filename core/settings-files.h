/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which files hold the settings, in the order in which they are read. For settings.c alone. */
#pragma once

#include "root.h"

/*
 * The files of one component ("vdsm" or "hugevm") that are there: its main file, then
 * its drop-ins, by name. Newly allocated strings. Only what root alone may write to is
 * believed: of VDSM's places the others are left out, each with a line in warnings;
 * among hugevm's own they are an error.
 */
GPtrArray *hv_settings_files(const HvRoot *root, const char *component, GPtrArray *warnings,
                             GError **error);
