/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "shortage.h"

#include "forecast.h"
#include "page-size.h"
#include "reserve.h"

#include <string.h>

#define HOLDERS_MAX 3
#define RESERVATIONS_MAX 3
#define HOLDERS_MAX_CHARS 48 /* but for the first: the whole message is one line */

/* A VM that has, or waits for, pages that somebody else would need. */
typedef struct {
    const char *name;
    guint64 pages;
} Holder;

static gint by_pages_descending(gconstpointer a, gconstpointer b)
{
    const Holder *x = a, *y = b;
    return x->pages > y->pages ? -1 : x->pages < y->pages;
}

static guint64 pages_on(const HvClaim *claim, guint64 size_kib, const HvNodeSet *nodes)
{
    guint64 pages = 0;
    const GArray *places = hv_claim_places(claim);
    for (guint i = 0; i < places->len; i++) {
        const HvNeed *need = &g_array_index(places, HvNeed, i);
        if (need->size_kib == size_kib && hv_node_set_overlaps(&need->nodes, nodes))
            pages = hv_plus(pages, need->pages);
    }
    return pages;
}

static GArray *find_holders(const HvLedger *ledger, const char *self_uuid, guint64 size_kib,
                            const HvNodeSet *nodes)
{
    GArray *holders = g_array_new(FALSE, TRUE, sizeof(Holder));
    for (guint i = 0; i < ledger->claims->len; i++) {
        const HvClaim *claim = g_ptr_array_index(ledger->claims, i);
        Holder holder = {claim->name != NULL ? claim->name : claim->uuid,
                         pages_on(claim, size_kib, nodes)};
        if (holder.pages > 0 && (self_uuid == NULL || strcmp(self_uuid, claim->uuid) != 0))
            g_array_append_val(holders, holder);
    }
    g_array_sort(holders, by_pages_descending);
    return holders;
}

char *hv_shortage_holders(const HvLedger *ledger, const char *self_uuid, guint64 size_kib,
                          const HvNodeSet *nodes)
{
    g_autoptr(GArray) holders = find_holders(ledger, self_uuid, size_kib, nodes);
    GString *out = g_string_new(NULL);
    guint n = 0;
    for (; n < MIN(holders->len, HOLDERS_MAX); n++) {
        const Holder *holder = &g_array_index(holders, Holder, n);
        g_autofree char *name = hv_quote(holder->name);
        if (n > 0 && out->len + strlen(name) > HOLDERS_MAX_CHARS)
            break;
        g_string_append_printf(out, "%s%s (%" G_GUINT64_FORMAT ")", n > 0 ? ", " : "", name,
                               holder->pages);
    }
    if (n < holders->len)
        g_string_append_printf(out, " and %u more", holders->len - n);
    return g_string_free(out, FALSE);
}

/* "node 2", "nodes 0-1", "any node" */
static char *describe_place(const HvNodeSet *nodes)
{
    if (hv_node_set_is_any(nodes))
        return g_strdup("any node");
    g_autofree char *list = hv_node_set_format(nodes);
    return g_strdup_printf("node%s %s", hv_node_set_single(nodes) >= 0 ? "" : "s", list);
}

/* "; reserved for ovs, 256 of 512 in use" for each that is kept where the VM may be */
static void append_reservations(GString *out, const HvWorld *world, const HvShortage *shortage)
{
    g_autoptr(GArray) uses = hv_reserve_uses(world->settings, world->snapshot, shortage->size_kib);
    guint shown = 0, more = 0;
    for (guint i = 0; i < uses->len; i++) {
        const HvReserveUse *use = &g_array_index(uses, HvReserveUse, i);
        gboolean is_there = use->entry->node < 0 || hv_node_set_is_any(&shortage->nodes) ||
                            hv_node_set_contains(&shortage->nodes, use->entry->node);
        if (use->entry->count_pages == 0 || !is_there)
            continue;
        g_autofree char *text = hv_reserve_describe(use, world->snapshot);
        if (shown++ < RESERVATIONS_MAX)
            g_string_append_printf(out, "; %s", text);
        else
            more++;
    }
    if (more > 0)
        g_string_append_printf(out, "; and %u more", more);
}

static char *describe_others(const HvWorld *world, const HvShortage *shortage, const HvRoom *room)
{
    GString *out = g_string_new(NULL);
    const struct {
        guint64 pages;
        const char *what;
    } parts[] = {
        {room->free, "free"},
        {room->held, "held for VMs"},
        {room->exposed, "claimed by VMs that are starting"},
        {room->foreign, "used by others"},
        {room->reserved_unused, "reserved by configuration"},
    };
    g_string_append_printf(out, "pool of %" G_GUINT64_FORMAT, room->total);
    for (guint i = 0; i < G_N_ELEMENTS(parts); i++)
        if (parts[i].pages > 0 || i == 0)
            g_string_append_printf(out, ", %" G_GUINT64_FORMAT " %s", parts[i].pages,
                                   parts[i].what);
    append_reservations(out, world, shortage);
    g_autofree char *holders =
        hv_shortage_holders(world->ledger, world->self_uuid, shortage->size_kib, &shortage->nodes);
    if (holders[0] == '\0')
        return g_string_free(out, FALSE);
    g_string_append_printf(out, "; VMs%s: %s", hv_node_set_is_any(&shortage->nodes) ? "" : " there",
                           holders);
    return g_string_free(out, FALSE);
}

