/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Lifecycle: the events of a VM's life, each walking the road
 * request -> snapshot -> planner -> executor and keeping the ledger.
 * plugin/module.c offers these to hosts; hugevmctl uses them directly.
 */
#pragma once

#include "executor.h"

/* Who calls, and for which host tree. Read-only once filled; usable from any thread. */
typedef struct {
    HvRoot *root;
    char **conf_files; /* NULL: the standard ones */
    char *owner_name;
    gint64 owner_pid;
} HvAgent;

HvAgent *hv_agent_new(const char *root, const char *const *conf_files, const char *owner_name,
                      gint64 owner_pid);
void hv_agent_free(HvAgent *agent);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvAgent, hv_agent_free)

/* A VM about to start. Owns nothing. */
typedef struct {
    const char *xml;
    gsize xml_bytes;
    const char *uuid;       /* NULL: the XML's */
    GHashTable *properties; /* char * -> char *, or NULL */
    gboolean cannot_edit;   /* the XML will be used as it is */
    gboolean adopts;        /* a claim that another agent made for this start is taken over */
    gboolean by_libvirtd;   /* the system's daemon starts it: it must know a hugetlbfs */
    gboolean host_waits;    /* the host serves nobody else meanwhile: hook_timeout counts too */
    gboolean is_kept;       /* it is for later: what is mounted may change until then */
    gboolean is_incoming;   /* it migrates to this host, or comes from a saved state */
    gboolean is_restored;   /* its XML was saved with it: properties count for nothing */
    gboolean tells_launch;  /* vm_launching will come: the pages may be guarded until then */
    guint64 timeout_ms;     /* 0: as configured */
    HvVersions versions;    /* of what will start it */
    HvProgressFunc progress;
    gpointer progress_data;
} HvVm;

/* What came of it. */
typedef struct {
    char *xml; /* to start the VM with */
    gsize xml_bytes;
    gboolean xml_changed;
    guint64 generation; /* 0: no claim was made */
    HvRequest *request; /* NULL: a VM without huge pages */
    HvPlan *plan;       /* NULL as well */
    GPtrArray *table;   /* of a dry run: what the plan was made from (explain.h); else NULL */
    char *uuid;         /* NULL: none is known */
    char *name;
    GPtrArray *warnings; /* char * */
} HvOutcome;

void hv_outcome_free(HvOutcome *outcome);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvOutcome, hv_outcome_free)

/* A VM that is known by now. generation 0: whichever is current. */
typedef struct {
    const char *uuid;
    guint64 generation;
    gint64 qemu_pid;        /* 0: not known */
    const char *owner_name; /* of claims that do not run yet, only this owner's; NULL: any */
    gboolean host_waits;    /* hook_timeout limits the time for locks */
    gboolean has_run;       /* a claim for a start to come is not meant, whoever has made it */
    char **out_warning;     /* at launch: takes a new text, or NULL */
    const char *const *memory_directories; /* at launch: where QEMU makes its files, or NULL */
} HvVmRef;

/*
 * Dry run: nothing is changed, no lock taken. A shortage is in outcome->plan->refusal; without one
 * outcome->xml is what would be started.
 */
HvOutcome *hv_lifecycle_plan(const HvAgent *agent, const HvVm *vm, GError **error);

/* Plans, records the claim, gets the pages; on failure everything is as before. */
HvOutcome *hv_lifecycle_claim(const HvAgent *agent, const HvVm *vm, GError **error);

/* The same for a VM that migrates to this host. */
HvOutcome *hv_lifecycle_claim_incoming(const HvAgent *agent, const HvVm *vm, GError **error);

/*
 * The same for a VM from a saved state, which has the pages that its XML says. A claim that
 * this agent made for the start before, for what properties say today, is corrected.
 */
HvOutcome *hv_lifecycle_claim_restored(const HvAgent *agent, const HvVm *vm, GError **error);

/*
 * The XML to go on with for a VM that comes from elsewhere, in outcome->xml: nothing is planned or
 * taken. HV_ERROR_SHORTAGE: no page size of this host's will do for it.
 */
HvOutcome *hv_lifecycle_adapt_incoming(const HvAgent *agent, const HvVm *vm, GError **error);

/*
 * The claim's next state. *out_known is FALSE where there is no such claim. After a
 * launch that fails the VM must not be started: its pages are not kept any more.
 */
gboolean hv_lifecycle_launching(const HvAgent *agent, const HvVmRef *vm, gboolean *out_known,
                                GError **error);
gboolean hv_lifecycle_started(const HvAgent *agent, const HvVmRef *vm, gboolean *out_known,
                              GError **error);

/* QEMU is gone, or never came: the claim goes, pages go back. *out_known as above. */
gboolean hv_lifecycle_gone(const HvAgent *agent, const HvVmRef *vm, gboolean *out_known,
                           GError **error);

/* The VM has left for another host, or into a file: as gone, but for a claim that has run. */
gboolean hv_lifecycle_left(const HvAgent *agent, const HvVmRef *vm, gboolean *out_known,
                           GError **error);

/*
 * Memory devices of a VM that runs (hotplug.c). Their pages are a claim of its own until
 * QEMU has them; the outcome's generation names it, its XML is the device's, as it was.
 * Generation 0 in vm: the claim that fits the device.
 */
typedef struct {
    const char *xml;
    gsize xml_bytes;
    HvProgressFunc progress;
    gpointer progress_data;
} HvPlug;

HvOutcome *hv_lifecycle_plug(const HvAgent *agent, const HvVmRef *vm, const HvPlug *plug,
                             GError **error);

/*
 * Another device that is to be plugged: HV_ERROR_CONFLICT if the VM's claim says that its memory is
 * private, and the device cannot work so. Claims nothing, takes no lock.
 */
gboolean hv_lifecycle_check_device(const HvAgent *agent, const HvVmRef *vm, const HvPlug *plug,
                                   GError **error);

typedef enum { HV_PLUG_DONE, HV_PLUG_FAILED, HV_PLUG_UNDONE } HvPlugEnd;

/* It was plugged, could not be, or was unplugged again: what the VM has now is claimed. */
gboolean hv_lifecycle_plug_ended(const HvAgent *agent, const HvVmRef *vm, const HvPlug *plug,
                                 HvPlugEnd end, GError **error);

/* VMs that run, by the word of whoever knows. Owns nothing. */
typedef struct {
    guint64 sequence;         /* of the begin before the list was made */
    const char *const *uuids; /* normalized, NULL-terminated */
    const char *owner_name; /* it speaks for this agent's claims, in every state; NULL: nobody's */
    gboolean all_running;   /* it speaks for the claims of all others, too, once they run */
} HvRunning;

/*
 * In two calls, so that a VM started while the list is made is none the worse: begin,
 * then ask who runs, then reconcile. Claims as old as begin's sequence whose VMs are
 * not in the list, and which no QEMU is seen to run, are let go of.
 */
gboolean hv_lifecycle_reconcile_begin(const HvAgent *agent, guint64 *out_sequence, GError **error);
gboolean hv_lifecycle_reconcile(const HvAgent *agent, const HvRunning *running, GError **error);

/*
 * Sets right what killed agents left: removes claims whose agent and QEMU are
 * both dead, closes open intents, gives back. Nothing to do is cheap.
 * out_warnings (char *, may be NULL) gets what a person should know.
 */
gboolean hv_lifecycle_recover(const HvAgent *agent, GPtrArray *out_warnings, GError **error);
