/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The ledger, its claims, and the processes: names from outside are quoted. */
#include "audit-private.h"

#include "consumers.h"
#include "error.h"
#include "page-size.h"

#include <string.h>

static const struct {
    const char *name;
    gboolean is_note;
} kinds[] = {
    [HV_FINDING_LEDGER_MISSING] = {"ledger-missing", FALSE},
    [HV_FINDING_LEDGER_DAMAGED] = {"ledger-damaged", FALSE},
    [HV_FINDING_LEDGER_OTHER_BOOT] = {"ledger-other-boot", TRUE},
    [HV_FINDING_DEAD_CLAIM] = {"dead-claim", FALSE},
    [HV_FINDING_ENDED_CLAIM] = {"ended-claim", FALSE},
    [HV_FINDING_UNKNOWN_TO_LIBVIRT] = {"unknown-to-libvirt", TRUE},
    [HV_FINDING_LEFT_VM] = {"left-vm", FALSE},
    [HV_FINDING_OUTSIDE_VM] = {"outside-vm", TRUE},
    [HV_FINDING_HELD_PAGES] = {"held-pages", FALSE},
    [HV_FINDING_FOREIGN_USE] = {"foreign-use", TRUE},
    [HV_FINDING_OPEN_INTENT] = {"open-intent", FALSE},
    [HV_FINDING_DRIFT] = {"drift", TRUE},
    [HV_FINDING_GIVE_BACK_DUE] = {"give-back-due", FALSE},
    [HV_FINDING_STRAY_GUARD] = {"stray-guard", FALSE},
    [HV_FINDING_LOST_GUARD] = {"lost-guard", FALSE},
    [HV_FINDING_STRAY_MOUNT] = {"stray-mount", FALSE},
    [HV_FINDING_LOST_MOUNT] = {"lost-mount", FALSE},
    [HV_FINDING_SHORT_LIVED_GUARDS] = {"short-lived-guards", TRUE},
    [HV_FINDING_HANDOVER_OFF] = {"handover-off", TRUE},
};

const char *hv_finding_kind_name(HvFindingKind kind)
{
    return kinds[kind].name;
}

gboolean hv_finding_is_note(const HvFinding *finding)
{
    return kinds[finding->kind].is_note;
}

void hv_finding_free(gpointer finding)
{
    HvFinding *f = finding;
    g_free(f->uuid);
    g_free(f->text);
    g_free(f->repair);
    g_free(f->hint);
    g_free(f);
}

HvFinding *hv_audit_add(GPtrArray *findings, HvFindingKind kind, const char *uuid,
                        const char *format, ...)
{
    HvFinding *finding = g_new0(HvFinding, 1);
    va_list args;
    va_start(args, format);
    finding->kind = kind;
    finding->uuid = g_strdup(uuid);
    finding->text = g_strdup_vprintf(format, args);
    va_end(args);
    g_ptr_array_add(findings, finding);
    return finding;
}

/* "64 pages of 2 MiB and 1 page of 1 GiB", "4 GiB in files" */
static char *describe_needs(const HvClaim *claim)
{
    const GArray *needs = claim->needs;
    if (claim->file_kib > 0) {
        g_autofree char *size = hv_format_kib(claim->file_kib);
        return g_strdup_printf("%s in files", size);
    }
    GString *out = g_string_new(NULL);
    for (guint i = 0; i < needs->len; i++) {
        const HvNeed *need = &g_array_index(needs, HvNeed, i);
        gboolean is_first = TRUE;
        for (guint k = 0; k < i; k++)
            is_first = is_first && g_array_index(needs, HvNeed, k).size_kib != need->size_kib;
        if (!is_first)
            continue;
        g_autofree char *size = hv_format_kib(need->size_kib);
        guint64 pages = hv_needs_pages(needs, need->size_kib);
        g_string_append_printf(out, "%s%" G_GUINT64_FORMAT " page%s of %s",
                               out->len > 0 ? " and " : "", pages, pages == 1 ? "" : "s", size);
    }
    return g_string_free(out, FALSE);
}

char *hv_audit_describe_claim(const HvClaim *claim)
{
    g_autofree char *name = claim->name != NULL ? hv_quote(claim->name) : NULL;
    g_autofree char *needs = describe_needs(claim);
    return g_strdup_printf("VM %s%s%s (%s, %s)", claim->uuid, name != NULL ? " " : "",
                           name != NULL ? name : "", hv_claim_state_name(claim->state), needs);
}

