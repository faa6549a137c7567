/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Memory devices of a VM that runs. QEMU makes a backend for one as it does for a guest
 * cell, so a device walks the road of a VM start: a request is made of it and of what the
 * VM's claim says of its cells, and its pages are a claim of their own.
 *
 *   before                the device's claim is made
 *   after                 it becomes a part of the VM's claim
 *   failed                it goes, and so do its pages
 *   nobody says           a look at QEMU decides, HV_PLUG_TIMEOUT_S later at the latest
 *   unplugged             the VM's claim shrinks to what QEMU maps
 *
 * There is no moment that a host could tell of between libvirt's order and QEMU's
 * mapping: nothing but the ledger keeps the pages until then.
 */
#include "lifecycle-private.h"

#include "error.h"
#include "page-size.h"
#include "platform.h"

#include <time.h>

#define UNMAP_WAIT_US (1 * G_USEC_PER_SEC)
#define UNMAP_POLL_US (20 * 1000)
#define DIMM_STEP_KIB ((guint64)2 * 1024) /* libvirt rounds up to it */

guint64 hv_boot_seconds(void)
{
    struct timespec now = {0};
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (guint64)now.tv_sec;
}

/* The page size of all the VM's pages; 0: it has several, or none. */
static guint64 only_size_kib(const HvClaim *vm)
{
    guint64 size_kib = vm->needs->len > 0 ? g_array_index(vm->needs, HvNeed, 0).size_kib : 0;
    for (guint i = 0; i < vm->needs->len; i++)
        if (g_array_index(vm->needs, HvNeed, i).size_kib != size_kib)
            return 0;
    return size_kib;
}

/* A domain that has no memory but the device's; vm NULL: the VM has no huge pages. */
static HvDomain *domain_of_device(const HvMemoryDevice *device, const HvClaim *vm)
{
    HvDomain *domain = hv_domain_new();
    domain->uuid = g_uuid_string_random();
    domain->name = g_strdup(vm != NULL ? vm->name : NULL);
    domain->has_cells = TRUE;
    domain->may_discard = TRUE;
    /* of a VM without claim nobody knows: what is not said to be private is taken for shared */
    domain->traits.access = vm == NULL || vm->shared ? HV_ACCESS_SHARED : HV_ACCESS_UNSET;
    for (guint i = 0; vm != NULL && i < vm->cells->len; i++) {
        const HvCellRule *rule = &g_array_index(vm->cells, HvCellRule, i);
        HvCell cell = {.id = rule->cell,
                       .page_kib = rule->page_kib,
                       .placement.nodes = rule->nodes,
                       .is_shared = vm->shared};
        g_array_append_val(domain->cells, cell);
    }
    if (vm != NULL && vm->cells->len == 0) /* claimed by an older version */
        domain->page_kib = only_size_kib(vm);
    g_array_append_val(domain->devices, *device);
    return domain;
}

static gboolean has_huge_pages(const HvDomain *domain, guint64 base_page_kib)
{
    const HvMemoryDevice *device = &g_array_index(domain->devices, HvMemoryDevice, 0);
    guint64 page_kib = device->page_kib != 0 ? device->page_kib : domain->page_kib;
    const HvCell *cell = hv_domain_cell(domain, device->cell);
    if (device->page_kib == 0 && cell != NULL)
        page_kib = cell->page_kib;
    return device->model != HV_MEMORY_NOT_COUNTED && device->memory_kib > 0 && page_kib != 0 &&
           page_kib != base_page_kib;
}

/* The ledger as it is; NULL without an error where hugevm has never claimed anything. */
static gboolean read_ledger(const HvAgent *agent, HvLedger **out_ledger, GError **error)
{
    g_autoptr(HvStore) store = NULL;
    *out_ledger = NULL;
    if (!hv_store_open_existing(agent, &store, error))
        return FALSE;
    if (store != NULL)
        *out_ledger = hv_store_read(store, error);
    return store == NULL || *out_ledger != NULL;
}

