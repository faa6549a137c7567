/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The namespace has a tmpfs as its root and nothing else of the host, so it keeps no
 * file system busy. It is kept by a bind mount of its nsfs file on
 * /run/hugevm/vault/namespace. The kernel allows that on a private mount only, so
 * /run/hugevm/vault is bound to itself first.
 *
 * Agents may be in mount namespaces of their own and share /run all the same. There is
 * one vault for all of them: where the bind mount is not seen, the plain file below it
 * names the mount namespace that it is in, and any process that lives there leads to
 * it. If none does, that namespace is gone, and its vault with it.
 *
 * Killed at any moment: a namespace that has not been bound yet goes with its thread,
 * and what else was made for it the next maker uses or removes.
 */
#include "vault-place.h"

#include "fd.h"
#include "page-size.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/nsfs.h>
#include <linux/types.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#define STORE "/run/hugevm"
#define DIRECTORY STORE "/vault"
#define FILE_NAME "namespace"
#define NAMESPACE DIRECTORY "/" FILE_NAME
#define FILE_FLAGS (O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
#define ID_RANGE 4096
#define GET_NAMESPACE_ID _IOR(0xb7, 5, __u64) /* NS_GET_MNTNS_ID, Linux 6.11 */

/* ---- its file */

static gboolean is_namespace(int fd)
{
    struct statfs fs;
    return fstatfs(fd, &fs) == 0 && (guint32)fs.f_type == NSFS_MAGIC;
}

