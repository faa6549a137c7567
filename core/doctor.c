/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Problem or note: a problem makes hugevm do something else than its settings say, or VMs
 * fail that should start. What is merely so on this host, or just now, is a note, so that
 * the exit status can be watched on a host that works.
 */
#include "doctor-files.h"

#include "error.h"
#include "left-files.h"
#include "mounts.h"
#include "page-size.h"
#include "planner.h"
#include "reserve.h"

#include <string.h>

#define CPUINFO_MAX_BYTES (32 * 1024 * 1024)
#define GIB_KIB ((guint64)1024 * 1024)
#define MIB_KIB ((guint64)1024)

const char *hv_doctor_level_name(HvDoctorLevel level)
{
    static const char *const names[] = {"ok", "note", "problem"};
    return names[level];
}

static void diagnosis_free(gpointer data)
{
    HvDiagnosis *diagnosis = data;
    g_free(diagnosis->text);
    g_free(diagnosis->hint);
    g_free(diagnosis);
}

static void add(GPtrArray *found, HvDoctorLevel level, const char *hint, const char *format, ...)
    G_GNUC_PRINTF(4, 5);

/* The check's name is added by who runs it. */
static void add(GPtrArray *found, HvDoctorLevel level, const char *hint, const char *format, ...)
{
    HvDiagnosis *diagnosis = g_new0(HvDiagnosis, 1);
    va_list args;
    va_start(args, format);
    diagnosis->level = level;
    diagnosis->text = g_strdup_vprintf(format, args);
    diagnosis->hint = g_strdup(hint);
    va_end(args);
    g_ptr_array_add(found, diagnosis);
}

static void add_error(GPtrArray *found, HvDoctorLevel level, const GError *error)
{
    g_autofree char *message = hv_error_message(error);
    add(found, level, hv_error_hint(error), "%s", message);
}

/* --- what audit says as well ----------------------------------------------------------------- */

static void add_finding(GPtrArray *found, const HvFinding *finding)
{
    g_autofree char *repair =
        finding->repair != NULL
            ? g_strdup_printf("hugevmctl audit --repair, which %s", finding->repair)
            : NULL;
    add(found, hv_finding_is_note(finding) ? HV_DOCTOR_NOTE : HV_DOCTOR_PROBLEM,
        finding->hint != NULL ? finding->hint : repair, "%s", finding->text);
}

static void check_ledger(const HvDoctorView *view, GPtrArray *found)
{
    g_autoptr(GPtrArray) findings = g_ptr_array_new_with_free_func(hv_finding_free);
    if (view->ledger_error != NULL) {
        add_error(found, HV_DOCTOR_PROBLEM, view->ledger_error);
        return;
    }
    hv_audit_ledger(view->audit, findings);
    for (guint i = 0; i < findings->len; i++)
        add_finding(found, g_ptr_array_index(findings, i));
}

static void add_promise(const HvDoctorView *view, HvFindingKind kind, GPtrArray *found)
{
    g_autoptr(GPtrArray) findings = g_ptr_array_new_with_free_func(hv_finding_free);
    hv_audit_promises(view->audit, findings);
    for (guint i = 0; i < findings->len; i++) {
        const HvFinding *finding = g_ptr_array_index(findings, i);
        if (finding->kind == kind)
            add_finding(found, finding);
    }
}

static void check_guards(const HvDoctorView *view, GPtrArray *found)
{
    add_promise(view, HV_FINDING_SHORT_LIVED_GUARDS, found);
}

/* --- settings -------------------------------------------------------------------------------- */

static void check_settings(const HvDoctorView *view, GPtrArray *found)
{
    const HvSettings *settings = view->audit->settings;
    if (settings == NULL) {
        add_error(found, HV_DOCTOR_PROBLEM, view->settings_error);
        return;
    }
    for (guint i = 0; i < settings->warnings->len; i++)
        add(found, HV_DOCTOR_PROBLEM, NULL, "%s",
            (const char *)g_ptr_array_index(settings->warnings, i));
    if (!settings->enabled)
        add(found, HV_DOCTOR_NOTE, "hugevmctl config says where; true switches it on",
            "hugevm is switched off (enabled = false): VMs start as if it were not installed");
}

