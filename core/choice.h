/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which of several nodes grows for a VM that may have its pages on any of them. */
#pragma once

#include <glib.h>

/* A node that can grow. */
typedef struct {
    guint64 growable_pages;
    guint64 joined_pages; /* free ones that the VM could have there, and those it gets anyway */
    gboolean is_cpuless;
    guint distance; /* to where the pages are wanted, as the kernel counts */
} HvPlace;

/* Is a the better of two for so many pages? Of equal ones neither is. */
gboolean hv_place_is_better(const HvPlace *a, const HvPlace *b, guint64 pages);
