/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Follow: what a VM's QEMU maps decides what its claim says, once it runs. Memory devices
 * come and go while it does: libvirt has no hook for them, and where a host reports them, the
 * report may be lost or late.
 *
 *   more is mapped than claimed   a device was plugged: its claim, if there is one, becomes a
 *                                 part of the VM's; else the VM's claim grows
 *   less is mapped                a device was unplugged: the claim shrinks, and a
 *                                 give-back finds the pages
 *
 * virtio-mem maps all that it may become, and the guest takes of it what was requested
 * when it likes: after a reboot it begins anew. What is requested and not touched no mapping
 * keeps. So these pages, "elastic" ones, move between the VM's claim (touched) and one of a
 * device beside it (to come, and counted as exposed); the sum of both stays what was requested.
 *
 * What QEMU lets go of in files that it made on a launch mount (a DIMM that it was started with),
 * the kernel reserves for that mount again, up to its min_size (tests/kernel/probe-launch.c):
 * free, and nobody's, so the give-back leaves it until QEMU ends. VMs with virtio-mem have none.
 */
#include "lifecycle-private.h"

#include "page-size.h"
#include "residence.h"

#define LIST_MAX_BYTES (16 * 1024)

/* --- where the pages are --------------------------------------------------------------------- */

/* A host with several nodes that have memory; one that does not say which has one. */
static gboolean has_several_nodes(const HvRoot *root)
{
    HvNodeSet nodes = {0};
    g_autofree char *text =
        hv_root_read_text(root, "/sys/devices/system/node/has_memory", LIST_MAX_BYTES, NULL);
    return text != NULL && hv_node_set_parse(g_strstrip(text), &nodes) &&
           hv_node_set_count(&nodes) > 1;
}

static gboolean is_placed_by_needs(const HvClaim *claim)
{
    for (guint i = 0; i < claim->needs->len; i++)
        if (hv_node_set_single(&g_array_index(claim->needs, HvNeed, i).nodes) < 0)
            return FALSE;
    return TRUE;
}

/* All pages of each size are there: it has touched them, and none is anybody else's. */
static gboolean is_complete(const HvClaim *claim, const HvResidence *residence)
{
    for (guint i = 0; i < claim->needs->len; i++) {
        guint64 size_kib = g_array_index(claim->needs, HvNeed, i).size_kib;
        if (hv_placed_pages(residence->placed, size_kib) != hv_needs_pages(claim->needs, size_kib))
            return FALSE;
    }
    return residence->knows_nodes;
}

/* Where the kernel has put the pages: from here on they count there. */
static void note_places(const HvRoot *root, HvClaim *claim)
{
    g_array_set_size(claim->placed, 0);
    if (claim->qemu.pid == 0 || !has_several_nodes(root))
        return;
    g_autoptr(HvResidence) residence = hv_residence_read(root, &claim->qemu, HV_NODE_UNKNOWN, NULL);
    if (residence == NULL || !is_complete(claim, residence))
        return;
    for (guint i = 0; i < residence->placed->len; i++) {
        const HvPlacedPages *placed = &g_array_index(residence->placed, HvPlacedPages, i);
        HvNeed need = {.size_kib = placed->size_kib, .pages = placed->pages};
        if (placed->node < 0 || placed->node >= HV_MAX_NODES)
            continue;
        hv_node_set_add(&need.nodes, placed->node);
        g_array_append_val(claim->placed, need);
    }
}

/* Of needs that several nodes may serve: no other node is kept free for them. */
void hv_claim_note_places(const HvRoot *root, HvClaim *claim)
{
    g_array_set_size(claim->placed, 0);
    if (!is_placed_by_needs(claim))
        note_places(root, claim);
}

/* --- needs ----------------------------------------------------------------------------------- */

/* Pages of one size, of the kind that the guest takes as it likes, or of the other. */
typedef struct {
    guint64 size_kib;
    gboolean is_elastic;
} Kind;

static gboolean is_of_kind(const HvNeed *need, const Kind *kind)
{
    return need->size_kib == kind->size_kib && need->is_elastic == kind->is_elastic;
}

static guint64 claimed_pages(const HvClaim *claim, const Kind *kind)
{
    guint64 pages = 0;
    for (guint i = 0; i < claim->needs->len; i++) {
        const HvNeed *need = &g_array_index(claim->needs, HvNeed, i);
        if (is_of_kind(need, kind))
            pages = hv_plus(pages, need->pages);
    }
    return pages;
}

/* The last of them first: what came last goes first. Adds what it took, with its nodes, to `to`
 * (NULL: nowhere), and returns how many pages that were. */
