/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What audit.c and audit-kernel.c share. */
#pragma once

#include "audit.h"

/* Adds one, which the list owns; the caller adds repair and hint to it. */
HvFinding *hv_audit_add(GPtrArray *findings, HvFindingKind kind, const char *uuid,
                        const char *format, ...) G_GNUC_PRINTF(4, 5);

/* "VM UUID 'web' (running, 64 pages of 2 MiB)" */
char *hv_audit_describe_claim(const HvClaim *claim);

/* Pools, guards, mounts, and the kernel's settings. */
void hv_audit_kernel(const HvAuditView *view, GPtrArray *findings);
