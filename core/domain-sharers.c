/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation: the other side of a vhost-user device is a process of its own, which maps
 * the guest's memory by the file descriptors that QEMU sends it. Of a private mapping it would see
 * the file, and none of what the guest writes. libvirt 9.0 refuses some of these devices with
 * private memory, warns in its log of one, and says nothing of others; then the guest meets a
 * device that does nothing.
 *
 * Not here, as what serves them works in QEMU's own address space: vhost in the kernel (an
 * <interface> with <driver name='vhost'/>, <vsock>, vhost-scsi), <interface type='vdpa'>, for
 * which the kernel pins QEMU's pages, and passt on an <interface type='user'>, which is sent
 * packets. <shmem> and <memory model='virtio-pmem'> bring memory of their own. For vDPA disks
 * libvirt demands shared memory itself.
 */
#include "domain-sharers.h"

#include "error.h"

#include <json-glib/json-glib.h>
#include <string.h>

#define QEMU_NAMESPACE "http://libvirt.org/schemas/domain/qemu/1.0"
#define MAX_DETAILS 2
#define MAX_NAMED 3
#define MAX_OBJECT_BYTES 4096 /* json-glib recurses: as deep as the text is long */

/* What tells a device from others of its kind. */
typedef struct {
    const char *word;
    const char *child;
    const char *attribute;
} Detail;

static const struct {
    const char *element;
    const char *driver; /* the child that carries the attribute; NULL: the device itself */
    const char *attribute;
    const char *value;
    Detail details[MAX_DETAILS];
} kinds[] = {
    /* with the backend passt as well */
    {"interface",
     NULL,
     "type",
     "vhostuser",
     {{"MAC", "mac", "address"}, {"socket", "source", "path"}}},
    {"disk",
     NULL,
     "type",
     "vhostuser",
     {{"target", "target", "dev"}, {"socket", "source", "path"}}},
    {"disk", NULL, "type", "vhostvdpa", {{"target", "target", "dev"}, {"device", "source", "dev"}}},
    {"filesystem",
     "driver",
     "type",
     "virtiofs",
     {{"target", "target", "dir"}, {"socket", "source", "socket"}}},
    {"video", "driver", "name", "vhostuser", {{NULL}}},
};

static char *name_device(const xmlNode *device, guint kind)
{
    GString *name = g_string_new(NULL);
    const char *lead = " (";
    g_string_printf(name, "%s '%s'", kinds[kind].element, kinds[kind].value);
    for (guint i = 0; i < MAX_DETAILS; i++) {
        const Detail *detail = &kinds[kind].details[i];
        if (detail->word == NULL)
            continue;
        g_autofree char *value =
            hv_dom_attribute(hv_dom_child(device, detail->child), detail->attribute);
        if (value == NULL)
            continue;
        g_autofree char *quoted = hv_quote(value);
        g_string_append_printf(name, "%s%s %s", lead, detail->word, quoted);
        lead = ", ";
    }
    if (lead[0] == ',')
        g_string_append_c(name, ')');
    return g_string_free(name, FALSE);
}

/* Newly allocated; NULL: it works with private memory. */
static char *sharer_of_device(const xmlNode *device)
{
    for (guint i = 0; i < G_N_ELEMENTS(kinds); i++) {
        if (!hv_dom_is(device, kinds[i].element, NULL))
            continue;
        const xmlNode *carrier =
            kinds[i].driver != NULL ? hv_dom_child(device, kinds[i].driver) : device;
        if (hv_dom_attribute_is(carrier, kinds[i].attribute, kinds[i].value))
            return name_device(device, i);
    }
    return NULL;
}

/* --- what <qemu:commandline> adds by hand ---------------------------------------------------- */

/* The first word of an option's value, as "vhost-user-fs-pci" of "driver=vhost-user-fs-pci,…". */
static char *driver_of_list(const char *value)
{
    static const char *const keys[] = {"driver=", "type="};
    for (guint i = 0; i < G_N_ELEMENTS(keys); i++)
        if (g_str_has_prefix(value, keys[i]))
            value += strlen(keys[i]);
    return g_strndup(value, strcspn(value, ","));
}

