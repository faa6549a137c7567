/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A host with three VMs, and what truly happens to them. What is true here no code under test
 * decides: pages that a QEMU has, mappings that a guest takes, processes that end.
 *
 * A VM has guest cells bound to nodes. Its memory devices are bound to its first node. Pages are
 * of 2 MiB.
 */
#pragma once

#include "vm-fixture.h"

#define N_VMS 3
#define N_NODES 2
#define MAX_STARTS 5
#define MAX_PLUGS 5
#define PLUG_TIMEOUT_S 60 /* a plugging that nobody reports may be given up after that */
#define RESERVED_PAGES 4  /* on each node, of a host with pages of an administrator */

/* Whose hook it is. Those of libvirt and VDSM go on with each other's claims. */
typedef enum { DOOR_HOST, DOOR_LIBVIRT, DOOR_VDSM, N_DOORS } Door;

/* A start of a VM, by its number in the VM's life. */
typedef struct {
    gboolean is_refused; /* the host does not go on with it */
    gboolean has_run;
    gboolean has_memory; /* and its QEMU has touched all of it */
    gboolean has_ended;
    guint64 generation;
    gint64 qemu_pid;
} Start;

/* A DIMM. */
typedef struct {
    guint64 pages;
    guint64 generation;
    gboolean is_refused;
    gboolean is_promised; /* its pages are kept for it until QEMU has them */
    gboolean is_mapped;
    gboolean has_failed;
    gboolean is_unplugged;
    guint64 since_s;
} Plug;

typedef struct {
    char letter;
    const char *uuid;
    guint64 needs[N_NODES]; /* of its guest cells, pages */
    int home;
    Start starts[MAX_STARTS];
    Plug plugs[MAX_PLUGS];
    gint64 qemu_pid;     /* 0: there is none */
    guint current;       /* number of the start whose QEMU it is */
    gboolean is_mapped;  /* it has begun to take its memory */
    gboolean is_claimed; /* hugevm has said yes, and nobody has said since that it is over */
    guint64 claim_generation;
    guint64 mapped[N_NODES];
    guint64 touched[N_NODES];
    guint64 elastic_pages;    /* of virtio-mem, touched; on its home node */
    guint64 requested_pages;  /* of virtio-mem */
    gboolean is_elastic_kept; /* what is requested and not touched is promised */
    gboolean is_grown_reported;
    gboolean is_shrunk_unreported; /* so that nobody can know that less is to come */
    guint64 grown_since_s;
} Vm;

typedef struct {
    gboolean has_static_pages; /* of an administrator; a part of them is reserved */
    guint64 room_pages;        /* of memory for more, on each node */
} HostKind;

typedef struct {
    HostKind kind;
    Vm vms[N_VMS];
    HvAgent *agents[N_DOORS];
    gint64 next_pid;
    guint64 foreign_pages[N_NODES]; /* of the user of reserved pages */
    guint64 sequence;               /* of a reconciliation */
    gboolean was_listed[N_VMS];     /* VMs that ran when the agent made its list */
    char *wrong;                    /* what must not be; NULL: nothing */
} World;

/* The clock by which a plugging takes too long, and all others: they go on with each sleep, as if
 * the sleeper had been woken late. */
static guint64 now_s;
static gint64 slept_us;

guint64 __wrap_hv_boot_seconds(void);
gint64 __real_g_get_monotonic_time(void);
gint64 __wrap_g_get_monotonic_time(void);
void __wrap_g_usleep(gulong us);

guint64 __wrap_hv_boot_seconds(void)
{
    return now_s;
}

gint64 __wrap_g_get_monotonic_time(void)
{
    return __real_g_get_monotonic_time() + slept_us;
}

void __wrap_g_usleep(gulong us)
{
    slept_us += (gint64)us * 20;
}

G_GNUC_PRINTF(2, 3)
static inline void set_wrong(World *world, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (world->wrong == NULL)
        world->wrong = g_strdup_vprintf(format, args);
    va_end(args);
}

/* --- the host -------------------------------------------------------------------------------- */

#define RESERVING                                                                                  \
    "file /etc/hugevm/hugevm.conf [performance]\\nuse_dynamic_hugepages = true\\n"                 \
    "[hugevm]\\nhost_memory_floor = 0,0%\\n"                                                       \
    "reserved = size:2M,node:0,count:4\\n size:2M,node:1,count:4\\n\n"
#define BARE_NODES                                                                                 \
    "arch x86_64\nmem available=33554432 default=2048\nsize 2048\n"                                \
    "node 0 total=16777216 free=16777216\nnode 1 total=16777216 free=16777216\n"                   \
    "pool 0 2048\npool 1 2048\n"

