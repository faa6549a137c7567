/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* virtio-mem: what is requested of it, and what the guest has taken. */
#include "hotplug-fixture.h"

#define GROW(current, requested)                                                                   \
    "<memory model='virtio-mem'><source><pagesize unit='MiB'>2</pagesize></source><target>"        \
    "<size unit='MiB'>1024</size><requested unit='MiB'>" requested                                 \
    "</requested><current unit='MiB'>" current "</current><node>1</node></target></memory>"

/* What the guest may take is kept for it until it does, whatever it does in between. */
static void test_virtio_mem_grows_as_the_guest_takes_it(void)
{
    g_auto(Host) host = {0};
    host_begin(&host);
    guint64 generation = plug(&host, GROW("0", "16"));
    report(&host, HV_PLUG_DONE, generation, GROW("0", "16"));
    assert_claimed(60, 8);
    take(3);
    now_s += 1000;
    recover(host.agent);
    assert_claimed(63, 5);
    assert_counts(1, SIZE_2M, 38, 5, 0);
    take(-3); /* it reboots */
    recover(host.agent);
    assert_claimed(60, 8);
    assert_counts(1, SIZE_2M, 38, 8, 0);
    take(8);
    recover(host.agent);
    assert_claimed(68, 0);
    generation = plug(&host, GROW("16", "20"));
    assert_claimed(68, 2);
    take(2);
    report(&host, HV_PLUG_DONE, generation, GROW("16", "20"));
    assert_claimed(70, 0);
    take(-6);
    report(&host, HV_PLUG_UNDONE, 0, GROW("8", "8"));
    assert_claimed(64, 0);
    assert_counts(1, SIZE_2M, 34, 0, 0);
    end_vm(&host);
}

/* What the first one has been granted is not the second one's. */
static void test_second_virtio_mem_gets_pages_of_its_own(void)
{
    static const char second[] =
        "<memory model='virtio-mem'><source><pagesize unit='MiB'>2</pagesize></source><target>"
        "<size unit='MiB'>1024</size><requested unit='MiB'>16</requested><node>1</node></target>"
        "</memory>";
    g_auto(Host) host = {0};
    host_begin(&host);
    guint64 generation = plug(&host, GROW("0", "16"));
    take(8);
    report(&host, HV_PLUG_DONE, generation, GROW("0", "16"));
    assert_claimed(68, 0);
    plug(&host, second);
    assert_claimed(68, 8);
    end_vm(&host);
}

/* Its host has not seen that less was requested of it before it went. */
static void test_virtio_mem_that_is_gone_is_granted_nothing(void)
{
    g_auto(Host) host = {0};
    host_begin(&host);
    guint64 generation = plug(&host, GROW("0", "16"));
    report(&host, HV_PLUG_DONE, generation, GROW("0", "16"));
    assert_claimed(60, 8);
    mapped.has_no_elastic = TRUE;
    show_memory();
    report(&host, HV_PLUG_UNDONE, 0, GROW("0", "16"));
    assert_claimed(60, 0);
    assert_counts(1, SIZE_2M, 30, 0, 0);
    end_vm(&host);
}

static void test_virtio_mem_that_is_gone_takes_nothing_from_another(void)
{
    static const char other[] =
        "<memory model='virtio-mem'><source><pagesize unit='MiB'>2</pagesize></source><target>"
        "<size unit='MiB'>512</size><requested unit='MiB'>0</requested><current unit='MiB'>0"
        "</current><node>1</node></target></memory>";
    g_auto(Host) host = {0};
    host_begin(&host);
    guint64 generation = plug(&host, GROW("0", "16"));
    report(&host, HV_PLUG_DONE, generation, GROW("0", "16"));
    report(&host, HV_PLUG_UNDONE, 0, other);
    assert_claimed(60, 8);
    assert_counts(1, SIZE_2M, 38, 8, 0);
    end_vm(&host);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/hotplug/virtio-mem grows as the guest takes it",
                    test_virtio_mem_grows_as_the_guest_takes_it);
    g_test_add_func("/hotplug/a second virtio-mem gets pages of its own",
                    test_second_virtio_mem_gets_pages_of_its_own);
    g_test_add_func("/hotplug/a virtio-mem that is gone is granted nothing",
                    test_virtio_mem_that_is_gone_is_granted_nothing);
    g_test_add_func("/hotplug/a virtio-mem that is gone takes nothing from another",
                    test_virtio_mem_that_is_gone_takes_nothing_from_another);
    return g_test_run();
}