/* "'agent', process 12" */
static char *describe_owner(const HvClaim *claim)
{
    g_autofree char *name = hv_quote(claim->owner_name);
    return g_strdup_printf("%s, process %" G_GINT64_FORMAT, name, claim->owner.pid);
}

static char *describe_huge(guint64 kib)
{
    guint64 mib = kib / 1024;
    return mib > 0 ? g_strdup_printf("%" G_GUINT64_FORMAT " MiB", mib) : hv_format_kib(kib);
}

/* --- the ledger itself ----------------------------------------------------------------------- */

void hv_audit_ledger(const HvAuditView *view, GPtrArray *findings)
{
    gboolean has_ours = view->guards->len > 0 || view->mounts->len > 0 || view->vault->len > 0;
    HvFinding *finding;
    switch (view->found) {
    case HV_LEDGER_FOUND_GOOD:
        break;
    case HV_LEDGER_FOUND_NONE:
        if (!has_ours)
            break;
        finding = hv_audit_add(
            findings, HV_FINDING_LEDGER_MISSING, NULL,
            "there is no ledger in /run/hugevm, but guards or launch mounts of hugevm: "
            "it was removed while VMs were being started");
        finding->repair = g_strdup("begins a new one; pages added before now stay in the pools");
        break;
    case HV_LEDGER_FOUND_COPY:
        finding = hv_audit_add(findings, HV_FINDING_LEDGER_DAMAGED, NULL,
                               "/run/hugevm/ledger.json is damaged; its second copy is good");
        finding->repair = g_strdup("sets it aside and goes on with the copy");
        break;
    case HV_LEDGER_FOUND_DAMAGED:
        finding = hv_audit_add(findings, HV_FINDING_LEDGER_DAMAGED, NULL,
                               "/run/hugevm/ledger.json is damaged, and so is its second copy");
        finding->repair = g_strdup("sets it aside and begins a new one; pages added before now "
                                   "stay in the pools");
        break;
    case HV_LEDGER_FOUND_OTHER_BOOT:
        hv_audit_add(
            findings, HV_FINDING_LEDGER_OTHER_BOOT, NULL,
            "/run/hugevm/ledger.json is of another boot and counts for nothing; the next VM start "
            "replaces it");
        break;
    }
}

/* --- claims and the VMs they are for --------------------------------------------------------- */

/* "process 12 'ovs-vswitchd', process 13 'x'" */
static char *describe_holders(const GPtrArray *holders)
{
    GString *out = g_string_new(NULL);
    for (guint i = 0; i < holders->len; i++) {
        const HvHolder *holder = g_ptr_array_index(holders, i);
        g_autofree char *name = hv_quote(holder->name);
        g_string_append_printf(out, "%sprocess %" G_GINT64_FORMAT " %s", i > 0 ? ", " : "",
                               holder->pid, name);
    }
    return g_string_free(out, FALSE);
}

static void add_held(const HvClaim *claim, const GPtrArray *holders, GPtrArray *findings)
{
    g_autofree char *vm = hv_audit_describe_claim(claim);
    g_autofree char *who = describe_holders(holders);
    HvFinding *finding = hv_audit_add(findings, HV_FINDING_HELD_PAGES, claim->uuid,
                                      "%s is gone, but its memory is still mapped by %s", vm, who);
    finding->hint = g_strdup_printf("make it let go, or end it: %s; then the pages go back", who);
}

static void add_dead(const HvClaim *claim, GPtrArray *findings)
{
    g_autofree char *vm = hv_audit_describe_claim(claim);
    g_autofree char *owner = describe_owner(claim);
    g_autofree char *why =
        claim->qemu.pid != 0
            ? g_strdup_printf("its QEMU, process %" G_GINT64_FORMAT ", has ended", claim->qemu.pid)
            : g_strdup_printf("it has no QEMU, and %s, who would report for it, is dead", owner);
    HvFinding *finding =
        hv_audit_add(findings, HV_FINDING_DEAD_CLAIM, claim->uuid, "%s is gone: %s", vm, why);
    finding->repair = g_strdup("removes the claim; its pages go back");
}

