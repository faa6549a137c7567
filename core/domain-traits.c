/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "domain-traits.h"

#include "domain-value.h"

static int word_of(const xmlNode *node, const char *attribute, const char *const *words)
{
    for (int i = 0; words[i] != NULL; i++)
        if (hv_dom_attribute_is(node, attribute, words[i]))
            return i + 1;
    return 0;
}

static void read_backing(HvTraits *traits, const xmlNode *backing)
{
    static const char *const sources[] = {"file", "anonymous", "memfd", NULL};
    static const char *const allocations[] = {"immediate", "ondemand", NULL};
    traits->source = (HvSource)word_of(hv_dom_child(backing, "source"), "type", sources);
    traits->allocation =
        (HvAllocation)word_of(hv_dom_child(backing, "allocation"), "mode", allocations);
    traits->has_discard = hv_dom_child(backing, "discard") != NULL;
    traits->is_locked = hv_dom_child(backing, "locked") != NULL;
}

static void read_balloon(HvTraits *traits, const xmlNode *root)
{
    const xmlNode *balloon = hv_dom_child(hv_dom_child(root, "devices"), "memballoon");
    traits->has_balloon = balloon == NULL || !hv_dom_attribute_is(balloon, "model", "none");
    traits->reports_free_pages =
        traits->has_balloon && hv_dom_attribute_is(balloon, "freePageReporting", "on");
}

static void read_video(HvTraits *traits, const xmlNode *root)
{
    for (xmlNode *video = hv_dom_child(hv_dom_child(root, "devices"), "video"); video != NULL;
         video = hv_dom_next(video, "video"))
        if (hv_dom_attribute_is(hv_dom_child(video, "model"), "blob", "on"))
            traits->has_blob_video = TRUE;
}

static void read_encryption(HvTraits *traits, const xmlNode *root)
{
    static const char *const types[] = {"sev", "sev-snp", "tdx", "s390-pv", NULL};
    const xmlNode *security = hv_dom_child(root, "launchSecurity");
    traits->encryption = (HvEncryption)word_of(security, "type", types);
    if (security != NULL && traits->encryption == HV_ENCRYPTION_NONE)
        traits->encryption = HV_ENCRYPTION_OTHER;
}

/* libvirt takes an empty element for none. */
static gboolean read_amount(const xmlNode *node, const char *what, guint64 *out_kib, GError **error)
{
    g_autofree char *text = node != NULL ? hv_dom_text(node) : NULL;
    return text == NULL || text[0] == '\0' || hv_domain_scaled_text(node, what, out_kib, error);
}

static gboolean read_amounts(HvTraits *traits, const xmlNode *root, GError **error)
{
    const xmlNode *limit = hv_dom_child(hv_dom_child(root, "memtune"), "hard_limit");
    const xmlNode *current = hv_dom_child(root, "currentMemory");
    return read_amount(limit, "<hard_limit>", &traits->hard_limit_kib, error) &&
           read_amount(current, "<currentMemory>", &traits->current_kib, error);
}

gboolean hv_domain_read_traits(HvTraits *traits, const xmlNode *root, const xmlNode *backing,
                               GError **error)
{
    read_backing(traits, backing);
    read_balloon(traits, root);
    read_video(traits, root);
    read_encryption(traits, root);
    return read_amounts(traits, root, error);
}
