/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What must hold after each event, by what VMs truly do and what the ledger was before it. */
#pragma once

#include "events-told.h"

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
