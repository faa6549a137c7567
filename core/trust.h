/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Trust: may root believe what stands in a file? Some places where configuration
 * is looked for belong to a daemon's user (/run/vdsm), who is not to set limits for
 * root, nor to have a file read that he could not read himself.
 */
#pragma once

#include "root.h"

/*
 * The file or directory, and each directory on the way to it, belongs to root (or
 * to the user that we run as), and nobody else may write to it. A missing one gives
 * G_FILE_ERROR_NOENT, one not to be trusted HV_ERROR_CONFIG that names what is wrong.
 * Links are followed where root has made them.
 */
gboolean hv_trust_check(const HvRoot *root, const char *path, GError **error);
