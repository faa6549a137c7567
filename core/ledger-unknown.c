/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The document as a tree of parts, a table for each kind: which members this version knows,
 * which of them tell one part from another, and which hold further parts.
 */
#include "ledger-unknown.h"

#include <string.h>

typedef struct Part Part;

/* A member that holds parts: an object, or an array of them. */
typedef struct {
    const char *name;
    const Part *part;
} Inner;

struct Part {
    const char *const *known;
    const char *const *identity; /* members that are equal in the same part, read and written */
    const Inner *inner;          /* up to one without a name; NULL: none */
};

#define WORDS (const char *const[])

static const Part file_part = {WORDS{"major", "minor", "inode", NULL},
                               WORDS{"major", "minor", "inode", NULL}, NULL};
static const Part need_part = {WORDS{"nodes", "size_kib", "pages", "elastic", NULL},
                               WORDS{"nodes", "size_kib", "pages", NULL}, NULL};
static const Part cell_part = {WORDS{"cell", "page_kib", "nodes", NULL}, WORDS{"cell", NULL}, NULL};
static const Part process_part = {WORDS{"pid", "start_ticks", NULL},
                                  WORDS{"pid", "start_ticks", NULL}, NULL};
static const Part grown_part = {WORDS{"node", "size_kib", "grown_pages", "persistent_pages",
                                      "handed_pages", "regained_pages", NULL},
                                WORDS{"node", "size_kib", NULL}, NULL};
static const Part intent_part = {
    WORDS{"node", "size_kib", "before_pages", "target_pages", "others_pages", "is_handover", NULL},
    WORDS{"node", "size_kib", "before_pages", "target_pages", NULL}, NULL};
static const Inner claim_inner[] = {{"owner", &process_part},
                                    {"qemu", &process_part},
                                    {"needs", &need_part},
                                    {"placed", &need_part},
                                    {"cells", &cell_part},
                                    {"files", &file_part},
                                    {NULL, NULL}};
static const Part claim_part = {
    WORDS{"uuid",           "name",          "generation",     "state",    "owner_name",
          "owner",          "qemu",          "needs",          "placed",   "shared",
          "from_hugetlbfs", "may_hand_over", "is_handed_over", "files",    "cells",
          "device_of",      "since_s",       "file_kib",       "file_dir", NULL},
    WORDS{"generation", NULL}, claim_inner};
static const Inner document_inner[] = {
    {"grown", &grown_part}, {"intents", &intent_part}, {"claims", &claim_part}, {NULL, NULL}};
static const Part document_part = {WORDS{"format", "min_reader_format", "boot_id",
                                         "last_generation", "handover_failed", "grown", "intents",
                                         "claims", NULL},
                                   WORDS{NULL}, document_inner};

static gboolean is_known(const Part *part, const char *name)
{
    return g_strv_contains(part->known, name);
}

static JsonObject *object_of(JsonNode *node)
{
    return node != NULL && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
}

static JsonArray *array_of(JsonNode *node)
{
    return node != NULL && JSON_NODE_HOLDS_ARRAY(node) ? json_node_get_array(node) : NULL;
}

static JsonObject *element(JsonArray *array, guint i)
{
    return object_of(json_array_get_element(array, i));
}

static gboolean has_unknown(const Part *part, JsonObject *object);

static gboolean inner_has_unknown(const Part *part, JsonNode *node)
{
    JsonArray *array = array_of(node);
    if (array == NULL)
        return object_of(node) != NULL && has_unknown(part, object_of(node));
    gboolean has = FALSE;
    for (guint i = 0; i < json_array_get_length(array) && !has; i++)
        has = element(array, i) != NULL && has_unknown(part, element(array, i));
    return has;
}

static gboolean has_unknown(const Part *part, JsonObject *object)
{
    JsonObjectIter iter;
    const char *name;
    JsonNode *value;
    json_object_iter_init(&iter, object);
    while (json_object_iter_next(&iter, &name, &value))
        if (!is_known(part, name))
            return TRUE;
    for (const Inner *inner = part->inner; inner != NULL && inner->name != NULL; inner++)
        if (inner_has_unknown(inner->part, json_object_get_member(object, inner->name)))
            return TRUE;
    return FALSE;
}

gboolean hv_ledger_has_unknown(JsonObject *document)
{
    return has_unknown(&document_part, document);
}

/* Values that tell parts apart are all numbers or texts. */
static gboolean is_same_value(JsonNode *a, JsonNode *b)
{
    if (a == NULL || b == NULL || json_node_get_value_type(a) != json_node_get_value_type(b))
        return FALSE;
    if (json_node_get_value_type(a) == G_TYPE_STRING)
        return strcmp(json_node_get_string(a), json_node_get_string(b)) == 0;
    return json_node_get_value_type(a) == G_TYPE_INT64 &&
           json_node_get_int(a) == json_node_get_int(b);
}

static gboolean is_same(const Part *part, JsonObject *a, JsonObject *b)
{
    gboolean same = a != NULL && b != NULL;
    for (const char *const *name = part->identity; *name != NULL && same; name++)
        same = is_same_value(json_object_get_member(a, *name), json_object_get_member(b, *name));
    return same;
}

static void add_unknown(const Part *part, JsonObject *to, JsonObject *from);

/* Both arrays are in one order, as parts come at the end and go from anywhere. */
static void add_to_elements(const Part *part, JsonArray *to, JsonArray *from)
{
    guint at = 0, n = json_array_get_length(from);
    for (guint i = 0; i < json_array_get_length(to); i++) {
        guint found = at;
        while (found < n && !is_same(part, element(to, i), element(from, found)))
            found++;
        if (found == n)
            continue;
        add_unknown(part, element(to, i), element(from, found));
        at = found + 1;
    }
}

static void add_to_inner(const Part *part, JsonNode *to, JsonNode *from)
{
    if (array_of(to) != NULL && array_of(from) != NULL)
        add_to_elements(part, array_of(to), array_of(from));
    else if (is_same(part, object_of(to), object_of(from)))
        add_unknown(part, object_of(to), object_of(from));
}

static void add_unknown(const Part *part, JsonObject *to, JsonObject *from)
{
    JsonObjectIter iter;
    const char *name;
    JsonNode *value;
    json_object_iter_init(&iter, from);
    while (json_object_iter_next(&iter, &name, &value))
        if (!is_known(part, name))
            json_object_set_member(to, name, json_node_copy(value));
    for (const Inner *inner = part->inner; inner != NULL && inner->name != NULL; inner++)
        add_to_inner(inner->part, json_object_get_member(to, inner->name),
                     json_object_get_member(from, inner->name));
}

void hv_ledger_add_unknown(JsonObject *written, JsonObject *read)
{
    add_unknown(&document_part, written, read);
}
