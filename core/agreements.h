/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Agreements: which wishes for a VM's memory go together. One table; each row says what it is
 * about, what is then said, and why. Pure.
 */
#pragma once

#include "request-build.h"

typedef enum {
    HV_AGREEMENT_REFUSES, /* the VM does not start, and nothing is taken for it */
    HV_AGREEMENT_WARNS,
} HvAgreementEffect;

typedef struct {
    const char *id;       /* a stable word, for the documentation and for tests */
    const char *parties;  /* for people: what meets what */
    gboolean is_of_files; /* it is about VMs whose memory is in files; else those of huge pages */
    HvAgreementEffect effect;
    HvErrorCode code;    /* of a refusal */
    const char *message; /* {} stands for what find gave */
    const char *hint;    /* what to do */
    const char *reason;  /* why, and how that is known, for the documentation */
    /* NULL: it does not apply; else, newly allocated, what {} stands for (agreements-find.h). */
    char *(*find)(const HvBuild *build);
} HvAgreement;

extern const HvAgreement hv_agreements[];
extern const guint hv_n_agreements;

/* Warns and refuses by the table; needs and sharing of the request must be settled. */
void hv_agreements_check(HvBuild *build);