static void check_left_files(const HvDoctorView *view, GPtrArray *found)
{
    g_autoptr(GPtrArray) all = hv_left_files_find(view->root);
    for (guint i = 0; i < all->len; i++) {
        const HvLeftFiles *left = g_ptr_array_index(all, i);
        g_autofree char *size = hv_format_kib(left->size_kib);
        g_autofree char *directory = hv_quote(left->directory);
        g_autofree char *name = hv_quote(left->name);
        add(found, HV_DOCTOR_NOTE,
            "start the program again, which takes them over, or remove the files",
            "%" G_GUINT64_FORMAT " pages of %s are in files that nobody maps, %u in %s as %s, as "
            "DPDK leaves them when it is killed: they count as used by others",
            left->pages, size, left->n_files, directory, name);
    }
}

static void check_reserve(const HvDoctorView *view, GPtrArray *found)
{
    g_autoptr(GPtrArray) warnings =
        hv_reserve_warnings(view->audit->settings, view->audit->snapshot);
    for (guint i = 0; i < warnings->len; i++)
        add(found, HV_DOCTOR_PROBLEM,
            "correct the entry (hugevmctl config says where it stands), or add the pages", "%s",
            (const char *)g_ptr_array_index(warnings, i));
    g_autoptr(GPtrArray) notes = hv_reserve_notes(view->audit->settings, view->audit->snapshot);
    for (guint i = 0; i < notes->len; i++)
        add(found, HV_DOCTOR_NOTE,
            "if that is not meant: correct the entry (hugevmctl config says where it stands); "
            "process:NAME in it says which program is meant",
            "%s", (const char *)g_ptr_array_index(notes, i));
    check_left_files(view, found);
}

/* --- page sizes ------------------------------------------------------------------------------ */

typedef enum { FLAG_UNKNOWN, FLAG_MISSING, FLAG_PRESENT } CpuFlag;

static gboolean is_x86(const HvDoctorView *view)
{
    return g_str_equal(view->audit->snapshot->arch, "x86_64");
}

/* Of the first processor: "flags\t\t: fpu pse ..." */
static CpuFlag cpu_flag(const HvRoot *root, const char *flag)
{
    g_autofree char *text = hv_root_read_text(root, "/proc/cpuinfo", CPUINFO_MAX_BYTES, NULL);
    const char *found = text != NULL ? strstr(text, "\nflags") : NULL;
    const char *colon = found != NULL ? strchr(found, ':') : NULL;
    if (colon == NULL)
        return FLAG_UNKNOWN;
    g_autofree char *line = g_strndup(colon + 1, strcspn(colon, "\n") - 1);
    g_auto(GStrv) words = g_strsplit(line, " ", -1);
    return g_strv_contains((const char *const *)words, flag) ? FLAG_PRESENT : FLAG_MISSING;
}

static void check_huge_pages(const HvDoctorView *view, GPtrArray *found)
{
    const HvSnapshot *snapshot = view->audit->snapshot;
    g_autofree char *sizes = hv_snapshot_format_sizes(snapshot);
    if (snapshot->sizes->len > 0)
        add(found, HV_DOCTOR_OK, NULL, "this kernel offers huge pages of %s", sizes);
    else if (is_x86(view) && cpu_flag(view->root, "pse") == FLAG_MISSING)
        add(found, HV_DOCTOR_PROBLEM,
            "if this host is a virtual machine itself, give it a CPU model with pse",
            "this kernel offers no huge pages, since the CPU has none: /proc/cpuinfo has no pse");
    else
        add(found, HV_DOCTOR_PROBLEM, "boot a kernel that was built with CONFIG_HUGETLBFS",
            "this kernel offers no huge pages: /sys/kernel/mm/hugepages is missing or empty");
}

