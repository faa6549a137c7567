/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reads the configuration files into one list of entries and lets the table of
 * keys pick the last entry of each key. The built-in values are the first entries
 * of that list, as in VDSM: so any entry of the same section overrides one, while
 * [DEFAULT] never does and only serves %(references)s.
 */
#include "settings.h"

#include "conf-file.h"
#include "error.h"
#include "page-size.h"
#include "settings-files.h"
#include "settings-keys.h"

#include <string.h>

#define MAX_FILE_BYTES (1024 * 1024)
#define VDSM_PRESENT "/usr/share/vdsm"

typedef struct {
    HvSettingsDraft draft;
    GPtrArray *entries; /* HvConfEntry: built in, then VDSM's files, then hugevm's */
    guint n_builtin;
    guint vdsm_end; /* entries before it are built in or from VDSM's files */
    gboolean vdsm_present;
} Loader;

static void origin_free(gpointer data)
{
    HvSettingOrigin *origin = data;
    g_free(origin->section);
    g_free(origin->key);
    g_free(origin->value);
    g_free(origin->file);
    g_free(origin);
}

static void reserved_clear(gpointer data)
{
    HvReserved *reserved = data;
    g_free(reserved->name);
    g_free(reserved->process);
}

static HvSettings *settings_alloc(void)
{
    HvSettings *settings = g_new0(HvSettings, 1);
    settings->reserved = g_array_new(FALSE, TRUE, sizeof(HvReserved));
    g_array_set_clear_func(settings->reserved, reserved_clear);
    settings->origins = g_ptr_array_new_with_free_func(origin_free);
    settings->warnings = g_ptr_array_new_with_free_func(g_free);
    return settings;
}

HvMemoryDir *hv_settings_memory_dir(const HvSettings *settings, const HvRoot *root)
{
    return settings->enabled && settings->file_backed_kib > 0
               ? hv_memory_dir_read(root, settings->memory_backing_dir)
               : NULL;
}

void hv_settings_free(HvSettings *settings)
{
    if (settings == NULL)
        return;
    g_array_unref(settings->reserved);
    g_ptr_array_unref(settings->origins);
    g_ptr_array_unref(settings->warnings);
    g_free(settings->memory_backing_dir);
    g_free(settings);
}

static void loader_init(Loader *loader)
{
    *loader = (Loader){.draft = {.settings = settings_alloc(), .pair = {.node = -1}},
                       .entries = hv_conf_entries_new()};
    for (guint i = 0; i < hv_settings_n_keys; i++) {
        HvConfEntry *entry = g_new0(HvConfEntry, 1);
        entry->section = g_strdup(hv_settings_keys[i].section);
        entry->key = g_strdup(hv_settings_keys[i].name);
        entry->value = g_strdup(hv_settings_keys[i].builtin);
        g_ptr_array_add(loader->entries, entry);
    }
    loader->n_builtin = loader->vdsm_end = loader->entries->len;
}

static void loader_clear(Loader *loader)
{
    hv_settings_free(loader->draft.settings);
    g_free(loader->draft.wrong);
    g_ptr_array_unref(loader->entries);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Loader, loader_clear)

/* A path fit for a message: as it is, unless it holds what could garble a terminal. */
static char *shown_path(char *path)
{
    gboolean plain = g_utf8_validate(path, -1, NULL);
    for (const char *p = path; plain && *p != '\0'; p = g_utf8_next_char(p))
        plain = g_unichar_isprint(g_utf8_get_char(p));
    if (plain)
        return path;
    char *quoted = hv_quote(path);
    g_free(path);
    return quoted;
}

/* To whoever configures, a file that cannot be read is an error of the configuration. */
static void propagate_read_error(GError **error, GError *local)
{
    if (g_error_matches(local, HV_ERROR, HV_ERROR_SYSTEM))
        local->code = HV_ERROR_CONFIG;
    g_propagate_error(error, local);
}

static gboolean read_file(Loader *loader, const HvRoot *root, const char *path, gboolean must_exist,
                          GError **error)
{
    GError *local = NULL;
    g_autofree char *text = hv_root_read_text(root, path, MAX_FILE_BYTES, &local);
    g_autofree char *shown = shown_path(hv_root_path(root, path));
    if (text != NULL)
        return hv_conf_parse(text, strlen(text), shown, loader->entries, error);
    if (!g_error_matches(local, G_FILE_ERROR, G_FILE_ERROR_NOENT)) {
        propagate_read_error(error, local);
        return FALSE;
    }
    g_error_free(local);
    if (must_exist)
        hv_set_error(error, HV_ERROR_CONFIG, NULL, "there is no configuration file %s", shown);
    return !must_exist;
}

