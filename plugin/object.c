/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "object.h"

#include "error.h"

#include <dlfcn.h>
#include <string.h>
#include <unistd.h>

char *object_find(const char *name)
{
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *directory = g_path_get_dirname(self != NULL ? self : "");
    g_autofree char *beside = g_build_filename(directory, name, NULL);
    if (self != NULL && access(beside, F_OK) == 0)
        return g_steal_pointer(&beside);
    return g_build_filename(HUGEVM_MODULE_DIR, name, NULL);
}

ObjectFunction object_load_agent(const char *symbol_name, GError **error)
{
    ObjectFunction function;
    g_autofree char *path = object_find("hugevm-agent.so");
    void *object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    void *symbol = object != NULL ? dlsym(object, symbol_name) : NULL;
    if (symbol == NULL) {
        hv_set_error(error, HV_ERROR_SYSTEM, "install libvirt's client library",
                     "cannot load the agent: %s", dlerror());
        return NULL;
    }
    memcpy(&function, &symbol, sizeof function);
    return function;
}
