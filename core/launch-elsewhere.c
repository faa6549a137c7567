/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libvirt starts each QEMU in a mount namespace of its own, a copy of the host's at that
 * moment, with the launch mounts of all other VMs that are just starting in it. Where mounts
 * are shared, as systemd makes them, an unmount reaches the copies; where they are private,
 * as in containers and without systemd, a copy keeps its pages for a VM that is long gone, as
 * long as the other VM lives. So whoever detaches a launch mount looks for its copies.
 */
#include "launch-mount.h"

#include "fd.h"
#include "page-size.h"
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

/* Those of one namespace that are to go. */
typedef struct {
    int namespace_fd;
    const GPtrArray *mounts; /* HvLaunchMount */
} Visit;

static guint64 inode_of(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 ? st.st_ino : 0;
}

/* Ordinary users can have mount namespaces as well, but only in user namespaces of theirs. */
static gboolean is_made_by_root(int namespace_fd)
{
    g_auto(HvFd) owner = ioctl(namespace_fd, NS_GET_USERNS);
    g_auto(HvFd) own = open("/proc/thread-self/ns/user", O_RDONLY | O_CLOEXEC);
    return owner >= 0 && own >= 0 && inode_of(owner) == inode_of(own);
}

static void *visit_thread(void *data)
{
    const Visit *visit = data;
    if (unshare(CLONE_FS) != 0 || setns(visit->namespace_fd, CLONE_NEWNS) != 0)
        return NULL;
    for (guint i = visit->mounts->len; i > 0; i--) { /* the last one is on top */
        const HvLaunchMount *mount = g_ptr_array_index(visit->mounts, i - 1);
        hv_launch_mount_detach(mount->path);
    }
    return NULL;
}

/* In a thread that ends there: nothing of the caller changes. */
static void visit_namespace(Visit *visit)
{
    sigset_t all, before;
    pthread_t thread;
    sigfillset(&all);
    /* the caller's signals are for the caller's threads */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int errsv = pthread_create(&thread, NULL, visit_thread, visit);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (errsv == 0)
        pthread_join(thread, NULL);
}

static void detach_seen_by(const HvRoot *root, gint64 pid, HvLaunchMountKeep *keep,
                           gconstpointer data)
{
    g_autofree char *info = g_strdup_printf("/proc/%" G_GINT64_FORMAT "/mountinfo", pid);
    g_autofree char *path = g_strdup_printf("/proc/%" G_GINT64_FORMAT "/ns/mnt", pid);
    g_autoptr(GPtrArray) mounts = hv_launch_mount_list_of(root, info);
    for (guint i = mounts->len; i > 0; i--) {
        const HvLaunchMount *mount = g_ptr_array_index(mounts, i - 1);
        /* its own QEMU's goes with it, and until then tells people where its memory is */
        if (keep(mount, data) || hv_process_has_word(root, pid, mount->uuid))
            g_ptr_array_remove_index(mounts, i - 1);
    }
    if (mounts->len == 0)
        return;
    g_auto(HvFd) namespace_fd = open(path, O_RDONLY | O_CLOEXEC);
    Visit visit = {namespace_fd, mounts};
    if (namespace_fd >= 0 && is_made_by_root(namespace_fd))
        visit_namespace(&visit);
}

void hv_launch_mount_detach_elsewhere(const HvRoot *root, HvLaunchMountKeep *keep,
                                      gconstpointer data)
{
    struct stat st;
    if (stat("/proc/self/ns/mnt", &st) != 0)
        return;
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    guint64 own = st.st_ino;
    g_hash_table_add(seen, g_memdup2(&own, sizeof own));
    g_auto(GStrv) names = hv_root_list(root, "/proc", NULL);
    for (guint i = 0; names != NULL && names[i] != NULL; i++) {
        guint64 pid;
        g_autofree char *path = g_strdup_printf("/proc/%s/ns/mnt", names[i]);
        if (!hv_parse_u64(names[i], &pid) || stat(path, &st) != 0)
            continue;
        guint64 inode = st.st_ino;
        if (g_hash_table_add(seen, g_memdup2(&inode, sizeof inode)))
            detach_seen_by(root, (gint64)pid, keep, data);
    }
}