static gboolean read_component(Loader *loader, const HvRoot *root, const char *component,
                               GError **error)
{
    GError *local = NULL;
    g_autoptr(GPtrArray) paths =
        hv_settings_files(root, component, loader->draft.settings->warnings, &local);
    if (paths == NULL) {
        propagate_read_error(error, local);
        return FALSE;
    }
    for (guint i = 0; i < paths->len; i++)
        if (!read_file(loader, root, g_ptr_array_index(paths, i), FALSE, error))
            return FALSE;
    return TRUE;
}

static gboolean read_standard_files(Loader *loader, const HvRoot *root, GError **error)
{
    loader->vdsm_present = hv_root_exists(root, VDSM_PRESENT);
    if (!read_component(loader, root, "vdsm", error))
        return FALSE;
    loader->vdsm_end = loader->entries->len;
    return read_component(loader, root, "hugevm", error);
}

static gboolean read_named_files(Loader *loader, const char *const *files, GError **error)
{
    g_autoptr(HvRoot) machine = hv_root_new(NULL);
    for (; *files != NULL; files++)
        if (!read_file(loader, machine, *files, TRUE, error))
            return FALSE;
    return TRUE;
}

static gboolean set_unknown_key_error(const HvConfEntry *entry, GError **error)
{
    g_autoptr(GString) known = g_string_new(NULL);
    for (guint i = 0; i < hv_settings_n_keys; i++)
        if (strcmp(hv_settings_keys[i].section, HV_SECTION_HUGEVM) == 0)
            g_string_append_printf(known, "%s%s", known->len > 0 ? ", " : "",
                                   hv_settings_keys[i].name);
    g_autofree char *quoted = hv_quote(entry->key);
    g_autofree char *hint = hv_settings_suggest(entry->key);
    hv_set_error(error, HV_ERROR_CONFIG, hint, "%s:%u: there is no key %s in [%s]; known: %s",
                 entry->file, entry->line, quoted, HV_SECTION_HUGEVM, known->str);
    return FALSE;
}

/* Built-in values hide those of [DEFAULT], which whoever wrote the line did not expect. */
static void warn_of_default(Loader *loader, const HvConfEntry *entry)
{
    const HvSettingsKey *key = hv_settings_find_key(HV_SECTION_HUGEVM, entry->key);
    if (key == NULL)
        key = hv_settings_find_key(HV_SECTION_PERFORMANCE, entry->key);
    if (key != NULL)
        g_ptr_array_add(loader->draft.settings->warnings,
                        g_strdup_printf("%s:%u: %s has no effect in [DEFAULT]; set it in [%s]",
                                        entry->file, entry->line, entry->key, key->section));
}

static gboolean check_names(Loader *loader, GError **error)
{
    for (guint i = loader->n_builtin; i < loader->entries->len; i++) {
        const HvConfEntry *entry = g_ptr_array_index(loader->entries, i);
        if (strcmp(entry->section, HV_SECTION_HUGEVM) == 0 &&
            hv_settings_find_key(HV_SECTION_HUGEVM, entry->key) == NULL)
            return set_unknown_key_error(entry, error);
        if (strcmp(entry->section, "DEFAULT") == 0)
            warn_of_default(loader, entry);
    }
    return TRUE;
}

/* The last entry of a key in entries[begin..end); NULL: none. */
static const HvConfEntry *find_entry(const Loader *loader, const HvSettingsKey *key, guint begin,
                                     guint end)
{
    for (guint i = end; i > begin; i--) {
        const HvConfEntry *entry = g_ptr_array_index(loader->entries, i - 1);
        if (strcmp(entry->section, key->section) == 0 && hv_settings_key_matches(key, entry->key))
            return entry;
    }
    return NULL;
}

static const HvConfEntry *find_effective(const Loader *loader, const HvSettingsKey *key)
{
    const HvConfEntry *entry = NULL;
    guint end = loader->entries->len;
    if (key->vdsm_switch && loader->vdsm_present) {
        entry = find_entry(loader, key, loader->vdsm_end, end);
        end = loader->n_builtin;
    }
    return entry != NULL ? entry : find_entry(loader, key, 0, end);
}

static gboolean set_bad_value_error(const Loader *loader, const HvSettingsKey *key,
                                    const HvConfEntry *entry, const char *value, GError **error)
{
    const char *wrong = loader->draft.wrong;
    g_autofree char *quoted = hv_quote(wrong != NULL ? wrong : value);
    hv_set_error(error, HV_ERROR_CONFIG, NULL, "%s:%u: [%s] %s %s %s; allowed: %s", entry->file,
                 entry->line, key->section, entry->key, wrong != NULL ? "has the entry" : "is",
                 quoted, key->allowed);
    return FALSE;
}

