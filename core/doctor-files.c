/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Is the directory for VMs' memory files fit for what the settings say? */
#include "doctor-files.h"

#include "file-backed.h"
#include "page-size.h"

static void check_paths(const HvMemoryDir *dir, HvDoctorAdd add, GPtrArray *found)
{
    if (g_str_equal(dir->path, dir->libvirt_path))
        return;
    g_autofree char *hint = g_strdup_printf(
        "set memory_backing_dir = \"%s\" in /etc/libvirt/qemu.conf and restart libvirtd, or remove "
        "memory_backing_dir from [hugevm]",
        dir->path);
    add(found, HV_DOCTOR_PROBLEM, hint,
        "memory_backing_dir in [hugevm] is %s, but libvirtd makes its files in %s", dir->path,
        dir->libvirt_path);
}

static void check_place(const HvMemoryDir *dir, HvDoctorAdd add, GPtrArray *found)
{
    if (hv_memory_dir_is_on_root(dir))
        add(found, HV_DOCTOR_PROBLEM, "mount a file system for them there",
            "no file system is mounted for the memory files of VMs in %s: they fill the host's "
            "root file system",
            dir->path);
}

static void check_room(const HvWorld *world, HvDoctorAdd add, GPtrArray *found)
{
    HvFileRoom room = hv_file_room(world);
    guint64 left_kib = hv_minus(room.capacity_kib, room.used_kib);
    guint64 vacant_kib = hv_minus(world->snapshot->memory_dir->free_kib, room.unallocated_kib);
    g_autofree char *left = hv_format_kib(left_kib);
    g_autofree char *vacant = hv_format_kib(vacant_kib);
    if (left_kib == 0)
        add(found, HV_DOCTOR_NOTE, NULL, "all of file_backed_memory is claimed: no VM can start");
    else if (vacant_kib < left_kib)
        add(found, HV_DOCTOR_PROBLEM, "remove what else is in that file system, or make it larger",
            "file_backed_memory promises VMs %s more, but the file system of %s has %s free", left,
            world->snapshot->memory_dir->path, vacant);
}

void hv_doctor_files(const HvDoctorView *view, HvDoctorAdd add, GPtrArray *found)
{
    const HvSettings *settings = view->audit->settings;
    const HvSnapshot *snapshot = view->audit->snapshot;
    if (snapshot->memory_dir == NULL) {
        add(found, HV_DOCTOR_OK, NULL, "the memory of VMs is not in files");
        return;
    }
    HvWorld world = {snapshot, settings, view->audit->ledger, NULL};
    g_autofree char *hint = NULL;
    g_autofree char *fault =
        hv_file_directory_fault(snapshot->memory_dir, settings->file_backed_kib, &hint);
    check_paths(snapshot->memory_dir, add, found);
    if (fault != NULL) {
        add(found, HV_DOCTOR_PROBLEM, hint, "%s", fault);
        return;
    }
    check_place(snapshot->memory_dir, add, found);
    check_room(&world, add, found);
}