/* Fills start->asked from the device; FALSE without an error: hugevm is switched off. */
static gboolean make_request(HvStart *start, GError **error)
{
    const HvAgent *agent = start->agent;
    g_autoptr(HvProperties) none = hv_properties_none();
    start->settings = hv_settings_load(agent->root, (const char *const *)agent->conf_files, error);
    if (start->settings == NULL || !start->settings->enabled)
        return FALSE;
    start->snapshot = hv_start_look(start, error);
    if (start->snapshot == NULL)
        return FALSE;
    start->asked =
        hv_request_new(start->domain, none, NULL, start->settings, start->snapshot, error);
    if (start->asked == NULL)
        return FALSE;
    start->asked->open.bind = HV_BIND_NONE; /* libvirt has decided where */
    start->outcome->request = hv_request_copy(start->asked);
    return TRUE;
}

/* Where the VM is: its claim knows, or /proc. */
static HvProcess find_qemu(const HvAgent *agent, const HvVmRef *ref, const HvClaim *vm)
{
    if (ref->qemu_pid != 0)
        return hv_process_identify(agent->root, ref->qemu_pid);
    return vm != NULL ? hv_claim_live_qemu(agent->root, vm)
                      : hv_process_find_qemu(agent->root, ref->uuid);
}

static gboolean check_runs(const HvStart *start, const HvClaim *vm, GError **error)
{
    if (vm == NULL || start->qemu.pid != 0)
        return TRUE;
    hv_set_error(error, HV_ERROR_CONFLICT,
                 "put the memory into the XML that the VM is started with",
                 "VM %s does not run: nothing can be plugged into it", vm->uuid);
    return FALSE;
}

/* libvirt would plug it, and QEMU map it: but what the guest has there others would not see. */
static gboolean check_access(const HvClaim *vm, const HvMemoryDevice *device, GError **error)
{
    if (vm == NULL || !vm->shared || device->access != HV_ACCESS_PRIVATE || device->is_live)
        return TRUE;
    hv_set_error(error, HV_ERROR_CONFLICT, "take access='private' out of the memory device",
                 "the memory of VM %s is shared, but the memory device has access='private': "
                 "devices that need shared memory could not reach it there",
                 vm->uuid);
    return FALSE;
}

/*
 * What the device takes beyond what is claimed for it: virtio-mem may have been granted some that
 * its guest has not taken, which its XML does not tell.
 */
static guint64 growth_kib(const HvStart *start, const HvLedger *ledger, const HvClaim *vm,
                          const HvMemoryDevice *device)
{
    guint64 size_kib;
    if (device->is_live && vm != NULL &&
        hv_qemu_count_virtio_mem(start->agent->root, &start->qemu, &size_kib) == 1)
        return hv_minus(device->memory_kib, hv_ledger_granted_kib(ledger, vm));
    return hv_minus(device->memory_kib, device->current_kib);
}

HvOutcome *hv_lifecycle_plug(const HvAgent *agent, const HvVmRef *ref, const HvPlug *plug,
                             GError **error)
{
    HvMemoryDevice device;
    g_autoptr(HvLedger) ledger = NULL;
    g_autoptr(GError) local = NULL;
    const HvVm vm = {.xml = plug->xml,
                     .xml_bytes = plug->xml_bytes,
                     .host_waits = ref->host_waits,
                     .progress = plug->progress,
                     .progress_data = plug->progress_data};
    if (!hv_memory_device_parse(plug->xml, plug->xml_bytes, &device, error) ||
        !read_ledger(agent, &ledger, error))
        return NULL;
    if (ledger != NULL)
        hv_ledger_prune(agent->root, ledger); /* as the claim will find it */
    const HvClaim *claim = ledger != NULL ? hv_ledger_claim(ledger, ref->uuid) : NULL;
    g_auto(HvStart) start = {.agent = agent, .vm = &vm, .device_of = ref->uuid};
    start.qemu = find_qemu(agent, ref, claim);
    device.memory_kib = growth_kib(&start, ledger, claim, &device);
    start.domain = domain_of_device(&device, claim);
    start.outcome = hv_outcome_new(&vm, start.domain, error);
    if (start.outcome == NULL)
        return NULL;
    g_free(start.outcome->uuid);
    start.outcome->uuid = g_strdup(ref->uuid);
    gboolean is_in_files = claim != NULL && claim->file_kib > 0;
    if (!is_in_files && !has_huge_pages(start.domain, hv_platform_base_page_kib(agent->root)))
        return g_steal_pointer(&start.outcome);
    if (!check_runs(&start, claim, error) || !check_access(claim, &device, error))
        return NULL;
    if (!make_request(&start, &local)) {
        if (local == NULL)
            return g_steal_pointer(&start.outcome);
        g_propagate_error(error, g_steal_pointer(&local));
        return NULL;
    }
    for (guint i = 0; i < start.asked->warnings->len; i++)
        g_ptr_array_add(start.outcome->warnings,
                        g_strdup(g_ptr_array_index(start.asked->warnings, i)));
    return hv_start_take_device(&start, error) ? g_steal_pointer(&start.outcome) : NULL;
}

