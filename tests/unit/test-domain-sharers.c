/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Devices that cannot work with private memory: which they are, and what they are called. */
#include "domain-fixture.h"

#define QEMU_NS "xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'"
#define DEVICES(devices) "<devices>" devices "</devices>"
#define ARGS(option, value)                                                                        \
    "<q:commandline " QEMU_NS "><q:arg value='" option "'/><q:arg value='" value                   \
    "'/></q:commandline>"

static void devices_that_share_memory_are_found(void)
{
    static const struct {
        const char *part;   /* of the domain */
        const char *sharer; /* "": none */
    } cases[] = {
        {DEVICES("<interface type='vhostuser'/>"), "interface 'vhostuser'"},
        {DEVICES("<interface type='vhostuser'><mac address='52:54:00:00:00:07'/>"
                 "<source type='unix' path='/run/s' mode='server'/></interface>"),
         "interface 'vhostuser' (MAC '52:54:00:00:00:07', socket '/run/s')"},
        {DEVICES(
             "<interface type='vhostuser'><backend type='passt'/><mac address='a'/></interface>"),
         "interface 'vhostuser' (MAC 'a')"},
        {DEVICES(
             "<disk type='vhostuser'><source type='unix' path='/s'/><target dev='vda'/></disk>"),
         "disk 'vhostuser' (target 'vda', socket '/s')"},
        {DEVICES("<disk type='vhostvdpa'><source dev='/dev/vhost-vdpa-0'/></disk>"),
         "disk 'vhostvdpa' (device '/dev/vhost-vdpa-0')"},
        {DEVICES("<filesystem type='mount'><driver type='virtiofs'/><source dir='/'/><target "
                 "dir='tag'/>"
                 "</filesystem>"),
         "filesystem 'virtiofs' (target 'tag')"},
        {DEVICES("<filesystem><driver type='virtiofs'/><source socket='/s'/></filesystem>"),
         "filesystem 'virtiofs' (socket '/s')"},
        {DEVICES("<video><driver name='vhostuser'/></video>"), "video 'vhostuser'"},
        {DEVICES("<disk type='file'/><interface type='vhostuser'/><disk type='vhostuser'/>"),
         "interface 'vhostuser' and disk 'vhostuser'"},
        {DEVICES("<disk type='vhostuser'/><disk type='vhostuser'/><disk type='vhostuser'/>"
                 "<disk type='vhostuser'/><disk type='vhostuser'/>"),
         "disk 'vhostuser', disk 'vhostuser', disk 'vhostuser' and 2 more"},
        {DEVICES("<disk type='vhostuser'><target dev='a&#10;b'/></disk>"),
         "disk 'vhostuser' (target 'a\\x0ab')"},
        {ARGS("-device", "vhost-user-fs-pci,chardev=c,tag=t"),
         "device 'vhost-user-fs-pci' of <qemu:commandline>"},
        {ARGS("--device", "driver=vhost-user-blk,chardev=c"),
         "device 'vhost-user-blk' of <qemu:commandline>"},
        {ARGS("-netdev", "type=vhost-user,chardev=c"), "netdev 'vhost-user' of <qemu:commandline>"},
        {ARGS("-device", "{\"id\":[[1]],\"driver\":\"vhost-user-vga\"}"),
         "device 'vhost-user-vga' of <qemu:commandline>"},
        {ARGS("-netdev", "{\"type\":\"vhost-user\"}"), "netdev 'vhost-user' of <qemu:commandline>"},
        {ARGS("-device", "{\"driver\":[\"vhost-user-vga\"]}"), ""},
        {ARGS("-device", "{\"driver\":1,\"type\":null}"), ""},
        {ARGS("-device", "{\"driver\":"), ""},
        {ARGS("-device", "virtio-net-pci,netdev=vhost-user1"), ""},
        {ARGS("-chardev", "vhost-user,id=c"), ""},
        {ARGS("device", "vhost-user-fs-pci"), ""},
        {DEVICES("<disk type='file'/><!-- <disk type='vhostuser'/> -->"), ""},
        {DEVICES("<interface type='network'/><filesystem type='mount'/><video/>"), ""},
        /* the kernel serves these, within QEMU's own memory */
        {DEVICES("<interface type='vdpa'><source dev='/dev/vhost-vdpa-0'/></interface>"), ""},
        {DEVICES("<interface type='network'><driver name='vhost'/></interface><vsock/>"), ""},
        {DEVICES("<interface type='user'><backend type='passt'/></interface>"), ""},
        {DEVICES("<shmem name='s'/><crypto model='virtio' type='qemu'/>"), ""},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *body = g_strdup_printf("<memory>1</memory>%s", cases[i].part);
        g_autoptr(HvDomain) domain = parse_body(body);
        g_autofree char *sharers = hv_domain_format_sharers(domain);
        g_assert_cmpstr(sharers, ==, cases[i].sharer);
    }
}

/* json-glib recurses: what is too deep for it must not reach it. */
static void hostile_arguments_do_no_harm(void)
{
    g_autoptr(GString) deep = g_string_new("<memory>1</memory><q:commandline " QEMU_NS ">"
                                           "<q:arg value='-device'/><q:arg value='{\"driver\":");
    for (guint i = 0; i < 1024 * 1024; i++)
        g_string_append_c(deep, '[');
    g_string_append(deep, "'/></q:commandline>");
    g_autoptr(HvDomain) domain = parse_body(deep->str);
    g_assert_cmpuint(domain->sharers->len, ==, 0);
}

static void a_device_by_itself_is_told(void)
{
    static const struct {
        const char *xml;
        const char *name;
    } cases[] = {
        {"<interface type='vhostuser'><mac address='a'/></interface>",
         "interface 'vhostuser' (MAC 'a')"},
        {"<filesystem><driver type='virtiofs'/></filesystem>", "filesystem 'virtiofs'"},
        {"<interface type='bridge'/>", NULL},
        {"<anything/>", NULL},
        {"<interface xmlns='urn:x' type='vhostuser'/>", NULL},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        char *name = NULL;
        g_autoptr(GError) error = NULL;
        gboolean is_read =
            hv_device_parse_sharer(cases[i].xml, strlen(cases[i].xml), &name, &error);
        g_assert_no_error(error);
        g_assert_true(is_read);
        g_assert_cmpstr(name, ==, cases[i].name);
        g_free(name);
    }
    static const char *const bad[] = {"", "interface", "<interface", "<!DOCTYPE a><a/>"};
    for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
        char *name = NULL;
        g_autoptr(GError) error = NULL;
        g_assert_false(hv_device_parse_sharer(bad[i], strlen(bad[i]), &name, &error));
        g_assert_error(error, HV_ERROR, HV_ERROR_XML);
        g_assert_null(name);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD(devices_that_share_memory_are_found);
    ADD(hostile_arguments_do_no_harm);
    ADD(a_device_by_itself_is_told);
    return g_test_run();
}
