// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The counters of huge page pools, and writes to them.
//
// Written independently of the library under test, with plain libc: a probe that shared the
// library's reader would share its mistakes.
//
// Resetting a pool follows the one order that is exact on every kernel: first turn surplus into
// persistent pages with a global write of the total, then write the target, node by node.

#include "probe.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define HUGEPAGES "/sys/kernel/mm/hugepages"
#define NODES "/sys/devices/system/node"

static void pool_path(char *out, unsigned size_kib, int node, const char *file)
{
    if (node == ANY_NODE)
        snprintf(out, PATH_MAX, HUGEPAGES "/hugepages-%ukB/%s", size_kib, file);
    else
        snprintf(out, PATH_MAX, NODES "/node%d/hugepages/hugepages-%ukB/%s", node, size_kib, file);
}

static long read_counter(unsigned size_kib, int node, const char *file)
{
    char path[PATH_MAX];
    pool_path(path, size_kib, node, file);
    FILE *stream = fopen(path, "re");
    long value = -1;
    if (stream != NULL && fscanf(stream, "%ld", &value) != 1)
        value = -1;
    if (stream != NULL)
        fclose(stream);
    return value;
}

static bool write_counter(unsigned size_kib, int node, const char *file, long value)
{
    char path[PATH_MAX];
    char text[32];
    pool_path(path, size_kib, node, file);
    int length = snprintf(text, sizeof text, "%ld", value);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    bool written = write(fd, text, (size_t)length) == length;
    close(fd);
    return written;
}

static struct counts read_counts(unsigned size_kib, int node)
{
    return COUNTS(read_counter(size_kib, node, "nr_hugepages"),
                  read_counter(size_kib, node, "free_hugepages"),
                  node == ANY_NODE ? read_counter(size_kib, node, "resv_hugepages") : 0,
                  read_counter(size_kib, node, "surplus_hugepages"));
}

static struct counts minus(struct counts a, struct counts b)
{
    return COUNTS(a.total - b.total, a.free - b.free, a.resv - b.resv, a.surplus - b.surplus);
}

static bool same(struct counts a, struct counts b)
{
    struct counts difference = minus(a, b);
    return difference.total == 0 && difference.free == 0 && difference.resv == 0 &&
           difference.surplus == 0;
}

bool pool_offered(unsigned size_kib)
{
    return read_counter(size_kib, ANY_NODE, "nr_hugepages") >= 0;
}

bool pool_is_gigantic(const struct pool *pool)
{
    return pool->size_kib >= SIZE_1G_KIB;
}

size_t pool_page_bytes(const struct pool *pool)
{
    return (size_t)pool->size_kib * 1024;
}

struct counts pool_counts(const struct pool *pool)
{
    return minus(read_counts(pool->size_kib, ANY_NODE), pool->base);
}

struct counts pool_node_counts(const struct pool *pool, int index)
{
    return minus(read_counts(pool->size_kib, pool->nodes[index]), pool->node_base[index]);
}

void pool_write(const struct pool *pool, long pages)
{
    long value = pool->base.total + pages;
    require(write_counter(pool->size_kib, ANY_NODE, "nr_hugepages", value),
            "%s: the kernel takes a write of %ld", pool->name, value);
}

void pool_write_node(const struct pool *pool, int index, long pages)
{
    long value = pool->node_base[index].total + pages;
    require(write_counter(pool->size_kib, pool->nodes[index], "nr_hugepages", value),
            "%s: the kernel takes a write of %ld on node %d", pool->name, value,
            pool->nodes[index]);
}

void pool_demote_node(const struct pool *pool, int index, long pages)
{
    write_counter(pool->size_kib, pool->nodes[index], "demote", pages);
}

long pool_overcommit(const struct pool *pool, long pages)
{
    write_counter(pool->size_kib, ANY_NODE, "nr_overcommit_hugepages", pages);
    return read_counter(pool->size_kib, ANY_NODE, "nr_overcommit_hugepages");
}

struct pool pool_open(unsigned size_kib)
{
    struct pool pool = {.size_kib = size_kib, .name = size_kib == SIZE_1G_KIB ? "1G" : "2M"};
    for (int node = 0; node < 1024 && pool.node_count < MAX_NODES; node++)
        if (read_counter(size_kib, node, "nr_hugepages") >= 0)
            pool.nodes[pool.node_count++] = node;
    require(pool.node_count > 0, "%s: some node has a pool", pool.name);

    struct counts found = read_counts(size_kib, ANY_NODE);
    diag("%s: found total %ld free %ld resv %ld surplus %ld", pool.name, found.total, found.free,
         found.resv, found.surplus);
    require(found.surplus == 0 && found.resv == 0,
            "%s: nobody else has surplus or reserved pages at this moment", pool.name);
    if (found.free > 0 && !probe_in_throwaway_vm())
        user_park(&pool, found.free);

    // Only what is in use belongs to the base: in a throwaway VM free pages are the probe's.
    struct counts now = read_counts(size_kib, ANY_NODE);
    pool.base = COUNTS(now.total - now.free, 0, 0, 0);
    for (int i = 0; i < pool.node_count; i++) {
        now = read_counts(size_kib, pool.nodes[i]);
        pool.node_base[i] = COUNTS(now.total - now.free, 0, 0, 0);
    }
    return pool;
}

