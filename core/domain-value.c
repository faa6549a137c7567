/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "domain-value.h"

#include "error.h"
#include "page-size.h"

#include <string.h>

/* Room for every node of the largest kernel, each named alone. */
#define MAX_NODESET_BYTES 8192

gboolean hv_domain_bad(GError **error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *message = g_strdup_vprintf(format, args);
    va_end(args);
    hv_set_error(error, HV_ERROR_XML, NULL, "the domain XML: %s", message);
    return FALSE;
}

/* Bytes of a unit as libvirt spells them: K and KiB count 1024, KB 1000; 0 for anything else. */
static guint64 unit_bytes(const char *unit)
{
    static const char letters[] = "kmgtpe";
    if (unit == NULL || unit[0] == '\0')
        return 1024;
    if (g_ascii_strcasecmp(unit, "b") == 0 || g_ascii_strcasecmp(unit, "byte") == 0 ||
        g_ascii_strcasecmp(unit, "bytes") == 0)
        return 1;
    guint64 base = 0;
    if (unit[1] == '\0' || g_ascii_strcasecmp(unit + 1, "ib") == 0)
        base = 1024;
    else if (g_ascii_strcasecmp(unit + 1, "b") == 0)
        base = 1000;
    const char *letter = strchr(letters, g_ascii_tolower(unit[0]));
    if (letter == NULL)
        return 0;
    guint64 bytes = base;
    for (const char *p = letters; p < letter; p++)
        bytes *= base;
    return bytes;
}

/* Parts of a KiB count as a whole one. */
static gboolean parse_scaled(const char *number, const char *unit, const char *what,
                             guint64 *out_kib, GError **error)
{
    guint64 scale = unit_bytes(unit);
    guint64 value, bytes;
    if (scale == 0) {
        g_autofree char *quoted = hv_quote(unit);
        return hv_domain_bad(error, "%s has the unknown unit %s", what, quoted);
    }
    if (!hv_parse_u64(number, &value) || !hv_checked_mul(value, scale, &bytes)) {
        g_autofree char *quoted = hv_quote(number);
        return hv_domain_bad(error, "%s is %s, which is no memory size", what, quoted);
    }
    if (bytes > G_MAXINT64) { /* as libvirt's own limit */
        g_autofree char *quoted = hv_quote(number);
        return hv_domain_bad(error, "%s is %s, which is more memory than there can be", what,
                             quoted);
    }
    *out_kib = bytes / 1024 + (bytes % 1024 != 0);
    return TRUE;
}

gboolean hv_domain_scaled_text(const xmlNode *node, const char *what, guint64 *out_kib,
                               GError **error)
{
    g_autofree char *number = hv_dom_text(node);
    g_autofree char *unit = hv_dom_attribute(node, "unit");
    return parse_scaled(number, unit, what, out_kib, error);
}

gboolean hv_domain_scaled_attribute(const xmlNode *node, const char *attribute, const char *what,
                                    guint64 *out_kib, GError **error)
{
    g_autofree char *number = hv_dom_attribute(node, attribute);
    g_autofree char *unit = hv_dom_attribute(node, "unit");
    return parse_scaled(number, unit, what, out_kib, error);
}

gboolean hv_domain_nodeset(const char *text, const char *what, HvNodeSet *out_set, GError **error)
{
    if (strlen(text) <= MAX_NODESET_BYTES && hv_node_set_parse(text, out_set))
        return TRUE;
    g_autofree char *quoted = hv_quote(text);
    return hv_domain_bad(error, "%s is %s, which is no list of nodes", what, quoted);
}

gboolean hv_domain_access(const xmlNode *node, const char *attribute, HvAccess *out_access,
                          GError **error)
{
    g_autofree char *mode = hv_dom_attribute(node, attribute);
    if (mode == NULL)
        return TRUE;
    if (strcmp(mode, "shared") != 0 && strcmp(mode, "private") != 0) {
        g_autofree char *quoted = hv_quote(mode);
        return hv_domain_bad(error, "%s of <%s> is %s; it can be shared or private", attribute,
                             (const char *)node->name, quoted);
    }
    *out_access = strcmp(mode, "shared") == 0 ? HV_ACCESS_SHARED : HV_ACCESS_PRIVATE;
    return TRUE;
}
