/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Memory devices of a VM that runs, as libvirt's XML of it has them. */
#include "agent-memory.h"

#define DIMM                                                                                       \
    "<memory model='dimm'><target><size unit='KiB'>131072</size><node>0</node></target>"           \
    "<alias name='dimm0'/></memory>"
#define VIRTIO_MEM                                                                                 \
    "<memory model='virtio-mem'><target><size unit='KiB'>4194304</size>"                           \
    "<requested unit='KiB'>1048576</requested><current unit='KiB'>524288</current></target>"       \
    "<alias name='virtiomem0'/></memory>"
#define DISK "<disk><alias name='virtio-disk0'/></disk>"

static GHashTable *devices_of(const char *devices)
{
    g_autofree char *xml = g_strdup_printf(
        "<domain><memory unit='KiB'>65536</memory><devices>%s</devices></domain>", devices);
    return agent_memory_list(xml);
}

static void assert_device(GHashTable *devices, const char *alias, guint64 size_kib, const char *xml)
{
    const AgentMemory *memory = g_hash_table_lookup(devices, alias);
    g_assert_nonnull(memory);
    g_assert_cmpuint(memory->size_kib, ==, size_kib);
    g_autofree char *quoted = g_strdelimit(g_strdup(memory->xml), "\"", '\'');
    g_assert_cmpstr(quoted, ==, xml);
}

static void test_devices_are_found_by_alias(void)
{
    g_autoptr(GHashTable) devices = devices_of(DISK DIMM VIRTIO_MEM);
    g_assert_cmpuint(g_hash_table_size(devices), ==, 2);
    assert_device(devices, "dimm0", 131072, DIMM);
}

static void test_virtio_mem_counts_what_the_guest_has(void)
{
    g_autoptr(GHashTable) devices = devices_of(VIRTIO_MEM);
    assert_device(devices, "virtiomem0", 524288, VIRTIO_MEM);
}

static void test_what_has_no_device_gives_none(void)
{
    static const char *const xmls[] = {"", "no XML", "<domain/>", "<domain><devices/></domain>",
                                       "<domain><devices><memory/></devices></domain>"};
    for (guint i = 0; i < G_N_ELEMENTS(xmls); i++) {
        g_autoptr(GHashTable) devices = agent_memory_list(xmls[i]);
        g_assert_cmpuint(g_hash_table_size(devices), ==, 0);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/agent-memory/devices-are-found-by-alias", test_devices_are_found_by_alias);
    g_test_add_func("/agent-memory/virtio-mem-counts-what-the-guest-has",
                    test_virtio_mem_counts_what_the_guest_has);
    g_test_add_func("/agent-memory/what-has-no-device-gives-none",
                    test_what_has_no_device_gives_none);
    return g_test_run();
}