static const guint64 static_pages[N_NODES] = {10, 20};

static inline void start_agent(World *world, Door door)
{
    static const char *const names[N_DOORS] = {"host", "libvirt", "vdsm"};
    gint64 pid = world->next_pid++;
    set_process(pid, 'S');
    world->agents[door] = hv_agent_new(fake.directory, NULL, names[door], pid);
}

static inline void end_agent(World *world, Door door)
{
    end_process(world->agents[door]->owner_pid);
    g_clear_pointer(&world->agents[door], hv_agent_free);
}

static inline void world_init(World *world, const HostKind *kind)
{
    static const char *const uuids[N_VMS] = {UUID_A, UUID_B,
                                             "00000000-0000-0000-0000-00000000000c"};
    static const guint64 needs[N_VMS][N_NODES] = {{6, 6}, {0, 10}, {5, 0}};
    *world = (World){.kind = *kind, .next_pid = 1000};
    now_s = 1000;
    fake_init(kind->has_static_pages ? TWO_NODES RESERVING : BARE_NODES DYNAMIC);
    tree_write(fake.directory, "/sys/devices/system/node/has_memory", "0-1\n");
    tree_write(fake.directory, "/proc/sys/kernel/osrelease", "6.18.0\n");
    for (int node = 0; node < N_NODES; node++)
        fake.room_kib[node] = kind->room_pages * SIZE_2M;
    for (Door door = 0; door < N_DOORS; door++)
        start_agent(world, door);
    for (guint i = 0; i < N_VMS; i++) {
        Vm *vm = &world->vms[i];
        *vm = (Vm){.letter = (char)('A' + i), .uuid = uuids[i]};
        memcpy(vm->needs, needs[i], sizeof vm->needs);
        vm->home = needs[i][0] == 0;
        for (guint k = 0; k < MAX_PLUGS; k++)
            vm->plugs[k].pages = k + 2;
    }
}

static inline void world_clear(World *world)
{
    for (Door door = 0; door < N_DOORS; door++)
        g_clear_pointer(&world->agents[door], hv_agent_free);
    g_clear_pointer(&world->wrong, g_free);
    fake_clear();
}

static inline guint64 baseline(const World *world, int node)
{
    return world->kind.has_static_pages ? static_pages[node] : 0;
}

/* --- QEMU ------------------------------------------------------------------------------------ */

static inline void show_memory(const Vm *vm)
{
    guint64 kib = (vm->mapped[0] + vm->mapped[1]) * SIZE_2M;
    guint64 touched_kib = (vm->touched[0] + vm->touched[1]) * SIZE_2M;
    guint64 elastic_kib = vm->elastic_pages * SIZE_2M;
    g_autofree char *status = g_strdup_printf("/proc/%" G_GINT64_FORMAT "/status", vm->qemu_pid);
    g_autofree char *smaps = g_strdup_printf("/proc/%" G_GINT64_FORMAT "/smaps", vm->qemu_pid);
    g_autofree char *maps = g_strdup_printf("/proc/%" G_GINT64_FORMAT "/numa_maps", vm->qemu_pid);
    tree_printf(fake.directory, status,
                "Name:\tqemu\nUid:\t107\t107\nHugetlbPages:\t%" G_GUINT64_FORMAT " kB\n",
                touched_kib + elastic_kib);
    g_autofree char *memory = g_strdup_printf(
        "%012" G_GINT64_MODIFIER "x-%012" G_GINT64_MODIFIER
        "x rw-p 00000000 00:1c 7 /dev/hugepages/a\nKernelPageSize: 2048 kB\n"
        "Private_Hugetlb: %" G_GUINT64_FORMAT " kB\nVmFlags: rd wr mr mw me de ht\n",
        (guint64)1 << 32, ((guint64)1 << 32) + kib * 1024, touched_kib);
    tree_printf(fake.directory, smaps,
                "%s7f0000000000-7f0040000000 rw-p 00000000 00:1c 8 /dev/hugepages/b\n"
                "KernelPageSize: 2048 kB\nPrivate_Hugetlb: %" G_GUINT64_FORMAT " kB\n"
                "VmFlags: rd wr mr mw me de nr ht\n",
                kib > 0 ? memory : "", elastic_kib);
    tree_printf(fake.directory, maps,
                "100000000 default file=/a huge dirty=1 N0=%" G_GUINT64_FORMAT
                " N1=%" G_GUINT64_FORMAT " kernelpagesize_kB=2048\n"
                "7f0000000000 default file=/b huge dirty=1 N%d=%" G_GUINT64_FORMAT
                " kernelpagesize_kB=2048\n",
                vm->touched[0], vm->touched[1], vm->home, vm->elastic_pages);
}

