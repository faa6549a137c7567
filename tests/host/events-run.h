/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Events of VMs as words: what happens, what hugevm is told and asked, and what must hold after
 * each of them.
 *
 *   A:claim1      VM A is about to start, for the first time in its life
 *   A:gone1=      it ended, and whoever says so names the generation of that start
 *   A:gone1       the same without it
 *   A:gone1=%     libvirt's hook says it; ^: VDSM's; else a host program
 *   -:recover     what concerns no VM
 *
 * A sequence is true whatever is left out of it: what cannot have happened does not
 * happen, and a report of what has not happened is not made.
 */
#pragma once

#include "events-world.h"

#include "error.h"

typedef struct {
    const struct Word *word;
    Vm *vm; /* NULL: it concerns none */
    guint number;
    gboolean is_named; /* it has the generation */
    Door door;
} Event;

typedef enum {
    FACT,     /* keeps its place */
    QUESTION, /* the host waits for the answer: its place, too, but it may be asked again */
    REPORT,   /* comes when it likes */
} Kind;

typedef struct Word {
    const char *name;
    Kind kind;
    void (*run)(World *world, const Event *event);
} Word;

static inline Start *start_of(const Event *event)
{
    return &event->vm->starts[event->number];
}

static inline Plug *plug_of(const Event *event)
{
    return &event->vm->plugs[event->number];
}

static inline HvLedger *ledger_now(void)
{
    g_autoptr(HvStore) store = hv_store_open(fake.root, FALSE, NULL);
    return store != NULL ? hv_store_read(store, NULL) : hv_ledger_new();
}

/* Pages of VMs that no claim covers count against what is reserved. */
static inline guint64 strange_pages(const World *world, const HvLedger *ledger, int node)
{
    guint64 pages = 0;
    for (guint i = 0; i < N_VMS; i++) {
        const Vm *vm = &world->vms[i];
        const HvClaim *claim = hv_ledger_claim(ledger, vm->uuid);
        guint64 has = vm->mapped[0] + vm->mapped[1] + vm->elastic_pages;
        guint64 claimed = claim != NULL ? hv_needs_pages(claim->needs, SIZE_2M) : 0;
        if (has > claimed && (vm->needs[node] > 0 || node == vm->home))
            pages += has - claimed;
    }
    return pages;
}

static inline gboolean has_strangers(const World *world)
{
    g_autoptr(HvLedger) ledger = ledger_now();
    return strange_pages(world, ledger, 0) + strange_pages(world, ledger, 1) > 0;
}

/* --- what happens ---------------------------------------------------------------------------- */

static inline void take_memory(World *world, Vm *vm)
{
    for (int node = 0; node < N_NODES; node++) {
        guint64 free_pages = fake_get(node, SIZE_2M, "free_hugepages");
        guint64 own = vm->is_claimed ? vm->needs[node] : spare_pages(world, node);
        if (vm->needs[node] > own || vm->needs[node] > free_pages - untouched_pages(world, node)) {
            if (vm->is_claimed)
                set_wrong(world, "VM %c does not get its pages of node %d", vm->letter, node);
            end_qemu(vm);
            return;
        }
    }
    vm->is_mapped = TRUE;
    for (int node = 0; node < N_NODES; node++) {
        map_pages(vm, node, vm->needs[node]);
        touch_pages(vm, node, vm->is_claimed ? vm->needs[node] / 2 : vm->needs[node]);
    }
    vm->starts[vm->current].has_memory = !vm->is_claimed;
    show_memory(vm);
}

static inline void run_qemu_as(World *world, const Event *event, gboolean is_incoming)
{
    if (event->vm->qemu_pid != 0 || start_of(event)->is_refused || start_of(event)->has_run)
        return;
    event->vm->current = event->number;
    start_of(event)->has_run = TRUE;
    start_qemu(world, event->vm, is_incoming);
    start_of(event)->qemu_pid = event->vm->qemu_pid;
    take_memory(world, event->vm);
}

