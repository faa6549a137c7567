/* SPDX-License-Identifier: 0BSD */
/*
 * Loading hugevm.so: dlopen and negotiate. An example to copy for any C host;
 * needs nothing but libc and the public header.
 */
#pragma once

#include "hugevm/plugin.h"

#include <stddef.h>

/*
 * Opens the module at path and negotiates. host may be NULL. Returns the slots,
 * which live as long as the process, or NULL with one line in message.
 */
const struct hugevm_plugin *hugevm_load(const char *path, const struct hugevm_host *host,
                                        char *message, size_t message_bytes);