/* --- how it ended ---------------------------------------------------------------------------- */

/* As many pages as the device takes, of whatever size it has them. What virtio-mem has of what was
 * requested changes meanwhile. */
static gboolean fits(const HvClaim *claim, const HvMemoryDevice *device)
{
    guint64 wanted_kib = device->memory_kib;
    if (claim->file_kib > 0)
        return claim->file_kib >= wanted_kib && claim->file_kib - wanted_kib < DIMM_STEP_KIB;
    gboolean is_elastic =
        claim->needs->len > 0 && g_array_index(claim->needs, HvNeed, 0).is_elastic;
    if (is_elastic || device->model == HV_MEMORY_VIRTIO_MEM)
        return is_elastic && device->model == HV_MEMORY_VIRTIO_MEM;
    guint64 has_kib = hv_needs_kib(claim->needs);
    guint64 size_kib = only_size_kib(claim);
    return size_kib != 0 && (device->page_kib == 0 || device->page_kib == size_kib) &&
           has_kib >= wanted_kib && has_kib - wanted_kib < MAX(size_kib, DIMM_STEP_KIB);
}

/* The claim that is meant; NULL: there is none, or it has been settled. */
static HvClaim *find_device(const HvLedger *ledger, const HvVmRef *ref,
                            const HvMemoryDevice *device)
{
    for (guint i = 0; i < ledger->claims->len; i++) {
        HvClaim *claim = g_ptr_array_index(ledger->claims, i);
        if (g_strcmp0(claim->device_of, ref->uuid) != 0 || claim->since_s == 0)
            continue;
        if (ref->generation != 0 ? claim->generation == ref->generation : fits(claim, device))
            return claim;
    }
    return NULL;
}

/* The pages that it has not: its claim is over, but virtio-mem may take them as long as the VM
 * runs. */
static void settle_device(const HvAgent *agent, HvLedger *ledger, HvClaim *device,
                          HvFollowed followed, const HvMemoryDevice *asked)
{
    if (followed == HV_FOLLOWED_NOT)
        hv_ledger_settle_device(agent->root, ledger, device);
    else if (asked->model == HV_MEMORY_VIRTIO_MEM)
        device->since_s = 0;
    else
        g_ptr_array_remove(ledger->claims, device);
}

/*
 * virtio-mem was asked to shrink, or has been unplugged: then one that is still there is another,
 * of which nothing is said. TRUE if that changed anything.
 */
static gboolean end_grant(const HvAgent *agent, HvLedger *ledger, HvClaim *vm,
                          const HvMemoryDevice *asked)
{
    guint64 size_kib;
    int count = hv_qemu_count_virtio_mem(agent->root, &vm->qemu, &size_kib);
    gboolean is_it = count == 1 && size_kib == asked->size_kib;
    return (is_it || count == 0) &&
           hv_ledger_limit_granted(ledger, vm, is_it ? asked->memory_kib : 0);
}

/*
 * The look at QEMU settles what was plugged, if it can be taken; of virtio-mem the guest takes
 * its part later. What is still there after that was plugged where nobody can look, or
 * was not plugged at all. A report without a name that fits several requests of virtio-mem is
 * about the last one, which includes the others. TRUE if that changed anything.
 */
