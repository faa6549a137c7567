/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The objects that belong to hugevmctl: the module, and the agent that links libvirt. */
#pragma once

#include <glib.h>

/*
 * Path of an object: beside this program (a build tree), else where it was installed.
 * Never from the environment. Newly allocated.
 */
char *object_find(const char *name);

/* A function of hugevm-agent.so, which stays loaded. NULL: an error, mostly no libvirt. */
typedef void (*ObjectFunction)(void);
ObjectFunction object_load_agent(const char *symbol, GError **error);
