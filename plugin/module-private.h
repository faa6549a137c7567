/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the files of the module share: handles, results, errors and what a host passes in. */
#pragma once

#include "hugevm/plugin.h"

#include "lifecycle.h"

struct hugevm_handle {
    struct hugevm_host host;
    HvAgent *agent;
};

struct hugevm_result {
    HvOutcome *outcome;
    char *json;
};

/* Fills as much of the host's struct as the host has (NULL: nothing), and returns the code. */
int32_t module_fail(struct hugevm_error *error, int32_t code, const char *message,
                    const char *hint);
int32_t module_fail_with(struct hugevm_error *error, GError *cause); /* takes the cause */
int32_t module_fail_invalid(struct hugevm_error *error, const char *message);

/*
 * Takes in a struct that begins with its size: what both sides know, the rest of
 * ours zero. FALSE: no size, or the host set something that we do not know.
 */
gboolean module_take_struct(void *to, gsize to_bytes, const void *from);

/* Makes a result of an outcome, which it owns. */
int32_t module_give_result(HvOutcome *outcome, struct hugevm_result **out_result);

/* Slots of the table; see plugin.h. */
int32_t module_get_caps(struct hugevm_handle *handle, struct hugevm_result **out_result,
                        struct hugevm_error *error);
int32_t module_get_stats(struct hugevm_handle *handle, struct hugevm_result **out_result,
                         struct hugevm_error *error);
const char *module_result_domain_xml(const struct hugevm_result *result, uint64_t *out_bytes);
int32_t module_result_xml_changed(const struct hugevm_result *result);
const char *module_result_uuid(const struct hugevm_result *result);
uint64_t module_result_generation(const struct hugevm_result *result);
const char *module_result_json(const struct hugevm_result *result);
uint64_t module_result_warning_count(const struct hugevm_result *result);
const char *module_result_warning(const struct hugevm_result *result, uint64_t index);
void module_result_free(struct hugevm_result *result);