static inline void run_qemu(World *world, const Event *event)
{
    run_qemu_as(world, event, FALSE);
}

static inline void run_incoming(World *world, const Event *event)
{
    run_qemu_as(world, event, TRUE);
}

static inline void run_touches(World *world, const Event *event)
{
    (void)world;
    Vm *vm = event->vm;
    for (int node = 0; vm->is_mapped && node < N_NODES; node++)
        touch_pages(vm, node, vm->mapped[node] - vm->touched[node]);
    if (!vm->is_mapped)
        return;
    vm->starts[vm->current].has_memory = TRUE;
    show_memory(vm);
}

static inline void run_dies(World *world, const Event *event)
{
    (void)world;
    if (event->vm->qemu_pid != 0)
        end_qemu(event->vm);
}

/* A start that comes to nothing before there is a QEMU. */
static inline void run_fails(World *world, const Event *event)
{
    (void)world;
    if (!start_of(event)->has_run)
        start_of(event)->is_refused = TRUE;
}

static inline void run_dimm(World *world, const Event *event)
{
    Vm *vm = event->vm;
    Plug *plug = plug_of(event);
    if (!vm->is_mapped || plug->is_refused || plug->is_mapped || plug->has_failed)
        return;
    guint64 spare =
        fake_get(vm->home, SIZE_2M, "free_hugepages") - untouched_pages(world, vm->home);
    if (!plug->is_promised && plug->pages > spare_pages(world, vm->home))
        return;
    if (plug->pages > spare) {
        set_wrong(world, "VM %c does not get the pages of its DIMM", vm->letter);
        return;
    }
    plug->is_promised = FALSE;
    plug->is_mapped = TRUE;
    map_pages(vm, vm->home, plug->pages);
    touch_pages(vm, vm->home, plug->pages);
    show_memory(vm);
}

static inline void run_dimm_fails(World *world, const Event *event)
{
    (void)world;
    if (!plug_of(event)->is_mapped)
        plug_of(event)->has_failed = TRUE;
}

static inline void run_dimm_goes(World *world, const Event *event)
{
    (void)world;
    Vm *vm = event->vm;
    Plug *plug = plug_of(event);
    if (!vm->is_mapped || !plug->is_mapped || plug->is_unplugged)
        return;
    plug->is_unplugged = TRUE;
    unmap_pages(vm, vm->home, plug->pages);
    show_memory(vm);
}

/* The guest takes so many pages of what is requested. */
static inline void run_takes(World *world, const Event *event)
{
    Vm *vm = event->vm;
    guint64 pages = MIN(event->number, vm->requested_pages - vm->elastic_pages);
    guint64 free_pages =
        fake_get(vm->home, SIZE_2M, "free_hugepages") - untouched_pages(world, vm->home);
    if (!vm->is_mapped)
        return;
    if (!vm->is_elastic_kept)
        pages = MIN(pages, spare_pages(world, vm->home));
    if (pages > free_pages) {
        set_wrong(world, "the guest of VM %c does not get its virtio-mem", vm->letter);
        return;
    }
    vm->elastic_pages += pages;
    fake_use(vm->home, SIZE_2M, pages);
    show_memory(vm);
}

/* The guest reboots: virtio-mem begins anew. */
static inline void run_reboots(World *world, const Event *event)
{
    (void)world;
    Vm *vm = event->vm;
    if (!vm->is_mapped)
        return;
    fake_unuse(vm->home, SIZE_2M, vm->elastic_pages);
    vm->elastic_pages = 0;
    show_memory(vm);
}

