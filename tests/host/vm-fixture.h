/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* VMs, agents and QEMUs beside the fake kernel. */
#pragma once

#include "fake-kernel.h"

#include "lifecycle.h"

#include <stdio.h>

#define SIZE_2M ((guint64)2048)
#define UUID_A "00000000-0000-0000-0000-00000000000a"
#define UUID_B "00000000-0000-0000-0000-00000000000b"

/* Two nodes of 10 and 20 static pages. */
#define TWO_NODES                                                                                  \
    "arch x86_64\nmem available=33554432 default=2048\nsize 2048\n"                                \
    "node 0 total=16777216 free=16777216\nnode 1 total=16777216 free=16777216\n"                   \
    "pool 0 2048 total=10 free=10\npool 1 2048 total=20 free=20\n"

#define DYNAMIC                                                                                    \
    "file /etc/hugevm/hugevm.conf [performance]\\nuse_dynamic_hugepages = true\\n"                 \
    "[hugevm]\\nhost_memory_floor = 0,0%\\n\n"

static inline void set_process(gint64 pid, char state)
{
    g_autofree char *path = g_strdup_printf("/proc/%" G_GINT64_FORMAT "/stat", pid);
    tree_printf(fake.directory, path,
                "%" G_GINT64_FORMAT
                " (x) %c 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 1 18 %" G_GINT64_FORMAT " 20\n",
                pid, state, pid * 100);
}

/* A QEMU that runs this VM. */
static inline void set_qemu(gint64 pid, const char *uuid)
{
    g_autofree char *path =
        g_strdup_printf("%s/proc/%" G_GINT64_FORMAT "/cmdline", fake.directory, pid);
    g_autofree char *status = g_strdup_printf("/proc/%" G_GINT64_FORMAT "/status", pid);
    g_autofree char *words = g_strdup_printf("/usr/bin/qemu-kvm -uuid %s ", uuid);
    tree_printf(fake.directory, status, "Name:\tqemu\nUid:\t107\t107\nHugetlbPages:\t4096 kB\n");
    set_process(pid, 'S');
    g_strdelimit(words, " ", '\0');
    gsize n = strlen("/usr/bin/qemu-kvm -uuid ") + strlen(uuid) + 1;
    g_assert_true(g_file_set_contents(path, words, (gssize)n, NULL));
}

static inline void end_process(gint64 pid)
{
    g_autofree char *path = g_strdup_printf("%s/proc/%" G_GINT64_FORMAT, fake.directory, pid);
    tree_remove(path);
}

/* An agent that is a process of the fixture. */
static inline HvAgent *new_agent(gint64 pid)
{
    set_process(pid, 'S');
    return hv_agent_new(fake.directory, NULL, "test", pid);
}

/* A host with one agent on it. */
typedef struct {
    HvAgent *agent;
} Host;

static inline void host_init(Host *host)
{
    fake_init(TWO_NODES DYNAMIC);
    host->agent = new_agent(1000);
}

static inline void host_clear(Host *host)
{
    hv_agent_free(host->agent);
    fake_clear();
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Host, host_clear)

/* A VM with so many MiB bound to each of the two nodes (0: no such cell). */
static inline char *vm_xml(const char *uuid, guint node0_mib, guint node1_mib)
{
    g_autoptr(GString) cells = g_string_new(NULL);
    g_autoptr(GString) memnodes = g_string_new(NULL);
    guint mib[] = {node0_mib, node1_mib}, cell = 0;
    for (guint node = 0; node < 2; node++) {
        if (mib[node] == 0)
            continue;
        g_string_append_printf(cells, "<cell id='%u' cpus='%u' memory='%u' unit='MiB'/>", cell,
                               cell, mib[node]);
        g_string_append_printf(memnodes, "<memnode cellid='%u' mode='strict' nodeset='%u'/>", cell,
                               node);
        cell++;
    }
    return g_strdup_printf("<domain type='kvm'><name>vm</name><uuid>%s</uuid>"
                           "<memory unit='MiB'>%u</memory><vcpu>%u</vcpu>"
                           "<memoryBacking><hugepages><page size='2' unit='M'/></hugepages>"
                           "</memoryBacking><numatune>%s</numatune><cpu><numa>%s</numa></cpu>"
                           "<os><type>hvm</type></os></domain>",
                           uuid, node0_mib + node1_mib, cell, memnodes->str, cells->str);
}

static inline HvOutcome *try_claim(const HvAgent *agent, const char *xml, HvProgressFunc progress,
                                   GError **error)
{
    HvVm vm = {.xml = xml, .xml_bytes = strlen(xml), .progress = progress};
    return hv_lifecycle_claim(agent, &vm, error);
}

/* The generation of the new claim. */
static inline guint64 claim_vm(const HvAgent *agent, const char *uuid, guint node0_mib,
                               guint node1_mib)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *xml = vm_xml(uuid, node0_mib, node1_mib);
    g_autoptr(HvOutcome) outcome = try_claim(agent, xml, NULL, &error);
    g_assert_no_error(error);
    g_assert_nonnull(outcome);
    return outcome->generation;
}

typedef gboolean (*VmEvent)(const HvAgent *agent, const HvVmRef *vm, gboolean *out_known,
                            GError **error);

/* TRUE: the claim was known. */
static inline gboolean tell(VmEvent event, const HvAgent *agent, const char *uuid,
                            guint64 generation, gint64 qemu_pid)
{
    g_autoptr(GError) error = NULL;
    gboolean is_known = 77;
    HvVmRef vm = {.uuid = uuid, .generation = generation, .qemu_pid = qemu_pid};
    gboolean is_good = event(agent, &vm, &is_known, &error);
    g_assert_no_error(error);
    g_assert_true(is_good);
    return is_known;
}

static inline void recover(const HvAgent *agent)
{
    g_autoptr(GError) error = NULL;
    gboolean is_good = hv_lifecycle_recover(agent, NULL, &error);
    g_assert_no_error(error);
    g_assert_true(is_good);
}

static inline HvLedger *read_ledger(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(HvStore) store = hv_store_open(fake.root, FALSE, &error);
    g_assert_no_error(error);
    HvLedger *ledger = hv_store_read(store, &error);
    g_assert_no_error(error);
    return ledger;
}

static inline HvClaimState state_of(const char *uuid)
{
    g_autoptr(HvLedger) ledger = read_ledger();
    const HvClaim *claim = hv_ledger_claim(ledger, uuid);
    g_assert_nonnull(claim);
    return claim->state;
}

static inline guint count_claims(void)
{
    g_autoptr(HvLedger) ledger = read_ledger();
    return ledger->claims->len;
}

/* Both pools and the ledger are as before the first VM. */
static inline void assert_untouched(void)
{
    assert_counts(0, SIZE_2M, 10, 10, 0);
    assert_counts(1, SIZE_2M, 20, 20, 0);
    g_autoptr(HvLedger) ledger = read_ledger();
    g_assert_cmpuint(ledger->claims->len, ==, 0);
    g_assert_cmpuint(ledger->grown->len, ==, 0);
    g_assert_cmpuint(ledger->intents->len, ==, 0);
}
