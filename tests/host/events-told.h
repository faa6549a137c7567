/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What hugevm is asked and told, and all words there are. */
#pragma once

#include "events-facts.h"

/* --- what hugevm is asked -------------------------------------------------------------------- */

typedef HvOutcome *(*Claim)(const HvAgent *agent, const HvVm *vm, GError **error);

static inline char *xml_of(const Vm *vm, gboolean is_normal)
{
    char *xml = vm_xml(vm->uuid, (guint)vm->needs[0] * 2, (guint)vm->needs[1] * 2);
    char *begin = strstr(xml, "<memoryBacking>"), *end = strstr(xml, "<numatune>");
    if (is_normal)
        memmove(begin, end, strlen(end) + 1);
    return xml;
}

static inline guint64 persistent_pages(int node)
{
    return fake_get(node, SIZE_2M, "nr_hugepages") - fake_get(node, SIZE_2M, "surplus_hugepages");
}

/* Between the first page that a QEMU maps and the last one that it touches it counts twice. */
static inline gboolean is_any_starting(const World *world)
{
    return untouched_pages(world, 0) + untouched_pages(world, 1) > 0;
}

/* What claims keep, which may be more than was promised as long as reports are missing; and grown
 * pages stand in for those of the administrator's that VMs have, until these come back. */
static inline gboolean is_owed(const World *world, int node)
{
    g_autoptr(HvLedger) ledger = ledger_now();
    guint64 owed = baseline(world, node) - world->foreign_pages[node];
    for (guint i = 0; i < ledger->claims->len; i++) {
        const HvClaim *claim = g_ptr_array_index(ledger->claims, i);
        if (!hv_claim_is_mapped(claim))
            owed += hv_needs_bound_pages(claim->needs, SIZE_2M, node);
    }
    return fake_get(node, SIZE_2M, "free_hugepages") <= untouched_pages(world, node) + owed;
}

static inline void ask_for(World *world, const Event *event, const char *xml, Claim claim)
{
    g_autoptr(GError) error = NULL;
    Vm *vm = event->vm;
    Start *start = start_of(event);
    gboolean is_hook = event->door != DOOR_HOST;
    HvVm request = {.xml = xml, .xml_bytes = strlen(xml), .adopts = is_hook};
    guint64 before[N_NODES] = {persistent_pages(0), persistent_pages(1)};
    g_autoptr(HvOutcome) outcome = claim(world->agents[event->door], &request, &error);
    if (outcome == NULL) {
        start->is_refused = !start->has_run;
        for (int node = 0; node < N_NODES && !is_any_starting(world); node++)
            if (persistent_pages(node) > before[node] && !is_owed(world, node))
                set_wrong(world, "refused, but node %d has more pages", node);
        return;
    }
    start->generation = outcome->generation;
    start->is_refused = FALSE;
    if (outcome->generation == 0 || vm->qemu_pid != 0)
        return;
    vm->is_claimed = TRUE;
    vm->claim_generation = outcome->generation;
}

static inline void run_claim(World *world, const Event *event)
{
    g_autofree char *xml = xml_of(event->vm, FALSE);
    ask_for(world, event, xml, hv_lifecycle_claim);
}

static inline void run_claim_incoming(World *world, const Event *event)
{
    g_autofree char *xml = xml_of(event->vm, FALSE);
    ask_for(world, event, xml, hv_lifecycle_claim_incoming);
}

static inline void run_claim_restored(World *world, const Event *event)
{
    g_autofree char *xml = xml_of(event->vm, FALSE);
    ask_for(world, event, xml, hv_lifecycle_claim_restored);
}

/* It was saved with normal pages, and that is what it comes back with. */
static inline void run_claim_normal(World *world, const Event *event)
{
    g_autofree char *xml = xml_of(event->vm, TRUE);
    ask_for(world, event, xml, hv_lifecycle_claim_restored);
    start_of(event)->is_refused = TRUE; /* its QEMU is none of ours */
}

static inline char *dimm_xml(const Plug *plug)
{
    return g_strdup_printf("<memory model='dimm'><target><size unit='MiB'>%" G_GUINT64_FORMAT
                           "</size><node>0</node></target></memory>",
                           plug->pages * 2);
}

static inline char *virtio_mem_xml(const Vm *vm, guint64 requested_pages)
{
    return g_strdup_printf(
        "<memory model='virtio-mem'><source><pagesize unit='MiB'>2</pagesize></source><target>"
        "<size unit='MiB'>1024</size><requested unit='MiB'>%" G_GUINT64_FORMAT
        "</requested><current unit='MiB'>%" G_GUINT64_FORMAT
        "</current><node>0</node></target></memory>",
        requested_pages * 2, vm->elastic_pages * 2);
}

