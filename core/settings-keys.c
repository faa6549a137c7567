/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What each key is called, means and allows. `allowed` is what people are told; a
 * parser accepts other spellings of the same besides (yes for true, 60s for 60).
 */
#include "settings-keys.h"

#include "node-set.h"
#include "page-size.h"

#include <string.h>

#define MAX_NAME_CHARS 64
#define MAX_PERCENT 90 /* of a node: more would leave a VM nothing worth asking for */
#define MAX_TIMEOUT_SECONDS 3600
#define MAX_MISSPELT_CHARS 3 /* more than these, and it is another word */

static gboolean parse_boolean(const HvSettingsKey *key, const char *value, HvSettingsDraft *draft)
{
    static const char *const words[] = {"0", "1", "no", "yes", "false", "true", "off", "on"};
    for (guint i = 0; i < G_N_ELEMENTS(words); i++)
        if (g_ascii_strcasecmp(value, words[i]) == 0) {
            G_STRUCT_MEMBER(gboolean, draft->settings, key->field_offset) = i % 2 == 1;
            return TRUE;
        }
    return FALSE;
}

static gboolean parse_pair_count(const HvSettingsKey *key, const char *value,
                                 HvSettingsDraft *draft)
{
    (void)key;
    return hv_parse_u64(value, &draft->pair.count_pages);
}

static gboolean parse_size(const char *value, guint64 *out_kib)
{
    guint64 kib;
    if (!hv_parse_size_kib(value, 1, &kib) || kib == 0)
        return FALSE;
    *out_kib = kib;
    return TRUE;
}

static gboolean parse_pair_size(const HvSettingsKey *key, const char *value, HvSettingsDraft *draft)
{
    (void)key;
    return g_ascii_strcasecmp(value, "none") == 0 || parse_size(value, &draft->pair.size_kib);
}

static gboolean parse_node(const char *value, int *out_node)
{
    guint64 node;
    if (!hv_parse_u64(value, &node) || node >= HV_MAX_NODES)
        return FALSE;
    *out_node = (int)node;
    return TRUE;
}

/* The name reaches reports and metrics, hence no free text. */
static gboolean is_name(const char *text)
{
    gsize n = strspn(text, G_CSET_a_2_z G_CSET_A_2_Z G_CSET_DIGITS "._-");
    return n > 0 && n <= MAX_NAME_CHARS && text[n] == '\0';
}

/* One part of a reservation, such as "count:64"; each may stand there once. */
static gboolean parse_reserved_part(char *part, HvReserved *entry, gboolean *has_count)
{
    char *colon = strchr(part, ':');
    if (colon == NULL)
        return FALSE;
    *colon = '\0';
    const char *name = g_strstrip(part);
    const char *value = g_strstrip(colon + 1);
    if (strcmp(name, "size") == 0 && entry->size_kib == 0)
        return parse_size(value, &entry->size_kib);
    if (strcmp(name, "node") == 0 && entry->node < 0)
        return parse_node(value, &entry->node);
    if (strcmp(name, "process") == 0 && entry->process == NULL && is_name(value)) {
        entry->process = g_strdup(value);
        return TRUE;
    }
    if (strcmp(name, "count") != 0 || *has_count)
        return FALSE;
    *has_count = TRUE;
    return hv_parse_u64(value, &entry->count_pages);
}

/* Fills an entry, all but its name. */
static gboolean parse_reserved_parts(const char *text, HvReserved *entry)
{
    g_auto(GStrv) parts = g_strsplit(text, ",", -1);
    gboolean has_count = FALSE;
    guint64 total_kib;
    for (char **part = parts; *part != NULL; part++)
        if (!parse_reserved_part(*part, entry, &has_count))
            return FALSE;
    return entry->size_kib != 0 && has_count &&
           hv_checked_mul(entry->size_kib, entry->count_pages, &total_kib);
}