/* So much less is requested of virtio-mem, and the guest complies. */
static inline void run_shrinks(World *world, const Event *event)
{
    (void)world;
    Vm *vm = event->vm;
    if (!vm->is_mapped)
        return;
    vm->is_shrunk_unreported = TRUE;
    vm->requested_pages -= MIN(event->number, vm->requested_pages);
    guint64 left = vm->elastic_pages - MIN(vm->elastic_pages, vm->requested_pages);
    vm->elastic_pages -= left;
    fake_unuse(vm->home, SIZE_2M, left);
    show_memory(vm);
}

static inline void run_agent_dies(World *world, const Event *event)
{
    end_agent(world, event->door);
    start_agent(world, event->door);
}

static inline void run_waits(World *world, const Event *event)
{
    (void)world, (void)event;
    now_s += 61;
}

/* The user of reserved pages starts and ends on each node. */
static inline void run_foreign_starts(World *world, const Event *event)
{
    (void)event;
    for (int node = 0; world->kind.has_static_pages && node < N_NODES; node++) {
        guint64 promised = has_strangers(world) ? promised_pages(world, node) : 0;
        if (world->foreign_pages[node] > 0)
            continue;
        if (fake_get(node, SIZE_2M, "free_hugepages") <
            RESERVED_PAGES + untouched_pages(world, node) + promised) {
            if (!has_strangers(world))
                set_wrong(world, "the reserved pages of node %d are not there", node);
            return;
        }
        fake_use(node, SIZE_2M, RESERVED_PAGES);
        world->foreign_pages[node] = RESERVED_PAGES;
    }
}

static inline void run_foreign_ends(World *world, const Event *event)
{
    (void)event;
    for (int node = 0; node < N_NODES; node++) {
        fake_unuse(node, SIZE_2M, world->foreign_pages[node]);
        world->foreign_pages[node] = 0;
    }
}

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
    if (plug_of(event)->has_failed)
        tell_of_dimm(world, event, HV_PLUG_FAILED);
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

/* --- what must hold -------------------------------------------------------------------------- */

static inline const HvClaim *find_by_generation(const HvLedger *ledger, guint64 generation)
{
    for (guint i = 0; i < ledger->claims->len; i++) {
        const HvClaim *claim = g_ptr_array_index(ledger->claims, i);
        if (claim->generation == generation)
            return claim;
    }
    return NULL;
}

static inline gboolean is_owner_dead(const World *world, const char *owner_name, gint64 pid)
{
    for (Door door = 0; door < N_DOORS; door++)
        if (strcmp(world->agents[door]->owner_name, owner_name) == 0)
            return world->agents[door]->owner_pid != pid;
    return TRUE;
}

/* May the event have ended the claim of a start to come? `old` is what it was. */
static inline gboolean may_end_start(const World *world, const Event *event, const HvClaim *old)
{
    const HvAgent *agent = world->agents[event->door];
    gboolean is_own = strcmp(agent->owner_name, old->owner_name) == 0;
    if (is_owner_dead(world, old->owner_name, old->owner.pid))
        return TRUE;
    if (event->word->run == run_list || event->word->run == run_empty_list)
        return is_own && old->generation <= world->sequence;
    if (g_strcmp0(event->vm != NULL ? event->vm->uuid : NULL, old->uuid) != 0)
        return FALSE;
    gboolean is_question = event->word->kind == QUESTION;
    if (event->word->run == run_claim_normal || (is_question && start_of(event)->is_refused))
        return TRUE;
    guint64 named = event->is_named ? start_of(event)->generation : 0;
    return event->word->run == run_gone && (named == 0 || named == old->generation) &&
           (is_own || event->door != DOOR_LIBVIRT);
}

static inline gboolean may_end_plug(const Event *event, const Vm *vm, guint number)
{
    gboolean is_of_plug = event->word->run == run_plugged || event->word->run == run_plug_failed ||
                          event->word->run == run_plug;
    return event->vm == vm && is_of_plug && event->number == number;
}