static inline HvOutcome *ask_for_device(const World *world, const Event *event, const char *xml)
{
    const HvVmRef ref = {.uuid = event->vm->uuid};
    const HvPlug plug = {.xml = xml, .xml_bytes = strlen(xml)};
    return hv_lifecycle_plug(world->agents[event->door], &ref, &plug, NULL);
}

static inline void run_plug(World *world, const Event *event)
{
    Plug *plug = plug_of(event);
    Vm *vm = event->vm;
    if (!vm->is_mapped || plug->is_mapped || plug->has_failed)
        return;
    g_autofree char *xml = dimm_xml(plug);
    g_autoptr(HvOutcome) outcome = ask_for_device(world, event, xml);
    plug->is_refused = outcome == NULL;
    plug->generation = outcome != NULL ? outcome->generation : 0;
    plug->is_promised = vm->is_claimed && plug->generation != 0;
    plug->since_s = now_s;
}

/* So many pages more are requested of virtio-mem. */
static inline void run_grow(World *world, const Event *event)
{
    Vm *vm = event->vm;
    guint64 wanted = vm->requested_pages + event->number;
    if (!vm->is_mapped || !vm->is_claimed)
        return;
    g_autofree char *xml = virtio_mem_xml(vm, wanted);
    g_autoptr(HvOutcome) outcome = ask_for_device(world, event, xml);
    if (outcome == NULL)
        return;
    vm->is_elastic_kept = vm->requested_pages == vm->elastic_pages || vm->is_elastic_kept;
    vm->is_grown_reported = FALSE;
    vm->grown_since_s = now_s;
    vm->requested_pages = wanted;
}

/* --- what hugevm is told --------------------------------------------------------------------- */

static inline void tell_of(World *world, const Event *event, VmEvent report)
{
    g_autoptr(GError) error = NULL;
    gboolean is_known;
    const HvAgent *agent = world->agents[event->door];
    const HvVmRef ref = {.uuid = event->vm->uuid,
                         .generation = event->is_named ? start_of(event)->generation : 0,
                         .qemu_pid = event->door == DOOR_HOST ? start_of(event)->qemu_pid : 0,
                         .owner_name = event->door == DOOR_LIBVIRT ? agent->owner_name : NULL};
    if (!report(agent, &ref, &is_known, &error) &&
        !(event->vm->qemu_pid != 0 && g_error_matches(error, HV_ERROR, HV_ERROR_CONFLICT)))
        set_wrong(world, "the report fails: %s", error->message);
}

static inline void run_launching(World *world, const Event *event)
{
    if (!start_of(event)->is_refused)
        tell_of(world, event, hv_lifecycle_launching);
}

static inline void run_started(World *world, const Event *event)
{
    if (start_of(event)->has_memory)
        tell_of(world, event, hv_lifecycle_started);
}

static inline void run_gone(World *world, const Event *event)
{
    if (start_of(event)->has_ended || start_of(event)->is_refused)
        tell_of(world, event, hv_lifecycle_gone);
}

static inline void run_left(World *world, const Event *event)
{
    if (start_of(event)->has_ended)
        tell_of(world, event, hv_lifecycle_left);
}

static inline void tell_of_device(World *world, const Event *event, HvPlugEnd end, const char *xml,
                                  guint64 generation)
{
    g_autoptr(GError) error = NULL;
    const HvVmRef ref = {.uuid = event->vm->uuid, .generation = generation};
    const HvPlug plug = {.xml = xml, .xml_bytes = strlen(xml)};
    if (!hv_lifecycle_plug_ended(world->agents[event->door], &ref, &plug, end, &error))
        set_wrong(world, "the report of a device fails: %s", error->message);
}

static inline void tell_of_dimm(World *world, const Event *event, HvPlugEnd end)
{
    const Plug *plug = plug_of(event);
    g_autofree char *xml = dimm_xml(plug);
    tell_of_device(world, event, end, xml, event->is_named ? plug->generation : 0);
}

static inline void run_plugged(World *world, const Event *event)
{
    if (plug_of(event)->is_mapped)
        tell_of_dimm(world, event, HV_PLUG_DONE);
}