static void check_gigantic_pages(const HvDoctorView *view, GPtrArray *found)
{
    if (!is_x86(view) || hv_snapshot_size(view->audit->snapshot, GIB_KIB) != NULL)
        return;
    switch (cpu_flag(view->root, "pdpe1gb")) {
    case FLAG_MISSING:
        add(found, HV_DOCTOR_NOTE,
            "if this host is a virtual machine itself, give it a CPU model with pdpe1gb",
            "there are no pages of 1 GiB, since the CPU has none: /proc/cpuinfo has no pdpe1gb");
        break;
    case FLAG_PRESENT:
        add(found, HV_DOCTOR_NOTE,
            "boot with hugepagesz=1G, or a kernel that was built with CONFIG_CONTIG_ALLOC",
            "there are no pages of 1 GiB, although the CPU has them (pdpe1gb)");
        break;
    case FLAG_UNKNOWN:
        add(found, HV_DOCTOR_NOTE, NULL,
            "there are no pages of 1 GiB, and /proc/cpuinfo does not say whether the CPU has them");
        break;
    }
}

static void check_default_size(const HvDoctorView *view, GPtrArray *found)
{
    guint64 size_kib = hv_snapshot_default_size_kib(view->audit->snapshot);
    g_autofree char *size = hv_format_kib(size_kib);
    if (size_kib != 0)
        add(found, HV_DOCTOR_OK, NULL, "the kernel's default page size is %s", size);
    else
        add(found, HV_DOCTOR_PROBLEM, "name the page size in each VM and each reserve",
            "the kernel has no default page size (Hugepagesize in /proc/meminfo) that it offers, "
            "which is what <hugepages/> without a size means");
}

/* --- pools ----------------------------------------------------------------------------------- */

/* One that does not run looks for mounts when it starts. */
static HvLibvirt libvirt_here(const HvRoot *root)
{
    static const char *const pid_files[] = {"/run/libvirtd.pid", "/run/virtqemud.pid"};
    for (guint i = 0; i < G_N_ELEMENTS(pid_files); i++) {
        guint64 pid;
        if (hv_root_read_u64(root, pid_files[i], &pid, NULL) && pid <= G_MAXINT32 &&
            hv_process_identify(root, (gint64)pid).pid != 0)
            return HV_LIBVIRT_DAEMON;
    }
    return HV_LIBVIRT_EMBEDDED;
}

/* The size that VMs get unless they say otherwise must be there; others are for who wants them. */
static void check_mounts(const HvDoctorView *view, GPtrArray *found)
{
    const GArray *sizes = view->audit->snapshot->sizes;
    for (guint i = 0; i < sizes->len; i++) {
        const HvPageSize *size = &g_array_index(sizes, HvPageSize, i);
        g_autoptr(GError) error = NULL;
        if (!hv_mounts_check(view->root, size->size_kib, libvirt_here(view->root), &error))
            add_error(found, size->is_default ? HV_DOCTOR_PROBLEM : HV_DOCTOR_NOTE, error);
    }
}

static gboolean counts_right(const HvSnapshot *snapshot)
{
    for (guint i = 0; i < snapshot->sizes->len; i++)
        if (!hv_plan_is_kernel_sound(snapshot,
                                     g_array_index(snapshot->sizes, HvPageSize, i).size_kib))
            return FALSE;
    return TRUE;
}

static void check_handover(const HvDoctorView *view, GPtrArray *found)
{
    const HvAuditView *audit = view->audit;
    guint version = audit->snapshot->kernel_version;
    if (!audit->settings->use_dynamic_hugepages)
        add(found, HV_DOCTOR_NOTE, NULL,
            "use_dynamic_hugepages is off: hugevm adds no pages, so there are none to hand over");
    else if (!audit->settings->handover_auto)
        add(found, HV_DOCTOR_NOTE, NULL,
            "handover = never: pages of VMs that end unseen go back with the next call of hugevm");
    else if (!counts_right(audit->snapshot))
        add(found, HV_DOCTOR_NOTE, NULL,
            "no pages are handed over: with several nodes, kernels before 6.15 miscount beside "
            "surplus pages, and this is %u.%u",
            version / 1000, version % 1000);
    add_promise(view, HV_FINDING_HANDOVER_OFF, found);
}

