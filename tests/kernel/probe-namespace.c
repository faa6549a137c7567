// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Facts about where a mount namespace can be kept by its file, which is how the vault is kept.
//
// The kernel wants no circles: a namespace can be kept in another one only if its id is greater.
// That is as good as "if it is newer", except on kernels that take the ids from ranges, one per
// processor: there a new one has the smaller id if a processor with a lower range made it. What
// helps is to try again on that processor for as long as its range may last.
//
// Nothing here touches a pool. Each trial has namespaces of its own, which vanish with it.

#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef NS_GET_MNTNS_ID // Linux 6.11
#define NS_GET_MNTNS_ID _IOR(0xb7, 5, uint64_t)
#endif

#define FILE_NAME "/tmp/namespace"
#define SHARED "/tmp/shared"
#define PEER "/tmp/peer"
#define IN_SHARED SHARED "/namespace"

enum { MAX_TRIES = 4097 }; // a range of 4096, and the first of the next

// Filled in by a child process.
static struct trial {
    int older_processor, newer_processor;
    bool has_ids;
    uint64_t older_id, newer_id;
    int newer_in_older, older_in_newer, itself; // 0 or errno of keeping it there
    int shared, shared_with_peer;
    int tries;
} * trial;

static void stay_on(int processor)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(processor, &one);
    sched_setaffinity(0, sizeof one, &one);
}

static int open_own(void)
{
    return open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
}

static int keep(int namespace, const char *file)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", namespace);
    return mount(path, file, NULL, MS_BIND, NULL) == 0 ? 0 : errno;
}

static int make_file(const char *path)
{
    int fd = open(path, O_RDONLY | O_CREAT | O_CLOEXEC, 0600);
    return fd < 0 ? -1 : close(fd);
}

// A private namespace with a file for another one; its file descriptor.
static int make_older(int processor)
{
    stay_on(processor);
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("none", "/tmp", "tmpfs", 0, NULL) != 0 || make_file(FILE_NAME) != 0)
        return -1;
    return open_own();
}

static int make_newer(int processor)
{
    stay_on(processor);
    return unshare(CLONE_NEWNS) == 0 ? open_own() : -1;
}

// ---- bodies of child processes

static int try_pair(void *data)
{
    (void)data;
    int older = make_older(trial->older_processor);
    int newer = older < 0 ? -1 : make_newer(trial->newer_processor);
    if (newer < 0)
        return errno;
    trial->has_ids = ioctl(older, NS_GET_MNTNS_ID, &trial->older_id) == 0 &&
                     ioctl(newer, NS_GET_MNTNS_ID, &trial->newer_id) == 0;
    trial->older_in_newer = keep(older, FILE_NAME);
    if (setns(older, CLONE_NEWNS) != 0)
        return errno;
    trial->newer_in_older = keep(newer, FILE_NAME);
    trial->itself = keep(older, FILE_NAME);
    return 0;
}

static int try_again(void *data)
{
    (void)data;
    int older = make_older(trial->older_processor);
    if (older < 0)
        return errno;
    for (trial->tries = 1; trial->tries <= MAX_TRIES; trial->tries++) {
        int newer = make_newer(trial->newer_processor);
        if (newer < 0 || setns(older, CLONE_NEWNS) != 0)
            return errno;
        trial->newer_in_older = keep(newer, FILE_NAME);
        close(newer);
        if (trial->newer_in_older != EINVAL)
            break;
    }
    return 0;
}

static int make_shared(void)
{
    return mkdir(SHARED, 0700) == 0 && mkdir(PEER, 0700) == 0 &&
                   mount(SHARED, SHARED, NULL, MS_BIND, NULL) == 0 &&
                   mount(NULL, SHARED, NULL, MS_SHARED, NULL) == 0
               ? make_file(IN_SHARED)
               : -1;
}

static int try_shared(void *data)
{
    (void)data;
    int older = make_older(trial->older_processor);
    if (older < 0 || make_shared() != 0)
        return errno;
    int newer = make_newer(trial->older_processor);
    // a copy of the namespace has a peer of each shared mount, which shall not count yet
    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
    if (newer < 0 || setns(older, CLONE_NEWNS) != 0)
        return errno;
    trial->shared = keep(newer, IN_SHARED);
    umount2(IN_SHARED, MNT_DETACH);
    if (mount(SHARED, PEER, NULL, MS_BIND, NULL) != 0)
        return errno;
    trial->shared_with_peer = keep(newer, IN_SHARED);
    return 0;
}

// ---- facts