static inline void run_plug_failed(World *world, const Event *event)
{
    const Plug *plug = plug_of(event);
    if (!plug->has_failed)
        return;
    tell_of_dimm(world, event, HV_PLUG_FAILED);
    g_autoptr(HvLedger) ledger = ledger_now();
    for (guint i = 0; i < ledger->claims->len && event->is_named && plug->generation != 0; i++)
        if (((const HvClaim *)g_ptr_array_index(ledger->claims, i))->generation == plug->generation)
            set_wrong(world, "a DIMM has failed, and its claim is there");
}

static inline void run_unplugged(World *world, const Event *event)
{
    if (plug_of(event)->is_unplugged)
        tell_of_dimm(world, event, HV_PLUG_UNDONE);
}

static inline void run_grown(World *world, const Event *event)
{
    Vm *vm = event->vm;
    if (vm->requested_pages == 0)
        return;
    g_autofree char *xml = virtio_mem_xml(vm, vm->requested_pages);
    tell_of_device(world, event, HV_PLUG_DONE, xml, 0);
    vm->is_grown_reported = TRUE;
}

static inline void run_shrunk(World *world, const Event *event)
{
    Vm *vm = event->vm;
    g_autofree char *xml = virtio_mem_xml(vm, vm->requested_pages);
    tell_of_device(world, event, HV_PLUG_UNDONE, xml, 0);
    vm->is_shrunk_unreported = FALSE;
}

static inline void run_recover(World *world, const Event *event)
{
    g_autoptr(GError) error = NULL;
    if (!hv_lifecycle_recover(world->agents[event->door], NULL, &error))
        set_wrong(world, "recovery fails: %s", error->message);
}

static inline void run_begin(World *world, const Event *event)
{
    if (!hv_lifecycle_reconcile_begin(world->agents[event->door], &world->sequence, NULL))
        set_wrong(world, "reconciliation does not begin");
}

/* Who runs, as the agent sees it: between begin and the list's delivery. */
static inline void run_asks(World *world, const Event *event)
{
    (void)event;
    for (guint i = 0; i < N_VMS; i++)
        world->was_listed[i] = world->vms[i].qemu_pid != 0;
}

static inline void reconcile(World *world, const Event *event, gboolean is_empty)
{
    g_autoptr(GError) error = NULL;
    const char *uuids[N_VMS + 1] = {NULL};
    for (guint i = 0, n = 0; i < N_VMS && !is_empty; i++)
        if (world->was_listed[i])
            uuids[n++] = world->vms[i].uuid;
    const HvAgent *agent = world->agents[event->door];
    const HvRunning running = {
        .sequence = world->sequence, .uuids = uuids, .owner_name = agent->owner_name};
    if (!hv_lifecycle_reconcile(agent, &running, &error))
        set_wrong(world, "reconciliation fails: %s", error->message);
}

static inline void run_list(World *world, const Event *event)
{
    reconcile(world, event, FALSE);
}

static inline void run_empty_list(World *world, const Event *event)
{
    reconcile(world, event, TRUE);
}

static const Word words[] = {
    {"qemu", FACT, run_qemu},
    {"incoming", FACT, run_incoming},
    {"touches", FACT, run_touches},
    {"dies", FACT, run_dies},
    {"fails", FACT, run_fails},
    {"dimm", FACT, run_dimm},
    {"dimm-fails", FACT, run_dimm_fails},
    {"dimm-goes", FACT, run_dimm_goes},
    {"takes", FACT, run_takes},
    {"reboots", FACT, run_reboots},
    {"shrinks", FACT, run_shrinks},
    {"agent-dies", FACT, run_agent_dies},
    {"waits", FACT, run_waits},
    {"foreign-starts", FACT, run_foreign_starts},
    {"foreign-ends", FACT, run_foreign_ends},
    {"claim", QUESTION, run_claim},
    {"claim-incoming", QUESTION, run_claim_incoming},
    {"claim-restored", QUESTION, run_claim_restored},
    {"claim-normal", QUESTION, run_claim_normal},
    {"plug", QUESTION, run_plug},
    {"grow", QUESTION, run_grow},
    {"launching", REPORT, run_launching},
    {"started", REPORT, run_started},
    {"gone", REPORT, run_gone},
    {"left", REPORT, run_left},
    {"plugged", REPORT, run_plugged},
    {"plug-failed", REPORT, run_plug_failed},
    {"unplugged", REPORT, run_unplugged},
    {"grown", REPORT, run_grown},
    {"shrunk", REPORT, run_shrunk},
    {"recover", REPORT, run_recover},
    {"begin", REPORT, run_begin},
    {"asks", REPORT, run_asks},
    {"list", REPORT, run_list},
    {"empty-list", REPORT, run_empty_list},
};
