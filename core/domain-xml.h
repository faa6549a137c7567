/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Domain XML, read with care: libxml2 without network, DTD or entities, size
 * bounded, UTF-8 only. Gives the facts that huge pages depend on, and the byte
 * positions that an edit needs.
 */
#pragma once

#include "node-set.h"

#define HV_DOMAIN_XML_MAX_BYTES                                                                    \
    (4u * 1024 * 1024) /* libvirt's own limit for a string on the wire */

/* Namespaces of the <metadata> elements that carry VM properties. */
#define HV_OVIRT_VM_NAMESPACE "http://ovirt.org/vm/1.0"
#define HV_HUGEVM_NAMESPACE "urn:hugevm:vm:1"

/* Byte positions of an element in the original text. */
typedef struct {
    gsize start;           /* the '<' of the start tag */
    gsize start_end;       /* behind the start tag's '>' */
    gsize end_start;       /* the '<' of the end tag; equals start_end for <a/> */
    gsize end;             /* behind the whole element */
    gboolean is_empty_tag; /* written as <a/> */
} HvSpan;

/* What the memory's nodes mean where they do not bind it. */
typedef enum {
    HV_POLICY_NONE,
    HV_POLICY_PREFERRED,  /* there if possible, else anywhere */
    HV_POLICY_INTERLEAVE, /* an equal share on each, as far as possible */
} HvPolicy;

/* Where memory may be on the host, and where it is wanted. */
typedef struct {
    HvNodeSet nodes; /* that bind it (strict or restrictive); any otherwise */
    HvNodeSet near;  /* what the policy speaks of */
    HvPolicy policy;
} HvPlacement;

/* Who may see memory besides QEMU. */
typedef enum { HV_ACCESS_UNSET, HV_ACCESS_PRIVATE, HV_ACCESS_SHARED } HvAccess;

typedef enum {
    HV_SOURCE_UNSET,
    HV_SOURCE_FILE, /* of memory_backing_dir; where a huge page size is named, that counts */
    HV_SOURCE_ANONYMOUS,
    HV_SOURCE_MEMFD,
} HvSource;

typedef enum { HV_ALLOCATION_UNSET, HV_ALLOCATION_IMMEDIATE, HV_ALLOCATION_ONDEMAND } HvAllocation;

/* <launchSecurity>: who else than the host decides about the guest's pages. */
typedef enum {
    HV_ENCRYPTION_NONE,
    HV_ENCRYPTION_SEV, /* and SEV-ES: pages are pinned */
    HV_ENCRYPTION_SEV_SNP,
    HV_ENCRYPTION_TDX,
    HV_ENCRYPTION_S390_PV,
    HV_ENCRYPTION_OTHER,
} HvEncryption;

/* A guest NUMA cell, or the whole guest where it has none. */
typedef struct {
    int id;                     /* guest cell id; -1: a guest without NUMA cells */
    guint64 memory_kib;         /* as written; see request.h for alignment */
    guint64 page_kib;           /* what <hugepages> says for it; 0: nothing, or bare <hugepages/> */
    gboolean is_shared;         /* effective access: memAccess, else <access mode>, else memfd's */
    gboolean is_access_written; /* one of the first two; libvirt's checks see no other */
    HvAccess access;            /* memAccess alone */
    HvPlacement placement;
    HvNodeSet vcpus; /* of this cell, by number; empty: not said */
    HvSpan span;     /* of <cell>; all 0 for a guest without cells */
} HvCell;

typedef enum {
    HV_MEMORY_DIMM,
    HV_MEMORY_VIRTIO_MEM,
    HV_MEMORY_NOT_COUNTED, /* nvdimm, virtio-pmem, sgx-epc */
} HvMemoryModel;

typedef struct {
    HvMemoryModel model;
    guint64 memory_kib;  /* dimm: size; virtio-mem: requested */
    guint64 size_kib;    /* what it may become */
    gboolean is_live;    /* virtio-mem of a VM that runs: current_kib is what it has */
    guint64 current_kib; /* else 0 */
    guint64 page_kib;    /* source/pagesize; 0: as its target cell */
    int cell;            /* target/node; -1 where absent */
    HvNodeSet nodes;     /* source/nodemask, else any (the cell's binding is looked up later) */
    HvAccess access;     /* its own attribute; unset: as its target cell */
} HvMemoryDevice;

