/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The memory devices of a VM that runs, by alias: what libvirt's events name them by. */
#pragma once

#include <glib.h>

typedef struct {
    char *xml;        /* the element <memory> */
    guint64 size_kib; /* what the guest has of it now */
} AgentMemory;

/* char * alias -> AgentMemory; of a domain XML of libvirt's. */
GHashTable *agent_memory_list(const char *domain_xml);
