/* SPDX-License-Identifier: 0BSD */
#include "loader.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

const struct hugevm_plugin *hugevm_load(const char *path, const struct hugevm_host *host,
                                        char *message, size_t message_bytes)
{
    const struct hugevm_plugin *plugin = NULL;
    struct hugevm_error error = {.size = sizeof error};
    hugevm_plugin_negotiate_function negotiate;

    void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (module == NULL) {
        snprintf(message, message_bytes, "cannot load %s: %s", path, dlerror());
        return NULL;
    }
    /* ISO C has no conversion from an object pointer to a function's; POSIX has */
    void *symbol = dlsym(module, HUGEVM_NEGOTIATE_SYMBOL);
    memcpy(&negotiate, &symbol, sizeof negotiate);
    if (symbol == NULL) {
        snprintf(message, message_bytes, "%s is no hugevm module", path);
        return NULL;
    }
    if (negotiate(host, &plugin, &error) != HUGEVM_OK) {
        snprintf(message, message_bytes, "%s refuses: %s", path, error.message);
        return NULL;
    }
    return plugin;
}