static gboolean parse_reserved_line(const char *line, GArray *reserved)
{
    HvReserved entry = {.node = -1};
    g_autofree char *name = NULL, *process = NULL;
    const char *equals = strchr(line, '=');
    if (equals != NULL) {
        name = g_strchomp(g_strndup(line, (gsize)(equals - line)));
        if (!is_name(name))
            return FALSE;
    }
    gboolean is_good = parse_reserved_parts(equals != NULL ? equals + 1 : line, &entry);
    process = entry.process;
    if (!is_good || (process != NULL && name == NULL))
        return FALSE;
    entry.process = process != NULL ? g_steal_pointer(&process) : g_strdup(name);
    entry.name = g_steal_pointer(&name);
    g_array_append_val(reserved, entry);
    return TRUE;
}

static gboolean parse_reserved(const HvSettingsKey *key, const char *value, HvSettingsDraft *draft)
{
    (void)key;
    g_auto(GStrv) lines = g_strsplit(value, "\n", -1);
    for (char **line = lines; *line != NULL; line++) {
        if (**line == '\0')
            continue;
        if (!parse_reserved_line(*line, draft->settings->reserved)) {
            draft->wrong = g_strdup(*line);
            return FALSE;
        }
    }
    return TRUE;
}

static gboolean parse_shared_memory(const HvSettingsKey *key, const char *value,
                                    HvSettingsDraft *draft)
{
    (void)key;
    draft->settings->shared_memory_auto = strcmp(value, "auto") == 0;
    return draft->settings->shared_memory_auto || strcmp(value, "explicit") == 0;
}

static gboolean parse_percent(char *text, guint *out_percent)
{
    guint64 percent;
    /* Twice is how configparser wants it written, and this is configparser's dialect. */
    for (guint i = 0; i < 2; i++)
        if (g_str_has_suffix(text, "%"))
            text[strlen(text) - 1] = '\0';
    if (!hv_parse_u64(g_strstrip(text), &percent) || percent > MAX_PERCENT)
        return FALSE;
    *out_percent = (guint)percent;
    return TRUE;
}

static gboolean parse_floor(const HvSettingsKey *key, const char *value, HvSettingsDraft *draft)
{
    (void)key;
    HvSettings *settings = draft->settings;
    g_auto(GStrv) parts = g_strsplit(value, ",", 2);
    settings->floor_node_percent = 5;
    return parts[0] != NULL &&
           hv_parse_size_kib(g_strstrip(parts[0]), 1, &settings->floor_host_kib) &&
           (parts[1] == NULL || parse_percent(g_strstrip(parts[1]), &settings->floor_node_percent));
}

static gboolean parse_timeout(const HvSettingsKey *key, const char *value, HvSettingsDraft *draft)
{
    gsize n = strlen(value);
    g_autofree char *digits = g_strndup(value, g_str_has_suffix(value, "s") ? n - 1 : n);
    guint64 seconds;
    if (!hv_parse_u64(digits, &seconds) || seconds < 1 || seconds > MAX_TIMEOUT_SECONDS)
        return FALSE;
    G_STRUCT_MEMBER(guint64, draft->settings, key->field_offset) = seconds * 1000;
    return TRUE;
}

static gboolean parse_demote(const HvSettingsKey *key, const char *value, HvSettingsDraft *draft)
{
    (void)key;
    static const char *const words[] = {
        [HV_DEMOTE_NEVER] = "never", [HV_DEMOTE_OWN] = "own", [HV_DEMOTE_ANY] = "any"};
    for (guint i = 0; i < G_N_ELEMENTS(words); i++)
        if (strcmp(value, words[i]) == 0) {
            draft->settings->demote = (HvDemote)i;
            return TRUE;
        }
    return FALSE;
}

static gboolean parse_bind_unbound(const HvSettingsKey *key, const char *value,
                                   HvSettingsDraft *draft)
{
    (void)key;
    static const char *const words[] = {[HV_BIND_NONE] = "none",
                                        [HV_BIND_SINGLE_NODE] = "single-node",
                                        [HV_BIND_PREFER] = "prefer"};
    for (guint i = 0; i < G_N_ELEMENTS(words); i++)
        if (strcmp(value, words[i]) == 0) {
            draft->settings->bind_unbound = (HvBindUnbound)i;
            return TRUE;
        }
    return FALSE;
}

