/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A VM on a host, and what was made of it. */
#pragma once

#include "request.h"

#include <string.h>

#define GIB (1024u * 1024)
#define N_NODES 5
#define MEMORYLESS 4

typedef struct {
    HvSnapshot *snapshot;
    HvSettings *settings;
    GHashTable *agent;
    HvRequest *request;
} Case;

static inline void add_size(Case *c, guint64 size_kib, gboolean is_default)
{
    HvPageSize size = {.size_kib = size_kib, .is_default = is_default};
    g_array_append_val(c->snapshot->sizes, size);
}

/* A host of that architecture without huge pages. */
static inline Case *case_bare(const char *arch)
{
    Case *c = g_new0(Case, 1);
    c->snapshot = hv_snapshot_new();
    g_free(c->snapshot->arch);
    c->snapshot->arch = g_strdup(arch);
    c->snapshot->base_page_kib = 4;
    for (int id = 0; id < N_NODES; id++) {
        HvNode node = {.id = id, .mem_total_kib = id != MEMORYLESS ? 4 * GIB : 0};
        g_array_append_val(c->snapshot->nodes, node);
    }
    c->settings = hv_settings_new();
    c->agent = g_hash_table_new(g_str_hash, g_str_equal);
    return c;
}

/* x86_64 with 2 MiB (default) and 1 GiB pages. */
static inline Case *case_new(void)
{
    Case *c = case_bare("x86_64");
    add_size(c, 2048, TRUE);
    add_size(c, GIB, FALSE);
    return c;
}

static inline void case_free(Case *c)
{
    hv_snapshot_free(c->snapshot);
    hv_settings_free(c->settings);
    g_hash_table_unref(c->agent);
    hv_request_free(c->request);
    g_free(c);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Case, case_free)

static inline void set_property(Case *c, const char *name, const char *value)
{
    g_hash_table_insert(c->agent, (gpointer)name, (gpointer)value);
}

static inline gboolean try_request(Case *c, const char *body, const char *uuid, GError **error)
{
    g_autofree char *xml = g_strconcat("<domain><name>vm</name>", body, "</domain>", NULL);
    g_autoptr(GError) parse_error = NULL;
    g_autoptr(HvDomain) domain = hv_domain_parse(xml, strlen(xml), &parse_error);
    g_assert_no_error(parse_error);
    g_autoptr(HvProperties) properties = hv_properties_read(c->agent, domain, &parse_error);
    g_assert_no_error(parse_error);
    g_clear_pointer(&c->request, hv_request_free);
    c->request = hv_request_new(domain, properties, uuid, c->settings, c->snapshot, error);
    return c->request != NULL;
}

static inline void request(Case *c, const char *body)
{
    g_autoptr(GError) error = NULL;
    gboolean is_ok = try_request(c, body, NULL, &error);
    g_assert_no_error(error);
    g_assert_true(is_ok);
}

static inline void assert_error_of(Case *c, const char *body, HvErrorCode code, const char *says)
{
    g_autoptr(GError) error = NULL;
    g_assert_false(try_request(c, body, NULL, &error));
    g_assert_error(error, HV_ERROR, (gint)code);
    if (strstr(error->message, says) == NULL)
        g_error("\"%s\" does not say \"%s\"", error->message, says);
}

static inline void assert_need(const Case *c, guint index, guint64 size_kib, guint64 pages)
{
    g_assert_cmpuint(index, <, c->request->needs->len);
    const HvNeed *need = &g_array_index(c->request->needs, HvNeed, index);
    g_assert_cmpuint(need->size_kib, ==, size_kib);
    g_assert_cmpuint(need->pages, ==, pages);
}

static inline void assert_need_nodes(const Case *c, guint index, const char *nodes)
{
    const HvNeed *need = &g_array_index(c->request->needs, HvNeed, index);
    g_autofree char *text = hv_node_set_format(&need->nodes);
    g_assert_cmpstr(text, ==, nodes);
}

static inline void assert_refused(const Case *c, HvErrorCode code, const char *says)
{
    g_assert_nonnull(c->request->refusal);
    g_assert_cmpint((int)c->request->refusal->code, ==, (int)code);
    if (strstr(c->request->refusal->message, says) == NULL)
        g_error("\"%s\" does not say \"%s\"", c->request->refusal->message, says);
}

static inline void assert_fine(const Case *c)
{
    if (c->request->refusal != NULL)
        g_error("refused: %s", c->request->refusal->message);
}

static inline void assert_warns(const Case *c, const char *says)
{
    for (guint i = 0; i < c->request->warnings->len; i++)
        if (strstr(g_ptr_array_index(c->request->warnings, i), says) != NULL)
            return;
    g_error("no warning says \"%s\"", says);
}

static inline void assert_silent(const Case *c)
{
    if (c->request->warnings->len > 0)
        g_error("warning: %s", (char *)g_ptr_array_index(c->request->warnings, 0));
}

#define HUGE(pages) "<memoryBacking><hugepages>" pages "</hugepages></memoryBacking>"
#define HUGE_2M HUGE("<page size='2048'/>")
#define HUGE_1G HUGE("<page size='1' unit='G'/>")
#define CELLS(cells) "<cpu><numa>" cells "</numa></cpu>"
#define MIB(n) "<memory unit='MiB'>" #n "</memory>"
#define SHARER "<devices><interface type='vhostuser'/></devices>"

#define ADD(test) g_test_add_func("/request/" #test, test)
