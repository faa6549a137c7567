/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation: a VM property can come from three sources: the agent's
 * call, oVirt's metadata in the XML, hugevm's own metadata. For each property
 * by itself the first source that has it decides, also when its value is empty:
 * an agent that passes `hugepages=` switches off what the XML's metadata says,
 * as it did in VDSM, where the last writer of the property won.
 *
 * A value is never guessed at. What reads as a size is one (whether the host
 * offers it is request.c's question); zero and negative sizes are VDSM's "off";
 * everything else is refused, because the alternative is a VM that starts
 * without the pages its owner asked for.
 */
#include "properties.h"

#include "error.h"
#include "page-size.h"

#include <string.h>

#define HINT_HUGEPAGES                                                                             \
    "a page size in KiB (2048) or with a suffix (2M, 1G), large or any; 0 or empty is off"
#define HINT_SHARED "true or false (also yes, no, on, off, 1, 0); empty is unset"

/* The first source's value without blanks around it; NULL if no source has it. */
static char *find_property(GHashTable *agent, const HvDomain *domain, const char *name)
{
    GHashTable *const sources[] = {agent, domain->ovirt_custom, domain->hugevm_custom};
    for (guint i = 0; i < G_N_ELEMENTS(sources); i++) {
        gpointer value;
        if (sources[i] != NULL && g_hash_table_lookup_extended(sources[i], name, NULL, &value))
            return g_strstrip(g_strdup(value != NULL ? value : ""));
    }
    return NULL;
}

static gboolean bad_value(GError **error, const char *name, const char *value, const char *hint)
{
    g_autofree char *quoted = hv_quote(value);
    hv_set_error(error, HV_ERROR_PROPERTY, hint, "the VM property %s has the value %s", name,
                 quoted);
    return FALSE;
}

/* "-1", "-2M", "-99999999999999999999": a minus sign before a size of any magnitude. */
static gboolean is_negative_size(const char *value)
{
    if (value[0] != '-' || !g_ascii_isdigit(value[1]))
        return FALSE;
    const char *suffix = value + 1 + strspn(value + 1, "0123456789");
    g_autofree char *one = g_strconcat("1", suffix, NULL);
    guint64 kib;
    return hv_parse_size_kib(one, 1, &kib);
}

static gboolean read_hugepages(HvProperties *properties, const char *value, GError **error)
{
    if (value == NULL || value[0] == '\0')
        return TRUE;
    if (g_ascii_strcasecmp(value, "large") == 0) {
        properties->sizes = HV_SIZES_LARGE;
    } else if (g_ascii_strcasecmp(value, "any") == 0) {
        properties->sizes = HV_SIZES_ANY;
    } else if (is_negative_size(value)) {
        g_autofree char *quoted = hv_quote(value);
        g_ptr_array_add(
            properties->warnings,
            g_strdup_printf("the VM property hugepages is %s: negative means off", quoted));
    } else if (!hv_parse_size_kib(value, 1, &properties->hugepages_kib)) {
        return bad_value(error, "hugepages", value, HINT_HUGEPAGES);
    }
    properties->hugepages_set = TRUE;
    return TRUE;
}

static gboolean read_shared(HvProperties *properties, const char *value, GError **error)
{
    static const char *const yes[] = {"true", "1", "yes", "on"};
    static const char *const no[] = {"false", "0", "no", "off"};
    if (value == NULL || value[0] == '\0')
        return TRUE;
    for (guint i = 0; i < G_N_ELEMENTS(yes); i++) {
        if (g_ascii_strcasecmp(value, yes[i]) == 0)
            properties->shared = HV_SHARED_YES;
        else if (g_ascii_strcasecmp(value, no[i]) == 0)
            properties->shared = HV_SHARED_NO;
    }
    return properties->shared != HV_SHARED_UNSET ||
           bad_value(error, "hugepages_shared", value, HINT_SHARED);
}

HvProperties *hv_properties_none(void)
{
    HvProperties *properties = g_new0(HvProperties, 1);
    properties->warnings = g_ptr_array_new_with_free_func(g_free);
    return properties;
}

HvProperties *hv_properties_read(GHashTable *agent, const HvDomain *domain, GError **error)
{
    g_autofree char *hugepages = find_property(agent, domain, "hugepages");
    g_autofree char *shared = find_property(agent, domain, "hugepages_shared");
    g_autoptr(HvProperties) properties = hv_properties_none();
    if (!read_hugepages(properties, hugepages, error) || !read_shared(properties, shared, error))
        return NULL;
    return g_steal_pointer(&properties);
}

void hv_properties_free(HvProperties *properties)
{
    if (properties == NULL)
        return;
    g_ptr_array_unref(properties->warnings);
    g_free(properties);
}