/* What the rest of a domain says that matters to its memory. */
typedef struct {
    HvSource source;
    HvAccess access; /* of <memoryBacking> */
    HvAllocation allocation;
    gboolean has_discard;   /* <discard/> */
    gboolean is_locked;     /* <locked/> */
    guint64 hard_limit_kib; /* <memtune>; 0: none */
    guint64 current_kib;    /* <currentMemory>; 0: not said, which is all of it */
    gboolean has_balloon;   /* libvirt adds one where the XML is silent about it */
    gboolean reports_free_pages;
    gboolean has_blob_video; /* virtio-gpu that hands the guest's memory to the display as it is */
    HvEncryption encryption;
} HvTraits;

/* <vcpupin>: the host's CPUs of one of the guest's. */
typedef struct {
    guint64 vcpu;
    HvNodeSet cpus;
} HvVcpuPin;

typedef struct {
    char *uuid;             /* lower case, checked; NULL: none in the XML */
    char *name;             /* NULL: none */
    gboolean has_hugepages; /* <memoryBacking><hugepages> is there */
    guint64 page_kib;       /* the <page> without nodeset, 0: none (or bare <hugepages/>) */
    HvTraits traits;
    gboolean is_auto_placed; /* numatune placement='auto': numad binds it at start */
    gboolean has_cells;
    guint64 memory_kib;        /* <memory> as written; 0: it is missing, and the cells say all */
    guint64 parts_kib;         /* what cells and memory devices have, which is what counts */
    GArray *cells;             /* HvCell; one with id -1 for a guest without cells */
    GArray *devices;           /* HvMemoryDevice */
    GPtrArray *sharers;        /* char *: devices that cannot work with private memory, in words */
    HvNodeSet cpus;            /* host CPUs of vCPUs without a pin, by number; empty: all */
    GArray *vcpu_pins;         /* HvVcpuPin */
    GPtrArray *pci_devices;    /* char *: host devices of the guest, as "0000:3b:00.0" */
    gboolean may_discard;      /* has a device by which the guest gives back pages that it had */
    GHashTable *ovirt_custom;  /* char * -> char *: <ovirt-vm:custom> */
    GHashTable *hugevm_custom; /* char * -> char *: children of hugevm's own metadata element */
    /* spans for the edit; end == 0: the element is not there */
    HvSpan span_domain;
    HvSpan span_name;
    HvSpan span_uuid;
    HvSpan span_memory;
    HvSpan span_memory_backing;
    HvSpan span_hugepages;
    HvSpan span_access;
    HvSpan span_source;
    HvSpan span_allocation;
    HvSpan span_numatune;
} HvDomain;

/*
 * Parses a domain definition (need not be NUL-terminated). HV_ERROR_XML: empty,
 * too large, not well-formed (with line), a DTD, an encoding other than UTF-8,
 * a root other than <domain>, a bad number or unit, no memory at all.
 */
HvDomain *hv_domain_parse(const char *xml, gsize xml_bytes, GError **error);

/*
 * The same with name and UUID only, for a VM that has nothing to do with huge
 * pages: what its memory looks like is then libvirt's to judge.
 */
HvDomain *hv_domain_parse_identity(const char *xml, gsize xml_bytes, GError **error);
HvDomain *hv_domain_new(void); /* of nothing: for a memory device by itself */
void hv_domain_free(HvDomain *domain);

/* One <memory> device by itself, with the same care. *out_device is unchanged on failure. */
gboolean hv_memory_device_parse(const char *xml, gsize xml_bytes, HvMemoryDevice *out_device,
                                GError **error);

/*
 * One device of any kind by itself: *out_name is what it is called if it cannot work with private
 * memory, else NULL. Newly allocated, unchanged on failure.
 */
gboolean hv_device_parse_sharer(const char *xml, gsize xml_bytes, char **out_name, GError **error);

/* The sharers as a list for people, not all of them if they are many. Newly allocated. */
char *hv_domain_format_sharers(const HvDomain *domain);

/* The guest cell with that id, -1 for a guest without cells; NULL: there is none. */
const HvCell *hv_domain_cell(const HvDomain *domain, int id);

gboolean hv_domain_has_virtio_mem(const HvDomain *domain);

/* <hugepages> without any <page>: every cell gets the default size. */
gboolean hv_domain_has_bare_hugepages(const HvDomain *domain);

/*
 * A UUID as libvirt reads it (32 hex digits, '-' and ' ' between pairs, any
 * case), in lower case with dashes. NULL if it is none. Newly allocated.
 */
char *hv_uuid_normalize(const char *text);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvDomain, hv_domain_free)