/* Puts an entry's value into the draft; *out_value is the text it was taken from. */
static gboolean apply_entry(Loader *loader, const HvSettingsKey *key, const HvConfEntry *entry,
                            char **out_value, GError **error)
{
    g_autofree char *value =
        key->raw ? g_strdup(entry->value) : hv_conf_interpolate(loader->entries, entry, error);
    if (value == NULL)
        return FALSE;
    if (!key->parse(key, value, &loader->draft))
        return set_bad_value_error(loader, key, entry, value, error);
    *out_value = g_steal_pointer(&value);
    return TRUE;
}

static gboolean apply_key(Loader *loader, const HvSettingsKey *key, GError **error)
{
    const HvConfEntry *entry = find_effective(loader, key);
    char *value = NULL;
    if (!apply_entry(loader, key, entry, &value, error))
        return FALSE;
    HvSettingOrigin *origin = g_new0(HvSettingOrigin, 1);
    origin->section = g_strdup(key->section);
    origin->key = g_strdup(key->name);
    origin->value = value;
    origin->file = g_strdup(entry->file);
    origin->line = entry->line;
    g_ptr_array_add(loader->draft.settings->origins, origin);
    return TRUE;
}

/* VDSM and hugevm would both resize the pools, each undoing what the other did. */
static gboolean check_vdsm_switch(Loader *loader, const HvSettingsKey *key, GError **error)
{
    const HvConfEntry *entry = find_entry(loader, key, loader->n_builtin, loader->vdsm_end);
    HvSettings *settings = loader->draft.settings;
    g_autofree char *value = NULL;
    if (entry == NULL)
        return TRUE;
    if (!apply_entry(loader, key, entry, &value, error))
        return FALSE;
    if (G_STRUCT_MEMBER(gboolean, settings, key->field_offset))
        g_ptr_array_add(settings->warnings,
                        g_strdup_printf("%s:%u: %s = true makes VDSM resize the huge page pools "
                                        "beside hugevm; set it to false there, and to true in "
                                        "[%s] of /etc/hugevm/hugevm.conf",
                                        entry->file, entry->line, key->name, key->section));
    return TRUE;
}

/* [hugevm] reserved replaces the [performance] pair for the sizes that it names. */
static void add_reserved_pair(HvSettingsDraft *draft)
{
    GArray *reserved = draft->settings->reserved;
    gboolean is_replaced = draft->pair.count_pages == 0;
    for (guint i = 0; i < reserved->len; i++)
        is_replaced |= g_array_index(reserved, HvReserved, i).size_kib == draft->pair.size_kib;
    if (!is_replaced)
        g_array_prepend_val(reserved, draft->pair);
}

static HvSettings *finish(Loader *loader, GError **error)
{
    if (!check_names(loader, error))
        return NULL;
    for (guint i = 0; i < hv_settings_n_keys; i++) {
        const HvSettingsKey *key = &hv_settings_keys[i];
        if (key->vdsm_switch && loader->vdsm_present && !check_vdsm_switch(loader, key, error))
            return NULL;
        if (!apply_key(loader, key, error))
            return NULL;
    }
    add_reserved_pair(&loader->draft);
    return g_steal_pointer(&loader->draft.settings);
}

HvSettings *hv_settings_load(const HvRoot *root, const char *const *conf_files, GError **error)
{
    g_auto(Loader) loader;
    loader_init(&loader);
    gboolean ok = conf_files != NULL ? read_named_files(&loader, conf_files, error)
                                     : read_standard_files(&loader, root, error);
    return ok ? finish(&loader, error) : NULL;
}

HvSettings *hv_settings_new(void)
{
    g_auto(Loader) loader;
    loader_init(&loader);
    return finish(&loader, NULL); /* built-in values are never refused */
}

/*
 * Only the [performance] pair can lack a size. Which size it stands for is known
 * here at last, and so whether [hugevm] reserved names that size and replaces it.
 */
guint64 hv_settings_reserved_pages(const HvSettings *settings, guint64 size_kib, int node,
                                   guint64 default_size_kib)
{
    guint64 named_pages = 0, unnamed_pages = 0;
    gboolean is_named = FALSE;
    for (guint i = 0; i < settings->reserved->len; i++) {
        const HvReserved *entry = &g_array_index(settings->reserved, HvReserved, i);
        gboolean is_unnamed = entry->size_kib == 0;
        if (entry->size_kib != (is_unnamed ? 0 : size_kib))
            continue;
        is_named |= !is_unnamed;
        guint64 *sum = is_unnamed ? &unnamed_pages : &named_pages;
        if (entry->node == node && !hv_checked_add(*sum, entry->count_pages, sum))
            *sum = G_MAXUINT64;
    }
    if (is_named)
        return named_pages;
    return size_kib == default_size_kib ? unnamed_pages : 0;
}
