// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Processes that map huge pages as QEMU or a database would, and guards.
//
// A user answers over a socket pair: first how its mapping went, then how each command went. It
// binds its pages with mbind() after mmap(), which is QEMU's order and the reason why the kernel
// checks nothing per node at mmap() time. SIGBUS is an answer like any other, given from the signal
// handler, after which the process ends.

#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MAP_HUGE_SHIFT
#define MAP_HUGE_SHIFT 26
#endif

enum { MAX_USERS = 16, MAX_GUARDS = 8, GUARD_KEY = 0x68764700 };

static pid_t live[MAX_USERS];

static int log2_of_page(const struct pool *pool)
{
    return __builtin_ctzll((unsigned long long)pool_page_bytes(pool));
}

// ---- in the user's process

static int answer_fd = -1;

static void answer(char outcome)
{
    if (write(answer_fd, &outcome, 1) != 1)
        _exit(1);
}

static void on_sigbus(int number)
{
    (void)number;
    answer(OUTCOME_SIGBUS);
    _exit(0);
}

static void touch(volatile char *start, long pages, size_t page_bytes)
{
    for (long i = 0; i < pages; i++)
        start[(size_t)i * page_bytes] = 1;
    answer(OUTCOME_TOUCHED);
}

static bool bind_to_node(void *start, size_t bytes, int node)
{
    unsigned long mask = 1UL << node;
    return syscall(SYS_mbind, start, bytes, MPOL_BIND, &mask, sizeof mask * 8, 0UL) == 0;
}

// A file as QEMU makes it: unlinked at once, so that only the mapping keeps it.
static int open_unlinked(const char *directory, size_t bytes)
{
    char path[256];
    snprintf(path, sizeof path, "%s/ram-%d", directory, (int)getpid());
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || unlink(path) != 0 || ftruncate(fd, (off_t)bytes) != 0) {
        answer(OUTCOME_FAILED);
        _exit(0);
    }
    return fd;
}

static char *map_pages(const struct pool *pool, const char *directory, long pages, int flags,
                       int node_index)
{
    size_t bytes = (size_t)pages * pool_page_bytes(pool);
    int map_flags = flags & USER_PRIVATE ? MAP_PRIVATE : MAP_SHARED;
    map_flags |= flags & USER_NORESERVE ? MAP_NORESERVE : 0;
    int fd = -1;
    if (directory != NULL)
        fd = open_unlinked(directory, bytes);
    else
        map_flags |= MAP_ANONYMOUS | MAP_HUGETLB | (log2_of_page(pool) << MAP_HUGE_SHIFT);
    void *start = mmap(NULL, bytes, PROT_READ | PROT_WRITE, map_flags, fd, 0);
    if (start == MAP_FAILED) {
        answer(errno == ENOMEM ? OUTCOME_NO_MEMORY : OUTCOME_FAILED);
        _exit(0);
    }
    if (node_index != ANY_NODE && !bind_to_node(start, bytes, pool->nodes[node_index])) {
        answer(OUTCOME_FAILED);
        _exit(0);
    }
    return start;
}

static _Noreturn void user_body(const struct pool *pool, const char *directory, long pages,
                                int flags, int node_index)
{
    struct sigaction action = {.sa_handler = on_sigbus};
    sigaction(SIGBUS, &action, NULL);
    char *start = map_pages(pool, directory, pages, flags, node_index);
    if (flags & USER_TOUCH)
        touch(start, pages, pool_page_bytes(pool));
    else
        answer(OUTCOME_MAPPED);

    long discard;
    while (read(answer_fd, &discard, sizeof discard) == (ssize_t)sizeof discard) {
        if (discard == 0)
            touch(start, pages, pool_page_bytes(pool));
        else if (madvise(start, (size_t)discard * pool_page_bytes(pool), MADV_REMOVE) == 0)
            answer(OUTCOME_MAPPED);
        else
            answer(OUTCOME_FAILED);
    }
    _exit(0);
}

// ---- in the probe's process

static void remember_live(pid_t pid)
{
    for (size_t i = 0; i < MAX_USERS; i++)
        if (live[i] == 0) {
            live[i] = pid;
            return;
        }
    require(false, "no more than %d users at a time", MAX_USERS);
}

static void forget_live(pid_t pid)
{
    for (size_t i = 0; i < MAX_USERS; i++)
        if (live[i] == pid)
            live[i] = 0;
}

static void end_process(pid_t pid)
{
    kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
}

