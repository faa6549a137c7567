/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Stands for a module of a later major version, as far as a host of version 1 sees it. */
#include "hugevm/plugin.h"

#include <stdio.h>

__attribute__((visibility("default"))) int32_t hugevm_plugin_negotiate(
    const struct hugevm_host *host, const struct hugevm_plugin **out_plugin,
    struct hugevm_error *error)
{
    (void)out_plugin;
    if (host->abi_major == 2)
        return HUGEVM_OK;
    error->code = HUGEVM_ERROR_ABI_MISMATCH;
    snprintf(error->message, sizeof error->message, "the host speaks hugevm ABI %u.%u, this 2.0",
             host->abi_major, host->abi_minor);
    return HUGEVM_ERROR_ABI_MISMATCH;
}
