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
