/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation: three edits of one text.
 *
 * 1. The properties go into the metadata element, and what an earlier call put into the XML for
 *    the old ones goes out (domain-metadata.c).
 * 2. The result is planned as a start would be, without taking anything, and gets the edits of that
 *    plan. So whatever a start would refuse is refused here, by the same words.
 * 3. What 2 has added is noted in the metadata element, for the next call.
 *
 * Everything in between lives in memory: a failure leaves the VM as it was.
 */
#include "define.h"

#include "define-changes.h"
#include "domain-edit.h"
#include "domain-metadata.h"
#include "error.h"
#include "mounts.h"
#include "page-size.h"

#include <string.h>

void hv_definition_free(HvDefinition *definition)
{
    if (definition == NULL)
        return;
    g_free(definition->xml);
    g_free(definition->uuid);
    g_free(definition->name);
    g_free(definition->hugepages);
    g_free(definition->shared);
    g_clear_pointer(&definition->changes, g_ptr_array_unref);
    g_clear_pointer(&definition->warnings, g_ptr_array_unref);
    g_free(definition);
}

static void add_text(GPtrArray *texts, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void add_text(GPtrArray *texts, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_ptr_array_add(texts, g_strdup_vprintf(format, args));
    va_end(args);
}

/* What hv_define() works on; all borrowed. */
typedef struct {
    const HvAgent *agent;
    const HvWish *wish;
    const HvProperties *properties; /* as they are to be */
    GPtrArray *warnings;
} Define;

static gboolean is_off(const HvProperties *properties)
{
    return properties->sizes == HV_SIZES_NAMED && properties->hugepages_kib == 0;
}

/* ---- the wish */

/* oVirt's engine writes its element anew at each start, and it counts before ours. */
static gboolean check_not_ovirts(const HvDomain *domain, const char *name, const char *value,
                                 GError **error)
{
    if (value == NULL || !g_hash_table_contains(domain->ovirt_custom, name))
        return TRUE;
    hv_set_error(error, HV_ERROR_CONFLICT, "change it in oVirt, or remove it from that element",
                 "the VM has the property %s in oVirt's metadata, which counts before hugevm's",
                 name);
    return FALSE;
}

/* The value to write: "" for off, NULL for as it stands. Newly allocated. */
static char *hugepages_to_write(const HvWish *wish, const HvProperties *properties)
{
    if (wish->hugepages == NULL)
        return NULL;
    if (properties->sizes != HV_SIZES_NAMED)
        return g_strdup(properties->sizes == HV_SIZES_ANY ? "any" : "large");
    return properties->hugepages_kib != 0 ? g_strstrip(g_strdup(wish->hugepages)) : g_strdup("");
}

static const char *name_of_shared(HvShared shared)
{
    static const char *const names[] = {
        [HV_SHARED_UNSET] = "", [HV_SHARED_NO] = "false", [HV_SHARED_YES] = "true"};
    return names[shared];
}

/* What the properties will be: the wish counts as an agent's word does at a start. */
static HvProperties *read_wish(const HvDomain *domain, const HvWish *wish, GError **error)
{
    g_autoptr(GHashTable) agent = g_hash_table_new(g_str_hash, g_str_equal);
    gboolean is_off = wish->hugepages != NULL && g_ascii_strcasecmp(wish->hugepages, "off") == 0;
    if (wish->hugepages != NULL)
        g_hash_table_insert(agent, (gpointer) "hugepages",
                            (gpointer)(is_off ? "" : wish->hugepages));
    if (wish->shared != NULL)
        g_hash_table_insert(agent, (gpointer) "hugepages_shared", (gpointer)wish->shared);
    if (!check_not_ovirts(domain, "hugepages", wish->hugepages, error) ||
        !check_not_ovirts(domain, "hugepages_shared", wish->shared, error))
        return NULL;
    return hv_properties_read(agent, domain, error);
}

gboolean hv_wish_check(const HvWish *wish, GError **error)
{
    static const char any_vm[] = "<domain><memory>1</memory></domain>";
    g_autoptr(HvDomain) domain = hv_domain_parse(any_vm, strlen(any_vm), error);
    g_autoptr(HvProperties) properties = domain != NULL ? read_wish(domain, wish, error) : NULL;
    return properties != NULL;
}

/* ---- what can never be */

static guint64 memory_of_nodes_kib(const HvSnapshot *snapshot, const HvNodeSet *nodes)
{
    guint64 sum_kib = 0;
    for (guint i = 0; i < snapshot->nodes->len; i++) {
        const HvNode *node = &g_array_index(snapshot->nodes, HvNode, i);
        if (hv_node_set_is_any(nodes) || hv_node_set_contains(nodes, node->id))
            sum_kib = hv_plus(sum_kib, node->mem_total_kib);
    }
    return sum_kib;
}

static gboolean check_fits_host(const Define *define, const GArray *needs, GError **error)
{
    const HvNodeSet any = {0};
    guint64 sum_kib = 0;
    g_autoptr(HvSnapshot) snapshot = hv_snapshot_read(define->agent->root, error);
    if (snapshot == NULL)
        return FALSE;
    for (guint i = 0; i <= needs->len; i++) { /* the last round is for all together */
        const HvNeed *need = i < needs->len ? &g_array_index(needs, HvNeed, i) : NULL;
        guint64 need_kib = sum_kib;
        if (need != NULL && !hv_checked_mul(need->pages, need->size_kib, &need_kib))
            need_kib = G_MAXUINT64;
        sum_kib = hv_plus(sum_kib, need != NULL ? need_kib : 0);
        guint64 memory_kib = memory_of_nodes_kib(snapshot, need != NULL ? &need->nodes : &any);
        if (need_kib <= memory_kib)
            continue;
        g_autofree char *wanted = hv_format_kib(need_kib);
        g_autofree char *there = hv_format_kib(memory_kib);
        hv_set_error(
            error, HV_ERROR_SHORTAGE, "give it less memory, or other nodes",
            "the VM can never start here: it needs %s of huge pages, and %s %s in all", wanted,
            need != NULL && !hv_node_set_is_any(&need->nodes) ? "the nodes that it is bound to have"
                                                              : "this host has",
            there);
        return FALSE;
    }
    return TRUE;
}

static void warn_of_mounts(const Define *define, const HvRequest *request)
{
    guint64 last_kib = 0;
    for (guint i = 0; request->needs_mount && i < request->needs->len; i++) {
        g_autoptr(GError) local = NULL;
        guint64 size_kib = g_array_index(request->needs, HvNeed, i).size_kib;
        if (size_kib == last_kib ||
            hv_mounts_check(define->agent->root, size_kib, HV_LIBVIRT_DAEMON, &local))
            continue;
        g_autofree char *message = hv_error_message(local);
        add_text(define->warnings, "before its start: %s: %s", message, hv_error_hint(local));
        last_kib = size_kib;
    }
}

/* A start that would pass it by leaves alone what the property asks for. */
static gboolean check_switched_on(const Define *define, GError **error)
{
    if (is_off(define->properties))
        return TRUE;
    hv_set_error(error, HV_ERROR_CONFLICT, "set enabled = true, or ask for hugepages=off",
                 "hugevm is switched off (enabled = false in [hugevm]): the VM would get no pages "
                 "from it");
    return FALSE;
}

/* Too few pages now: a warning, unless something was to be chosen by what there is. */
static gboolean pass_refusal(const Define *define, const HvOutcome *outcome, GError **error)
{
    const HvRefusal *refusal = outcome->plan->refusal;
    if (outcome->request->open.sizes->len > 0) {
        hv_set_error(error, refusal->code,
                     "name a size, as hugepages=2M, or try again when there are pages",
                     "no page size can be chosen now: %s", refusal->message);
        return FALSE;
    }
    add_text(define->warnings, "it could not start now: %s", refusal->message);
    if (outcome->request->open.bind != HV_BIND_NONE)
        add_text(define->warnings, "no host node was chosen for it (bind_unbound)");
    return TRUE;
}

/* Refusals that pass are warnings here. */
static gboolean check_plan(const Define *define, const HvOutcome *outcome, GError **error)
{
    const HvRequest *request = outcome->request;
    for (guint i = 0; i < outcome->warnings->len; i++)
        add_text(define->warnings, "%s", (const char *)g_ptr_array_index(outcome->warnings, i));
    if (request == NULL)
        return check_switched_on(define, error);
    if (request->refusal != NULL) {
        hv_set_error(error, request->refusal->code, request->refusal->hint, "%s",
                     request->refusal->message);
        return FALSE;
    }
    if (!check_fits_host(define, request->needs, error))
        return FALSE;
    if (outcome->plan->refusal != NULL && !pass_refusal(define, outcome, error))
        return FALSE;
    warn_of_mounts(define, request);
    return TRUE;
}

/* ---- the edits */

/* A text, on its way from one edit to the next. */
typedef struct {
    char *bytes;
    gsize length;
    HvDoc doc;
} Draft;

static void draft_clear(Draft *draft)
{
    hv_doc_clear(&draft->doc);
    g_clear_pointer(&draft->bytes, g_free);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Draft, draft_clear)

/* Takes the bytes; NULL is the error of whoever should have made them. */
static gboolean draft_init(Draft *draft, char *bytes, gsize length, GError **error)
{
    draft->bytes = bytes;
    draft->length = length;
    return bytes != NULL && hv_doc_parse(bytes, length, &draft->doc, error);
}

static gboolean write_properties(const Define *define, const HvDoc *original, Draft *out,
                                 GError **error)
{
    gsize length = 0;
    const HvWish *wish = define->wish;
    g_autofree char *hugepages = hugepages_to_write(wish, define->properties);
    const HvMetadataEdit edit = {
        .hugepages = hugepages,
        .shared = wish->shared != NULL ? name_of_shared(define->properties->shared) : NULL,
        .takes_out = TRUE,
        .replaces_pages = wish->replaces_pages && wish->hugepages != NULL};
    char *text = hv_metadata_edit(original, &edit, &length, error);
    return draft_init(out, text, length, error);
}

/* What a start would add: only the plan knows what it chooses. */
static gboolean write_edits(const Define *define, const Draft *draft, Draft *out, GError **error)
{
    static const HvDomainEdit nothing;
    gsize length = 0;
    const HvVm vm = {.xml = draft->bytes,
                     .xml_bytes = draft->length,
                     .is_kept = TRUE,
                     .versions = define->wish->versions};
    g_autoptr(HvOutcome) outcome = hv_lifecycle_plan(define->agent, &vm, error);
    if (outcome == NULL || !check_plan(define, outcome, error))
        return FALSE;
    char *text = hv_domain_edit(draft->doc.domain, draft->bytes, draft->length,
                                outcome->request != NULL ? &outcome->request->edit : &nothing,
                                &length, error);
    return draft_init(out, text, length, error);
}

static gboolean write_note(const HvDoc *before, const HvDoc *after, Draft *out, GError **error)
{
    gsize length = 0;
    g_auto(HvAdded) added = hv_added_between(before, after);
    const HvMetadataEdit edit = {.added = &added};
    char *text = hv_metadata_edit(after, &edit, &length, error);
    return draft_init(out, text, length, error);
}

/* ---- what is told */

/* Where the XML does not say what the properties ask for, and nobody refused it. */
static void warn_of_properties(const Define *define, const HvDoc *after)
{
    g_auto(HvAdded) is = hv_added_describe(after);
    g_auto(HvAdded) by_us = hv_metadata_added(after);
    gboolean is_open = define->properties->sizes != HV_SIZES_NAMED;
    if (is_open && by_us.pages != NULL)
        add_text(define->warnings,
                 "libvirt's hook cannot choose a page size at a start: it is chosen now, and anew "
                 "by each hugevmctl set");
    else if (is_open && is.pages != NULL)
        add_text(define->warnings, "the page sizes that the domain XML names stay as they are");
    if (define->properties->shared == HV_SHARED_YES && is.pages == NULL && is.files == NULL)
        add_text(define->warnings, "the property shared has no effect without huge pages");
}

/* Off is written as nothing, so a start will not warn of it. */
static void warn_of_off(const Define *define)
{
    const GPtrArray *warnings = define->properties->warnings;
    if (define->wish->hugepages == NULL || !is_off(define->properties))
        return;
    for (guint i = 0; i < warnings->len; i++)
        add_text(define->warnings, "%s", (const char *)g_ptr_array_index(warnings, i));
}

/* Off, but what is left is somebody else's. */
static gboolean check_off(const Define *define, const HvDoc *after, GError **error)
{
    if (define->wish->hugepages == NULL || !is_off(define->properties) ||
        !after->domain->has_hugepages)
        return TRUE;
    g_auto(HvAdded) left = hv_added_describe(after);
    hv_set_error(error, HV_ERROR_CONFLICT, "remove <hugepages> from the domain XML",
                 "hugepages=off, but the domain XML has <hugepages>%s, which hugevm has not put in",
                 hv_added_is_by_cell(&left) ? " for single guest cells" : "");
    return FALSE;
}

static gboolean same_added(HvAdded a, HvAdded b)
{
    gboolean is_same = g_strcmp0(a.pages, b.pages) == 0 && g_strcmp0(a.shared, b.shared) == 0 &&
                       g_strcmp0(a.numatune, b.numatune) == 0 && g_strcmp0(a.files, b.files) == 0;
    hv_added_clear(&a);
    hv_added_clear(&b);
    return is_same;
}

static gboolean same_properties(GHashTable *a, GHashTable *b)
{
    GHashTableIter iter;
    gpointer name, value, other;
    g_hash_table_iter_init(&iter, a);
    while (g_hash_table_iter_next(&iter, &name, &value))
        if (!g_hash_table_lookup_extended(b, name, NULL, &other) || g_strcmp0(value, other) != 0)
            return FALSE;
    return g_hash_table_size(a) == g_hash_table_size(b);
}

/* libvirt's rendering has an order of its own: what went out and in again may be elsewhere. */
static gboolean says_the_same(const HvDoc *a, const HvDoc *b)
{
    return same_properties(a->domain->hugevm_custom, b->domain->hugevm_custom) &&
           same_added(hv_added_describe(a), hv_added_describe(b)) &&
           same_added(hv_metadata_added(a), hv_metadata_added(b));
}

static HvDefinition *describe(const HvDoc *original, Draft *result)
{
    HvDefinition *definition = g_new0(HvDefinition, 1);
    definition->is_changed = !says_the_same(original, &result->doc);
    definition->uuid = g_strdup(result->doc.domain->uuid);
    definition->name = g_strdup(result->doc.domain->name);
    definition->hugepages = hv_own_hugepages(result->doc.domain);
    definition->shared = hv_own_shared(result->doc.domain);
    definition->changes = hv_define_changes(original, &result->doc);
    if (definition->is_changed) {
        definition->xml_bytes = result->length;
        definition->xml = g_steal_pointer(&result->bytes);
    } else {
        definition->xml_bytes = original->text.length;
        definition->xml = g_strndup(original->text.bytes, original->text.length);
    }
    return definition;
}

HvDefinition *hv_define(const HvAgent *agent, const char *xml, gsize xml_bytes, const HvWish *wish,
                        GError **error)
{
    g_auto(HvDoc) original = {0};
    g_auto(Draft) with_properties = {0};
    g_auto(Draft) edited = {0};
    g_auto(Draft) noted = {0};
    g_autoptr(GPtrArray) warnings = g_ptr_array_new_with_free_func(g_free);
    if (!hv_doc_parse(xml, xml_bytes, &original, error))
        return NULL;
    g_autoptr(HvProperties) properties = read_wish(original.domain, wish, error);
    const Define define = {agent, wish, properties, warnings};
    if (properties == NULL || !write_properties(&define, &original, &with_properties, error) ||
        !check_off(&define, &with_properties.doc, error) ||
        !write_edits(&define, &with_properties, &edited, error) ||
        !write_note(&with_properties.doc, &edited.doc, &noted, error))
        return NULL;
    warn_of_off(&define);
    warn_of_properties(&define, &noted.doc);
    HvDefinition *definition = describe(&original, &noted);
    definition->warnings = g_steal_pointer(&warnings);
    return definition;
}
