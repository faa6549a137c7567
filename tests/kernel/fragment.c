/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fragments memory for real, and holds it so until it is killed.
 *
 *   fragment MIB KEEP [pin] [NODE]
 *
 * Takes MIB of memory in small pages (of NODE, if given) and gives back all but
 * every KEEP-th page. What is left over is scattered: the kernel counts the memory
 * between as free, yet a huge page needs it in one piece.
 *
 *   without pin   the pages may be moved: compaction can mend it, at a price
 *   pin           they are pinned, as the memory of a VM with a passed-through device (VFIO) or
 *                 RDMA buffers are: here as buffers of io_uring. Compaction cannot
 *
 * Prints "ready" when done. Exit status: 1 without the memory, 2 usage.
 */
#include <linux/io_uring.h>
#include <linux/mempolicy.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define RING_BUFFERS 1024 /* any kernel takes so many */

static size_t page_bytes;

static char *take_memory(size_t bytes, int node)
{
    char *start = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned long mask = 1UL << (node >= 0 ? node : 0);
    if (start == MAP_FAILED)
        return NULL;
    madvise(start, bytes, MADV_NOHUGEPAGE);
    if (node >= 0 && syscall(SYS_mbind, start, bytes, MPOL_BIND, &mask, sizeof mask * 8, 0UL) != 0)
        return NULL;
    for (size_t at = 0; at < bytes; at += page_bytes)
        start[at] = 1;
    return start;
}

/* Each kept page is a buffer of a ring that nobody uses. */
static bool pin(char *start, size_t bytes, size_t step_bytes)
{
    static struct iovec buffers[RING_BUFFERS];
    for (size_t at = 0; at < bytes;) {
        struct io_uring_params params = {0};
        unsigned n = 0;
        for (; at < bytes && n < RING_BUFFERS; at += step_bytes)
            buffers[n++] = (struct iovec){start + at, page_bytes};
        int ring = (int)syscall(SYS_io_uring_setup, 1, &params);
        if (ring < 0 ||
            syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, buffers, n) != 0)
            return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    size_t mib = argc > 2 ? strtoul(argv[1], NULL, 10) : 0;
    size_t keep = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;
    bool is_pinned = argc > 3 && strcmp(argv[3], "pin") == 0;
    int node_word = is_pinned ? 4 : 3;
    if (mib == 0 || keep < 2) {
        fprintf(stderr, "usage: fragment MIB KEEP [pin] [NODE]\n");
        return 2;
    }
    page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    size_t bytes = mib << 20, step_bytes = keep * page_bytes;
    char *start = take_memory(bytes, argc > node_word ? atoi(argv[node_word]) : -1);
    if (start == NULL || (is_pinned && !pin(start, bytes, step_bytes))) {
        perror("fragment");
        return 1;
    }
    for (size_t at = 0; at + step_bytes <= bytes; at += step_bytes)
        madvise(start + at + page_bytes, step_bytes - page_bytes, MADV_DONTNEED);
    puts("ready");
    fflush(stdout);
    for (;;)
        pause();
}
