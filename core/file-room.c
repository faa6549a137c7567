/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Two limits, and a VM must fit in both: what the configuration allows, of which each claim takes
 * its part as long as it lasts; and what the file system has left, of which claims take only what
 * QEMU has not allocated yet.
 */
#include "file-backed.h"

#include "page-size.h"

#include <string.h>

#define HOLDERS_MAX 3

static gboolean is_other(const HvWorld *world, const HvClaim *claim)
{
    return claim->file_kib > 0 && g_strcmp0(world->self_uuid, claim->uuid) != 0;
}

HvFileRoom hv_file_room(const HvWorld *world)
{
    HvFileRoom room = {.capacity_kib = world->settings->file_backed_kib};
    const HvMemoryDir *dir = world->snapshot->memory_dir;
    for (guint i = 0; i < world->ledger->claims->len; i++) {
        const HvClaim *claim = g_ptr_array_index(world->ledger->claims, i);
        if (!is_other(world, claim))
            continue;
        room.used_kib = hv_plus(room.used_kib, claim->file_kib);
        if (!hv_claim_is_mapped(claim))
            room.unallocated_kib =
                hv_plus(room.unallocated_kib, hv_minus(claim->file_kib, claim->allocated_kib));
    }
    if (dir == NULL || dir->state != HV_MEMORY_DIR_THERE)
        return room;
    room.available_kib = MIN(hv_minus(room.capacity_kib, room.used_kib),
                             hv_minus(dir->free_kib, room.unallocated_kib));
    return room;
}

char *hv_file_directory_fault(const HvMemoryDir *dir, guint64 capacity_kib, char **out_hint)
{
    static const char *const faults[] = {
        [HV_MEMORY_DIR_MISSING] = "does not exist",
        [HV_MEMORY_DIR_IS_OTHER] = "is no directory",
        [HV_MEMORY_DIR_READ_ONLY] = "is mounted read-only",
        [HV_MEMORY_DIR_UNKNOWN] = "cannot be looked at",
    };
    g_autofree char *hint = NULL;
    char *fault = NULL;
    if (dir->state != HV_MEMORY_DIR_THERE) {
        fault = g_strdup_printf("the memory of VMs is to be in files (file_backed_memory), but "
                                "their directory %s %s",
                                dir->path, faults[dir->state]);
        hint = g_strdup_printf(dir->state == HV_MEMORY_DIR_READ_ONLY
                                   ? "find out why, and mount the file system of %s for writing"
                                   : "mount a file system for them on %s",
                               dir->path);
    } else if (dir->size_kib < capacity_kib) {
        g_autofree char *capacity = hv_format_kib(capacity_kib);
        g_autofree char *size = hv_format_kib(dir->size_kib);
        fault = g_strdup_printf("file_backed_memory is %s, but the file system of %s has %s only",
                                capacity, dir->path, size);
        hint = g_strdup_printf("mount a larger file system on %s, or set file_backed_memory to at "
                               "most %" G_GUINT64_FORMAT,
                               dir->path, dir->size_kib / 1024);
    }
    if (out_hint != NULL)
        *out_hint = g_steal_pointer(&hint);
    return fault;
}

static gint by_kib_descending(gconstpointer a, gconstpointer b)
{
    const HvClaim *x = *(const HvClaim *const *)a, *y = *(const HvClaim *const *)b;
    return x->file_kib > y->file_kib ? -1 : x->file_kib < y->file_kib;
}

/* "'a' (4 GiB), 'b' (2 GiB) and 3 more"; "no other VM" */
static char *list_holders(const HvWorld *world)
{
    g_autoptr(GPtrArray) holders = g_ptr_array_new();
    for (guint i = 0; i < world->ledger->claims->len; i++)
        if (is_other(world, g_ptr_array_index(world->ledger->claims, i)))
            g_ptr_array_add(holders, g_ptr_array_index(world->ledger->claims, i));
    g_ptr_array_sort(holders, by_kib_descending);
    GString *out = g_string_new(holders->len == 0 ? "no other VM" : "");
    for (guint i = 0; i < MIN(holders->len, HOLDERS_MAX); i++) {
        const HvClaim *claim = g_ptr_array_index(holders, i);
        g_autofree char *name = hv_quote(claim->name != NULL ? claim->name : claim->uuid);
        g_autofree char *size = hv_format_kib(claim->file_kib);
        g_string_append_printf(out, "%s%s (%s)", i > 0 ? ", " : "", name, size);
    }
    if (holders->len > HOLDERS_MAX)
        g_string_append_printf(out, " and %u more", holders->len - HOLDERS_MAX);
    return g_string_free(out, FALSE);
}

static HvRefusal *refuse_capacity(const HvWorld *world, const HvRequest *request,
                                  const HvFileRoom *room)
{
    g_autofree char *name = hv_quote(request->name);
    g_autofree char *wanted = hv_format_kib(request->file_kib);
    g_autofree char *capacity = hv_format_kib(room->capacity_kib);
    g_autofree char *used = hv_format_kib(room->used_kib);
    g_autofree char *left = hv_format_kib(hv_minus(room->capacity_kib, room->used_kib));
    g_autofree char *holders = list_holders(world);
    return hv_refusal_new(
        HV_ERROR_SHORTAGE,
        "stop something, use a smaller VM, or raise file_backed_memory, if there is a file system "
        "that large",
        "VM %s wants %s in files of %s: %s available (file_backed_memory is %s, %s claimed; VMs: "
        "%s)",
        name, wanted, world->snapshot->memory_dir->path, left, capacity, used, holders);
}

static HvRefusal *refuse_full(const HvWorld *world, const HvRequest *request,
                              const HvFileRoom *room)
{
    const HvMemoryDir *dir = world->snapshot->memory_dir;
    g_autofree char *name = hv_quote(request->name);
    g_autofree char *wanted = hv_format_kib(request->file_kib);
    g_autofree char *size = hv_format_kib(dir->size_kib);
    g_autofree char *vacant = hv_format_kib(dir->free_kib);
    g_autofree char *starting = hv_format_kib(room->unallocated_kib);
    g_autofree char *hint = g_strdup_printf(
        "remove what else is in the file system of %s, or make it larger", dir->path);
    return hv_refusal_new(HV_ERROR_SHORTAGE, hint,
                          "VM %s wants %s in files of %s, whose file system of %s is too full: %s "
                          "free, of which VMs that are starting want %s",
                          name, wanted, dir->path, size, vacant, starting);
}

HvRefusal *hv_file_refusal(const HvWorld *world, const HvRequest *request)
{
    HvFileRoom room = hv_file_room(world);
    const HvMemoryDir *dir = world->snapshot->memory_dir;
    g_autofree char *hint = NULL;
    g_autofree char *fault = hv_file_directory_fault(dir, room.capacity_kib, &hint);
    if (fault != NULL)
        return hv_refusal_new(HV_ERROR_CONFLICT, hint, "%s", fault);
    if (request->file_kib > hv_minus(room.capacity_kib, room.used_kib))
        return refuse_capacity(world, request, &room);
    if (request->file_kib > hv_minus(dir->free_kib, room.unallocated_kib))
        return refuse_full(world, request, &room);
    return NULL;
}

gboolean hv_file_room_may_come(const HvWorld *world, const HvRequest *request)
{
    HvFileRoom room = hv_file_room(world);
    return request->file_kib > 0 && room.unallocated_kib > 0 &&
           request->file_kib <= hv_minus(room.capacity_kib, room.used_kib);
}