static gboolean keeps_memory(const HvWorld *world)
{
    return world->settings->floor_host_kib > 0 || world->settings->floor_node_percent > 0;
}

/* What has to be added before the first page of it is a VM's. */
static guint64 owed_pages(const HvRoom *room)
{
    guint64 spoken_for = hv_plus(room->resv, room->reserved_unused);
    guint64 left = hv_plus(hv_minus(room->free, spoken_for), room->overcommit_left);
    return hv_plus(hv_minus(spoken_for, room->free), hv_minus(room->exposed, left));
}

static char *hint_for(const HvWorld *world, const HvShortage *shortage, const HvRoom *room)
{
    if (world->settings->use_dynamic_hugepages)
        return g_strdup(keeps_memory(world)
                            ? "stop something, use a smaller VM, or lower host_memory_floor in "
                              "/etc/hugevm/hugevm.conf"
                            : "stop something, or use a smaller VM");
    return g_strdup_printf(
        "set use_dynamic_hugepages = true under [performance] in /etc/hugevm/hugevm.conf, or add "
        "%" G_GUINT64_FORMAT " pages: raise /sys/kernel/mm/hugepages/hugepages-%" G_GUINT64_FORMAT
        "kB/nr_hugepages",
        hv_plus(shortage->missing_of_size, owed_pages(room)), shortage->size_kib);
}

/* What splitting and growth could add on these nodes. */
static void find_more(const HvWorld *world, const HvShortage *shortage, guint64 *out_split,
                      guint64 *out_grown)
{
    guint64 split = 0, grown = 0, size_kib = shortage->size_kib;
    for (guint i = 0; i < world->snapshot->nodes->len; i++) {
        int node = g_array_index(world->snapshot->nodes, HvNode, i).id;
        if (!hv_node_set_is_any(&shortage->nodes) && !hv_node_set_contains(&shortage->nodes, node))
            continue;
        split = hv_plus(split, hv_plan_demotable_into_pages(world, size_kib, node));
        grown = hv_plus(grown, hv_forecast_growth(world, size_kib, node).memory_pages);
    }
    *out_split = split;
    *out_grown = MIN(grown, hv_forecast_growth(world, size_kib, -1).memory_pages);
}

/*
 * Where dynamic allocation is on, what it would have added adds up with the rest: wanted =
 * available + splitting + growth + short. Where it is off, what it could add.
 */
static char *describe_more(const HvWorld *world, const HvShortage *shortage)
{
    guint64 split, grown;
    gboolean is_on = world->settings->use_dynamic_hugepages;
    find_more(world, shortage, &split, &grown);
    if (is_on) {
        guint64 used = world->settings->use_preallocated_hugepages ? shortage->available : 0;
        guint64 added = hv_minus(shortage->wanted, hv_plus(used, shortage->missing));
        split = MIN(split, added);
        grown = added - split;
    }
    GString *out = g_string_new(NULL);
    if (split > 0)
        g_string_append_printf(out, "%" G_GUINT64_FORMAT " by splitting", split);
    if (grown > 0)
        g_string_append_printf(out, "%s%" G_GUINT64_FORMAT " by growth", split > 0 ? ", " : "",
                               grown);
    return g_string_free(out, FALSE);
}

static char *describe_end(const HvWorld *world, const HvShortage *shortage)
{
    g_autofree char *more = describe_more(world, shortage);
    gboolean has_more = more[0] != '\0';
    if (world->settings->use_dynamic_hugepages)
        return g_strdup_printf("%s%s%" G_GUINT64_FORMAT " short: %s to add them", more,
                               has_more ? ", " : "", shortage->missing,
                               keeps_memory(world) ? "the memory kept for the host leaves no room"
                                                   : "there is no memory");
    return g_strdup_printf("%" G_GUINT64_FORMAT " short, and dynamic allocation is off%s%s%s",
                           shortage->missing, has_more ? " (it could add " : "", more,
                           has_more ? ")" : "");
}

HvRefusal *hv_shortage_refusal(const HvWorld *world, const HvRequest *request,
                               const HvShortage *shortage)
{
    HvRoom room = hv_room_of_size(world, shortage->size_kib);
    guint64 own = hv_minus(shortage->wanted, shortage->available);
    HvShortage shown = *shortage;
    if (own > 0) /* the rest is left to floating needs, and they lack it */
        shown.missing = MIN(shown.missing, own);
    else /* there would be enough, but for the VM's other needs */
        shown = (HvShortage){.size_kib = shortage->size_kib,
                             .wanted = hv_needs_pages(request->needs, shortage->size_kib),
                             .available = room.available,
                             .missing = shortage->missing_of_size,
                             .missing_of_size = shortage->missing_of_size};
    g_autofree char *name = hv_quote(request->name);
    g_autofree char *size = hv_format_kib(shown.size_kib);
    g_autofree char *place = describe_place(&shown.nodes);
    g_autofree char *others = describe_others(world, &shown, &room);
    g_autofree char *end = describe_end(world, &shown);
    g_autofree char *hint = hint_for(world, &shown, &room);
    return hv_refusal_new(HV_ERROR_SHORTAGE, hint,
                          "VM %s wants %" G_GUINT64_FORMAT " page%s of %s on %s: %" G_GUINT64_FORMAT
                          " available (%s%s), %s",
                          name, shown.wanted, shown.wanted == 1 ? "" : "s", size, place,
                          shown.available,
                          hv_node_set_is_any(&shown.nodes) ? "" : "on all nodes: ", others, end);
}