static gboolean parse_handover(const HvSettingsKey *key, const char *value, HvSettingsDraft *draft)
{
    (void)key;
    draft->settings->handover_auto = strcmp(value, "auto") == 0;
    return draft->settings->handover_auto || strcmp(value, "never") == 0;
}

static gboolean parse_incoming_page_sizes(const HvSettingsKey *key, const char *value,
                                          HvSettingsDraft *draft)
{
    (void)key;
    draft->settings->adapts_incoming = strcmp(value, "adapt") == 0;
    return draft->settings->adapts_incoming || strcmp(value, "keep") == 0;
}

static gboolean parse_file_backed_memory(const HvSettingsKey *key, const char *value,
                                         HvSettingsDraft *draft)
{
    (void)key;
    guint64 mib, bytes;
    return hv_parse_u64(value, &mib) && hv_checked_mul(mib, 1024 * 1024, &bytes) &&
           hv_checked_mul(mib, 1024, &draft->settings->file_backed_kib);
}

/* The path goes into messages, and into a qemu.conf, which knows no escapes. */
static gboolean parse_memory_backing_dir(const HvSettingsKey *key, const char *value,
                                         HvSettingsDraft *draft)
{
    (void)key;
    gboolean is_plain = g_utf8_validate(value, -1, NULL) && strpbrk(value, "\"\\") == NULL;
    for (const char *p = value; is_plain && *p != '\0'; p = g_utf8_next_char(p))
        is_plain = g_unichar_isprint(g_utf8_get_char(p));
    g_clear_pointer(&draft->settings->memory_backing_dir, g_free);
    if (value[0] != '\0')
        draft->settings->memory_backing_dir = g_canonicalize_filename(value, "/");
    return is_plain && (value[0] == '\0' || g_path_is_absolute(value));
}

#define BOOLEAN_KEY(in_section, field, value)                                                      \
    .section = in_section, .name = #field, .builtin = value, .allowed = "true or false",           \
    .parse = parse_boolean, .field_offset = G_STRUCT_OFFSET(HvSettings, field)

#define TIMEOUT_KEY(key_name, field, value)                                                        \
    .section = HV_SECTION_HUGEVM, .name = key_name, .builtin = value,                              \
    .allowed = "seconds from 1 to 3600", .parse = parse_timeout,                                   \
    .field_offset = G_STRUCT_OFFSET(HvSettings, field)

