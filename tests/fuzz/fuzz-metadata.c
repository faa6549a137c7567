/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Any bytes as a domain XML whose properties are set: where that works, setting them once more
 * changes nothing, and they are read as they were set.
 */
#include "domain-metadata.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(gboolean is_true)
{
    if (!is_true)
        abort();
}

static char *edit(const char *xml, gsize xml_bytes, const HvMetadataEdit *wish, gsize *out_bytes)
{
    g_auto(HvDoc) doc = {0};
    g_autoptr(GError) error = NULL;
    if (!hv_doc_parse(xml, xml_bytes, &doc, &error))
        return NULL;
    char *text = hv_metadata_edit(&doc, wish, out_bytes, &error);
    demand((text == NULL) == (error != NULL));
    return text;
}

static void edit_twice(const char *xml, gsize xml_bytes, const HvMetadataEdit *wish)
{
    gsize once_bytes = 0, twice_bytes = 0;
    g_autofree char *once = edit(xml, xml_bytes, wish, &once_bytes);
    if (once == NULL)
        return;
    g_autofree char *twice = edit(once, once_bytes, wish, &twice_bytes);
    demand(twice != NULL && twice_bytes == once_bytes && memcmp(once, twice, once_bytes) == 0);
    g_auto(HvDoc) doc = {0};
    demand(hv_doc_parse(once, once_bytes, &doc, NULL));
    const char *hugepages = g_hash_table_lookup(doc.domain->hugevm_custom, "hugepages");
    demand(wish->hugepages == NULL ||
           g_strcmp0(hugepages, wish->hugepages[0] != '\0' ? wish->hugepages : NULL) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const HvMetadataEdit wishes[] = {
        {.hugepages = "2M", .shared = "true"},
        {.hugepages = "", .shared = "", .takes_out = TRUE},
        {.hugepages = "1G", .takes_out = TRUE, .replaces_pages = TRUE},
    };
    for (guint i = 0; i < G_N_ELEMENTS(wishes); i++)
        edit_twice((const char *)data, size, &wishes[i]);
    return 0;
}
