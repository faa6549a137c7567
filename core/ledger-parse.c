/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reading is strict: a member that is missing, of another type, negative or out
 * of place makes the whole text "damaged". Half a ledger is worse than none, since
 * grown pages that it forgot would never be given back. Missing may be only what the
 * first versions did not write yet ("later").
 */
#include "ledger-json.h"

#include "domain-xml.h"
#include "ledger-unknown.h"

#include <json-glib/json-glib.h>
#include <string.h>

#define MAX_DEPTH 16  /* the ledger's own is 5 */
#define MAX_DIGITS 19 /* of 2^63 - 1 */

/* Far beyond what starts can reach in a boot, and far enough from where numbers end. */
#define MAX_GENERATION ((guint64)1 << 62)

/* json-glib's own getters complain on stderr about a wrong type; these only say FALSE. */
static gboolean get_u64(JsonObject *object, const char *name, guint64 *out_value)
{
    JsonNode *node = json_object_get_member(object, name);
    if (node == NULL || json_node_get_value_type(node) != G_TYPE_INT64 ||
        json_node_get_int(node) < 0)
        return FALSE;
    *out_value = (guint64)json_node_get_int(node);
    return TRUE;
}

static gboolean get_boolean(JsonObject *object, const char *name, gboolean *out_value)
{
    JsonNode *node = json_object_get_member(object, name);
    if (node == NULL || json_node_get_value_type(node) != G_TYPE_BOOLEAN)
        return FALSE;
    *out_value = json_node_get_boolean(node);
    return TRUE;
}

/* As those two; absent is 0 and no: versions before the member wrote none. */
static gboolean get_later_u64(JsonObject *object, const char *name, guint64 *out_value)
{
    *out_value = 0;
    return !json_object_has_member(object, name) || get_u64(object, name, out_value);
}

static gboolean get_later_boolean(JsonObject *object, const char *name, gboolean *out_value)
{
    *out_value = FALSE;
    return !json_object_has_member(object, name) || get_boolean(object, name, out_value);
}

static gboolean get_node_id(JsonObject *object, int *out_node)
{
    guint64 value;
    if (!get_u64(object, "node", &value) || value >= HV_MAX_NODES)
        return FALSE;
    *out_node = (int)value;
    return TRUE;
}

static gboolean get_size(JsonObject *object, guint64 *out_size_kib)
{
    return get_u64(object, "size_kib", out_size_kib) && *out_size_kib > 0;
}

/* Points into the object; NULL if it is no string. */
static const char *get_text(JsonObject *object, const char *name)
{
    JsonNode *node = json_object_get_member(object, name);
    if (node == NULL || json_node_get_value_type(node) != G_TYPE_STRING)
        return NULL;
    const char *text = json_node_get_string(node);
    return g_utf8_validate(text, -1, NULL) ? text : NULL; /* half a surrogate is none */
}

/* As get_text, copied; null is a text too: none. FALSE for anything else. */
static gboolean copy_text_or_null(JsonObject *object, const char *name, char **out_text)
{
    JsonNode *node = json_object_get_member(object, name);
    if (node == NULL)
        return FALSE;
    *out_text = g_strdup(get_text(object, name));
    return *out_text != NULL || JSON_NODE_HOLDS_NULL(node);
}

static JsonObject *get_object(JsonObject *object, const char *name)
{
    JsonNode *node = json_object_get_member(object, name);
    return node != NULL && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
}

typedef gboolean (*ReadElement)(JsonObject *object, gpointer to);

/* Calls read for each object of an array member. */
static gboolean read_array(JsonObject *object, const char *name, gpointer to, ReadElement read)
{
    JsonNode *node = json_object_get_member(object, name);
    if (node == NULL || !JSON_NODE_HOLDS_ARRAY(node))
        return FALSE;
    JsonArray *array = json_node_get_array(node);
    for (guint i = 0; i < json_array_get_length(array); i++) {
        JsonNode *element = json_array_get_element(array, i);
        if (!JSON_NODE_HOLDS_OBJECT(element) || !read(json_node_get_object(element), to))
            return FALSE;
    }
    return TRUE;
}