const HvSettingsKey hv_settings_keys[] = {
    {BOOLEAN_KEY(HV_SECTION_PERFORMANCE, use_dynamic_hugepages, "false"), .vdsm_switch = TRUE},
    {BOOLEAN_KEY(HV_SECTION_PERFORMANCE, use_preallocated_hugepages, "true")},
    {.section = HV_SECTION_PERFORMANCE,
     .name = "reserved_hugepage_count",
     .alias = "reserved_hugepages_count",
     .builtin = "0",
     .allowed = "a number of pages",
     .parse = parse_pair_count},
    {.section = HV_SECTION_PERFORMANCE,
     .name = "reserved_hugepage_size",
     .alias = "reserved_hugepages_size",
     .builtin = "none",
     .allowed = "a page size in KiB, or with a suffix as in 2M or 1G, or none",
     .parse = parse_pair_size},
    {BOOLEAN_KEY(HV_SECTION_HUGEVM, enabled, "true")},
    {.section = HV_SECTION_HUGEVM,
     .name = "reserved",
     .builtin = "",
     .allowed =
         "one entry per line, [NAME=]size:SIZE,count:PAGES[,node:NODE][,process:PROCESS], "
         "SIZE above 0 in KiB or as in 2M, NODE from 0 to 1023, NAME and PROCESS of letters, "
         "digits, '.', '_' and '-', PROCESS only with a NAME",
     .parse = parse_reserved},
    {BOOLEAN_KEY(HV_SECTION_HUGEVM, strict_page_size, "false")},
    {.section = HV_SECTION_HUGEVM,
     .name = "shared_memory",
     .builtin = "auto",
     .allowed = "auto or explicit",
     .parse = parse_shared_memory},
    {.section = HV_SECTION_HUGEVM,
     .name = "host_memory_floor",
     .builtin = "2G,5%",
     .allowed = "SIZE[,PERCENT%], SIZE in KiB or as in 2G, PERCENT from 0 to 90",
     .parse = parse_floor,
     .raw = TRUE},
    {TIMEOUT_KEY("allocation_timeout", allocation_timeout_ms, "60")},
    {TIMEOUT_KEY("hook_timeout", hook_timeout_ms, "5")},
    {BOOLEAN_KEY(HV_SECTION_HUGEVM, drop_caches, "false")},
    {BOOLEAN_KEY(HV_SECTION_HUGEVM, compact, "true")},
    {.section = HV_SECTION_HUGEVM,
     .name = "demote",
     .builtin = "own",
     .allowed = "never, own or any",
     .parse = parse_demote},
    {.section = HV_SECTION_HUGEVM,
     .name = "bind_unbound",
     .builtin = "none",
     .allowed = "none, single-node or prefer",
     .parse = parse_bind_unbound},
    {.section = HV_SECTION_HUGEVM,
     .name = "handover",
     .builtin = "auto",
     .allowed = "auto or never",
     .parse = parse_handover},
    {.section = HV_SECTION_HUGEVM,
     .name = "incoming_page_sizes",
     .builtin = "keep",
     .allowed = "keep or adapt",
     .parse = parse_incoming_page_sizes},
    {.section = HV_SECTION_HUGEVM,
     .name = "file_backed_memory",
     .builtin = "0",
     .allowed = "a number of MiB, or 0",
     .parse = parse_file_backed_memory},
    {.section = HV_SECTION_HUGEVM,
     .name = "memory_backing_dir",
     .builtin = "",
     .allowed = "an absolute path, without quotes and backslashes",
     .parse = parse_memory_backing_dir},
};

const guint hv_settings_n_keys = G_N_ELEMENTS(hv_settings_keys);

gboolean hv_settings_key_matches(const HvSettingsKey *key, const char *name)
{
    return strcmp(key->name, name) == 0 || (key->alias != NULL && strcmp(key->alias, name) == 0);
}

const HvSettingsKey *hv_settings_find_key(const char *section, const char *name)
{
    for (guint i = 0; i < hv_settings_n_keys; i++) {
        const HvSettingsKey *key = &hv_settings_keys[i];
        if (strcmp(key->section, section) == 0 && hv_settings_key_matches(key, name))
            return key;
    }
    return NULL;
}

/* Edit distance. */
static guint distance(const char *a, const char *b)
{
    guint n = (guint)strlen(b);
    g_autofree guint *row = g_new(guint, n + 1);
    for (guint j = 0; j <= n; j++)
        row[j] = j;
    for (guint i = 1; a[i - 1] != '\0'; i++) {
        guint diagonal = row[0];
        row[0] = i;
        for (guint j = 1; j <= n; j++) {
            guint replaced = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            row[j] = MIN(replaced, MIN(row[j], row[j - 1]) + 1);
        }
    }
    return row[n];
}

char *hv_settings_suggest(const char *name)
{
    if (hv_settings_find_key(HV_SECTION_PERFORMANCE, name) != NULL)
        return g_strdup_printf("%s belongs in the section [%s]", name, HV_SECTION_PERFORMANCE);
    for (guint i = 0; i < hv_settings_n_keys; i++) {
        const HvSettingsKey *key = &hv_settings_keys[i];
        if (strcmp(key->section, HV_SECTION_HUGEVM) == 0 &&
            distance(name, key->name) <= MAX_MISSPELT_CHARS)
            return g_strdup_printf("did you mean %s?", key->name);
    }
    return NULL;
}
