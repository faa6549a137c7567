/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Doctor: is this host fit for hugevm? Checks of settings and host, each with cause and
 * remedy. What is wrong with VMs, claims and pages is audit's to say: doctor shares what audit
 * says of the ledger and of the kernel, and looks at no process.
 *
 * A new check is a function and a row in the table of doctor.c, and a term in hugevmctl(8).
 */
#pragma once

#include "audit.h"

typedef enum {
    HV_DOCTOR_OK,
    HV_DOCTOR_NOTE,    /* explains what hugevm does not do here */
    HV_DOCTOR_PROBLEM, /* somebody should set it right */
} HvDoctorLevel;

typedef struct {
    const char *check; /* its word in the table */
    HvDoctorLevel level;
    char *text; /* one line: what was found, and where */
    char *hint; /* one line: what to do; NULL: nothing */
} HvDiagnosis;

/* "ok", "note", "problem" */
const char *hv_doctor_level_name(HvDoctorLevel level);

/* All that is looked at. */
typedef struct {
    const HvRoot *root;     /* the agent's */
    HvAuditView *audit;     /* snapshot, settings, and what is hugevm's own */
    GError *settings_error; /* else audit->settings is NULL */
    GError *ledger_error;   /* NULL: none; else the ledger is empty */
} HvDoctorView;

/*
 * Reads this host, without a lock and without changing anything. Errors: the kernel's
 * files cannot be read, or settings or ledger for lack of rights; others are for the checks.
 */
HvDoctorView *hv_doctor_read(const HvAgent *agent, GError **error);
void hv_doctor_view_free(HvDoctorView *view);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvDoctorView, hv_doctor_view_free)

/* HvDiagnosis: one or more of each check, but for those that a problem of another makes idle. */
GPtrArray *hv_doctor(const HvDoctorView *view);

/* How many of them are problems. */
guint hv_doctor_problems(const GPtrArray *diagnoses);

char *hv_report_doctor_json(const GPtrArray *diagnoses);
char *hv_report_doctor_text(const GPtrArray *diagnoses);
