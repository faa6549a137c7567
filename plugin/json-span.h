/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Where values stand in a JSON text, so that some can be replaced and every other
 * byte stays: numbers as they were written, escapes, order, and what Python's json
 * writes although no JSON has it (NaN). A parser that makes objects of it and writes
 * them anew keeps none of that, and costs a hook more than all its work.
 */
#pragma once

#include <glib.h>

typedef struct {
    const char *begin;
    const char *end;
} JsonSpan;

/* One value and nothing else, in any depth up to some 200? Then *out_value is it, without blanks.
 */
gboolean json_span_whole(const char *text, gsize n, JsonSpan *out_value);

/* What follows is for spans that stand in a text found to be whole. */

/* A member's value; FALSE: that is no object, or has no such member. name: plain ASCII. */
gboolean json_span_member(JsonSpan object, const char *name, JsonSpan *out_value);

/* The items of an array, one after the other: *rest is the array first. FALSE: no more. */
gboolean json_span_next(JsonSpan *rest, JsonSpan *out_item);

/* A number that is a count, plain or in quotes. */
gboolean json_span_count(JsonSpan value, guint64 *out_count);
gboolean json_span_is_text(JsonSpan value);
gboolean json_span_is_true(JsonSpan value);
