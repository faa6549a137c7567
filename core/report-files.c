/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is told of a host that keeps the memory of VMs in files. */
#include "report-files.h"

#include "file-backed.h"
#include "page-size.h"

void hv_json_add_file_room(JsonBuilder *builder, const HvWorld *world)
{
    const HvMemoryDir *dir = world->snapshot->memory_dir;
    if (dir == NULL)
        return;
    HvFileRoom room = hv_file_room(world);
    json_builder_set_member_name(builder, "file_backed");
    json_builder_begin_object(builder);
    hv_json_add_text(builder, "directory", dir->path);
    hv_json_add_number(builder, "capacity_kib", room.capacity_kib);
    hv_json_add_number(builder, "used_kib", room.used_kib);
    hv_json_add_number(builder, "unallocated_kib", room.unallocated_kib);
    hv_json_add_number(builder, "available_kib", room.available_kib);
    hv_json_add_number(builder, "file_system_kib", dir->size_kib);
    hv_json_add_number(builder, "file_system_free_kib", dir->free_kib);
    json_builder_end_object(builder);
}

void hv_text_append_file_room(GString *out, const HvWorld *world)
{
    const HvMemoryDir *dir = world->snapshot->memory_dir;
    if (dir == NULL)
        return;
    HvFileRoom room = hv_file_room(world);
    g_autofree char *capacity = hv_format_kib(room.capacity_kib);
    g_autofree char *used = hv_format_kib(room.used_kib);
    g_autofree char *available = hv_format_kib(room.available_kib);
    g_string_append_printf(out, "memory in files of %s: %s in all, %s claimed, %s available\n",
                           dir->path, capacity, used, available);
}