/* As that; absent is an empty one. */
static gboolean read_later_array(JsonObject *object, const char *name, gpointer to,
                                 ReadElement read)
{
    return !json_object_has_member(object, name) || read_array(object, name, to, read);
}

static gboolean read_grown(JsonObject *object, gpointer to)
{
    HvLedger *ledger = to;
    HvGrown grown;
    if (!get_node_id(object, &grown.node) || !get_size(object, &grown.size_kib) ||
        !get_u64(object, "grown_pages", &grown.grown_pages) ||
        !get_u64(object, "persistent_pages", &grown.persistent_pages) ||
        !get_later_u64(object, "handed_pages", &grown.handed_pages) ||
        !get_later_u64(object, "regained_pages", &grown.regained_pages))
        return FALSE;
    g_array_append_val(ledger->grown, grown);
    return TRUE;
}

static gboolean read_intent(JsonObject *object, gpointer to)
{
    HvLedger *ledger = to;
    HvIntent intent;
    if (!get_node_id(object, &intent.node) || !get_size(object, &intent.size_kib) ||
        !get_u64(object, "before_pages", &intent.before_pages) ||
        !get_u64(object, "target_pages", &intent.target_pages) ||
        !get_later_u64(object, "others_pages", &intent.others_pages) ||
        !get_later_boolean(object, "is_handover", &intent.is_handover))
        return FALSE;
    g_array_append_val(ledger->intents, intent);
    return TRUE;
}

static gboolean read_process(JsonObject *claim, const char *name, HvProcess *out_process)
{
    JsonObject *object = get_object(claim, name);
    guint64 pid;
    if (object == NULL || !get_u64(object, "pid", &pid) ||
        !get_u64(object, "start_ticks", &out_process->start_ticks))
        return FALSE;
    out_process->pid = (gint64)pid;
    return TRUE;
}

static gboolean read_state(JsonObject *object, HvClaimState *out_state)
{
    const char *name = get_text(object, "state");
    for (HvClaimState state = HV_CLAIM_CLAIMED; state <= HV_CLAIM_DRAINING; state++) {
        if (g_strcmp0(name, hv_claim_state_name(state)) == 0) {
            *out_state = state;
            return TRUE;
        }
    }
    return FALSE;
}

static gboolean get_nodes(JsonObject *object, HvNodeSet *out_nodes)
{
    const char *nodes = get_text(object, "nodes");
    return nodes != NULL && (strcmp(nodes, "any") == 0 || hv_node_set_parse(nodes, out_nodes));
}

static gboolean read_need(JsonObject *object, gpointer to)
{
    GArray *needs = to;
    HvNeed need = {0};
    if (!get_size(object, &need.size_kib) || !get_u64(object, "pages", &need.pages) ||
        !get_nodes(object, &need.nodes) ||
        (json_object_has_member(object, "elastic") &&
         !get_boolean(object, "elastic", &need.is_elastic)))
        return FALSE;
    g_array_append_val(needs, need);
    return TRUE;
}

static gboolean read_cell(JsonObject *object, gpointer to)
{
    GArray *cells = to;
    HvCellRule rule = {0};
    guint64 cell;
    if (!get_u64(object, "cell", &cell) || cell > G_MAXINT ||
        !get_u64(object, "page_kib", &rule.page_kib) || !get_nodes(object, &rule.nodes))
        return FALSE;
    rule.cell = (int)cell;
    g_array_append_val(cells, rule);
    return TRUE;
}

static gboolean read_file(JsonObject *object, gpointer to)
{
    HvFileId file;
    if (!get_u64(object, "major", &file.major) || !get_u64(object, "minor", &file.minor) ||
        !get_u64(object, "inode", &file.inode))
        return FALSE;
    g_array_append_val((GArray *)to, file);
    return TRUE;
}

