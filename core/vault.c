/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * In the vault there is one directory per mount, called UUID:GENERATION:SIZE.
 *
 * A process's threads may be in different namespaces: every visit is made by a thread
 * of its own, which ends there. Nothing of the caller changes.
 *
 * Killed at any moment: a directory without a mount is removed by the next sweep; a
 * mount that has been moved out and is still in the vault is one file system in two
 * places, and goes with both.
 */
#include "vault.h"

#include "fd.h"
#include "page-size.h"
#include "vault-place.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#define OWN_NAMESPACE "/proc/thread-self/ns/mnt"

typedef struct Visit Visit;
struct Visit {
    gboolean may_make;        /* a vault, where there is none */
    int (*act)(Visit *visit); /* in the vault; its root is "/" */
    const HvVaultName *name;
    guint64 bytes;
    int directory_fd;
    GArray *names;
    int host_fd; /* the namespace that the visitor came from */
    int result;
};

static void *visit_thread(void *data)
{
    Visit *visit = data;
    g_auto(HvFd) host = open(OWN_NAMESPACE, O_RDONLY | O_CLOEXEC);
    visit->host_fd = host;
    if (host < 0 || unshare(CLONE_FS) != 0 || hv_vault_enter(host, visit->may_make) != 0)
        visit->result = errno != ENOMEM && errno != 0 ? errno : EAGAIN; /* not about huge pages */
    else
        visit->result = visit->act(visit) == 0 ? 0 : errno;
    return NULL;
}

/* g_thread_try_new() would end the whole process over some errors. */
static int visit_vault(Visit *visit)
{
    sigset_t all, before;
    pthread_t thread;
    sigfillset(&all);
    /* the caller's signals are for the caller's threads */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int errsv = pthread_create(&thread, NULL, visit_thread, visit);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (errsv != 0)
        return errsv != ENOMEM ? errsv : EAGAIN;
    pthread_join(thread, NULL);
    return visit->result;
}

/* ---- what is done there */

static char *path_of(const HvVaultName *name)
{
    return g_strdup_printf("/%s:%" G_GUINT64_FORMAT ":%" G_GUINT64_FORMAT, name->uuid,
                           name->generation, name->size_kib);
}

static gboolean parse_name(const char *text, HvVaultName *out_name)
{
    g_auto(GStrv) parts = g_strsplit(text, ":", 4);
    if (g_strv_length(parts) != 3 || !hv_parse_u64(parts[1], &out_name->generation) ||
        !hv_parse_u64(parts[2], &out_name->size_kib))
        return FALSE;
    return g_strlcpy(out_name->uuid, parts[0], sizeof out_name->uuid) < sizeof out_name->uuid;
}

static int put(Visit *visit)
{
    g_autofree char *path = path_of(visit->name);
    g_autofree char *source =
        g_strdup_printf("hugevm:%s:%" G_GUINT64_FORMAT, visit->name->uuid, visit->name->generation);
    g_autofree char *options =
        g_strdup_printf("pagesize=%" G_GUINT64_FORMAT "K,min_size=%" G_GUINT64_FORMAT ",mode=0700",
                        visit->name->size_kib, visit->bytes);
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        errno = errno != ENOMEM ? errno : EAGAIN;
        return -1;
    }
    if (mount(source, path, "hugetlbfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, options) == 0)
        return 0;
    int errsv = errno;
    rmdir(path);
    errno = errsv;
    return -1;
}

static gboolean is_hugetlbfs(int fd)
{
    struct statfs fs;
    return fstatfs(fd, &fs) == 0 && (guint32)fs.f_type == HUGETLBFS_MAGIC;
}

static int drop(Visit *visit)
{
    g_autofree char *path = path_of(visit->name);
    while (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) == 0) /* also what lies under another */
        continue;
    return rmdir(path) == 0 || errno == ENOENT ? 0 : -1;
}

static int take(Visit *visit)
{
    struct stat st;
    g_autofree char *path = path_of(visit->name);
    g_auto(HvFd) tree = (int)syscall(SYS_open_tree, AT_FDCWD, path,
                                     OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW);
    if (tree < 0)
        return -1;
    if (!is_hugetlbfs(tree)) { /* a directory whose mount never came, or has gone */
        errno = ENOENT;
        return -1;
    }
    g_auto(HvFd) root = openat(tree, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0 || fstat(visit->directory_fd, &st) != 0 ||
        fchown(root, st.st_uid, st.st_gid) != 0 || fchmod(root, st.st_mode & 07777) != 0)
        return -1;
    hv_fd_clear(&root);
    if (setns(visit->host_fd, CLONE_NEWNS) != 0 ||
        syscall(SYS_move_mount, tree, "", visit->directory_fd, "",
                MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) != 0)
        return -1;
    return 0;
}

static int list(Visit *visit)
{
    DIR *dir = opendir("/");
    if (dir == NULL)
        return -1;
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        HvVaultName name = {.uuid = ""};
        if (parse_name(entry->d_name, &name))
            g_array_append_val(visit->names, name);
    }
    closedir(dir);
    return 0;
}

static int nothing(Visit *visit)
{
    (void)visit;
    return 0;
}

int hv_vault_prepare(void)
{
    Visit visit = {.may_make = TRUE, .act = nothing};
    return hv_vault_is_here() ? 0 : visit_vault(&visit);
}

int hv_vault_put(const HvVaultName *name, guint64 bytes)
{
    Visit visit = {.may_make = TRUE, .act = put, .name = name, .bytes = bytes};
    return visit_vault(&visit);
}

int hv_vault_take(const HvVaultName *name, int directory_fd)
{
    Visit visit = {.act = take, .name = name, .directory_fd = directory_fd};
    int errsv = visit_vault(&visit);
    if (errsv == 0)
        hv_vault_drop(name);
    return errsv;
}

int hv_vault_list(GArray **out_names)
{
    *out_names = g_array_new(FALSE, TRUE, sizeof(HvVaultName));
    Visit visit = {.act = list, .names = *out_names};
    int errsv = hv_vault_may_exist() ? visit_vault(&visit) : 0;
    return errsv == ENOENT ? 0 : errsv;
}

gboolean hv_vault_is_supported(void)
{
    return syscall(SYS_open_tree, -1, "", OPEN_TREE_CLONE) >= 0 || errno != ENOSYS;
}

int hv_vault_drop(const HvVaultName *name)
{
    Visit visit = {.act = drop, .name = name};
    int errsv = hv_vault_may_exist() ? visit_vault(&visit) : 0;
    return errsv == ENOENT ? 0 : errsv;
}

int hv_vault_remove(void)
{
    g_autoptr(GArray) names = NULL;
    int errsv = hv_vault_list(&names);
    if (errsv != 0)
        return errsv;
    return names->len > 0 ? EBUSY : hv_vault_unmount();
}