/* The same of an object, which QEMU takes as well. */
static char *driver_of_object(const char *value)
{
    static const char *const keys[] = {"driver", "type"};
    g_autoptr(JsonNode) node =
        strlen(value) <= MAX_OBJECT_BYTES ? json_from_string(value, NULL) : NULL;
    if (node == NULL || !JSON_NODE_HOLDS_OBJECT(node))
        return g_strdup("");
    for (guint i = 0; i < G_N_ELEMENTS(keys); i++) {
        JsonNode *member = json_object_get_member(json_node_get_object(node), keys[i]);
        if (member != NULL && JSON_NODE_HOLDS_VALUE(member) &&
            json_node_get_value_type(member) == G_TYPE_STRING)
            return json_node_dup_string(member);
    }
    return g_strdup("");
}

/* Drivers whose other side is a process. */
static char *sharer_of_option(const char *option, const char *value)
{
    static const char *const prefixes[] = {"vhost-user", "vfio-user", "x-pci-proxy-dev"};
    const char *name = option != NULL ? option + strspn(option, "-") : "";
    if (option == NULL || option[0] != '-' || value == NULL ||
        (strcmp(name, "device") != 0 && strcmp(name, "netdev") != 0))
        return NULL;
    g_autofree char *driver = value[0] == '{' ? driver_of_object(value) : driver_of_list(value);
    for (guint i = 0; i < G_N_ELEMENTS(prefixes); i++) {
        if (!g_str_has_prefix(driver, prefixes[i]))
            continue;
        g_autofree char *quoted = hv_quote(driver);
        return g_strdup_printf("%s %s of <qemu:commandline>", name, quoted);
    }
    return NULL;
}

static void read_arguments(GPtrArray *sharers, const xmlNode *commandline)
{
    g_autofree char *last = NULL;
    for (const xmlNode *node = commandline->children; node != NULL; node = node->next) {
        if (!hv_dom_is(node, "arg", QEMU_NAMESPACE))
            continue;
        g_autofree char *value = hv_dom_attribute(node, "value");
        char *sharer = sharer_of_option(last, value);
        if (sharer != NULL)
            g_ptr_array_add(sharers, sharer);
        g_free(last);
        last = g_steal_pointer(&value);
    }
}

/* --------------------------------------------------------------------------------------------- */

void hv_domain_read_sharers(GPtrArray *sharers, const xmlNode *root)
{
    const xmlNode *devices = hv_dom_child(root, "devices");
    for (const xmlNode *node = devices != NULL ? devices->children : NULL; node != NULL;
         node = node->next) {
        char *sharer = sharer_of_device(node);
        if (sharer != NULL)
            g_ptr_array_add(sharers, sharer);
    }
    for (const xmlNode *node = root->children; node != NULL; node = node->next)
        if (hv_dom_is(node, "commandline", QEMU_NAMESPACE))
            read_arguments(sharers, node);
}

char *hv_domain_format_sharers(const HvDomain *domain)
{
    const GPtrArray *sharers = domain->sharers;
    GString *list = g_string_new(NULL);
    guint n_named = MIN(sharers->len, MAX_NAMED);
    for (guint i = 0; i < n_named; i++) {
        gboolean is_last = i > 0 && i + 1 == sharers->len;
        g_string_append_printf(list, "%s%s",
                               i == 0    ? ""
                               : is_last ? " and "
                                         : ", ",
                               (const char *)g_ptr_array_index(sharers, i));
    }
    if (sharers->len > n_named)
        g_string_append_printf(list, " and %u more", sharers->len - n_named);
    return g_string_free(list, FALSE);
}

gboolean hv_device_parse_sharer(const char *xml, gsize xml_bytes, char **out_name, GError **error)
{
    g_autoptr(HvDom) dom = hv_dom_parse_as(xml, xml_bytes, NULL, error);
    if (dom != NULL)
        *out_name = sharer_of_device(xmlDocGetRootElement(dom->doc));
    return dom != NULL;
}