static guint64 take_pages(HvClaim *from, HvClaim *to, const Kind *kind, guint64 pages)
{
    guint64 left = pages;
    for (guint i = from->needs->len; i > 0 && left > 0; i--) {
        HvNeed *need = &g_array_index(from->needs, HvNeed, i - 1);
        if (!is_of_kind(need, kind))
            continue;
        HvNeed taken = *need;
        taken.pages = MIN(need->pages, left);
        left -= taken.pages;
        need->pages -= taken.pages;
        if (need->pages == 0)
            g_array_remove_index(from->needs, i - 1);
        if (to != NULL)
            g_array_append_val(to->needs, taken);
    }
    return pages - left;
}

/* --- memory devices -------------------------------------------------------------------------- */

static gboolean is_device_of(const HvClaim *claim, const HvClaim *vm)
{
    return g_strcmp0(claim->device_of, vm->uuid) == 0 && claim->state != HV_CLAIM_DRAINING;
}

/* What its virtio-mem devices have been granted and not taken yet. */
static HvClaim *pending_of(HvLedger *ledger, const HvClaim *vm)
{
    for (guint i = 0; i < ledger->claims->len; i++) {
        HvClaim *claim = g_ptr_array_index(ledger->claims, i);
        if (is_device_of(claim, vm) && claim->since_s == 0)
            return claim;
    }
    g_autofree char *uuid = g_uuid_string_random();
    g_autoptr(GArray) needs = g_array_new(FALSE, TRUE, sizeof(HvNeed));
    HvRequest request = {.uuid = uuid, .name = vm->name, .needs = needs, .shared = vm->shared};
    HvClaim *device = hv_ledger_add_claim(ledger, &request, vm->owner_name, &vm->owner);
    device->device_of = g_strdup(vm->uuid);
    device->qemu = vm->qemu;
    return device;
}

static void drop_empty_devices(HvLedger *ledger)
{
    for (guint i = ledger->claims->len; i > 0; i--) {
        const HvClaim *claim = g_ptr_array_index(ledger->claims, i - 1);
        if (claim->device_of != NULL && claim->needs->len == 0 && claim->file_kib == 0)
            g_ptr_array_remove_index(ledger->claims, i - 1);
    }
}

/* Only a VM of one page size that keeps what it has may be handed over. */
static void check_handover(HvClaim *vm)
{
    guint64 size_kib = vm->needs->len > 0 ? g_array_index(vm->needs, HvNeed, 0).size_kib : 0;
    guint64 first_kib = hv_needs_pages(vm->needs, size_kib) * size_kib;
    gboolean is_elastic = FALSE;
    for (guint i = 0; i < vm->needs->len; i++)
        is_elastic = is_elastic || g_array_index(vm->needs, HvNeed, i).is_elastic;
    if (is_elastic || first_kib != hv_needs_kib(vm->needs))
        vm->may_hand_over = FALSE;
}

/* A device that is being plugged, of which QEMU maps all pages or none. */
static gboolean is_under_way(const HvClaim *claim, const HvClaim *vm, const Kind *kind)
{
    return is_device_of(claim, vm) && claim->since_s != 0 && claimed_pages(claim, kind) > 0;
}

/*
 * Which of the devices under way may it be that has come with so many pages? All of them, or the
 * only one of that size; *out_one is NULL for all of them. FALSE: it cannot be told, or is none
 * of them. Then these claims stay until somebody reports, or the time for that is over: too much
 * is claimed until then, but the one that is yet to come keeps its pages.
 */
static gboolean tell_device(const HvLedger *ledger, const HvClaim *vm, const Kind *kind,
                            guint64 pages, const HvClaim **out_one)
{
    guint64 sum = 0;
    guint n_of_size = 0;
    for (guint i = 0; i < ledger->claims->len; i++) {
        const HvClaim *claim = g_ptr_array_index(ledger->claims, i);
        if (!is_under_way(claim, vm, kind))
            continue;
        sum = hv_plus(sum, claimed_pages(claim, kind));
        if (claimed_pages(claim, kind) != pages)
            continue;
        *out_one = claim;
        n_of_size++;
    }
    if (sum == pages)
        *out_one = NULL;
    return sum == pages || n_of_size == 1;
}