/* Is it written as we write it? */
static gboolean is_uuid(const char *text)
{
    g_autofree char *uuid = text != NULL ? hv_uuid_normalize(text) : NULL;
    return uuid != NULL && strcmp(uuid, text) == 0;
}

/* What not every claim has. */
static gboolean read_optional(JsonObject *object, HvClaim *claim)
{
    if (!read_later_array(object, "placed", claim->placed, read_need) ||
        !read_later_array(object, "cells", claim->cells, read_cell) ||
        !read_later_array(object, "files", claim->files, read_file))
        return FALSE;
    if (json_object_has_member(object, "file_kib")) {
        claim->file_dir = g_strdup(get_text(object, "file_dir"));
        if (!get_u64(object, "file_kib", &claim->file_kib) || claim->file_dir == NULL ||
            !g_path_is_absolute(claim->file_dir))
            return FALSE;
    }
    if (!json_object_has_member(object, "device_of"))
        return TRUE;
    claim->device_of = g_strdup(get_text(object, "device_of"));
    return is_uuid(claim->device_of) && get_u64(object, "since_s", &claim->since_s);
}

static gboolean read_claim(JsonObject *object, gpointer to)
{
    HvLedger *ledger = to;
    HvClaim *claim = g_new0(HvClaim, 1);
    claim->needs = g_array_new(FALSE, TRUE, sizeof(HvNeed));
    claim->placed = g_array_new(FALSE, TRUE, sizeof(HvNeed));
    claim->cells = g_array_new(FALSE, TRUE, sizeof(HvCellRule));
    claim->files = g_array_new(FALSE, TRUE, sizeof(HvFileId));
    claim->uuid = g_strdup(get_text(object, "uuid"));
    claim->owner_name = g_strdup(get_text(object, "owner_name"));
    g_ptr_array_add(ledger->claims, claim);
    return is_uuid(claim->uuid) && claim->owner_name != NULL &&
           copy_text_or_null(object, "name", &claim->name) &&
           get_boolean(object, "shared", &claim->shared) &&
           get_later_boolean(object, "from_hugetlbfs", &claim->from_hugetlbfs) &&
           get_later_boolean(object, "may_hand_over", &claim->may_hand_over) &&
           get_later_boolean(object, "is_handed_over", &claim->is_handed_over) &&
           get_u64(object, "generation", &claim->generation) && read_state(object, &claim->state) &&
           read_process(object, "owner", &claim->owner) &&
           read_process(object, "qemu", &claim->qemu) &&
           read_array(object, "needs", claim->needs, read_need) && read_optional(object, claim);
}

/* Behind a string's first quote: behind its last one, or the end of the text. */
static const char *skip_string(const char *p)
{
    while (*p != '\0' && *p != '"')
        p += *p == '\\' && p[1] != '\0' ? 2 : 1;
    return *p == '"' ? p + 1 : p;
}

/* Numbers that json-glib may read as something else: octal, or wrapped round. */
static const char *skip_number(const char *p, gboolean *out_is_plain)
{
    gsize n = strspn(p, "0123456789");
    *out_is_plain = n <= MAX_DIGITS && (p[0] != '0' || n == 1);
    return p + n;
}

/*
 * Is it text of the kind that we write? json-glib also takes comments, other quotes,
 * signs, hexadecimal numbers; it wraps numbers that are too long, and reads nested values
 * by recursion, so that a text which only nests would end the process.
 */
static gboolean is_plain(const char *text)
{
    guint depth = 0;
    gboolean is_good = TRUE;
    for (const char *p = text; *p != '\0' && is_good;) {
        if (*p == '"') {
            p = skip_string(p + 1);
        } else if (g_ascii_isdigit(*p)) {
            p = skip_number(p, &is_good);
        } else {
            if (*p == '[' || *p == '{')
                is_good = ++depth <= MAX_DEPTH;
            else if ((*p == ']' || *p == '}') && depth > 0)
                depth--;
            else /* also the letters of true, false and null */
                is_good = strchr(" \t\r\n,:]}truefalsn", *p) != NULL;
            p++;
        }
    }
    return is_good;
}