static void run(int (*body)(void *data), int older_processor, int newer_processor)
{
    *trial = (struct trial){.older_processor = older_processor, .newer_processor = newer_processor};
    int error = in_child(body, NULL);
    require(error == 0, "namespaces can be made (%s)", strerror(error));
}

static void fact_same_processor(int processor)
{
    run(try_pair, processor, processor);
    ok(trial->newer_in_older == 0,
       "a newer namespace of the same processor is kept in an older one (%s)",
       strerror(trial->newer_in_older));
    ok(trial->older_in_newer == EINVAL, "an older one cannot be kept in a newer one (%s)",
       strerror(trial->older_in_newer));
    ok(trial->itself == EINVAL, "nor a namespace in itself (%s)", strerror(trial->itself));
}

static void fact_shared_mount(int processor)
{
    run(try_shared, processor, processor);
    ok(trial->shared_with_peer == EINVAL,
       "no namespace is kept on a shared mount that has a peer (%s)",
       strerror(trial->shared_with_peer));
    characterise("keeping a namespace on a shared mount without peers: %s",
                 strerror(trial->shared));
}

static void show_pair(void)
{
    if (trial->has_ids)
        characterise("made on processor %d: id %llu; later on %d: id %llu; newer in older: %s, "
                     "older in newer: %s",
                     trial->older_processor, (unsigned long long)trial->older_id,
                     trial->newer_processor, (unsigned long long)trial->newer_id,
                     strerror(trial->newer_in_older), strerror(trial->older_in_newer));
    else
        characterise("made on processor %d, later on %d, ids not told; newer in older: %s, "
                     "older in newer: %s",
                     trial->older_processor, trial->newer_processor,
                     strerror(trial->newer_in_older), strerror(trial->older_in_newer));
}

// Exactly one of two can be kept in the other, and it is the one with the greater id.
static bool follows_ids(void)
{
    bool newer_kept = trial->newer_in_older == 0;
    bool as_told = !trial->has_ids || newer_kept == (trial->newer_id > trial->older_id);
    return as_told && trial->newer_in_older == (newer_kept ? 0 : EINVAL) &&
           trial->older_in_newer == (newer_kept ? EINVAL : 0);
}

static void fact_ids(const int processors[2])
{
    bool all_follow = true, all_newer = true;
    for (int i = 0; i < 4; i++) {
        run(try_pair, processors[i / 2], processors[i % 2]);
        show_pair();
        all_follow = all_follow && follows_ids();
        all_newer = all_newer && trial->newer_in_older == 0;
    }
    ok(all_follow, "of two namespaces exactly one can be kept in the other%s",
       trial->has_ids ? ": the one with the greater id" : "");
    characterise("a newer namespace can be kept in an older one: %s",
                 all_newer ? processors[0] == processors[1] ? "always (one processor)" : "always"
                           : "not if another processor made it");
}

static void fact_tries(const int processors[2])
{
    for (int i = 0; i < 4; i++) {
        run(try_again, processors[i / 2], processors[i % 2]);
        ok(trial->newer_in_older == 0 && trial->tries <= MAX_TRIES,
           "some newer one can be kept: older of processor %d, newer of %d (%s)", processors[i / 2],
           processors[i % 2], strerror(trial->newer_in_older));
        characterise("older of processor %d, newer of %d only: kept at try %d", processors[i / 2],
                     processors[i % 2], trial->tries);
    }
}

static void show_first(void)
{
    uint64_t id = 0;
    int first = open("/proc/1/ns/mnt", O_RDONLY | O_CLOEXEC);
    if (first >= 0 && ioctl(first, NS_GET_MNTNS_ID, &id) == 0)
        characterise("the namespace of process 1 has id %llu", (unsigned long long)id);
    if (first >= 0)
        close(first);
}

// The first and the last of those that the probe may use; the same one twice where it is alone.
static bool find_processors(int processors[2])
{
    cpu_set_t allowed;
    int count = 0;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0)
        return false;
    for (int processor = 0; processor < CPU_SETSIZE; processor++)
        if (CPU_ISSET(processor, &allowed))
            processors[count++ > 0] = processor;
    if (count == 1)
        processors[1] = processors[0];
    return count > 0;
}

static void facts(void)
{
    int processors[2] = {0, 0};
    require(find_processors(processors), "a processor to make namespaces on");
    trial = mmap(NULL, sizeof *trial, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    require(trial != MAP_FAILED, "a page to share with children");
    show_first();
    fact_same_processor(processors[0]);
    fact_shared_mount(processors[0]);
    fact_ids(processors);
    fact_tries(processors);
}

int main(void)
{
    return probe_run(facts);
}
