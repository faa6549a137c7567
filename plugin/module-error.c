/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "module-private.h"

#include "error.h"

#include <string.h>

static int32_t abi_code(const GError *error)
{
    static const int32_t codes[] = {
        [HV_ERROR_INVALID] = HUGEVM_ERROR_INVALID_ARGUMENT,
        [HV_ERROR_PROPERTY] = HUGEVM_ERROR_BAD_PROPERTY,
        [HV_ERROR_XML] = HUGEVM_ERROR_BAD_XML,
        [HV_ERROR_CONFIG] = HUGEVM_ERROR_BAD_CONFIG,
        [HV_ERROR_CONFLICT] = HUGEVM_ERROR_CONFLICT,
        [HV_ERROR_SHORTAGE] = HUGEVM_ERROR_SHORTAGE,
        [HV_ERROR_TIMEOUT] = HUGEVM_ERROR_TIMEOUT,
        [HV_ERROR_CANCELLED] = HUGEVM_ERROR_CANCELLED,
        [HV_ERROR_PERMISSION] = HUGEVM_ERROR_PERMISSION,
        [HV_ERROR_LEDGER] = HUGEVM_ERROR_LEDGER,
        [HV_ERROR_SYSTEM] = HUGEVM_ERROR_SYSTEM,
    };
    if (error->domain != HV_ERROR || (guint)error->code >= G_N_ELEMENTS(codes))
        return HUGEVM_ERROR_SYSTEM;
    return codes[error->code];
}

/* Copies text into a fixed field, cut at a character's boundary. */
static void copy_text(char *to, gsize to_bytes, const char *from)
{
    const char *text = from != NULL ? from : "";
    gsize n = strlen(text);
    if (n >= to_bytes) {
        const char *cut = g_utf8_find_prev_char(text, text + to_bytes);
        n = cut != NULL ? (gsize)(cut - text) : 0;
    }
    memcpy(to, text, n);
    to[n] = '\0';
}

int32_t module_fail(struct hugevm_error *error, int32_t code, const char *message, const char *hint)
{
    struct hugevm_error full = {.size = sizeof full, .code = code};
    if (error == NULL || error->size < sizeof error->size)
        return code;
    copy_text(full.message, sizeof full.message, message);
    copy_text(full.hint, sizeof full.hint, hint);
    full.size = error->size;
    gsize bytes = MIN(sizeof full, error->size);
    memcpy(error, &full, bytes);
    if (bytes > offsetof(struct hugevm_error, message))
        ((char *)error)[bytes - 1] = '\0'; /* a text that their size cuts off ends all the same */
    return code;
}

int32_t module_fail_with(struct hugevm_error *error, GError *cause)
{
    g_autoptr(GError) owned = cause;
    g_autofree char *message = hv_error_message(owned);
    return module_fail(error, abi_code(owned), message, hv_error_hint(owned));
}

int32_t module_fail_invalid(struct hugevm_error *error, const char *message)
{
    return module_fail(error, HUGEVM_ERROR_INVALID_ARGUMENT, message, NULL);
}

gboolean module_take_struct(void *to, gsize to_bytes, const void *from)
{
    uint32_t size;
    memcpy(&size, from, sizeof size);
    if (size < sizeof size)
        return FALSE;
    memset(to, 0, to_bytes);
    memcpy(to, from, MIN(size, to_bytes));
    for (gsize i = to_bytes; i < size; i++)
        if (((const char *)from)[i] != 0)
            return FALSE;
    return TRUE;
}
