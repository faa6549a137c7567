/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A VM that runs, and memory devices that come and go meanwhile. It has 30 pages
 * of 2 MiB on each of two nodes, whose pools are empty but for it; QEMU is process 2000.
 */
#pragma once

#include "vm-fixture.h"

#include "error.h"

#define EMPTY_NODES                                                                                \
    "arch x86_64\nmem available=33554432 default=2048\nsize 2048\n"                                \
    "node 0 total=16777216 free=16777216\nnode 1 total=16777216 free=16777216\n"                   \
    "pool 0 2048\npool 1 2048\n"

#define QEMU 2000
#define DIMM_ON(cell)                                                                              \
    "<memory model='dimm'><target><size unit='MiB'>16</size><node>" cell "</node></target></"      \
    "memory>"
#define DIMM DIMM_ON("1") /* 8 pages of node 1, as its guest cell */

/* The clock by which a plugging takes too long. */
static guint64 now_s;
guint64 __wrap_hv_boot_seconds(void);
guint64 __wrap_hv_boot_seconds(void)
{
    return now_s;
}

/* What QEMU maps: pages on each node, and beside them virtio-mem's, touched. */
typedef struct {
    guint64 pages[2];
    guint64 elastic_pages;
    gboolean has_normal;     /* and normal pages */
    gboolean has_no_elastic; /* no virtio-mem at all */
} Mapped;

static Mapped mapped;

/* Mappings of QEMU as the kernel shows them: what virtio-mem may become is far larger. */
static inline void show_memory(void)
{
    guint64 kib = (mapped.pages[0] + mapped.pages[1]) * SIZE_2M;
    guint64 elastic_kib = mapped.elastic_pages * SIZE_2M;
    tree_printf(fake.directory, "/proc/2000/status",
                "Name:\tqemu\nUid:\t107\t107\nHugetlbPages:\t%" G_GUINT64_FORMAT " kB\n",
                kib + elastic_kib);
    g_autofree char *fixed =
        g_strdup_printf("%012" G_GINT64_MODIFIER "x-%012" G_GINT64_MODIFIER
                        "x rw-p 00000000 00:1c 7 /dev/hugepages/a\n"
                        "KernelPageSize: 2048 kB\nPrivate_Hugetlb: %" G_GUINT64_FORMAT " kB\n"
                        "VmFlags: rd wr mr mw me de ht\n",
                        (guint64)1 << 32, ((guint64)1 << 32) + kib * 1024, kib);
    g_autofree char *elastic =
        g_strdup_printf("7f0000000000-7f0040000000 rw-p 00000000 00:1c 8 /dev/hugepages/b\n"
                        "KernelPageSize: 2048 kB\nPrivate_Hugetlb: %" G_GUINT64_FORMAT " kB\n"
                        "VmFlags: rd wr mr mw me de nr ht\n",
                        elastic_kib);
    tree_printf(fake.directory, "/proc/2000/smaps", "%s%s%s",
                mapped.has_normal ? "10000000-20000000 rw-p 00000000 00:00 0\n"
                                    "KernelPageSize: 4 kB\nVmFlags: rd wr mr mw me ac\n"
                                  : "",
                kib > 0 ? fixed : "", mapped.has_no_elastic ? "" : elastic);
    tree_printf(fake.directory, "/proc/2000/numa_maps",
                "100000000 default file=/a huge dirty=1 N0=%" G_GUINT64_FORMAT
                " N1=%" G_GUINT64_FORMAT " kernelpagesize_kB=2048\n"
                "7f0000000000 default file=/b huge dirty=1 N1=%" G_GUINT64_FORMAT
                " kernelpagesize_kB=2048\n",
                mapped.pages[0], mapped.pages[1], mapped.elastic_pages);
}

/* QEMU maps so many pages more (less) of a node. */
static inline void map(int node, int pages)
{
    mapped.pages[node] += (guint64)pages;
    if (pages > 0)
        fake_use(node, SIZE_2M, (guint64)pages);
    else
        fake_unuse(node, SIZE_2M, (guint64)-pages);
    show_memory();
}