static inline guint64 elastic_claimed(const HvLedger *ledger, const Vm *vm)
{
    guint64 pages = 0;
    for (guint i = 0; i < ledger->claims->len; i++) {
        const HvClaim *claim = g_ptr_array_index(ledger->claims, i);
        gboolean is_of_vm = g_strcmp0(claim->device_of, vm->uuid) == 0 ||
                            (claim->device_of == NULL && strcmp(claim->uuid, vm->uuid) == 0);
        for (guint k = 0; is_of_vm && k < claim->needs->len; k++) {
            const HvNeed *need = &g_array_index(claim->needs, HvNeed, k);
            pages += need->is_elastic ? need->pages : 0;
        }
    }
    return pages;
}

/* The ledger before the event, and after it. */
static inline void check_vm(World *world, const Event *event, Vm *vm, const HvLedger *before,
                            const HvLedger *after)
{
    const HvClaim *claim = hv_ledger_claim(after, vm->uuid);
    const HvClaim *old = hv_ledger_claim(before, vm->uuid);
    if (vm->is_claimed && vm->is_mapped && claim == NULL)
        set_wrong(world, "VM %c runs, and its claim has gone", vm->letter);
    if (vm->is_claimed && !vm->is_mapped && claim == NULL) {
        if (old != NULL && !may_end_start(world, event, old))
            set_wrong(world, "VM %c is about to start, and its claim has gone", vm->letter);
        vm->is_claimed = FALSE;
    }
    if (vm->is_claimed && !vm->is_mapped && claim->state >= HV_CLAIM_RUNNING) {
        if (event->door == DOOR_HOST || !has_strangers(world)) /* whose pages may seem to be its */
            set_wrong(world, "VM %c has yet to start, and is said to run", vm->letter);
        vm->is_claimed = FALSE;
    }
    for (guint k = 0; k < MAX_PLUGS; k++) {
        Plug *plug = &vm->plugs[k];
        if (!plug->is_promised || find_by_generation(after, plug->generation) != NULL)
            continue;
        if (!may_end_plug(event, vm, k) && now_s < plug->since_s + PLUG_TIMEOUT_S)
            set_wrong(world, "DIMM %u of VM %c has lost its pages", k, vm->letter);
        plug->is_promised = FALSE;
    }
    if (vm->is_elastic_kept && elastic_claimed(after, vm) < vm->requested_pages) {
        gboolean is_late = !vm->is_grown_reported && now_s >= vm->grown_since_s + PLUG_TIMEOUT_S;
        if (!is_late)
            set_wrong(world, "virtio-mem of VM %c has lost its pages", vm->letter);
        vm->is_elastic_kept = FALSE;
    }
}

static inline void check_pools(World *world, const HvLedger *ledger)
{
    for (int node = 0; node < N_NODES; node++) {
        if (persistent_pages(node) < baseline(world, node))
            set_wrong(world, "node %d has fewer pages than the administrator gave it", node);
        guint64 reserved = reserved_unused(world, node);
        guint64 kept = untouched_pages(world, node) + promised_pages(world, node) + reserved -
                       MIN(reserved, strange_pages(world, ledger, node));
        guint64 free_pages = fake_get(node, SIZE_2M, "free_hugepages");
        if (free_pages < kept)
            set_wrong(world,
                      "node %d has %" G_GUINT64_FORMAT " free pages, but %" G_GUINT64_FORMAT
                      " are promised",
                      node, free_pages, kept);
    }
}

static inline void forget_writes(void)
{
    for (guint i = 0; i < fake.n_writes; i++)
        g_free(fake.writes[i].path);
    fake.n_writes = 0;
}

static inline void run_event(World *world, const Event *event)
{
    g_autoptr(HvLedger) before = ledger_now();
    event->word->run(world, event);
    g_autoptr(HvLedger) after = ledger_now();
    for (guint i = 0; i < N_VMS && world->wrong == NULL; i++)
        check_vm(world, event, &world->vms[i], before, after);
    if (world->wrong == NULL)
        check_pools(world, after);
    forget_writes();
}
