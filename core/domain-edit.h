/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The edit of a domain XML: our few elements spliced into the original bytes. */
#pragma once

#include "domain-xml.h"

/* A host node for all of the guest's memory. */
typedef struct {
    int node;
    gboolean is_strict; /* else preferred */
} HvBinding;

/* Pages of one guest cell; cell -1: of a guest without cells. */
typedef struct {
    int cell;
    guint64 size_kib; /* 0: normal ones */
} HvCellPages;

/* Page sizes that the XML names, and the one that it is to name instead. */
typedef struct {
    const GArray *from_kib; /* guint64 */
    guint64 to_kib;
} HvPageReplacement;

typedef struct {
    const char *add_uuid;      /* <uuid> to add where the XML has none; NULL: none */
    guint64 add_hugepages_kib; /* <hugepages><page size=…> to add; 0: none */
    gboolean make_shared;      /* memAccess='shared' on every cell, else <access mode='shared'/> */
    const GArray *cell_pages;  /* HvCellPages, instead of one size for all cells; NULL: none */
    const HvBinding *bind;     /* <numatune> to add where the XML has none; NULL: none */
    gboolean back_by_files;    /* <source type='file'/>, and what belongs to it */
    gboolean add_discard;      /* <discard/> as well */
    const HvPageReplacement *replace_pages; /* in <hugepages> and memory devices; NULL: none */
} HvDomainEdit;

/* Does it say all that back_by_files would? */
gboolean hv_domain_says_files(const HvDomain *domain);

/*
 * Returns the edited text (newly allocated, NUL-terminated, its length in
 * *out_bytes). Without anything to change the bytes are the original's. The
 * result is parsed again and must equal the original in canonical form outside
 * of the elements above; anything else is HV_ERROR_XML.
 */
char *hv_domain_edit(const HvDomain *domain, const char *xml, gsize xml_bytes,
                     const HvDomainEdit *edit, gsize *out_bytes, GError **error);
