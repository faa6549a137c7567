/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "page-size.h"

#include <string.h>

static gboolean read_digits(const char **text, guint64 *out_value)
{
    const char *p = *text;
    guint64 value = 0;
    if (!g_ascii_isdigit(*p))
        return FALSE;
    for (; g_ascii_isdigit(*p); p++) {
        if (!g_uint64_checked_mul(&value, value, 10) ||
            !g_uint64_checked_add(&value, value, (guint64)(*p - '0')))
            return FALSE;
    }
    *text = p;
    *out_value = value;
    return TRUE;
}

gboolean hv_parse_u64(const char *text, guint64 *out_value)
{
    guint64 value;
    if (text == NULL || !read_digits(&text, &value) || *text != '\0')
        return FALSE;
    *out_value = value;
    return TRUE;
}

/* KiB in one unit of a suffix; 0 for anything that is none. */
static guint64 suffix_kib(const char *suffix)
{
    static const char letters[] = "kmgt";
    const char *letter = strchr(letters, g_ascii_tolower(suffix[0]));
    if (letter == NULL || *letter == '\0')
        return 0;
    const char *rest = suffix + 1;
    if (*rest != '\0' && g_ascii_strcasecmp(rest, "b") != 0 && g_ascii_strcasecmp(rest, "ib") != 0)
        return 0;
    return G_GUINT64_CONSTANT(1) << (10 * (letter - letters));
}

gboolean hv_parse_size_kib(const char *text, guint64 default_unit_kib, guint64 *out_kib)
{
    guint64 value;
    if (text == NULL || !read_digits(&text, &value))
        return FALSE;
    guint64 unit_kib = *text == '\0' ? default_unit_kib : suffix_kib(text);
    return unit_kib != 0 && hv_checked_mul(value, unit_kib, out_kib);
}

gboolean hv_checked_add(guint64 a, guint64 b, guint64 *out_sum)
{
    guint64 sum;
    if (!g_uint64_checked_add(&sum, a, b))
        return FALSE;
    *out_sum = sum;
    return TRUE;
}

gboolean hv_checked_mul(guint64 a, guint64 b, guint64 *out_product)
{
    guint64 product;
    if (!g_uint64_checked_mul(&product, a, b))
        return FALSE;
    *out_product = product;
    return TRUE;
}

gboolean hv_round_up(guint64 value, guint64 step, guint64 *out_value)
{
    guint64 rest = value % step;
    if (rest == 0) {
        *out_value = value;
        return TRUE;
    }
    return hv_checked_add(value, step - rest, out_value);
}

guint64 hv_pages_for_kib(guint64 memory_kib, guint64 size_kib)
{
    return memory_kib / size_kib + (memory_kib % size_kib != 0);
}

char *hv_format_kib(guint64 kib)
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB"};
    guint unit = 0;
    while (kib != 0 && kib % 1024 == 0 && unit + 1 < G_N_ELEMENTS(units)) {
        kib /= 1024;
        unit++;
    }
    return g_strdup_printf("%" G_GUINT64_FORMAT " %s", kib, units[unit]);
}
