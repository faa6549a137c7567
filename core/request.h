/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Request: what pages a VM needs, per backend, and what its XML must say. */
#pragma once

#include "domain-edit.h"
#include "properties.h"
#include "settings.h"
#include "error.h"
#include "snapshot.h"

/* Pages of one backend: a guest cell or a memory device. */
typedef struct {
    HvNodeSet nodes; /* host nodes that may give them; empty: any */
    HvNodeSet near;  /* where they are wanted; not in the ledger, as it promises nothing */
    HvPolicy policy; /* of near; none: it says only where to grow, if that must be */
    guint64 size_kib;
    guint64 pages;
    int cell;            /* guest cell; -1: the guest has none. These two for open needs only */
    guint64 memory_kib;  /* 0: the size is not open */
    gboolean is_elastic; /* virtio-mem: the guest takes and leaves them as it likes */
} HvNeed;

/* Pages and host nodes of a guest cell: those of a memory device that says nothing of its own. */
typedef struct {
    int cell;
    guint64 page_kib; /* 0: normal pages */
    HvNodeSet nodes;  /* empty: any */
} HvCellRule;

/* What a request leaves to the plan. */
typedef struct {
    GArray *sizes;          /* guint64, descending: page sizes of open needs; empty: none is open */
    gboolean may_be_normal; /* normal pages will do as well */
    HvBindUnbound bind;     /* nothing binds the VM: to which node, if to any? */
} HvOpen;

/* A reason why the VM cannot start that does not depend on the pools. */
typedef struct {
    HvErrorCode code;
    char *message;
    char *hint;            /* NULL: none */
    const char *agreement; /* the id of the agreement that it breaks (agreements.h); NULL: none */
} HvRefusal;

typedef struct {
    char *uuid; /* NULL: the XML has none and the caller gave none */
    char *name;
    GArray *needs;        /* HvNeed; empty: the VM uses no huge pages */
    gboolean shared;      /* guest memory will be shared */
    gboolean needs_mount; /* libvirt needs a hugetlbfs mount of each size: not for memfd */
    gboolean may_mount;   /* and a launch mount may keep pages for its files */
    gboolean keeps_pages; /* the VM has no way to give pages back while it runs */
    HvOpen open;          /* for settle.h */
    GArray *cells;        /* HvCellRule: what a device that is plugged later goes by; NULL: none */
    GArray *chosen;       /* HvCellPages: what was settled of open sizes; edit may point at it */
    HvBinding binding;    /* what was settled of the node; edit may point at it */
    HvDomainEdit edit;    /* add_uuid points at uuid */
    guint64 file_kib;     /* all of its memory is to be in files; 0: there are no such files */
    char *file_dir;       /* below which they will be; NULL: nowhere */
    HvRefusal *refusal;   /* NULL: none. needs are filled all the same */
    GPtrArray *warnings;  /* char *; those of the properties come first */
} HvRequest;

/*
 * Does this VM have anything to do with huge pages? Cheap: no settings, no snapshot needed.
 * base_page_kib: hv_platform_base_page_kib().
 */
gboolean hv_request_wants_hugepages(const HvDomain *domain, const HvProperties *properties,
                                    guint64 base_page_kib);

/* The size instead of one that the host does not offer: VDSM's default of the architecture where
 * the host has it, else the kernel's; 0: there is none. */
guint64 hv_fallback_page_kib(const HvSnapshot *snapshot);

/*
 * uuid: the host's, or NULL; must agree with the XML's. Errors: PROPERTY, XML,
 * CONFLICT (property against XML), INVALID (uuid).
 */
HvRequest *hv_request_new(const HvDomain *domain, const HvProperties *properties, const char *uuid,
                          const HvSettings *settings, const HvSnapshot *snapshot, GError **error);
HvRequest *hv_request_copy(const HvRequest *request);
gboolean hv_request_is_open(const HvRequest *request);

/* Is there anything to claim for it? */
gboolean hv_request_takes_anything(const HvRequest *request);
void hv_request_free(HvRequest *request);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvRequest, hv_request_free)

void hv_refusal_free(HvRefusal *refusal);
HvRefusal *hv_refusal_new(HvErrorCode code, const char *hint, const char *format, ...)
    G_GNUC_PRINTF(3, 4);
HvRefusal *hv_refusal_copy(const HvRefusal *refusal);

/* "guest cell 1", or "the guest" for -1. Newly allocated. */
char *hv_cell_name(int cell);
