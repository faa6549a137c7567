/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The doctor's check of file_backed_memory. Private to doctor*.c. */
#pragma once

#include "doctor.h"

typedef void (*HvDoctorAdd)(GPtrArray *found, HvDoctorLevel level, const char *hint,
                            const char *format, ...) G_GNUC_PRINTF(4, 5);

/* settings and snapshot must be there. */
void hv_doctor_files(const HvDoctorView *view, HvDoctorAdd add, GPtrArray *found);
