/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Takes huge pages that nobody protects, without pause:
 *
 *   thief SIZE_KIB HOLD_PAGES
 *
 * Maps one page after the other, in turn with a reservation and without one, and touches it.
 * HOLD_PAGES 0: each page it got goes back at once; else it keeps that many, and the oldest goes
 * when another is got, so that most of the time it has as many as it may.
 *
 * It says "ready", waits for a line on standard input, says "go", and steals until the next line
 * or the end of the input. Then it prints, in this order: attempts, those of them without
 * reservation, pages got, those without reservation, most pages held at once. Each further line is
 * the time of a theft, in seconds of the monotonic clock; only the first MAX_TIMES are kept.
 */
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#ifndef MAP_HUGE_SHIFT
#define MAP_HUGE_SHIFT 26
#endif
#ifndef MADV_POPULATE_WRITE /* Linux 5.14: an error where a store would be a SIGBUS */
#define MADV_POPULATE_WRITE 23
#endif

enum { MAX_HOLD = 64, MAX_TIMES = 4096, ATTEMPTS_PER_LOOK = 16 };

typedef struct {
    size_t page_bytes;
    unsigned hold_pages;
    void *held[MAX_HOLD]; /* a ring: the next to go is at pages got modulo hold_pages */
    uint64_t attempts[2]; /* [1]: without reservation */
    uint64_t got[2];
    unsigned most_held;
    double times[MAX_TIMES];
} Thief;

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* One page that is really there, or MAP_FAILED. */
static void *take(const Thief *thief, int is_unreserved)
{
    int size_flag = __builtin_ctzll(thief->page_bytes) << MAP_HUGE_SHIFT;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | size_flag;
    if (is_unreserved)
        flags |= MAP_NORESERVE;
    void *page = mmap(NULL, thief->page_bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (page == MAP_FAILED)
        return MAP_FAILED;
    if (madvise(page, thief->page_bytes, MADV_POPULATE_WRITE) == 0)
        return page;
    munmap(page, thief->page_bytes);
    return MAP_FAILED;
}

static void keep(Thief *thief, void *page)
{
    if (thief->hold_pages == 0) {
        thief->most_held = 1;
        munmap(page, thief->page_bytes);
        return;
    }
    uint64_t got = thief->got[0] + thief->got[1];
    void **slot = &thief->held[got % thief->hold_pages];
    if (*slot != NULL)
        munmap(*slot, thief->page_bytes);
    *slot = page;
    thief->most_held = got < thief->hold_pages ? (unsigned)got + 1 : thief->hold_pages;
}

/* TRUE: it got one. */
static int attempt(Thief *thief)
{
    int is_unreserved = (int)((thief->attempts[0] + thief->attempts[1]) % 2);
    thief->attempts[is_unreserved]++;
    void *page = take(thief, is_unreserved);
    if (page == MAP_FAILED)
        return 0;
    keep(thief, page);
    uint64_t got = thief->got[0] + thief->got[1];
    if (got < MAX_TIMES)
        thief->times[got] = now();
    thief->got[is_unreserved]++;
    return 1;
}

static int is_told_to_stop(void)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    return poll(&input, 1, 0) != 0;
}

static void report(const Thief *thief)
{
    uint64_t got = thief->got[0] + thief->got[1];
    printf("%llu %llu %llu %llu %u\n",
           (unsigned long long)(thief->attempts[0] + thief->attempts[1]),
           (unsigned long long)thief->attempts[1], (unsigned long long)got,
           (unsigned long long)thief->got[1], thief->most_held);
    for (uint64_t i = 0; i < got && i < MAX_TIMES; i++)
        printf("%.6f\n", thief->times[i]);
}

int main(int argc, char **argv)
{
    static Thief thief;
    char line[16];
    if (argc != 3) {
        fprintf(stderr, "usage: thief SIZE_KIB HOLD_PAGES\n");
        return 2;
    }
    thief.page_bytes = (size_t)strtoull(argv[1], NULL, 10) * 1024;
    thief.hold_pages = (unsigned)strtoul(argv[2], NULL, 10);
    if (thief.hold_pages > MAX_HOLD)
        return 2;
    puts("ready");
    fflush(stdout);
    if (read(STDIN_FILENO, line, sizeof line) <= 0)
        return 0;
    puts("go");
    fflush(stdout);
    while (!is_told_to_stop())
        for (int i = 0; i < ATTEMPTS_PER_LOOK && !attempt(&thief); i++)
            ;
    report(&thief);
    return 0;
}
