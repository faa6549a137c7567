/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The dialect of vdsm.conf: what Python's configparser reads, and nothing else. */
#pragma once

#include <glib.h>

typedef struct {
    char *section;
    char *key;   /* lower case, as configparser makes it */
    char *value; /* NULL never: a key without delimiter is an error; `%` as written */
    char *file;
    guint line; /* of the key, from 1 */
} HvConfEntry;

/*
 * Appends the entries of one file's text (HvConfEntry, owned by the array);
 * where two entries have the same section and key, the later one counts.
 * Syntax errors and duplicates inside the file are HV_ERROR_CONFIG naming file
 * and line, and leave the array as it was. `file` is shown as it is.
 */
gboolean hv_conf_parse(const char *text, gsize text_bytes, const char *file, GPtrArray *entries,
                       GError **error);
GPtrArray *hv_conf_entries_new(void);

/*
 * An entry's value with its `%` interpolation done as configparser's
 * BasicInterpolation does: %% and %(key)s, looked up in the entry's section and
 * then in [DEFAULT]. Done on demand, after all files are read, because a bad `%`
 * in a value that nobody asks for is no error. NULL with HV_ERROR_CONFIG naming
 * file, line and key. Newly allocated.
 */
char *hv_conf_interpolate(const GPtrArray *entries, const HvConfEntry *entry, GError **error);