/* What its devices bring into the VM's claim. */
static guint64 take_from_devices(HvLedger *ledger, HvClaim *vm, const Kind *kind, guint64 pages)
{
    guint64 taken = 0;
    const HvClaim *one = NULL;
    if (!kind->is_elastic && !tell_device(ledger, vm, kind, pages, &one))
        return 0;
    for (guint i = 0; i < ledger->claims->len && taken < pages; i++) {
        HvClaim *claim = g_ptr_array_index(ledger->claims, i);
        if (is_device_of(claim, vm) && (one == NULL || one == claim))
            taken += take_pages(claim, vm, kind, pages - taken);
    }
    return taken;
}

static void grow(HvLedger *ledger, HvClaim *vm, const Kind *kind, guint64 pages)
{
    guint64 taken = take_from_devices(ledger, vm, kind, pages);
    HvNeed need = {
        .size_kib = kind->size_kib, .pages = pages - taken, .is_elastic = kind->is_elastic};
    if (need.pages > 0)
        g_array_append_val(vm->needs, need);
    check_handover(vm);
}

static gboolean follow_kind(HvLedger *ledger, HvClaim *vm, const Kind *kind, guint64 mapped,
                            HvFollowWhy why)
{
    guint64 claimed = claimed_pages(vm, kind);
    if (mapped > claimed)
        grow(ledger, vm, kind, mapped - claimed);
    else if (mapped < claimed && kind->is_elastic)
        take_pages(vm, pending_of(ledger, vm), kind, claimed - mapped);
    else if (mapped < claimed && why == HV_FOLLOW_SEEN)
        take_pages(vm, NULL, kind, claimed - mapped);
    else
        return FALSE;
    return TRUE;
}

static void add_size(GArray *sizes, guint64 size_kib)
{
    for (guint i = 0; i < sizes->len; i++)
        if (g_array_index(sizes, guint64, i) == size_kib)
            return;
    g_array_append_val(sizes, size_kib);
}

/* Page sizes that the claim or QEMU has. */
static GArray *list_sizes(const HvClaim *vm, const HvResidence *residence)
{
    GArray *sizes = g_array_new(FALSE, TRUE, sizeof(guint64));
    for (guint i = 0; i < vm->needs->len; i++)
        add_size(sizes, g_array_index(vm->needs, HvNeed, i).size_kib);
    for (guint i = 0; i < residence->mapped->len; i++)
        add_size(sizes, g_array_index(residence->mapped, HvPlacedPages, i).size_kib);
    return sizes;
}

HvFollowed hv_ledger_follow_vm(const HvRoot *root, HvLedger *ledger, HvClaim *vm, HvFollowWhy why)
{
    gboolean is_changed = FALSE;
    if (vm->state != HV_CLAIM_RUNNING || !hv_process_is_alive(root, &vm->qemu))
        return HV_FOLLOWED_NOT;
    if (vm->file_dir != NULL)
        return hv_ledger_follow_files(root, ledger, vm, why);
    if (hv_process_hugetlb_kib(root, vm->qemu.pid) != hv_needs_kib(vm->needs)) {
        g_autoptr(HvResidence) residence =
            hv_residence_read(root, &vm->qemu, HV_NODE_UNKNOWN, NULL);
        /* without any memory it is about to end, or not what we take it for */
        if (residence == NULL || !residence->knows_mappings ||
            (residence->mapped->len == 0 && residence->normal_mapped_kib == 0))
            return HV_FOLLOWED_NOT;
        g_autoptr(GArray) sizes = list_sizes(vm, residence);
        for (guint i = 0; i < sizes->len; i++) {
            guint64 size_kib = g_array_index(sizes, guint64, i);
            guint64 elastic = hv_placed_pages(residence->unreserved, size_kib);
            guint64 fixed = hv_placed_pages(residence->reserved, size_kib);
            is_changed |= follow_kind(ledger, vm, &(Kind){size_kib, FALSE}, fixed, why);
            is_changed |= follow_kind(ledger, vm, &(Kind){size_kib, TRUE}, elastic, why);
        }
    }
    if (!is_changed)
        return HV_FOLLOWED_SAME;
    drop_empty_devices(ledger);
    note_places(root, vm); /* which of its devices came or went, only the kernel knows */
    return HV_FOLLOWED_CHANGED;
}

/* The first huge pages of a VM are its device's; before it maps them its QEMU is not found. */
static gboolean is_first_plugged(const HvRoot *root, const HvLedger *ledger, const HvClaim *device)
{
    if (device->device_of == NULL || device->since_s == 0 ||
        hv_ledger_claim(ledger, device->device_of) != NULL)
        return FALSE;
    HvProcess qemu = hv_process_find_qemu(root, device->device_of);
    return qemu.pid != 0 && hv_process_hugetlb_kib(root, qemu.pid) >= hv_needs_kib(device->needs);
}

