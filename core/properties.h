/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The VM properties `hugepages` and `hugepages_shared`, from whichever door they came. */
#pragma once

#include "domain-xml.h"

/* What hugepages_shared may be called in hugevm's own metadata element. */
#define HV_SHARED_SHORT_NAME "shared"

typedef enum { HV_SHARED_UNSET, HV_SHARED_NO, HV_SHARED_YES } HvShared;

/* Who chooses the page size. */
typedef enum {
    HV_SIZES_NAMED, /* the property, or the XML */
    HV_SIZES_LARGE, /* hugevm: the largest huge page size that can be had, per guest cell */
    HV_SIZES_ANY,   /* the same, and normal pages where there is none */
} HvSizes;

typedef struct {
    HvSizes sizes;
    gboolean hugepages_set; /* present and not empty, anywhere */
    guint64 hugepages_kib;  /* 0: off (absent, empty, 0 or negative), or to be chosen */
    HvShared shared;
    GPtrArray *warnings; /* char * */
} HvProperties;

/*
 * Reads the properties: agent (char * -> char *, or NULL) before ovirt-vm:custom
 * before hugevm's own element. HV_ERROR_PROPERTY names property and value.
 */
HvProperties *hv_properties_read(GHashTable *agent, const HvDomain *domain, GError **error);
HvProperties *hv_properties_none(void);
void hv_properties_free(HvProperties *properties);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvProperties, hv_properties_free)
