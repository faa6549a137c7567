/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "settings-files.h"

#include "error.h"
#include "trust.h"

#include <string.h>

typedef struct {
    const HvRoot *root;
    const char *component;
    GPtrArray *warnings;
} Search;

/* Is it there, and to be believed? FALSE with an error: an administrator takes it for settings. */
static gboolean check_place(const Search *search, const char *path, gboolean *out_use,
                            GError **error)
{
    g_autoptr(GError) local = NULL;
    *out_use = hv_trust_check(search->root, path, &local);
    if (*out_use || g_error_matches(local, G_FILE_ERROR, G_FILE_ERROR_NOENT))
        return TRUE;
    if (strcmp(search->component, "vdsm") != 0) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    /* /run/vdsm belongs to user vdsm: what VDSM believes there is nothing to root */
    g_autofree char *message = hv_error_message(local);
    g_ptr_array_add(search->warnings, g_strdup_printf("not read: %s", message));
    return TRUE;
}

static gint compare_base_names(gconstpointer a, gconstpointer b)
{
    return strcmp(strrchr(*(char *const *)a, '/'), strrchr(*(char *const *)b, '/'));
}

/* Adds the path if it is there and to be believed. */
static gboolean add_file(const Search *search, char *path, GPtrArray *paths, GError **error)
{
    g_autofree char *owned = path;
    gboolean use = FALSE;
    if (!check_place(search, path, &use, error))
        return FALSE;
    if (use)
        g_ptr_array_add(paths, g_steal_pointer(&owned));
    return TRUE;
}

static gboolean add_drop_ins(const Search *search, const char *directory, GPtrArray *paths,
                             GError **error)
{
    gboolean use = FALSE;
    if (!check_place(search, directory, &use, error))
        return FALSE;
    if (!use)
        return TRUE;
    g_auto(GStrv) names = hv_root_list(search->root, directory, error);
    for (guint i = 0; names != NULL && names[i] != NULL; i++)
        if (names[i][0] != '.' && g_str_has_suffix(names[i], ".conf") &&
            !add_file(search, g_strconcat(directory, "/", names[i], NULL), paths, error))
            return FALSE;
    return names != NULL;
}

/* All drop-ins of a component, as VDSM sorts them: by name, whichever directory they are in. */
static gboolean list_drop_ins(const Search *search, GPtrArray *paths, GError **error)
{
    static const char *const bases[] = {"/usr/lib", "/run", "/etc"};
    for (guint i = 0; i < G_N_ELEMENTS(bases); i++) {
        g_autofree char *directory =
            g_strdup_printf("%s/%s/%s.conf.d", bases[i], search->component, search->component);
        if (!add_drop_ins(search, directory, paths, error))
            return FALSE;
    }
    g_ptr_array_sort(paths, compare_base_names); /* stable: ties stay in the order of bases */
    return TRUE;
}

GPtrArray *hv_settings_files(const HvRoot *root, const char *component, GPtrArray *warnings,
                             GError **error)
{
    const Search search = {root, component, warnings};
    g_autoptr(GPtrArray) paths = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) main_file = g_ptr_array_new_with_free_func(g_free);
    if (!add_file(&search, g_strdup_printf("/etc/%s/%s.conf", component, component), main_file,
                  error) ||
        !list_drop_ins(&search, paths, error))
        return NULL;
    if (main_file->len > 0)
        g_ptr_array_insert(paths, 0, g_steal_pointer(&main_file->pdata[0]));
    return g_steal_pointer(&paths);
}
