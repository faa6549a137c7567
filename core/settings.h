/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Settings: what the configuration files say, each value with its file and line. */
#pragma once

#include "memory-dir.h"

typedef enum {
    HV_DEMOTE_NEVER,
    HV_DEMOTE_OWN, /* only larger pages that hugevm itself added */
    HV_DEMOTE_ANY,
} HvDemote;

/* What becomes of a VM that nothing binds to host nodes. */
typedef enum {
    HV_BIND_NONE,        /* it stays so */
    HV_BIND_SINGLE_NODE, /* it is bound to one node, or refused */
    HV_BIND_PREFER,      /* it prefers one node */
} HvBindUnbound;

/* Pages withheld from VMs, for one consumer. */
typedef struct {
    char *name;       /* NULL for an entry without a name */
    char *process;    /* who that is, by consumers.h; NULL without a name */
    guint64 size_kib; /* 0: the kernel's default size */
    guint64 count_pages;
    int node; /* -1: floating, on any node */
} HvReserved;

/* One effective setting for `hugevmctl config`. */
typedef struct {
    char *section;
    char *key;
    char *value;
    char *file; /* NULL: built in */
    guint line;
} HvSettingOrigin;

typedef struct {
    gboolean enabled; /* FALSE: VMs get no pages from hugevm; what it has added still comes back */
    gboolean use_dynamic_hugepages;
    gboolean use_preallocated_hugepages;
    GArray *reserved; /* HvReserved */
    gboolean strict_page_size;
    gboolean shared_memory_auto; /* shared_memory = auto | explicit */
    guint64 floor_host_kib;      /* host_memory_floor, first part */
    guint floor_node_percent;    /* host_memory_floor, second part */
    guint64 allocation_timeout_ms;
    guint64 hook_timeout_ms; /* the same where the host serves nobody else meanwhile */
    gboolean drop_caches;
    gboolean compact;
    HvDemote demote;
    HvBindUnbound bind_unbound;
    gboolean handover_auto;   /* handover = auto | never */
    gboolean adapts_incoming; /* incoming_page_sizes = keep | adapt */
    guint64 file_backed_kib;  /* file_backed_memory: what VMs' memory files may take; 0: no files */
    char *memory_backing_dir; /* where libvirt makes them; NULL: where qemu.conf says */
    GPtrArray *origins;       /* HvSettingOrigin, in the order of the table of keys */
    GPtrArray *warnings;      /* char *: clashes that are no errors */
} HvSettings;

/*
 * Loads the settings in VDSM's order (doc: hugevm.conf(5)). conf_files, a
 * NULL-terminated list or NULL, replaces all standard files; each of those must
 * exist. Bad values and unknown [hugevm] keys are HV_ERROR_CONFIG naming file,
 * line, key, value and what is allowed.
 */
HvSettings *hv_settings_load(const HvRoot *root, const char *const *conf_files, GError **error);
HvSettings *hv_settings_new(void); /* built-in values, for tests */

/* Where VMs' memory files are; NULL: they are in no files, or hugevm is switched off. */
HvMemoryDir *hv_settings_memory_dir(const HvSettings *settings, const HvRoot *root);
void hv_settings_free(HvSettings *settings);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvSettings, hv_settings_free)

/* Reserved pages of a size: those bound to the node, or the floating ones for node -1.
 * default_size_kib stands in for entries that name no size. */
guint64 hv_settings_reserved_pages(const HvSettings *settings, guint64 size_kib, int node,
                                   guint64 default_size_kib);