static enum outcome read_outcome(struct user *user)
{
    char outcome = OUTCOME_FAILED;
    if (read(user->channel, &outcome, 1) != 1)
        outcome = OUTCOME_FAILED;
    user->outcome = (enum outcome)outcome;
    if (outcome != OUTCOME_MAPPED && outcome != OUTCOME_TOUCHED)
        user_kill(user);
    return user->outcome;
}

static struct user start(const struct pool *pool, const char *directory, long pages, int flags,
                         int node_index)
{
    int pair[2];
    require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0, "a socket pair");
    struct user user = {.pid = fork(), .channel = pair[0]};
    require(user.pid >= 0, "a child process");
    if (user.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(pair[0]);
        answer_fd = pair[1];
        user_body(pool, directory, pages, flags, node_index);
    }
    close(pair[1]);
    remember_live(user.pid);
    read_outcome(&user);
    return user;
}

struct user user_start(const struct pool *pool, long pages, int flags, int node_index)
{
    return start(pool, NULL, pages, flags, node_index);
}

struct user user_start_in(const struct pool *pool, const char *directory, long pages, int flags)
{
    return start(pool, directory, pages, flags, ANY_NODE);
}

static enum outcome command(struct user *user, long discard)
{
    if (user->pid <= 0 || write(user->channel, &discard, sizeof discard) < 0)
        return OUTCOME_FAILED;
    return read_outcome(user);
}

enum outcome user_touch(struct user *user)
{
    return command(user, 0);
}

enum outcome user_discard(struct user *user, long pages)
{
    return command(user, pages);
}

void user_kill(struct user *user)
{
    if (user->pid <= 0)
        return;
    end_process(user->pid);
    forget_live(user->pid);
    close(user->channel);
    user->pid = 0;
}

void users_kill_all(void)
{
    for (size_t i = 0; i < MAX_USERS; i++) {
        if (live[i] != 0)
            end_process(live[i]);
        live[i] = 0;
    }
}

void user_park(const struct pool *pool, long pages)
{
    struct user user = user_start(pool, pages, USER_TOUCH, ANY_NODE);
    require(user.outcome == OUTCOME_TOUCHED, "%s: %ld free pages found can be parked", pool->name,
            pages);
    forget_live(user.pid);
    diag("%s: parked %ld free pages", pool->name, pages);
}

const char *outcome_name(enum outcome outcome)
{
    switch (outcome) {
    case OUTCOME_MAPPED:
        return "mapped";
    case OUTCOME_TOUCHED:
        return "touched";
    case OUTCOME_NO_MEMORY:
        return "ENOMEM";
    case OUTCOME_SIGBUS:
        return "SIGBUS";
    case OUTCOME_FAILED:
        break;
    }
    return "failed";
}

// ---- guards

int guard_make(const struct pool *pool, int slot, long pages)
{
    size_t bytes = (size_t)pages * pool_page_bytes(pool);
    int flags = IPC_CREAT | IPC_EXCL | SHM_HUGETLB | (log2_of_page(pool) << MAP_HUGE_SHIFT) | 0600;
    return shmget(GUARD_KEY + slot, bytes, flags) >= 0 ? 0 : errno;
}

int guard_find(int slot)
{
    return shmget(GUARD_KEY + slot, 0, 0);
}

void guard_drop(int slot)
{
    int id = guard_find(slot);
    if (id >= 0)
        shmctl(id, IPC_RMID, NULL);
}

void guards_drop_all(void)
{
    for (int slot = 0; slot < MAX_GUARDS; slot++)
        guard_drop(slot);
}

// ---- children

int in_child(int (*body)(void *data), void *data)
{
    int status = 0;
    pid_t pid = fork();
    require(pid >= 0, "a child process");
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        _exit(body(data));
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// Detaches one hugetlbfs of this namespace. 1 done, 0 none left, -1 failed.
static int detach_one_hugetlbfs(void)
{
    char source[256], target[256], type[64];
    int result = 0;
    FILE *mounts = fopen("/proc/self/mounts", "re");
    if (mounts == NULL)
        return -1;
    while (result == 0 && fscanf(mounts, "%255s %255s %63s%*[^\n]", source, target, type) == 3)
        if (strcmp(type, "hugetlbfs") == 0)
            result = umount2(target, MNT_DETACH) == 0 ? 1 : -1;
    fclose(mounts);
    return result;
}

int leave_hugetlbfs_mounts(void)
{
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        return -1;
    int result;
    while ((result = detach_one_hugetlbfs()) == 1)
        ;
    return result;
}