static gboolean add_once(GHashTable *seen, char *key)
{
    return g_hash_table_add(seen, key);
}

/* One claim of each start, one for each VM that does not drain, one entry for each pool. */
static gboolean has_duplicates(const HvLedger *ledger)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    gboolean is_new = TRUE;
    for (guint i = 0; i < ledger->claims->len && is_new; i++) {
        const HvClaim *claim = g_ptr_array_index(ledger->claims, i);
        is_new = add_once(seen, g_strdup_printf("%" G_GUINT64_FORMAT, claim->generation)) &&
                 (claim->state == HV_CLAIM_DRAINING || add_once(seen, g_strdup(claim->uuid)));
    }
    for (guint i = 0; i < ledger->grown->len && is_new; i++) {
        const HvGrown *grown = &g_array_index(ledger->grown, HvGrown, i);
        is_new = add_once(
            seen, g_strdup_printf("grown %d %" G_GUINT64_FORMAT, grown->node, grown->size_kib));
    }
    for (guint i = 0; i < ledger->intents->len && is_new; i++) {
        const HvIntent *intent = &g_array_index(ledger->intents, HvIntent, i);
        is_new = add_once(
            seen, g_strdup_printf("intent %d %" G_GUINT64_FORMAT, intent->node, intent->size_kib));
    }
    return !is_new;
}

/* Which readers it is for: before this was said, those of its own format. */
static gboolean read_formats(JsonObject *object, HvLedger *ledger)
{
    if (!get_u64(object, "format", &ledger->format))
        return FALSE;
    ledger->min_reader_format = ledger->format;
    return !json_object_has_member(object, "min_reader_format") ||
           get_u64(object, "min_reader_format", &ledger->min_reader_format);
}

HvLedgerText hv_ledger_from_json(const char *text, const char *boot_id, HvLedger **out_ledger)
{
    *out_ledger = NULL;
    g_autoptr(JsonParser) parser = json_parser_new_immutable();
    if (!is_plain(text) || !json_parser_load_from_data(parser, text, -1, NULL))
        return HV_LEDGER_TEXT_DAMAGED;
    JsonNode *root = json_parser_get_root(parser);
    g_autoptr(HvLedger) ledger = hv_ledger_new();
    if (root == NULL || !JSON_NODE_HOLDS_OBJECT(root) ||
        !read_formats(json_node_get_object(root), ledger))
        return HV_LEDGER_TEXT_DAMAGED;
    JsonObject *object = json_node_get_object(root);
    const char *written_in = get_text(object, "boot_id");
    if (written_in == NULL)
        return HV_LEDGER_TEXT_DAMAGED;
    /* another boot's pools are gone, so its format does not matter either */
    if (strcmp(written_in, boot_id) != 0) {
        *out_ledger = hv_ledger_new();
        return HV_LEDGER_TEXT_OTHER_BOOT;
    }
    if (ledger->min_reader_format > HV_LEDGER_FORMAT)
        return HV_LEDGER_TEXT_NEWER_FORMAT;

    if (!get_u64(object, "last_generation", &ledger->last_generation) ||
        !get_later_boolean(object, "handover_failed", &ledger->handover_failed) ||
        !read_array(object, "grown", ledger, read_grown) ||
        !read_array(object, "intents", ledger, read_intent) ||
        !read_array(object, "claims", ledger, read_claim) ||
        ledger->last_generation > MAX_GENERATION || has_duplicates(ledger))
        return HV_LEDGER_TEXT_DAMAGED;
    if (hv_ledger_has_unknown(object))
        ledger->as_read = json_object_ref(object);
    *out_ledger = g_steal_pointer(&ledger);
    return HV_LEDGER_TEXT_GOOD;
}
