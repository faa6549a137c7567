// SPDX-License-Identifier: LGPL-2.1-or-later
#include "vault-visit.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

void stay_on_processor(int processor)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(processor, &one);
    sched_setaffinity(0, sizeof one, &one);
}

static int open_namespace(const char *path)
{
    return open(path, O_RDONLY | O_CLOEXEC);
}

static int enter_vault(void)
{
    int vault = open_namespace(KEPT);
    return vault >= 0 && setns(vault, CLONE_NEWNS) == 0 ? 0 : -1;
}

// ---- bodies of child processes; 0, errno, or the signal that ends them

static int mount_launch(const struct pool *pool)
{
    char options[96];
    snprintf(options, sizeof options, "pagesize=%uK,min_size=%zu", pool->size_kib,
             PAGES * pool_page_bytes(pool));
    if (mkdir(LAUNCH, 0700) != 0 && errno != EEXIST)
        return errno;
    return mount(SOURCE, LAUNCH, "hugetlbfs", 0, options) == 0 ? 0 : errno;
}

static int enter_new_vault(void)
{
    if (unshare(CLONE_NEWNS) != 0 || mount("none", PLACE, "tmpfs", 0, NULL) != 0 ||
        chdir(PLACE) != 0)
        return -1;
    if (syscall(SYS_pivot_root, ".", ".") == 0)
        return umount2(".", MNT_DETACH);
    // the initial root file system of the throwaway VM cannot be pivoted away
    return mount(".", "/", NULL, MS_MOVE, NULL) == 0 && chroot(".") == 0 ? 0 : -1;
}

int make_vault_and_die(void *data)
{
    const struct making *making = data;
    stay_on_processor(making->processor);
    int host = open_namespace("/proc/self/ns/mnt");
    int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (enter_new_vault() != 0)
        return errno;
    int vault = openat(proc, "self/ns/mnt", O_RDONLY | O_CLOEXEC);
    int error = mount_launch(making->pool);
    if (error != 0 || setns(host, CLONE_NEWNS) != 0)
        return error != 0 ? error : errno;
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", vault);
    if (mount(path, KEPT, NULL, MS_BIND, NULL) != 0)
        return errno;
    return raise(SIGKILL);
}

int put(void *data)
{
    return enter_vault() == 0 ? mount_launch(data) : errno;
}

int drop(void *data)
{
    (void)data;
    return enter_vault() == 0 && umount2(LAUNCH, MNT_DETACH) == 0 ? 0 : errno;
}

int put_tree(void *data)
{
    const int *tree = data;
    return enter_vault() == 0 && syscall(SYS_move_mount, *tree, "", AT_FDCWD, LAUNCH,
                                         MOVE_MOUNT_F_EMPTY_PATH) == 0
               ? 0
               : errno;
}

// ---- the mover: brings the mount from the vault to the VM's directory, step by step

struct hands {
    int host, directory, tree;
};

int clone_of(const char *path)
{
    return (int)syscall(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
}

static int clone_tree(struct hands *hands)
{
    hands->tree = clone_of(LAUNCH);
    int root = openat(hands->tree, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0 || fchown(root, OWNER, OWNER) != 0 || fchmod(root, MODE) != 0)
        return -1;
    return close(root);
}

static int do_step(struct hands *hands, enum step step)
{
    switch (step) {
    case ENTER:
        return enter_vault();
    case CLONE:
        return clone_tree(hands);
    case RETURN:
        return setns(hands->host, CLONE_NEWNS);
    case ATTACH:
        return (int)syscall(SYS_move_mount, hands->tree, "", hands->directory, "",
                            MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
    case STEPS:
        break;
    }
    return -1;
}

static _Noreturn void mover_body(int channel)
{
    struct hands hands = {.host = open_namespace("/proc/self/ns/mnt"),
                          .directory = open(VM, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
                          .tree = -1};
    enum step step;
    while (read(channel, &step, sizeof step) == (ssize_t)sizeof step) {
        int error = do_step(&hands, step) == 0 ? 0 : errno;
        if (write(channel, &error, sizeof error) < 0)
            break;
    }
    _exit(0);
}

struct mover mover_start(void)
{
    int pair[2];
    require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0, "a socket pair");
    struct mover mover = {.pid = fork(), .channel = pair[0]};
    require(mover.pid >= 0, "a child process");
    if (mover.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(pair[0]);
        mover_body(pair[1]);
    }
    close(pair[1]);
    return mover;
}

int mover_step(const struct mover *mover, enum step step)
{
    int error = EPIPE;
    if (write(mover->channel, &step, sizeof step) < 0 ||
        read(mover->channel, &error, sizeof error) != (ssize_t)sizeof error)
        return EPIPE;
    return error;
}

void mover_kill(const struct mover *mover)
{
    kill(mover->pid, SIGKILL);
    while (waitpid(mover->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    close(mover->channel);
}

int mover_steps(const struct mover *mover, enum step last)
{
    for (enum step step = ENTER; step <= last; step++) {
        int error = mover_step(mover, step);
        if (error != 0)
            return error;
    }
    return 0;
}

int move(void)
{
    struct mover mover = mover_start();
    int error = mover_steps(&mover, ATTACH);
    mover_kill(&mover);
    return error;
}
