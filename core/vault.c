/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The namespace has a tmpfs as its root and nothing else of the host, so it keeps no
 * file system busy; in it one directory per mount, called UUID:GENERATION:SIZE. It is
 * kept by a bind mount of its nsfs file on /run/hugevm/vault/namespace. The kernel
 * allows that on a private mount only, so /run/hugevm/vault is bound to itself first.
 *
 * A process's threads may be in different namespaces: every visit is made by a thread
 * of its own, which ends there. Nothing of the caller changes.
 *
 * Killed at any moment: a vault that has not been bound yet goes with its thread; a
 * directory without a mount is removed by the next sweep; a mount that has been moved
 * out and is still in the vault is one file system in two places, and goes with both.
 */
#include "vault.h"

#include "fd.h"
#include "page-size.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DIRECTORY "/run/hugevm/vault"
#define FILE_NAME "namespace"
#define NAMESPACE DIRECTORY "/" FILE_NAME
#define FILE_FLAGS (O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
#define OWN_NAMESPACE "/proc/thread-self/ns/mnt"
#define ID_RANGE 4096

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

/* ---- making it: in the visitor's thread, which begins in the host's namespace */

/* An initial file system cannot be pivoted away; moving a mount over it is as good. */
static int change_root(void)
{
    if (syscall(SYS_pivot_root, ".", ".") == 0)
        return umount2(".", MNT_DETACH);
    return mount(".", "/", NULL, MS_MOVE, NULL) == 0 && chroot(".") == 0 ? 0 : -1;
}

static int enter_new_namespace(void)
{
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("hugevm", DIRECTORY, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700") != 0 ||
        chdir(DIRECTORY) != 0)
        return -1;
    return change_root();
}

/* The directory, which must be one; -1 with errno. */
static int open_place(void)
{
    return open(DIRECTORY, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* The file, plain or of a namespace; flags: O_CREAT or 0. -1 with errno. */
static int open_file(int flags)
{
    struct stat st;
    g_auto(HvFd) place = open_place();
    g_auto(HvFd) fd = place < 0 ? -1 : openat(place, FILE_NAME, FILE_FLAGS | flags, 0600);
    if (fd < 0 || fstat(fd, &st) != 0)
        return -1;
    if (!S_ISREG(st.st_mode)) {
        errno = EEXIST;
        return -1;
    }
    return hv_fd_steal(&fd);
}

/* The private mount for the namespace's file. */
static int make_place(void)
{
    umount2(DIRECTORY, MNT_DETACH | UMOUNT_NOFOLLOW); /* left by one that was killed in here */
    if (mkdir(DIRECTORY, 0700) != 0 && errno != EEXIST)
        return -1;
    g_auto(HvFd) below = open_place();
    if (below < 0 || mount(DIRECTORY, DIRECTORY, NULL, MS_BIND, NULL) != 0 ||
        mount(NULL, DIRECTORY, NULL, MS_PRIVATE, NULL) != 0)
        return -1;
    g_auto(HvFd) fd = open_file(O_CREAT);
    return fd >= 0 ? 0 : -1;
}

/* A new one, seen from the host's again; its file, or -1 with errno. */
static int new_namespace(const Visit *visit, int proc)
{
    if (enter_new_namespace() != 0)
        return -1;
    g_auto(HvFd) vault = openat(proc, "thread-self/ns/mnt", O_RDONLY | O_CLOEXEC);
    if (vault < 0 || setns(visit->host_fd, CLONE_NEWNS) != 0)
        return -1;
    return hv_fd_steal(&vault);
}

static int bind_namespace(int vault)
{
    g_autofree char *path = g_strdup_printf("/proc/thread-self/fd/%d", vault);
    return mount(path, NAMESPACE, NULL, MS_BIND, NULL);
}

/* The visitor's thread goes on on the n-th of the processors that are left to it. */
static void go_to_cpu(const cpu_set_t *allowed, guint n)
{
    cpu_set_t one;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, allowed) && n-- == 0) {
            CPU_ZERO(&one);
            CPU_SET(cpu, &one);
            sched_setaffinity(0, sizeof one, &one);
        }
}

/*
 * The kernel lets a namespace be bound only where its id is greater than that of the
 * namespace it is bound in (EINVAL). Linux 6.18 takes the ids from ranges of
 * ID_RANGE, one per processor: one made by another processor is greater if the first
 * one was not, or else the last processor's next range.
 */
static int make_vault(const Visit *visit)
{
    cpu_set_t allowed;
    if (make_place() != 0 || sched_getaffinity(0, sizeof allowed, &allowed) != 0)
        return -1;
    g_auto(HvFd) proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    guint n_cpus = (guint)MAX(CPU_COUNT(&allowed), 1);
    for (guint i = 0; proc >= 0 && i <= n_cpus + ID_RANGE; i++) {
        go_to_cpu(&allowed, MIN(i, n_cpus - 1));
        g_auto(HvFd) vault = new_namespace(visit, proc);
        if (vault < 0)
            return -1;
        if (bind_namespace(vault) == 0)
            return setns(vault, CLONE_NEWNS);
        if (errno != EINVAL)
            return -1;
    }
    return -1;
}

/* ---- visiting it */

static int enter(const Visit *visit)
{
    struct statfs fs;
    g_auto(HvFd) vault = open_file(0);
    if (vault < 0 ? errno != ENOENT : fstatfs(vault, &fs) != 0)
        return -1;
    if (vault >= 0 && (guint32)fs.f_type == NSFS_MAGIC)
        return setns(vault, CLONE_NEWNS);
    errno = ENOENT; /* no file, or a plain one that waits for its namespace */
    return visit->may_make ? make_vault(visit) : -1;
}

static gpointer visit_thread(gpointer data)
{
    Visit *visit = data;
    g_auto(HvFd) host = open(OWN_NAMESPACE, O_RDONLY | O_CLOEXEC);
    visit->host_fd = host;
    if (host < 0 || unshare(CLONE_FS) != 0 || enter(visit) != 0)
        visit->result = errno != 0 ? errno : EIO;
    else
        visit->result = visit->act(visit) == 0 ? 0 : errno;
    return NULL;
}

static int visit_vault(Visit *visit)
{
    sigset_t all, before;
    visit->result = EIO;
    sigfillset(&all);
    /* the caller's signals are for the caller's threads */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    GThread *thread = g_thread_try_new("hugevm-vault", visit_thread, visit, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (thread == NULL)
        return EAGAIN;
    g_thread_join(thread);
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
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return -1;
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
    return rmdir(path);
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
    struct statfs fs;
    if (statfs(NAMESPACE, &fs) == 0 && (guint32)fs.f_type == NSFS_MAGIC)
        return 0;
    Visit visit = {.may_make = TRUE, .act = nothing};
    return visit_vault(&visit);
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

GArray *hv_vault_list(void)
{
    GArray *names = g_array_new(FALSE, TRUE, sizeof(HvVaultName));
    Visit visit = {.act = list, .names = names};
    if (access(NAMESPACE, F_OK) == 0) /* else there is nothing to visit */
        visit_vault(&visit);
    return names;
}

gboolean hv_vault_is_supported(void)
{
    return syscall(SYS_open_tree, -1, "", OPEN_TREE_CLONE) >= 0 || errno != ENOSYS;
}

void hv_vault_drop(const HvVaultName *name)
{
    Visit visit = {.act = drop, .name = name};
    visit_vault(&visit);
}
