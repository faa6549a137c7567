/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Stands in for QEMU where there is none: only the kernel's pools matter there, and these see the
 * same calls (a shared mapping, mbind, a touch).
 */
#include "mapper.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef MAP_HUGE_SHIFT
#define MAP_HUGE_SHIFT 26
#endif

#define MAX_NODES 64
#define FIRST_PART 5

struct part {
    int shift;
    unsigned long pages;
    int policy;
    unsigned long nodes; /* a bit each; 0: any, and no policy */
};

/* Words of numatune, with what QEMU makes of them. */
static const struct {
    const char *prefix;
    int policy;
} policies[] = {{"preferred:", MPOL_PREFERRED}, {"interleave:", MPOL_INTERLEAVE}, {"", MPOL_BIND}};

char mapper_name[] = "qemu-mapper";
static int answer_fd = -1;

static _Noreturn void mapper_fail(const char *text)
{
    if (write(answer_fd, text, strlen(text)) < 0)
        _exit(EXIT_USAGE);
    _exit(EXIT_MAPPER);
}

static void on_sigbus(int number)
{
    (void)number;
    mapper_fail("SIGBUS at a touch");
}

/* "0,2" to its end: false for anything else. */
static bool parse_nodes(const char *text, unsigned long *out_nodes)
{
    for (;; text++) {
        char *end;
        unsigned long node = strtoul(text, &end, 10);
        if (end == text || node >= MAX_NODES)
            return false;
        *out_nodes |= 1UL << node;
        if (*end == '\0')
            return true;
        if (*end != ',')
            return false;
        text = end;
    }
}

/* "1" or "interleave:0,2": false for anything else. */
static bool parse_policy(const char *text, struct part *out_part)
{
    int i = 0;
    while (strncmp(text, policies[i].prefix, strlen(policies[i].prefix)) != 0)
        i++;
    out_part->policy = policies[i].policy;
    return parse_nodes(text + strlen(policies[i].prefix), &out_part->nodes);
}

/* "2M:64@1": false for anything else. */
static bool parse_part(const char *text, struct part *out_part)
{
    char unit;
    unsigned long size;
    int n_read = 0;
    if (sscanf(text, "%lu%c:%lu%n", &size, &unit, &out_part->pages, &n_read) != 3 || size == 0 ||
        (unit != 'M' && unit != 'G'))
        return false;
    out_part->shift = __builtin_ctzl(size) + (unit == 'M' ? 20 : 30);
    out_part->nodes = 0;
    text += n_read;
    return *text == '\0' || (*text == '@' && parse_policy(text + 1, out_part));
}

/* An unlinked file in the first directory with pages of this size, as QEMU makes it; -1: none. */
static int make_file(char *const *directories, int shift, size_t bytes)
{
    for (; **directories == '/'; directories++) {
        struct statfs fs;
        char path[512];
        snprintf(path, sizeof path, "%s/memory.XXXXXX", *directories);
        if (statfs(*directories, &fs) != 0 || fs.f_bsize != 1L << shift)
            continue;
        int fd = mkstemp(path);
        if (fd < 0 || unlink(path) != 0 || ftruncate(fd, (off_t)bytes) != 0)
            mapper_fail("no memory file");
        return fd;
    }
    return -1;
}

/* Maps as QEMU does: mbind comes after mmap, so the kernel checks nothing per node at mmap. */
static void map_part(const char *text, char *const *directories, bool is_touched)
{
    struct part part;
    if (!parse_part(text, &part))
        mapper_fail("not SIZE:PAGES[@[POLICY:]NODE[,NODE]...]");
    size_t page_bytes = (size_t)1 << part.shift, bytes = part.pages * page_bytes;
    int fd = make_file(directories, part.shift, bytes);
    int flags = MAP_SHARED;
    if (fd < 0)
        flags |= MAP_ANONYMOUS | MAP_HUGETLB | part.shift << MAP_HUGE_SHIFT;
    volatile char *start = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, fd, 0);
    if (start == MAP_FAILED)
        mapper_fail(errno == ENOMEM ? "ENOMEM at mmap" : "mmap failed");
    if (part.nodes != 0 &&
        syscall(SYS_mbind, start, bytes, part.policy, &part.nodes, MAX_NODES + 1UL, 0UL) != 0)
        mapper_fail("mbind failed");
    for (size_t at = 0; is_touched && at < bytes; at += page_bytes)
        start[at] = 1;
}

int mapper_main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = on_sigbus};
    if (argc <= FIRST_PART)
        return EXIT_USAGE;
    answer_fd = atoi(argv[3]);
    bool is_touched = strcmp(argv[4], "map") == 0;
    sigaction(SIGBUS, &action, NULL);
    setsid();
    /* what reads the host's output must not wait for the mapper too */
    int null = open("/dev/null", O_RDWR);
    for (int fd = 0; null >= 0 && fd < 3; fd++)
        dup2(null, fd);
    for (int i = FIRST_PART; i < argc; i++)
        if (argv[i][0] != '/')
            map_part(argv[i], argv + FIRST_PART, is_touched);
    close(answer_fd); /* an empty answer: all is well */
    for (;;)
        pause();
}