static void check_surplus(const HvDoctorView *view, GPtrArray *found)
{
    const HvAuditView *audit = view->audit;
    for (guint i = 0; i < audit->snapshot->pools->len; i++) {
        const HvPool *pool = &g_array_index(audit->snapshot->pools, HvPool, i);
        guint64 pages = hv_minus(pool->surplus_pages,
                                 hv_ledger_handed_pages(audit->ledger, pool->node, pool->size_kib));
        g_autofree char *size = hv_format_kib(pool->size_kib);
        if (pages > 0)
            add(found, HV_DOCTOR_NOTE,
                "they go when their users end, and until then hugevm hands none of this size over; "
                "they come from nr_overcommit_hugepages, or from lowering a pool that is in use",
                "node %d has %" G_GUINT64_FORMAT
                " surplus page%s of %s that hugevm has not handed over",
                pool->node, pages, pages == 1 ? "" : "s", size);
    }
}

static void check_overcommit(const HvDoctorView *view, GPtrArray *found)
{
    const GArray *sizes = view->audit->snapshot->sizes;
    for (guint i = 0; i < sizes->len; i++) {
        const HvPageSize *size = &g_array_index(sizes, HvPageSize, i);
        g_autofree char *text = hv_format_kib(size->size_kib);
        g_autofree char *hint = g_strdup_printf(
            "if that is not meant: echo 0 > /sys/kernel/mm/hugepages/hugepages-%" G_GUINT64_FORMAT
            "kB/nr_overcommit_hugepages",
            size->size_kib);
        if (size->overcommit_pages > 0)
            add(found, HV_DOCTOR_NOTE, hint,
                "the kernel adds up to %" G_GUINT64_FORMAT
                " pages of %s by itself, for anybody and whatever host_memory_floor says; none of "
                "this size are handed over",
                size->overcommit_pages, text);
    }
}

/* --- memory ---------------------------------------------------------------------------------- */

static guint64 host_memory_kib(const HvSnapshot *snapshot)
{
    guint64 kib = 0;
    for (guint i = 0; i < snapshot->nodes->len; i++)
        kib = hv_plus(kib, g_array_index(snapshot->nodes, HvNode, i).mem_total_kib);
    return kib;
}

static void check_floor_of_host(const HvDoctorView *view, const HvWorld *world, GPtrArray *found)
{
    guint64 memory_kib = host_memory_kib(world->snapshot);
    guint64 floor_kib = world->settings->floor_host_kib;
    g_autofree char *floor = hv_format_kib(floor_kib);
    if (hv_room_growable_on_host_kib(world) > 0)
        return;
    if (floor_kib >= memory_kib)
        add(found, HV_DOCTOR_PROBLEM, "lower host_memory_floor in [hugevm]",
            "host_memory_floor keeps %s for the host, which has only %" G_GUINT64_FORMAT
            " MiB: no page is ever added",
            floor, memory_kib / MIB_KIB);
    else
        add(found, HV_DOCTOR_NOTE, "stop what takes memory, or lower host_memory_floor",
            "no page can be added now: %" G_GUINT64_FORMAT
            " MiB are available (MemAvailable), of which host_memory_floor keeps %s",
            view->audit->snapshot->mem_available_kib / MIB_KIB, floor);
}