/* The guest takes so many pages of virtio-mem on node 1, or leaves them. */
static inline void take(int pages)
{
    mapped.elastic_pages += (guint64)pages;
    if (pages > 0)
        fake_use(1, SIZE_2M, (guint64)pages);
    else
        fake_unuse(1, SIZE_2M, (guint64)-pages);
    show_memory();
}

/* A VM that runs on 30 pages of each node. */
static inline void start_vm(const Host *host)
{
    mapped = (Mapped){0};
    claim_vm(host->agent, UUID_A, 60, 60);
    set_qemu(QEMU, UUID_A);
    map(0, 30);
    map(1, 30);
    tell(hv_lifecycle_started, host->agent, UUID_A, 0, QEMU);
    assert_counts(1, SIZE_2M, 30, 0, 0);
}

static inline void assert_as_before(void)
{
    g_autoptr(HvLedger) ledger = read_ledger();
    assert_counts(0, SIZE_2M, 0, 0, 0);
    assert_counts(1, SIZE_2M, 0, 0, 0);
    g_assert_cmpuint(ledger->claims->len, ==, 0);
    g_assert_cmpuint(ledger->grown->len, ==, 0);
}

static inline void end_vm(const Host *host)
{
    end_process(QEMU);
    fake_unuse(0, SIZE_2M, mapped.pages[0]);
    fake_unuse(1, SIZE_2M, mapped.pages[1] + mapped.elastic_pages);
    tell(hv_lifecycle_gone, host->agent, UUID_A, 0, 0);
    assert_as_before();
}

static inline HvOutcome *try_plug(const Host *host, const char *uuid, const char *xml,
                                  GError **error)
{
    const HvVmRef vm = {.uuid = uuid};
    const HvPlug plug = {.xml = xml, .xml_bytes = strlen(xml)};
    return hv_lifecycle_plug(host->agent, &vm, &plug, error);
}

/* The generation of the device's claim. */
static inline guint64 plug(const Host *host, const char *xml)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(HvOutcome) outcome = try_plug(host, UUID_A, xml, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(outcome->uuid, ==, UUID_A);
    g_assert_cmpstr(outcome->xml, ==, xml);
    return outcome->generation;
}

static inline void report(const Host *host, HvPlugEnd end, guint64 generation, const char *xml)
{
    g_autoptr(GError) error = NULL;
    const HvVmRef vm = {.uuid = UUID_A, .generation = generation};
    const HvPlug plug_of = {.xml = xml, .xml_bytes = strlen(xml)};
    gboolean is_good = hv_lifecycle_plug_ended(host->agent, &vm, &plug_of, end, &error);
    g_assert_no_error(error);
    g_assert_true(is_good);
}

static inline guint64 pages_of_vm(void)
{
    g_autoptr(HvLedger) ledger = read_ledger();
    const HvClaim *claim = hv_ledger_claim(ledger, UUID_A);
    return claim != NULL ? hv_needs_pages(claim->needs, SIZE_2M) : 0;
}

/* Pages that claims of memory devices keep. */
static inline guint64 pages_of_devices(void)
{
    guint64 pages = 0;
    g_autoptr(HvLedger) ledger = read_ledger();
    for (guint i = 0; i < ledger->claims->len; i++) {
        const HvClaim *claim = g_ptr_array_index(ledger->claims, i);
        if (claim->device_of != NULL)
            pages += hv_needs_pages(claim->needs, SIZE_2M);
    }
    return pages;
}

static inline void host_without_vm(Host *host)
{
    now_s = 1000;
    fake_init(EMPTY_NODES DYNAMIC);
    host->agent = new_agent(1000);
}

static inline void host_begin(Host *host)
{
    host_without_vm(host);
    tree_write(fake.directory, "/sys/devices/system/node/has_memory", "0-1\n");
    start_vm(host);
}

static inline void assert_claimed(guint64 vm_pages, guint64 device_pages)
{
    g_assert_cmpuint(pages_of_vm(), ==, vm_pages);
    g_assert_cmpuint(pages_of_devices(), ==, device_pages);
}
