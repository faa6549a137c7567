/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Errors inside hugevm: one GError domain, few codes.
 *
 * The message is one line for people: what was asked, where, what was found.
 * An optional second line (after the first '\n') is the hint: what to do.
 * Text that comes from outside (names, property values, file contents) enters
 * a message only through hv_quote(), so a message never holds control bytes.
 */
#pragma once

#include <glib.h>

#define HV_ERROR hv_error_quark()

typedef enum {
    HV_ERROR_INVALID,    /* the caller broke the interface's rules */
    HV_ERROR_PROPERTY,   /* a VM property has a value that means nothing */
    HV_ERROR_XML,        /* the domain XML cannot be used */
    HV_ERROR_CONFIG,     /* a configuration file has an error */
    HV_ERROR_CONFLICT,   /* two wishes, each fine alone, exclude each other */
    HV_ERROR_SHORTAGE,   /* not enough pages, and none may or can be had */
    HV_ERROR_TIMEOUT,    /* the deadline passed */
    HV_ERROR_CANCELLED,  /* the host or a signal asked to stop */
    HV_ERROR_PERMISSION, /* root is needed */
    HV_ERROR_LEDGER,     /* the ledger or its directory cannot be used */
    HV_ERROR_SYSTEM,     /* the kernel or a file said no */
} HvErrorCode;

GQuark hv_error_quark(void);

/* Sets *error to "MESSAGE\nHINT"; hint may be NULL. */
void hv_set_error(GError **error, HvErrorCode code, const char *hint, const char *format, ...)
    G_GNUC_PRINTF(4, 5);

/* "shortage", "bad-property": stable words for JSON. */
const char *hv_error_code_name(HvErrorCode code);

/* The first line of an error's message (newly allocated). */
char *hv_error_message(const GError *error);

/* The hint of an error, or NULL; points into the error. */
const char *hv_error_hint(const GError *error);

/*
 * Untrusted text made fit for a message: in single quotes, at most 64
 * characters of it, control, format and invalid bytes shown as \xNN.
 * NULL gives "(none)". Newly allocated.
 */
char *hv_quote(const char *text);

/* The same without quotes and in full, for a whole line that comes from elsewhere. Newly allocated.
 */
char *hv_escape(const char *text);
