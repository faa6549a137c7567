/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "shortage.h"

#include "page-size.h"

static char *describe_others(const HvRoom *room)
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
    return g_string_free(out, FALSE);
}

static char *hint_for(const HvWorld *world, const HvShortage *shortage)
{
    if (world->settings->use_dynamic_hugepages)
        return g_strdup("stop something, use a smaller VM, or lower host_memory_floor in "
                        "/etc/hugevm/hugevm.conf");
    return g_strdup_printf(
        "set use_dynamic_hugepages = true under [performance] in /etc/hugevm/hugevm.conf, or add "
        "%" G_GUINT64_FORMAT " pages: raise /sys/kernel/mm/hugepages/hugepages-%" G_GUINT64_FORMAT
        "kB/nr_hugepages",
        shortage->missing_of_size, shortage->size_kib);
}

/* "node 2", "nodes 0-1", "any node" */
static char *describe_place(const HvNodeSet *nodes)
{
    if (hv_node_set_is_any(nodes))
        return g_strdup("any node");
    g_autofree char *list = hv_node_set_format(nodes);
    return g_strdup_printf("node%s %s", hv_node_set_single(nodes) >= 0 ? "" : "s", list);
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
    g_autofree char *others = describe_others(&room);
    g_autofree char *hint = hint_for(world, &shown);
    return hv_refusal_new(
        HV_ERROR_SHORTAGE, hint,
        "VM %s wants %" G_GUINT64_FORMAT " page%s of %s on %s: %" G_GUINT64_FORMAT
        " available (%s%s), %" G_GUINT64_FORMAT " short%s",
        name, shown.wanted, shown.wanted == 1 ? "" : "s", size, place, shown.available,
        hv_node_set_is_any(&shown.nodes) ? "" : "on all nodes: ", others, shown.missing,
        world->settings->use_dynamic_hugepages
            ? ", and the memory kept for the host leaves no room to add them"
            : ", and dynamic allocation is off");
}