static void sleep_ms(long ms)
{
    struct timespec pause = {.tv_nsec = ms * 1000000};
    nanosleep(&pause, NULL);
}

// The kernel may free the pages of a dead process a moment after it was reaped.
static bool counts_become(unsigned size_kib, int node, struct counts want)
{
    for (int tries = 0; tries < 200; tries++) {
        if (same(read_counts(size_kib, node), want))
            return true;
        sleep_ms(10);
    }
    return false;
}

static bool expect_at(const struct pool *pool, int node, struct counts want, struct counts base,
                      const char *fact, va_list args)
{
    struct counts absolute = COUNTS(want.total + base.total, want.free + base.free,
                                    want.resv + base.resv, want.surplus + base.surplus);
    char text[256];
    vsnprintf(text, sizeof text, fact, args);
    bool passed = counts_become(pool->size_kib, node, absolute);
    struct counts seen = minus(read_counts(pool->size_kib, node), base);
    ok(passed, "%s: %s", pool->name, text);
    diag("  seen     total %ld free %ld resv %ld surplus %ld", seen.total, seen.free, seen.resv,
         seen.surplus);
    if (!passed)
        diag("  expected total %ld free %ld resv %ld surplus %ld", want.total, want.free, want.resv,
             want.surplus);
    return passed;
}

bool expect(const struct pool *pool, struct counts want, const char *fact, ...)
{
    va_list args;
    va_start(args, fact);
    bool passed = expect_at(pool, ANY_NODE, want, pool->base, fact, args);
    va_end(args);
    return passed;
}

bool expect_node(const struct pool *pool, int index, struct counts want, const char *fact, ...)
{
    va_list args;
    va_start(args, fact);
    bool passed = expect_at(pool, pool->nodes[index], want, pool->node_base[index], fact, args);
    va_end(args);
    return passed;
}

static void pin_surplus(unsigned size_kib)
{
    if (read_counter(size_kib, ANY_NODE, "surplus_hugepages") > 0)
        write_counter(size_kib, ANY_NODE, "nr_hugepages",
                      read_counter(size_kib, ANY_NODE, "nr_hugepages"));
}

bool pool_stock(const struct pool *pool, int index, long pages)
{
    users_kill_all();
    guards_drop_all();
    pin_surplus(pool->size_kib);
    for (int i = 0; i < pool->node_count; i++) {
        long want = i == index ? pages : 0;
        if (pool_node_counts(pool, i).total != want)
            pool_write_node(pool, i, want);
    }
    return counts_become(pool->size_kib, ANY_NODE, COUNTS(pool->base.total + pages, pages, 0, 0));
}

bool pool_stock_more(const struct pool *pool, int index, long pages)
{
    long want = pool_node_counts(pool, index).total + pages;
    pool_write_node(pool, index, want);
    return pool_node_counts(pool, index).total == want;
}

// ---- all pools of the machine

static struct remembered {
    unsigned size_kib;
    int node;
    long total;
    long overcommit;
} remembered[64];
static size_t remembered_count;

static void remember(unsigned size_kib, int node)
{
    long total = read_counter(size_kib, node, "nr_hugepages");
    if (total < 0 || remembered_count == sizeof remembered / sizeof *remembered)
        return;
    remembered[remembered_count++] = (struct remembered){
        size_kib, node, total, read_counter(size_kib, node, "nr_overcommit_hugepages")};
}

void pools_remember(void)
{
    const unsigned sizes_kib[] = {SIZE_1G_KIB, SIZE_2M_KIB};
    for (size_t i = 0; i < sizeof sizes_kib / sizeof *sizes_kib; i++)
        for (int node = ANY_NODE; node < 1024; node++)
            remember(sizes_kib[i], node);
}

static void restore_one(const struct remembered *pool)
{
    if (pool->node == ANY_NODE) {
        pin_surplus(pool->size_kib);
        if (read_counter(pool->size_kib, ANY_NODE, "nr_overcommit_hugepages") != pool->overcommit)
            write_counter(pool->size_kib, ANY_NODE, "nr_overcommit_hugepages", pool->overcommit);
    } else if (read_counter(pool->size_kib, pool->node, "nr_hugepages") != pool->total) {
        write_counter(pool->size_kib, pool->node, "nr_hugepages", pool->total);
    }
}

bool pools_restore(void)
{
    bool restored = true;
    for (size_t i = 0; i < remembered_count; i++)
        restore_one(&remembered[i]);
    for (size_t i = 0; i < remembered_count; i++) {
        const struct remembered *pool = &remembered[i];
        long total = read_counter(pool->size_kib, pool->node, "nr_hugepages");
        if (total == pool->total &&
            read_counter(pool->size_kib, pool->node, "surplus_hugepages") == 0)
            continue;
        diag("%u KiB, node %d: found %ld pages, left %ld", pool->size_kib, pool->node, pool->total,
             total);
        restored = false;
    }
    return restored;
}