/* The directory, which must be one; -1 with errno. */
static int open_place(void)
{
    return open(DIRECTORY, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* The file, plain or of a namespace. -1 with errno. */
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

static guint64 inode_of(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 ? st.st_ino : 0;
}

/* In the plain file: the mount namespace (its file's inode) in which it is covered. */
static guint64 read_maker(int fd)
{
    char text[32] = "";
    guint64 inode;
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    return n > 0 && hv_parse_u64(g_strchomp(text), &inode) ? inode : 0;
}

static int write_maker(int fd, int host_fd)
{
    g_autofree char *text = g_strdup_printf("%" G_GUINT64_FORMAT "\n", inode_of(host_fd));
    ssize_t length = (ssize_t)strlen(text);
    return ftruncate(fd, 0) == 0 && pwrite(fd, text, (gsize)length, 0) == length ? 0 : -1;
}

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

/* Somebody else's file system on our directory stays, and a vault below it is out of reach. */
static gboolean is_covered_by_others(void)
{
    struct stat store, place;
    return lstat(STORE, &store) == 0 && lstat(DIRECTORY, &place) == 0 &&
           store.st_dev != place.st_dev;
}

/* The private mount for the namespace's file. */
static int make_place(int host_fd)
{
    umount2(DIRECTORY, MNT_DETACH | UMOUNT_NOFOLLOW); /* left by one that was killed in here */
    if (mkdir(DIRECTORY, 0700) != 0 && errno != EEXIST)
        return -1;
    g_auto(HvFd) below = open_place();
    if (below < 0 || mount(DIRECTORY, DIRECTORY, NULL, MS_BIND, NULL) != 0 ||
        mount(NULL, DIRECTORY, NULL, MS_PRIVATE, NULL) != 0)
        return -1;
    g_auto(HvFd) fd = open_file(O_RDWR | O_CREAT);
    return fd >= 0 && write_maker(fd, host_fd) == 0 ? 0 : -1;
}

/* A new one, seen from the host's again; its file, or -1 with errno. */
static int new_namespace(int host_fd, int proc)
{
    if (enter_new_namespace() != 0)
        return -1;
    g_auto(HvFd) vault = openat(proc, "thread-self/ns/mnt", O_RDONLY | O_CLOEXEC);
    if (vault < 0 || setns(host_fd, CLONE_NEWNS) != 0)
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

static gboolean has_smaller_id(int vault, int host_fd)
{
    guint64 vault_id, host_id;
    return ioctl(vault, GET_NAMESPACE_ID, &vault_id) == 0 &&
           ioctl(host_fd, GET_NAMESPACE_ID, &host_id) == 0 && vault_id < host_id;
}

/*
 * The kernel lets a namespace be bound only where its id is greater than that of the
 * namespace it is bound in (EINVAL). Linux 6.18 takes the ids from ranges of
 * ID_RANGE, one per processor: one made by another processor is greater if the first
 * one was not, or else the last processor's next range.
 */
static int make_vault(int host_fd)
{
    cpu_set_t allowed;
    if (make_place(host_fd) != 0)
        return -1;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) /* more than it has room for */
        CPU_ZERO(&allowed);
    g_auto(HvFd) proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    guint n_cpus = (guint)MAX(CPU_COUNT(&allowed), 1);
    for (guint i = 0; proc >= 0 && i <= n_cpus + ID_RANGE; i++) {
        go_to_cpu(&allowed, MIN(i, n_cpus - 1));
        g_auto(HvFd) vault = new_namespace(host_fd, proc);
        if (vault < 0)
            return -1;
        if (bind_namespace(vault) == 0)
            return setns(vault, CLONE_NEWNS);
        int errsv = errno;
        gboolean may_help = errsv == EINVAL && has_smaller_id(vault, host_fd);
        errno = errsv;
        if (!may_help)
            return -1;
    }
    return -1;
}

/* ---- finding it */

/* Ordinary users can have mount namespaces as well, but only in user namespaces of theirs. */
static gboolean is_made_by_root(int fd)
{
    g_auto(HvFd) owner = ioctl(fd, NS_GET_USERNS);
    g_auto(HvFd) own = open("/proc/thread-self/ns/user", O_RDONLY | O_CLOEXEC);
    return owner >= 0 && own >= 0 && inode_of(owner) == inode_of(own);
}

/* As a process sees it. -1 with errno; ENOENT: it sees none. */
static int open_as_seen_by(const char *pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%s/root" NAMESPACE, pid);
    g_auto(HvFd) fd = open(path, O_RDONLY | FILE_FLAGS);
    if (fd < 0)
        return -1;
    if (is_namespace(fd) && ioctl(fd, NS_GET_NSTYPE) == CLONE_NEWNS && is_made_by_root(fd))
        return hv_fd_steal(&fd);
    errno = ENOENT;
    return -1;
}

/* 0: the process is of that kind; else errno. */
static int check_process(int proc, const char *pid, guint64 maker)
{
    struct stat mounts, users, own;
    g_autofree char *mounts_path = g_strdup_printf("%s/ns/mnt", pid);
    g_autofree char *users_path = g_strdup_printf("%s/ns/user", pid);
    if (fstatat(proc, mounts_path, &mounts, 0) != 0 || fstatat(proc, users_path, &users, 0) != 0 ||
        fstatat(proc, "thread-self/ns/user", &own, 0) != 0)
        return errno;
    /* who has a user namespace of his own may have chosen his root */
    return mounts.st_ino == maker && users.st_ino == own.st_ino ? 0 : ENOENT;
}

/* Ended meanwhile, or not for us to look at: where all are so, there is no way to the vault. */
static gboolean is_about_the_process(int errsv)
{
    return errsv == ENOENT || errsv == ESRCH || errsv == EACCES || errsv == EPERM;
}

/*
 * Through a process that lives in the mount namespace with this inode. -1 with errno; ENOENT:
 * none that we can see.
 */
static int open_elsewhere(guint64 maker)
{
    int found = -1, failed = 0;
    DIR *dir = opendir("/proc");
    if (dir == NULL)
        return -1;
    for (const struct dirent *entry; found < 0 && (entry = readdir(dir)) != NULL;) {
        if (!g_ascii_isdigit(entry->d_name[0]))
            continue;
        int errsv = check_process(dirfd(dir), entry->d_name, maker);
        if (errsv == 0) {
            found = open_as_seen_by(entry->d_name);
            errsv = errno;
        }
        if (!is_about_the_process(errsv))
            failed = errsv;
    }
    closedir(dir);
    errno = failed != 0 ? failed : ENOENT;
    return found;
}

/* Something is there that was never ours: nobody has made a vault there. */
static gboolean is_planted(int errsv)
{
    return errsv == ENOTDIR || errsv == ELOOP || errsv == EEXIST;
}

int hv_vault_enter(int host_fd, gboolean may_make)
{
    if (is_covered_by_others()) {
        errno = EBUSY;
        return -1;
    }
    g_auto(HvFd) fd = open_file(O_RDONLY);
    if (fd < 0 && errno != ENOENT) {
        errno = is_planted(errno) && !may_make ? ENOENT : errno;
        return -1;
    }
    guint64 maker = fd >= 0 && !is_namespace(fd) ? read_maker(fd) : 0;
    if (maker != 0 && maker != inode_of(host_fd)) {
        hv_fd_clear(&fd);
        fd = open_elsewhere(maker);
        if (fd < 0 && errno != ENOENT)
            return -1;
    }
    if (fd >= 0 && is_namespace(fd))
        return setns(fd, CLONE_NEWNS);
    errno = ENOENT; /* no file, or a plain one that waits for its namespace */
    return may_make ? make_vault(host_fd) : -1;
}

gboolean hv_vault_is_here(void)
{
    struct statfs fs;
    return statfs(NAMESPACE, &fs) == 0 && (guint32)fs.f_type == NSFS_MAGIC;
}

int hv_vault_unmount(void)
{
    if (!hv_vault_is_here())
        return 0;
    if (umount2(NAMESPACE, MNT_DETACH | UMOUNT_NOFOLLOW) != 0 ||
        umount2(DIRECTORY, MNT_DETACH | UMOUNT_NOFOLLOW) != 0)
        return errno;
    unlink(NAMESPACE); /* the plain file, which says where the vault was */
    rmdir(DIRECTORY);
    return 0;
}

gboolean hv_vault_may_exist(void)
{
    return access(NAMESPACE, F_OK) == 0 || is_covered_by_others();
}
