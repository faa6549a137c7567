/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A request while it is being made. Private to request*.c. */
#pragma once

#include "request.h"

/* What hv_request_new() works on; all borrowed but the request. */
typedef struct {
    const HvDomain *domain;
    const HvProperties *properties;
    const HvSettings *settings;
    const HvSnapshot *snapshot;
    HvRequest *request;
    guint64 default_kib; /* page size of cells that the XML gives none; 0: normal pages */
    gboolean is_open;    /* these cells' page size is for the plan to choose, default_kib a guess */
    guint64 normal_kib;  /* memory of all backends with normal pages, as libvirt aligns it */
} HvBuild;

void hv_build_warn(HvBuild *build, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* Takes the refusal; the first reason is the one that counts. */
void hv_build_refuse(HvBuild *build, HvRefusal *refusal);

gboolean hv_build_is_ppc64(const HvBuild *build);

/* Does this host have that huge page size? */
gboolean hv_build_offers(const HvBuild *build, guint64 size_kib);

/* Is it more than a normal page? */
gboolean hv_build_is_huge(const HvBuild *build, guint64 size_kib);

/* Fills the needs from cells and memory devices; default_kib must be settled. */
gboolean hv_build_needs(HvBuild *build, GError **error);
