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
 *
 * hugepages_shared has a short name in hugevm's own element, where it cannot be
 * anybody else's. An element that uses both names must mean one thing.
 */
#include "properties.h"

#include "error.h"
#include "page-size.h"

#include <string.h>

#define HINT_HUGEPAGES                                                                             \
    "a page size in KiB (2048) or with a suffix (2M, 1G), large or any; 0 or empty is off"
#define HINT_SHARED "true or false (also yes, no, on, off, 1, 0); auto or empty is unset"

/* A source's value without blanks around it; NULL if it has none. */
static char *value_in(GHashTable *source, const char *name)
{
    gpointer value;
    if (source == NULL || !g_hash_table_lookup_extended(source, name, NULL, &value))
        return NULL;
    return g_strstrip(g_strdup(value != NULL ? value : ""));
}

/* The first source's value; NULL if no source has it. */
static char *find_property(GHashTable *agent, const HvDomain *domain, const char *name)
{
    GHashTable *const sources[] = {agent, domain->ovirt_custom, domain->hugevm_custom};
    char *value = NULL;
    for (guint i = 0; i < G_N_ELEMENTS(sources) && value == NULL; i++)
        value = value_in(sources[i], name);
    return value;
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

/* FALSE: it is neither a boolean nor unset. */
static gboolean parse_shared(const char *value, HvShared *out_shared)
{
    static const struct {
        const char *word;
        HvShared shared;
    } words[] = {
        {"true", HV_SHARED_YES},   {"1", HV_SHARED_YES},    {"yes", HV_SHARED_YES},
        {"on", HV_SHARED_YES},     {"false", HV_SHARED_NO}, {"0", HV_SHARED_NO},
        {"no", HV_SHARED_NO},      {"off", HV_SHARED_NO},   {"", HV_SHARED_UNSET},
        {"auto", HV_SHARED_UNSET},
    };
    for (guint i = 0; i < G_N_ELEMENTS(words); i++) {
        if (g_ascii_strcasecmp(value, words[i].word) == 0) {
            *out_shared = words[i].shared;
            return TRUE;
        }
    }
    return FALSE;
}

static gboolean read_shared(const char *name, const char *value, HvShared *out_shared,
                            GError **error)
{
    return value == NULL || parse_shared(value, out_shared) ||
           bad_value(error, name, value, HINT_SHARED);
}

/* By either name, where hugevm's own element decides. */
static gboolean settle_shared(GHashTable *agent, const HvDomain *domain, HvShared *out_shared,
                              GError **error)
{
    static const char name[] = "hugepages_shared";
    HvShared by_short_name = HV_SHARED_UNSET;
    gboolean is_elsewhere = (agent != NULL && g_hash_table_contains(agent, name)) ||
                            g_hash_table_contains(domain->ovirt_custom, name);
    g_autofree char *value = find_property(agent, domain, name);
    g_autofree char *short_value =
        is_elsewhere ? NULL : value_in(domain->hugevm_custom, HV_SHARED_SHORT_NAME);
    if (!read_shared(name, value, out_shared, error) ||
        !read_shared(HV_SHARED_SHORT_NAME, short_value, &by_short_name, error))
        return FALSE;
    if (value != NULL && short_value != NULL && *out_shared != by_short_name) {
        hv_set_error(error, HV_ERROR_PROPERTY, "remove one of them",
                     "hugevm's metadata element contradicts itself: shared and hugepages_shared "
                     "are two names of one VM property");
        return FALSE;
    }
    if (value == NULL)
        *out_shared = by_short_name;
    return TRUE;
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
    g_autoptr(HvProperties) properties = hv_properties_none();
    if (!read_hugepages(properties, hugepages, error) ||
        !settle_shared(agent, domain, &properties->shared, error))
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
