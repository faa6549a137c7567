/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Insertions and replacements in a text by byte offset. Private to domain-*.c. */
#pragma once

#include "domain-xml.h"

typedef struct {
    const char *bytes;
    gsize length;
} HvText;

typedef GArray HvSplices;

HvSplices *hv_splices_new(void);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvSplices, g_array_unref)

/* Takes n_bytes away at an offset and puts text there, which it owns from now on. */
void hv_splices_add(HvSplices *splices, gsize at, gsize n_bytes, char *text);

/* Sets an attribute in a start tag, in the tag's own style; same value: no splice. */
void hv_splices_set_attribute(HvSplices *splices, const HvText *text, const HvSpan *span,
                              const char *name, const char *value);

/* Takes an attribute out, with the blanks before it; without it: no splice. */
void hv_splices_remove_attribute(HvSplices *splices, const HvText *text, const HvSpan *span,
                                 const char *name);

/*
 * The text with all splices done; insertions at one offset in the order they were
 * added, and before a replacement there. NUL-terminated. HV_ERROR_INVALID if one lies outside the
 * text or in another one's bytes.
 */
char *hv_splices_apply(HvSplices *splices, const HvText *text, gsize *out_bytes, GError **error);

/*
 * A lead is what begins a line: its line ending and indentation, or "" where
 * something else stands on that line before. Before an offset; inside an element
 * before its first child; one unit deeper. Newly allocated.
 */
char *hv_lead_before(const HvText *text, gsize at);
char *hv_lead_inside(const HvText *text, const HvSpan *span);
char *hv_lead_deeper(const char *lead, const char *unit);

/* What the inner lead's indentation has more than the outer's, else two blanks. */
char *hv_indent_step(const char *outer, const char *inner);