static gboolean is_unknown_to_libvirt(const HvAuditView *view, const HvClaim *claim)
{
    return view->running_uuids != NULL &&
           !g_strv_contains((const char *const *)view->running_uuids, claim->uuid);
}

static void add_ended(const HvAuditView *view, const HvClaim *claim, GPtrArray *findings)
{
    g_autofree char *vm = hv_audit_describe_claim(claim);
    g_autofree char *owner = describe_owner(claim);
    HvFinding *finding =
        hv_audit_add(findings, HV_FINDING_ENDED_CLAIM, claim->uuid,
                     "%s has no QEMU, and %s, has not reported its end", vm, owner);
    if (is_unknown_to_libvirt(view, claim))
        finding->repair = g_strdup("removes the claim, as libvirt does not run this VM");
    else
        finding->hint = g_strdup_printf("hugevmctl release %s", claim->uuid);
}

static void check_libvirt_knows(const HvAuditView *view, const HvClaim *claim,
                                const HvClaimFacts *facts, GPtrArray *findings)
{
    if (claim->state != HV_CLAIM_RUNNING || !is_unknown_to_libvirt(view, claim))
        return;
    g_autofree char *vm = hv_audit_describe_claim(claim);
    HvFinding *finding = hv_audit_add(findings, HV_FINDING_UNKNOWN_TO_LIBVIRT, claim->uuid,
                                      "%s runs as process %" G_GINT64_FORMAT
                                      ", but this libvirt does not know it as running",
                                      vm, facts->qemu_pid);
    finding->hint = g_strdup("see who has started it: hugevmctl claims");
}

/* As a recovery sees it: a QEMU that is known takes its claim along, whoever else lives. */
static gboolean is_gone(const HvClaim *claim, const HvClaimFacts *facts)
{
    return claim->state == HV_CLAIM_DRAINING || !facts->is_owner_alive ||
           (claim->state == HV_CLAIM_RUNNING && claim->qemu.pid != 0);
}

/* A VM is in libvirt's list before its hook claims for it, and until it has ended. */
static gboolean is_forgotten_by_libvirt(const HvAuditView *view, const HvClaim *claim)
{
    return view->libvirt_owner != NULL && strcmp(claim->owner_name, view->libvirt_owner) == 0 &&
           is_unknown_to_libvirt(view, claim);
}

static void check_claim(const HvAuditView *view, const HvClaim *claim, const HvClaimFacts *facts,
                        GPtrArray *findings)
{
    if (facts->qemu_pid != 0)
        check_libvirt_knows(view, claim, facts, findings);
    else if (is_gone(claim, facts) && facts->holders != NULL && facts->holders->len > 0)
        add_held(claim, facts->holders, findings);
    else if (is_gone(claim, facts))
        add_dead(claim, findings);
    else if (claim->state == HV_CLAIM_RUNNING || is_forgotten_by_libvirt(view, claim))
        add_ended(view, claim, findings);
}

static gboolean is_left(const HvAuditView *view, gint64 pid)
{
    for (guint i = 0; i < view->left_pids->len; i++)
        if (g_array_index(view->left_pids, gint64, i) == pid)
            return TRUE;
    return FALSE;
}

static const HvHugeProcess *process_of(const HvAuditView *view, gint64 pid)
{
    for (guint i = 0; i < view->processes->len; i++) {
        const HvHugeProcess *process = g_ptr_array_index(view->processes, i);
        if (process->pid == pid)
            return process;
    }
    return NULL;
}

static void check_left_vms(const HvAuditView *view, GPtrArray *findings)
{
    for (guint i = 0; i < view->left_pids->len; i++) {
        gint64 pid = g_array_index(view->left_pids, gint64, i);
        const HvHugeProcess *process = process_of(view, pid);
        HvFinding *finding =
            hv_audit_add(findings, HV_FINDING_LEFT_VM, process != NULL ? process->uuid : NULL,
                         "process %" G_GINT64_FORMAT
                         " is the QEMU of a hugevmctl run that was killed: nobody will end it",
                         pid);
        finding->repair = g_strdup("ends it; its pages go back");
    }
}

/* --- others who use pages -------------------------------------------------------------------- */

static gboolean is_of_a_claim(const HvAuditView *view, gint64 pid)
{
    for (guint i = 0; i < view->facts->len; i++)
        if (g_array_index(view->facts, HvClaimFacts, i).qemu_pid == pid)
            return TRUE;
    return FALSE;
}

