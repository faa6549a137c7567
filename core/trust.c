/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * In a directory that only root may write to, names are root's too. So the path is
 * walked from its beginning, name by name and link by link, as the kernel would walk
 * it: what passes can only be changed by root, also after the check.
 */
#include "trust.h"

#include "error.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_LINKS 40 /* as the kernel */

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

/* A walk along a path: what is behind it, without links, and what lies ahead. */
typedef struct {
    gboolean is_fixture;
    char *done;  /* "" at the beginning of the machine's tree */
    char *ahead; /* names, separated by '/' */
    guint n_links;
} Walk;

static void walk_clear(Walk *walk)
{
    g_free(walk->done);
    g_free(walk->ahead);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Walk, walk_clear)

static char *next_name(Walk *walk)
{
    const char *name = walk->ahead + strspn(walk->ahead, "/");
    gsize n = strcspn(name, "/");
    char *taken = g_strndup(name, n);
    char *rest = g_strdup(name + n);
    g_free(walk->ahead);
    walk->ahead = rest;
    return taken;
}

static gboolean check_owner_and_mode(const Walk *walk, const char *path, const struct stat *st,
                                     GError **error)
{
    if (st->st_uid != 0 && st->st_uid != geteuid()) {
        g_autofree char *why = g_strdup_printf("it belongs to user %u", st->st_uid);
        return set_untrusted(error, path, why);
    }
    if (S_ISLNK(st->st_mode))
        return TRUE; /* of a link its directory decides who may change it */
    if (!S_ISDIR(st->st_mode) && !S_ISREG(st->st_mode))
        return set_untrusted(error, path, "it is neither a file nor a directory");
    /* tests run under any umask */
    gboolean is_own_group = walk->is_fixture && st->st_gid == getegid();
    guint others = S_IWOTH | (is_own_group ? 0 : S_IWGRP);
    /* in a sticky directory, what is root's stays so; new names in it are looked at as they come */
    gboolean is_sticky_on_the_way =
        S_ISDIR(st->st_mode) && (st->st_mode & S_ISVTX) != 0 && walk->ahead[0] != '\0';
    if ((st->st_mode & others) != 0 && !is_sticky_on_the_way)
        return set_untrusted(error, path, "others may write to it");
    return TRUE;
}

/* Puts the link's target in front of what lies ahead. */
static gboolean follow(Walk *walk, const char *link, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autofree char *target = g_file_read_link(link, &local);
    if (target == NULL || ++walk->n_links > MAX_LINKS)
        return set_errno_error(error, link, target == NULL ? EIO : ELOOP);
    char *ahead = g_strconcat(target, "/", walk->ahead, NULL);
    g_free(walk->ahead);
    walk->ahead = ahead;
    if (target[0] == '/') {
        g_free(walk->done);
        walk->done = g_strdup("");
    }
    return TRUE;
}

static gboolean take_step(Walk *walk, GError **error)
{
    struct stat st;
    g_autofree char *name = next_name(walk);
    if (name[0] == '\0' || strcmp(name, ".") == 0)
        return TRUE;
    if (strcmp(name, "..") == 0) {
        char *parent = g_path_get_dirname(walk->done[0] != '\0' ? walk->done : "/");
        g_free(walk->done);
        walk->done = strcmp(parent, "/") == 0 ? g_strdup("") : g_strdup(parent);
        g_free(parent);
        return TRUE;
    }
    g_autofree char *path = g_strconcat(walk->done, "/", name, NULL);
    if (lstat(path, &st) != 0)
        return set_errno_error(error, path, errno);
    if (!check_owner_and_mode(walk, path, &st, error))
        return FALSE;
    if (S_ISLNK(st.st_mode))
        return follow(walk, path, error);
    g_free(walk->done);
    walk->done = g_steal_pointer(&path);
    return TRUE;
}

gboolean hv_trust_check(const HvRoot *root, const char *path, GError **error)
{
    g_auto(Walk) walk = {.is_fixture = !hv_root_is_machine(root),
                         .done = hv_root_path(root, ""),
                         .ahead = g_strdup(path)};
    if (!hv_root_exists(root, path))
        return set_errno_error(error, path, ENOENT); /* whoever owns the way to nothing */
    while (walk.ahead[0] != '\0')
        if (!take_step(&walk, error))
            return FALSE;
    return TRUE;
}
