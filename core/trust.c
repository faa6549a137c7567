/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * In a directory that only root may write to, names are root's too. So the path is
 * walked from its beginning, as it is written and then as it is with all links
 * resolved; what passes both can only be changed by root, also after the check.
 */
#include "trust.h"

#include "error.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static gboolean set_untrusted(GError **error, const char *path, const char *why)
{
    g_autofree char *shown = hv_escape(path);
    hv_set_error(error, HV_ERROR_CONFIG, "it must belong to root and be writable by root alone",
                 "%s is not to be trusted: %s", shown, why);
    return FALSE;
}

static gboolean set_errno_error(GError **error, const char *path, int errsv)
{
    g_autofree char *shown = hv_escape(path);
    if (errsv == ENOENT)
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NOENT, "there is no %s", shown);
    else
        hv_set_error(error, errsv == EACCES ? HV_ERROR_PERMISSION : HV_ERROR_SYSTEM,
                     errsv == EACCES ? "run it as root" : NULL, "cannot look at %s: %s", shown,
                     g_strerror(errsv));
    return FALSE;
}

static gboolean check_one(const char *path, GError **error)
{
    struct stat st;
    if (lstat(path, &st) != 0)
        return set_errno_error(error, path, errno);
    if (st.st_uid != 0 && st.st_uid != geteuid()) {
        g_autofree char *why = g_strdup_printf("it belongs to user %u", st.st_uid);
        return set_untrusted(error, path, why);
    }
    if (S_ISLNK(st.st_mode))
        return TRUE; /* of a link its directory decides who may change it */
    if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
        return set_untrusted(error, path, "it is neither a file nor a directory");
    gboolean is_own_group = st.st_gid == 0 || st.st_gid == getegid();
    if ((st.st_mode & S_IWOTH) != 0 || ((st.st_mode & S_IWGRP) != 0 && !is_own_group))
        return set_untrusted(error, path, "others may write to it");
    return TRUE;
}

/* All of the path behind its first skip characters. */
static gboolean check_walk(const char *path, gsize skip, GError **error)
{
    for (const char *end = path + skip; end != NULL && *end != '\0';) {
        end = strchr(end + 1, '/');
        g_autofree char *prefix =
            end != NULL ? g_strndup(path, (gsize)(end - path)) : g_strdup(path);
        if (!check_one(prefix, error))
            return FALSE;
    }
    return TRUE;
}

/* The part of a path that is the injected root, not the system's in it. */
static gsize root_length(const char *path, const char *directory)
{
    gsize n = strlen(directory);
    return strncmp(path, directory, n) == 0 && path[n] == '/' ? n : 0;
}

gboolean hv_trust_check(const HvRoot *root, const char *path, GError **error)
{
    g_autofree char *real = hv_root_path(root, path);
    g_autofree char *directory = hv_root_path(root, "");
    if (!check_walk(real, strlen(directory), error))
        return FALSE;
    g_autofree char *resolved = realpath(real, NULL);
    if (resolved == NULL)
        return set_errno_error(error, real, errno);
    g_autofree char *resolved_directory = realpath(directory[0] != '\0' ? directory : "/", NULL);
    if (resolved_directory == NULL)
        return set_errno_error(error, directory, errno);
    return check_walk(resolved, root_length(resolved, resolved_directory), error);
}