static gboolean end_plug(const HvAgent *agent, HvLedger *ledger, const HvVmRef *ref,
                         const HvMemoryDevice *asked, HvPlugEnd end)
{
    HvClaim *device = end != HV_PLUG_UNDONE ? find_device(ledger, ref, asked) : NULL;
    HvVmRef same = {.uuid = ref->uuid, .generation = device != NULL ? device->generation : 0};
    gboolean is_known = device != NULL;
    if (is_known && end == HV_PLUG_FAILED)
        g_ptr_array_remove(ledger->claims, device);
    HvClaim *vm = hv_ledger_claim(ledger, ref->uuid);
    if (vm != NULL && vm->state != HV_CLAIM_RUNNING)
        hv_ledger_note_started(agent->root, ledger, NULL);
    HvFollowed followed =
        vm != NULL ? hv_ledger_follow_vm(agent->root, ledger, vm, HV_FOLLOW_SEEN) : HV_FOLLOWED_NOT;
    gboolean is_changed = is_known || followed == HV_FOLLOWED_CHANGED;
    if (end == HV_PLUG_UNDONE && asked->model == HV_MEMORY_VIRTIO_MEM &&
        followed != HV_FOLLOWED_NOT)
        return end_grant(agent, ledger, vm, asked) || is_changed;
    if (end != HV_PLUG_DONE || !is_known)
        return is_changed;
    const HvVmRef *meant = asked->model == HV_MEMORY_VIRTIO_MEM ? ref : &same;
    while ((device = find_device(ledger, meant, asked)) != NULL)
        settle_device(agent, ledger, device, followed, asked);
    return TRUE;
}

/*
 * QEMU says that a device is gone, and lets go of its memory some 50 ms later. Its pages are
 * free when there are fewer than claimed, and no longer become fewer.
 */
static void wait_unmapped(const HvAgent *agent, HvStore *store, const HvVmRef *ref)
{
    guint64 last_kib = 0, now_kib = 0;
    g_autoptr(HvLedger) ledger = hv_store_read(store, NULL);
    const HvClaim *vm = ledger != NULL ? hv_ledger_claim(ledger, ref->uuid) : NULL;
    gint64 end_us = g_get_monotonic_time() + UNMAP_WAIT_US;
    if (vm == NULL || vm->state != HV_CLAIM_RUNNING || !hv_root_is_machine(agent->root))
        return;
    gboolean is_in_files = vm->file_dir != NULL;
    guint64 claimed_kib = is_in_files ? vm->file_kib : hv_needs_kib(vm->needs);
    do {
        last_kib = now_kib;
        now_kib = is_in_files ? hv_process_file_kib(agent->root, vm->qemu.pid, vm->file_dir)
                              : hv_process_hugetlb_kib(agent->root, vm->qemu.pid);
        if (now_kib < claimed_kib && now_kib == last_kib)
            return;
        g_usleep(UNMAP_POLL_US);
    } while (hv_process_is_alive(agent->root, &vm->qemu) && g_get_monotonic_time() < end_us);
}

gboolean hv_lifecycle_plug_ended(const HvAgent *agent, const HvVmRef *ref, const HvPlug *plug,
                                 HvPlugEnd end, GError **error)
{
    HvMemoryDevice device;
    g_autoptr(HvStore) store = NULL;
    if (!hv_memory_device_parse(plug->xml, plug->xml_bytes, &device, error) ||
        !hv_store_open_existing(agent, &store, error))
        return FALSE;
    if (store == NULL)
        return TRUE;
    if (end == HV_PLUG_UNDONE)
        wait_unmapped(agent, store, ref);
    gint64 deadline_us = hv_event_deadline_us(agent, ref);
    g_autoptr(HvTransaction) transaction = hv_transaction_begin(store, deadline_us, error);
    if (transaction == NULL)
        return FALSE;
    transaction->is_changed = end_plug(agent, transaction->ledger, ref, &device, end);
    if (hv_ledger_follow(agent->root, transaction->ledger)) /* before pages are given back */
        transaction->is_changed = TRUE;
    if (!hv_transaction_commit(transaction, error))
        return FALSE;
    g_clear_pointer(&transaction, hv_transaction_end);
    if (!hv_give_back_if_idle(agent, store, error))
        return FALSE;
    hv_hand_over(agent, store);
    return TRUE;
}
