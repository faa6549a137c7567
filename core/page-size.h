/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Page sizes and checked page arithmetic. Every sum of sizes goes through here. */
#pragma once

#include <glib.h>

/*
 * Parses a memory size: digits with an optional suffix K, M, G or T (powers of
 * 1024, any case, an optional "iB" or "B" behind it); without suffix the
 * number counts default_unit_kib. No sign, no spaces inside, no fraction.
 * FALSE (outputs unchanged) if it is malformed or does not fit in 64 bits.
 */
gboolean hv_parse_size_kib(const char *text, guint64 default_unit_kib, guint64 *out_kib);

/* Parses an unsigned decimal number: digits only, in range. */
gboolean hv_parse_u64(const char *text, guint64 *out_value);

/* a + b and a * b; FALSE (output unchanged) on overflow. */
gboolean hv_checked_add(guint64 a, guint64 b, guint64 *out_sum);
gboolean hv_checked_mul(guint64 a, guint64 b, guint64 *out_product);

/* a - b, or 0 where b is larger. */
static inline guint64 hv_minus(guint64 a, guint64 b)
{
    return a > b ? a - b : 0;
}

/* a + b, or the largest number where that does not fit. */
static inline guint64 hv_plus(guint64 a, guint64 b)
{
    return a > G_MAXUINT64 - b ? G_MAXUINT64 : a + b;
}

/* Rounds up to a multiple of step (step > 0); FALSE on overflow. */
gboolean hv_round_up(guint64 value, guint64 step, guint64 *out_value);

/* Pages of size_kib (> 0) that cover memory_kib, the last one perhaps in part. */
guint64 hv_pages_for_kib(guint64 memory_kib, guint64 size_kib);

/* "2 MiB", "1 GiB", "64 KiB": the largest unit that divides it. Newly allocated. */
char *hv_format_kib(guint64 kib);