/* A node without memory has nothing to keep, and a page needs no less than the smallest. */
static void check_floor_of_nodes(const HvWorld *world, GPtrArray *found)
{
    guint64 smallest_kib = g_array_index(world->snapshot->sizes, HvPageSize, 0).size_kib;
    for (guint i = 0; i < world->snapshot->nodes->len; i++) {
        const HvNode *node = &g_array_index(world->snapshot->nodes, HvNode, i);
        if (node->mem_total_kib > 0 && hv_room_growable_on_node_kib(world, node->id) < smallest_kib)
            add(found, HV_DOCTOR_NOTE,
                "stop what takes memory of this node, or lower the second part of "
                "host_memory_floor",
                "no page can be added on node %d now: %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT
                " MiB are free or quickly had, of which the kernel's low watermark and %u %% for "
                "the host stay",
                node->id, hv_plus(node->mem_free_kib, node->reclaimable_kib) / MIB_KIB,
                node->mem_total_kib / MIB_KIB, world->settings->floor_node_percent);
    }
}

static void check_memory_floor(const HvDoctorView *view, GPtrArray *found)
{
    const HvAuditView *audit = view->audit;
    HvWorld world = {audit->snapshot, audit->settings, audit->ledger, NULL};
    check_floor_of_host(view, &world, found);
    check_floor_of_nodes(&world, found);
}

static void check_files(const HvDoctorView *view, GPtrArray *found)
{
    hv_doctor_files(view, add, found);
}

/* --- all of it ------------------------------------------------------------------------------- */

enum { NEEDS_SETTINGS = 1, NEEDS_SIZES = 2 };

static const struct {
    const char *name;
    void (*run)(const HvDoctorView *view, GPtrArray *found);
    guint needs;
    const char *fine; /* said where a check finds nothing */
} checks[] = {
    {"settings", check_settings, 0, "the settings are valid"},
    {"reserve", check_reserve, NEEDS_SETTINGS | NEEDS_SIZES, "all that is reserved is there"},
    {"huge-pages", check_huge_pages, 0, NULL},
    {"gigantic-pages", check_gigantic_pages, NEEDS_SIZES, "no size is missing that the CPU has"},
    {"default-size", check_default_size, NEEDS_SIZES, NULL},
    {"mounts", check_mounts, NEEDS_SIZES, "libvirt finds a hugetlbfs of each size"},
    {"ledger", check_ledger, 0, "the ledger is of this boot and whole, or not needed yet"},
    {"guards", check_guards, NEEDS_SIZES, "pages can be kept for a VM before its QEMU has them"},
    {"handover", check_handover, NEEDS_SETTINGS | NEEDS_SIZES,
     "the kernel may take over the pages of VMs that run"},
    {"surplus", check_surplus, NEEDS_SIZES, "there are no surplus pages of others"},
    {"overcommit", check_overcommit, NEEDS_SIZES, "the kernel adds no pages by itself"},
    {"memory-floor", check_memory_floor, NEEDS_SETTINGS | NEEDS_SIZES,
     "each node has memory above its floor"},
    {"file-backed", check_files, NEEDS_SETTINGS, "there is room for all of file_backed_memory"},
};

GPtrArray *hv_doctor(const HvDoctorView *view)
{
    GPtrArray *found = g_ptr_array_new_with_free_func(diagnosis_free);
    guint given = (view->audit->settings != NULL ? NEEDS_SETTINGS : 0) |
                  (view->audit->snapshot->sizes->len > 0 ? NEEDS_SIZES : 0);
    for (guint i = 0; i < G_N_ELEMENTS(checks); i++) {
        guint before = found->len;
        if ((checks[i].needs & ~given) != 0)
            continue;
        checks[i].run(view, found);
        if (found->len == before)
            add(found, HV_DOCTOR_OK, NULL, "%s", checks[i].fine);
        for (guint k = before; k < found->len; k++)
            ((HvDiagnosis *)g_ptr_array_index(found, k))->check = checks[i].name;
    }
    return found;
}

guint hv_doctor_problems(const GPtrArray *diagnoses)
{
    guint problems = 0;
    for (guint i = 0; i < diagnoses->len; i++)
        problems +=
            ((const HvDiagnosis *)g_ptr_array_index(diagnoses, i))->level == HV_DOCTOR_PROBLEM;
    return problems;
}