static gboolean follow_first_devices(const HvRoot *root, HvLedger *ledger)
{
    gboolean is_changed = FALSE;
    for (guint i = ledger->claims->len; i > 0; i--) {
        HvClaim *device = g_ptr_array_index(ledger->claims, i - 1);
        if (!is_first_plugged(root, ledger, device))
            continue;
        hv_ledger_settle_device(root, ledger, device);
        is_changed = TRUE;
    }
    return is_changed;
}

gboolean hv_ledger_follow(const HvRoot *root, HvLedger *ledger)
{
    gboolean is_changed = follow_first_devices(root, ledger);
    g_autoptr(GPtrArray) vms = g_ptr_array_new(); /* claims of devices come and go meanwhile */
    for (guint i = 0; i < ledger->claims->len; i++) {
        HvClaim *claim = g_ptr_array_index(ledger->claims, i);
        if (claim->device_of == NULL)
            g_ptr_array_add(vms, claim);
    }
    for (guint i = 0; i < vms->len; i++)
        is_changed |= hv_ledger_follow_vm(root, ledger, g_ptr_array_index(vms, i),
                                          HV_FOLLOW_SEEN) == HV_FOLLOWED_CHANGED;
    return is_changed;
}

void hv_ledger_settle_device(const HvRoot *root, HvLedger *ledger, HvClaim *device)
{
    HvClaim *vm = hv_ledger_claim(ledger, device->device_of);
    if (vm == NULL) { /* it had normal pages only */
        g_free(device->uuid);
        device->uuid = g_steal_pointer(&device->device_of);
        device->since_s = 0;
        HvProcess qemu =
            device->qemu.pid != 0 ? device->qemu : hv_process_find_qemu(root, device->uuid);
        device->may_hand_over = FALSE;
        hv_claim_note_running(root, device, &qemu);
        return;
    }
    g_array_append_vals(vm->needs, device->needs->data, device->needs->len);
    vm->file_kib = hv_plus(vm->file_kib, device->file_kib);
    check_handover(vm);
    g_ptr_array_remove(ledger->claims, device);
    hv_claim_note_places(root, vm);
}

/* --- virtio-mem ------------------------------------------------------------------------------ */

int hv_qemu_count_virtio_mem(const HvRoot *root, const HvProcess *qemu, guint64 *out_size_kib)
{
    g_autoptr(HvResidence) residence = hv_residence_read(root, qemu, HV_NODE_UNKNOWN, NULL);
    *out_size_kib = residence != NULL ? residence->unreserved_kib : 0;
    return residence != NULL && residence->knows_mappings ? (int)residence->n_unreserved : -1;
}

static guint64 elastic_kib(const HvClaim *claim)
{
    guint64 sum_kib = 0;
    for (guint i = 0; i < claim->needs->len; i++) {
        const HvNeed *need = &g_array_index(claim->needs, HvNeed, i);
        guint64 kib = G_MAXUINT64;
        hv_checked_mul(need->pages, need->size_kib, &kib);
        if (need->is_elastic)
            sum_kib = hv_plus(sum_kib, kib);
    }
    return sum_kib;
}

guint64 hv_ledger_granted_kib(const HvLedger *ledger, const HvClaim *vm)
{
    guint64 sum_kib = elastic_kib(vm);
    for (guint i = 0; i < ledger->claims->len; i++) {
        const HvClaim *claim = g_ptr_array_index(ledger->claims, i);
        if (is_device_of(claim, vm))
            sum_kib = hv_plus(sum_kib, elastic_kib(claim));
    }
    return sum_kib;
}

gboolean hv_ledger_limit_granted(HvLedger *ledger, HvClaim *vm, guint64 limit_kib)
{
    guint64 excess_kib = hv_minus(hv_ledger_granted_kib(ledger, vm), limit_kib);
    gboolean is_changed = FALSE;
    for (guint i = 0; i < ledger->claims->len && excess_kib > 0; i++) {
        HvClaim *claim = g_ptr_array_index(ledger->claims, i);
        if (!is_device_of(claim, vm) || claim->since_s != 0 || claim->needs->len == 0)
            continue;
        Kind kind = {g_array_index(claim->needs, HvNeed, 0).size_kib, TRUE};
        guint64 taken = take_pages(claim, NULL, &kind, excess_kib / kind.size_kib);
        excess_kib -= taken * kind.size_kib;
        is_changed = is_changed || taken > 0;
    }
    drop_empty_devices(ledger);
    return is_changed;
}
