/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Read in the order of the document, asked for when cells are made, checked when all
 * cells are known. What contradicts itself libvirt refuses when the domain is defined;
 * here it is refused as well, since our numbers would depend on which one counts.
 */
#include "domain-rules.h"

#include "domain-value.h"
#include "error.h"
#include "page-size.h"

#include <string.h>

typedef struct {
    guint64 size_kib;
    gboolean has_nodeset;
    HvNodeSet nodeset; /* guest cells; without the attribute empty */
} PageRule;

/* <memnode>: the host nodes of one cell. */
typedef struct {
    guint64 cell;
    HvPlacement placement;
} CellBinding;

HvRules *hv_rules_new(void)
{
    HvRules *rules = g_new0(HvRules, 1);
    rules->pages = g_array_new(FALSE, FALSE, sizeof(PageRule));
    rules->bindings = g_array_new(FALSE, FALSE, sizeof(CellBinding));
    return rules;
}

void hv_rules_free(HvRules *rules)
{
    if (rules == NULL)
        return;
    g_array_unref(rules->pages);
    g_array_unref(rules->bindings);
    g_free(rules);
}

gboolean hv_domain_has_room(const GArray *list, const char *element, GError **error)
{
    return list->len < HV_DOMAIN_MAX_LIST ||
           hv_domain_bad(error, "more than %u of <%s>", HV_DOMAIN_MAX_LIST, element);
}

/* ---- <hugepages> */

static gboolean read_page_rule(HvRules *rules, const xmlNode *page, GError **error)
{
    PageRule rule = {0};
    g_autofree char *nodeset = hv_dom_attribute(page, "nodeset");
    if (!hv_domain_has_room(rules->pages, "page", error) ||
        !hv_domain_scaled_attribute(page, "size", "the size of <page>", &rule.size_kib, error))
        return FALSE;
    if (rule.size_kib == 0)
        return hv_domain_bad(error, "the size of <page> is 0");
    if (nodeset != NULL) {
        rule.has_nodeset = TRUE;
        if (!hv_domain_nodeset(nodeset, "the nodeset of <page>", &rule.nodeset, error))
            return FALSE;
    }
    g_array_append_val(rules->pages, rule);
    return TRUE;
}

gboolean hv_rules_read_hugepages(HvRules *rules, const xmlNode *hugepages, GError **error)
{
    for (xmlNode *page = hv_dom_child(hugepages, "page"); page != NULL;
         page = hv_dom_next(page, "page"))
        if (!read_page_rule(rules, page, error))
            return FALSE;
    return TRUE;
}

/* ---- <numatune> */

/* Nodes of a <memory> or <memnode>, and what its mode makes of them. */
static gboolean read_binding(const xmlNode *node, HvPlacement *out, GError **error)
{
    HvNodeSet nodes = {0};
    g_autofree char *nodeset = hv_dom_attribute(node, "nodeset");
    g_autofree char *mode = hv_dom_attribute(node, "mode");
    if (nodeset == NULL)
        return TRUE;
    if (!hv_domain_nodeset(nodeset, "a nodeset of <numatune>", &nodes, error))
        return FALSE;
    if (mode == NULL || strcmp(mode, "strict") == 0 || strcmp(mode, "restrictive") == 0) {
        *out = (HvPlacement){.nodes = nodes};
        return TRUE;
    }
    if (strcmp(mode, "preferred") == 0 || strcmp(mode, "interleave") == 0) {
        gboolean is_preferred = strcmp(mode, "preferred") == 0;
        *out = (HvPlacement){.near = nodes,
                             .policy = is_preferred ? HV_POLICY_PREFERRED : HV_POLICY_INTERLEAVE};
        return TRUE;
    }
    g_autofree char *quoted = hv_quote(mode);
    return hv_domain_bad(error, "<numatune> has the unknown mode %s", quoted);
}

static gboolean has_binding(const HvRules *rules, guint64 cell)
{
    for (guint i = 0; i < rules->bindings->len; i++)
        if (g_array_index(rules->bindings, CellBinding, i).cell == cell)
            return TRUE;
    return FALSE;
}

static gboolean read_memnode(HvRules *rules, const xmlNode *memnode, GError **error)
{
    CellBinding binding = {0};
    g_autofree char *cell = hv_dom_attribute(memnode, "cellid");
    if (!hv_domain_has_room(rules->bindings, "memnode", error))
        return FALSE;
    if (!hv_parse_u64(cell, &binding.cell)) {
        g_autofree char *quoted = hv_quote(cell);
        return hv_domain_bad(error, "the cellid of <memnode> is %s, which is no number", quoted);
    }
    if (has_binding(rules, binding.cell))
        return hv_domain_bad(error, "two <memnode> are for the guest cell %" G_GUINT64_FORMAT,
                             binding.cell);
    if (rules->is_restrictive && !hv_dom_attribute_is(memnode, "mode", "restrictive"))
        return hv_domain_bad(error, "the mode of <memory> in <numatune> is restrictive: that of "
                                    "each <memnode> must be so, too");
    if (!read_binding(memnode, &binding.placement, error))
        return FALSE;
    g_array_append_val(rules->bindings, binding);
    return TRUE;
}