static void add_outside_vm(const HvAuditView *view, const HvHugeProcess *process,
                           GPtrArray *findings)
{
    g_autofree char *name = hv_quote(process->vm_name);
    g_autofree char *program = hv_quote(process->name);
    g_autofree char *amount = describe_huge(process->huge_kib);
    const char *known = "";
    if (view->running_uuids != NULL)
        known = g_strv_contains((const char *const *)view->running_uuids, process->uuid)
                    ? "; libvirt runs it"
                    : "; not by this libvirt";
    HvFinding *finding =
        hv_audit_add(findings, HV_FINDING_OUTSIDE_VM, process->uuid,
                     "VM %s %s was started outside hugevm%s: process %" G_GINT64_FORMAT
                     " %s has %s of huge pages and no claim, which counts as use by others",
                     process->uuid, name, known, process->pid, program, amount);
    finding->hint = g_strdup("nothing, unless hugevm was to serve this VM: then see why its host "
                             "did not ask");
}

/* The reservation that means this process; NULL: there is none. */
static const char *reserved_name(const HvAuditView *view, gint64 pid)
{
    const GPtrArray *consumers = view->snapshot->consumers;
    for (guint i = 0; consumers != NULL && i < consumers->len; i++) {
        const HvConsumer *consumer = g_ptr_array_index(consumers, i);
        for (guint k = 0; consumer->pid == pid && k < view->settings->reserved->len; k++) {
            const HvReserved *entry = &g_array_index(view->settings->reserved, HvReserved, k);
            if (g_strcmp0(entry->process, consumer->process) == 0)
                return entry->name;
        }
    }
    return NULL;
}

static void check_processes(const HvAuditView *view, GPtrArray *findings)
{
    for (guint i = 0; i < view->processes->len; i++) {
        const HvHugeProcess *process = g_ptr_array_index(view->processes, i);
        if (is_of_a_claim(view, process->pid) || is_left(view, process->pid))
            continue;
        if (process->uuid != NULL) {
            add_outside_vm(view, process, findings);
            continue;
        }
        g_autofree char *program = hv_quote(process->name);
        g_autofree char *amount = describe_huge(process->huge_kib);
        const char *name = reserved_name(view, process->pid);
        hv_audit_add(findings, HV_FINDING_FOREIGN_USE, NULL,
                     "process %" G_GINT64_FORMAT " %s has %s of huge pages, and is no VM%s%s",
                     process->pid, program, amount, name != NULL ? "; reserved for " : "",
                     name != NULL ? name : "");
    }
}

/* --- all of it ------------------------------------------------------------------------------- */

GPtrArray *hv_audit(const HvAuditView *view)
{
    GPtrArray *findings = g_ptr_array_new_with_free_func(hv_finding_free);
    hv_audit_ledger(view, findings);
    check_left_vms(view, findings);
    for (guint i = 0; i < view->ledger->claims->len; i++) {
        const HvClaim *claim = g_ptr_array_index(view->ledger->claims, i);
        const HvClaimFacts *facts = &g_array_index(view->facts, HvClaimFacts, i);
        check_claim(view, claim, facts, findings);
    }
    hv_audit_kernel(view, findings);
    check_processes(view, findings);
    return findings;
}

/* A note counts again although its numbers have moved: they do in use. */
static gboolean is_same(const HvFinding *a, const HvFinding *b)
{
    return a->kind == b->kind && g_strcmp0(a->uuid, b->uuid) == 0 &&
           (hv_finding_is_note(a) || strcmp(a->text, b->text) == 0);
}

GPtrArray *hv_audit_lasting(GPtrArray *first, GPtrArray *second)
{
    for (guint i = second->len; i > 0; i--) {
        gboolean is_known = FALSE;
        for (guint k = 0; k < first->len && !is_known; k++)
            is_known = is_same(g_ptr_array_index(first, k), g_ptr_array_index(second, i - 1));
        if (!is_known)
            g_ptr_array_remove_index(second, i - 1);
    }
    g_ptr_array_unref(first);
    return second;
}

gboolean hv_audit_is_bad(const GPtrArray *findings)
{
    for (guint i = 0; i < findings->len; i++)
        if (!hv_finding_is_note(g_ptr_array_index(findings, i)))
            return TRUE;
    return FALSE;
}
