/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* hugevm's own metadata element: the VM properties, and what was put into the XML for them. */
#pragma once

#include "domain-added.h"

typedef struct {
    const char *hugepages;   /* values of the properties; NULL: as it stands, "": none */
    const char *shared;      /* likewise, under whichever of its two names */
    gboolean takes_out;      /* what was added goes, and the note of it */
    gboolean replaces_pages; /* and the page size of the whole guest, whoever wrote it */
    const HvAdded *added;    /* the note to make; NULL: none */
} HvMetadataEdit;

/* What the element notes; all NULL without such a note. */
HvAdded hv_metadata_added(const HvDoc *doc);

/*
 * The edited text (newly allocated, NUL-terminated). Everything else is left as it is, byte by
 * byte, which is checked. HV_ERROR_XML: hugevm's element is there twice.
 */
char *hv_metadata_edit(const HvDoc *doc, const HvMetadataEdit *edit, gsize *out_bytes,
                       GError **error);