static inline void start_qemu(World *world, Vm *vm, gboolean is_incoming)
{
    vm->qemu_pid = world->next_pid++;
    g_autofree char *path =
        g_strdup_printf("%s/proc/%" G_GINT64_FORMAT "/cmdline", fake.directory, vm->qemu_pid);
    g_autofree char *words = g_strdup_printf("/usr/bin/qemu-kvm -uuid %s %s ", vm->uuid,
                                             is_incoming ? "-incoming" : "-S");
    gssize n = (gssize)strlen(words);
    set_process(vm->qemu_pid, 'S');
    g_strdelimit(words, " ", '\0');
    show_memory(vm);
    g_assert_true(g_file_set_contents(path, words, n, NULL));
}

/* Pages that QEMUs have been promised by the kernel and not touched. */
static inline guint64 untouched_pages(const World *world, int node)
{
    guint64 pages = 0;
    for (guint i = 0; i < N_VMS; i++)
        pages += world->vms[i].mapped[node] - world->vms[i].touched[node];
    return pages;
}

static inline void map_pages(Vm *vm, int node, guint64 pages)
{
    vm->mapped[node] += pages;
    fake_add(-1, SIZE_2M, "resv_hugepages", (gint64)pages);
}

static inline void touch_pages(Vm *vm, int node, guint64 pages)
{
    vm->touched[node] += pages;
    fake_add(-1, SIZE_2M, "resv_hugepages", -(gint64)pages);
    fake_use(node, SIZE_2M, pages);
}

/* The kernel pays the debt of its surplus with what is let go of, wherever it is. */
static inline void unreserve_pages(guint64 pages)
{
    fake_add(-1, SIZE_2M, "resv_hugepages", -(gint64)pages);
    for (int node = 0; node < N_NODES; node++) {
        guint64 surplus = fake_get(node, SIZE_2M, "surplus_hugepages");
        guint64 gone = MIN(pages, MIN(surplus, fake_get(node, SIZE_2M, "free_hugepages")));
        fake_add(node, SIZE_2M, "surplus_hugepages", -(gint64)gone);
        fake_add(node, SIZE_2M, "nr_hugepages", -(gint64)gone);
        fake_add(node, SIZE_2M, "free_hugepages", -(gint64)gone);
        fake.room_kib[node] += gone * SIZE_2M;
        pages -= gone;
    }
}

static inline void unmap_pages(Vm *vm, int node, guint64 pages)
{
    guint64 untouched = MIN(pages, vm->mapped[node] - vm->touched[node]);
    vm->mapped[node] -= pages;
    vm->touched[node] -= pages - untouched;
    unreserve_pages(untouched);
    fake_unuse(node, SIZE_2M, pages - untouched);
}

static inline void end_qemu(Vm *vm)
{
    end_process(vm->qemu_pid);
    fake_unuse(vm->home, SIZE_2M, vm->elastic_pages);
    for (int node = 0; node < N_NODES; node++)
        unmap_pages(vm, node, vm->mapped[node]);
    vm->starts[vm->current].has_ended = TRUE;
    vm->qemu_pid = 0;
    vm->is_mapped = vm->is_claimed = vm->is_elastic_kept = FALSE;
    vm->elastic_pages = vm->requested_pages = 0;
    for (guint k = 0; k < MAX_PLUGS; k++)
        vm->plugs[k].is_promised = FALSE;
}

/* --- promises -------------------------------------------------------------------------------- */

/* Pages that hugevm has said yes to, and that QEMU does not have yet. */
static inline guint64 promised_pages(const World *world, int node)
{
    guint64 pages = 0;
    for (guint i = 0; i < N_VMS; i++) {
        const Vm *vm = &world->vms[i];
        if (vm->is_claimed && !vm->is_mapped)
            pages += vm->needs[node];
        for (guint k = 0; k < MAX_PLUGS && node == vm->home; k++)
            pages += vm->plugs[k].is_promised ? vm->plugs[k].pages : 0;
        if (vm->is_elastic_kept && node == vm->home)
            pages += vm->requested_pages - vm->elastic_pages;
    }
    return pages;
}

static inline guint64 reserved_unused(const World *world, int node)
{
    return world->kind.has_static_pages ? RESERVED_PAGES - world->foreign_pages[node] : 0;
}

/* Free pages that nobody has been promised. */
static inline guint64 spare_pages(const World *world, int node)
{
    guint64 free_pages = fake_get(node, SIZE_2M, "free_hugepages");
    guint64 kept =
        untouched_pages(world, node) + promised_pages(world, node) + reserved_unused(world, node);
    return free_pages > kept ? free_pages - kept : 0;
}
