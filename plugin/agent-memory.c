/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent-memory.h"

#include <libxml/parser.h>
#include <libxml/tree.h>
#include <string.h>

static void memory_free(gpointer data)
{
    AgentMemory *memory = data;
    g_free(memory->xml);
    g_free(memory);
}

static xmlNodePtr child_of(xmlNodePtr node, const char *name)
{
    xmlNodePtr child = node != NULL ? xmlFirstElementChild(node) : NULL;
    while (child != NULL && strcmp((const char *)child->name, name) != 0)
        child = xmlNextElementSibling(child);
    return child;
}

/* libvirt writes all sizes in KiB. A virtio-mem has <current>, everything else is there in full. */
static guint64 size_of(xmlNodePtr memory)
{
    xmlNodePtr target = child_of(memory, "target");
    xmlNodePtr size = child_of(target, "current");
    xmlChar *text = xmlNodeGetContent(size != NULL ? size : child_of(target, "size"));
    guint64 size_kib = text != NULL ? g_ascii_strtoull((const char *)text, NULL, 10) : 0;
    xmlFree(text);
    return size_kib;
}

static char *xml_of(xmlDocPtr document, xmlNodePtr node)
{
    xmlBufferPtr buffer = xmlBufferCreate();
    char *xml = NULL;
    if (buffer != NULL && xmlNodeDump(buffer, document, node, 0, 0) > 0)
        xml = g_strdup((const char *)xmlBufferContent(buffer));
    if (buffer != NULL)
        xmlBufferFree(buffer);
    return xml;
}

static void add(GHashTable *devices, xmlDocPtr document, xmlNodePtr node)
{
    xmlNodePtr alias = child_of(node, "alias");
    xmlChar *name = alias != NULL ? xmlGetProp(alias, (const xmlChar *)"name") : NULL;
    char *xml = name != NULL ? xml_of(document, node) : NULL;
    if (xml != NULL) {
        AgentMemory *memory = g_new0(AgentMemory, 1);
        *memory = (AgentMemory){xml, size_of(node)};
        g_hash_table_replace(devices, g_strdup((const char *)name), memory);
    }
    xmlFree(name);
}

GHashTable *agent_memory_list(const char *domain_xml)
{
    GHashTable *devices = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, memory_free);
    xmlDocPtr document =
        xmlReadMemory(domain_xml, (int)MIN(strlen(domain_xml), G_MAXINT), NULL, NULL,
                      XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
    xmlNodePtr node = xmlFirstElementChild(
        child_of(document != NULL ? xmlDocGetRootElement(document) : NULL, "devices"));
    for (; node != NULL; node = xmlNextElementSibling(node))
        if (strcmp((const char *)node->name, "memory") == 0)
            add(devices, document, node);
    xmlFreeDoc(document);
    return devices;
}
