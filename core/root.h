/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The one injected root: every kernel and system path goes through it, so that
 * each reader and writer runs on a fixture tree as well as on the machine.
 * Paths given here are absolute as on a real host ("/sys/kernel/mm/...").
 */
#pragma once

#include <glib.h>

typedef struct HvRoot HvRoot;

/* directory NULL or "/" is the machine itself. */
HvRoot *hv_root_new(const char *directory);
void hv_root_free(HvRoot *root);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvRoot, hv_root_free)

/* True for the machine itself, false for a fixture tree. */
gboolean hv_root_is_machine(const HvRoot *root);

/* The real path of an absolute path below the root. Newly allocated. */
char *hv_root_path(const HvRoot *root, const char *path);

gboolean hv_root_exists(const HvRoot *root, const char *path);

/* A whole text file of at most max_bytes, NUL-terminated; NUL bytes inside are an error.
 * A missing file gives G_FILE_ERROR_NOENT, other failures HV_ERROR_SYSTEM (PERMISSION for EACCES).
 */
char *hv_root_read_text(const HvRoot *root, const char *path, gsize max_bytes, GError **error);

/* The next line of such a text, cut off there; *text goes on behind it. NULL: there is none. */
char *hv_next_line(char **text);

/* A sysfs number: digits, one optional newline, nothing else. Errors as above. */
gboolean hv_root_read_u64(const HvRoot *root, const char *path, guint64 *out_value, GError **error);

/* Writes "VALUE\n" by one write(2) to an existing file. EACCES/EPERM/EROFS: HV_ERROR_PERMISSION. */
gboolean hv_root_write_u64(const HvRoot *root, const char *path, guint64 value, GError **error);

/* Names in a directory, sorted by byte value, without "." and ".."; NULL-terminated.
 * A missing directory gives an empty list. */
char **hv_root_list(const HvRoot *root, const char *path, GError **error);