gboolean hv_rules_read_numatune(HvRules *rules, const xmlNode *numatune, GError **error)
{
    xmlNode *memory;
    if (!hv_dom_only_child(numatune, "memory", &memory, error))
        return FALSE;
    rules->is_auto_placed = hv_dom_attribute_is(memory, "placement", "auto");
    rules->is_restrictive = hv_dom_attribute_is(memory, "mode", "restrictive");
    /* libvirt ignores a nodeset beside placement='auto'. */
    if (memory != NULL && !rules->is_auto_placed && !read_binding(memory, &rules->placement, error))
        return FALSE;
    for (xmlNode *memnode = hv_dom_child(numatune, "memnode"); memnode != NULL;
         memnode = hv_dom_next(memnode, "memnode"))
        if (!read_memnode(rules, memnode, error))
            return FALSE;
    return TRUE;
}

/* ---- for cells */

/* In a guest without cells libvirt drops a nodeset that names just cell 0. */
static gboolean is_master_rule(const PageRule *rule, gboolean has_cells)
{
    return !rule->has_nodeset || (!has_cells && hv_node_set_single(&rule->nodeset) == 0);
}

guint64 hv_rules_master_page_kib(const HvRules *rules, gboolean has_cells)
{
    for (guint i = 0; i < rules->pages->len; i++) {
        const PageRule *rule = &g_array_index(rules->pages, PageRule, i);
        if (is_master_rule(rule, has_cells))
            return rule->size_kib;
    }
    return 0;
}

guint64 hv_rules_page_kib(const HvRules *rules, int cell)
{
    for (guint i = 0; i < rules->pages->len; i++) {
        const PageRule *rule = &g_array_index(rules->pages, PageRule, i);
        if (hv_node_set_contains(&rule->nodeset, cell))
            return rule->size_kib;
    }
    return 0;
}

HvPlacement hv_rules_placement(const HvRules *rules, int cell)
{
    for (guint i = 0; i < rules->bindings->len; i++) {
        const CellBinding *binding = &g_array_index(rules->bindings, CellBinding, i);
        if (cell >= 0 && binding->cell == (guint64)cell)
            return binding->placement;
    }
    return rules->placement;
}

/* ---- checks */

/* A rule's cells against those that the guest has, and those that earlier rules have taken. */
static gboolean check_nodeset(const HvNodeSet *nodeset, const HvNodeSet *cells, HvNodeSet *taken,
                              GError **error)
{
    for (int id = 0; id < HV_MAX_NODES; id++) {
        if (!hv_node_set_contains(nodeset, id))
            continue;
        if (!hv_node_set_contains(cells, id))
            return hv_domain_bad(error, "<page> names the guest cell %d, which does not exist", id);
        if (hv_node_set_contains(taken, id))
            return hv_domain_bad(error, "two <page> name the guest cell %d", id);
        hv_node_set_add(taken, id);
    }
    return TRUE;
}

static gboolean check_pages(const HvRules *rules, const HvNodeSet *cells, GError **error)
{
    const PageRule *master = NULL;
    HvNodeSet taken = {0};
    for (guint i = 0; i < rules->pages->len; i++) {
        const PageRule *rule = &g_array_index(rules->pages, PageRule, i);
        if (!is_master_rule(rule, !hv_node_set_is_any(cells))) {
            if (!check_nodeset(&rule->nodeset, cells, &taken, error))
                return FALSE;
            continue;
        }
        if (master != NULL) {
            g_autofree char *first = hv_format_kib(master->size_kib);
            g_autofree char *second = hv_format_kib(rule->size_kib);
            return hv_domain_bad(error, "two <page> are for the whole guest, of %s and of %s",
                                 first, second);
        }
        master = rule;
    }
    return TRUE;
}

static gboolean check_bindings(const HvRules *rules, const HvNodeSet *cells, GError **error)
{
    if (rules->bindings->len > 0 && rules->is_auto_placed)
        return hv_domain_bad(error, "<memnode> cannot stand beside <memory placement='auto'>");
    for (guint i = 0; i < rules->bindings->len; i++) {
        guint64 cell = g_array_index(rules->bindings, CellBinding, i).cell;
        if (cell >= HV_MAX_NODES || !hv_node_set_contains(cells, (int)cell))
            return hv_domain_bad(
                error, "<memnode> names the guest cell %" G_GUINT64_FORMAT ", which does not exist",
                cell);
    }
    return TRUE;
}

gboolean hv_rules_check(const HvRules *rules, const HvNodeSet *cells, GError **error)
{
    return check_pages(rules, cells, error) && check_bindings(rules, cells, error);
}
