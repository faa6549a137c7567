/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The real pool of 2 MiB pages with nobody on it but the VMs of one order, the administrator and a
 * database; and what must hold there.
 *
 * The program has namespaces of its own for mounts, processes and SysV segments, and a /run of its
 * own: so hugevm's ledger, guards and launch mounts are out of the machine's way, and the kernel
 * removes them when the program ends, however it does. Only the pool itself is the machine's.
 *
 * Counts are relative to what was in use before. `low` is what the pool may never be less than:
 * the administrator's own pages. When he lowers while VMs run, it is hugevm's grown pages that
 * count as taken, as far as there are any, and hugevm cannot see what was undone between two of its
 * calls: so what he must have in the end is between `low` and `high`.
 */
#include "orders.h"

#include "loader.h"

#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mount.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define POOL_2M "/sys/kernel/mm/hugepages/hugepages-2048kB/"
#define HOME "/run/orders"
#define LEDGER_DIRECTORY "/run/hugevm"
#define GUARD_KEY_PREFIX 0x487u
#define MOUNT_SOURCE "hugevm:"
#define SETTLE_TRIES 100
#define SETTLE_PAUSE_MS 2

enum { TOTAL, FREE, RESV, SURPLUS, COUNTERS };

static struct {
    const struct hugevm_plugin *plugin;
    struct hugevm_handle *handles[CONFIGURATIONS];
    struct pool pool;
    int counters[COUNTERS];
    long low, high, static_pages;
    bool is_disturbed; /* by the administrator */
    struct user database;
    char seen[1024];
} stage;

const struct hugevm_plugin *stage_plugin(void)
{
    return stage.plugin;
}

struct hugevm_handle *stage_handle(enum configuration configuration)
{
    return stage.handles[configuration];
}

const char *stage_directory(int vm)
{
    static const char *const directories[MAX_VMS] = {HOME "/pages/a", HOME "/pages/b",
                                                     HOME "/pages/c"};
    return directories[vm];
}

bool stage_fail(const char *text, ...)
{
    va_list args;
    va_start(args, text);
    vsnprintf(stage.seen, sizeof stage.seen, text, args);
    va_end(args);
    return false;
}

const char *stage_seen(void)
{
    return stage.seen;
}

/* ---- opening */

static void write_configuration(const char *path, const char *use_preallocated, long reserved)
{
    FILE *stream = fopen(path, "we");
    require(stream != NULL, "%s can be written", path);
    fprintf(stream,
            "[performance]\nuse_dynamic_hugepages = true\nuse_preallocated_hugepages = %s\n"
            "reserved_hugepage_size = 2048\nreserved_hugepage_count = %ld\n"
            "[hugevm]\nhost_memory_floor = 0,0%%\n",
            use_preallocated, reserved);
    fclose(stream);
}

static void open_handles(const char *module)
{
    static const char *const paths[CONFIGURATIONS] = {
        HOME "/grow-all.conf", HOME "/preallocated.conf", HOME "/reserved.conf"};
    static const struct hugevm_host host = {.size = sizeof host,
                                            .abi_major = HUGEVM_ABI_MAJOR,
                                            .abi_minor = HUGEVM_ABI_MINOR,
                                            .name = "orders"};
    struct hugevm_error error = {.size = sizeof error};
    char message[256];
    write_configuration(paths[GROW_ALL], "false", 0);
    write_configuration(paths[PREALLOCATED], "true", 0);
    /* who was there before uses reserved pages too */
    write_configuration(paths[RESERVED], "true", stage.pool.base.total + DATABASE_PAGES);
    stage.plugin = hugevm_load(module, &host, message, sizeof message);
    require(stage.plugin != NULL, "the module can be loaded: %s", message);
    for (int i = 0; i < CONFIGURATIONS; i++) {
        const char *conf_files[] = {paths[i], NULL};
        struct hugevm_options options = {.size = sizeof options, .conf_files = conf_files};
        int32_t code = stage.plugin->open(&host, &options, &stage.handles[i], &error);
        require(code == HUGEVM_OK, "the module opens: %s", error.message);
    }
}

static void open_counters(void)
{
    static const char *const paths[COUNTERS] = {POOL_2M "nr_hugepages", POOL_2M "free_hugepages",
                                                POOL_2M "resv_hugepages",
                                                POOL_2M "surplus_hugepages"};
    for (int i = 0; i < COUNTERS; i++) {
        stage.counters[i] = open(paths[i], O_RDONLY | O_CLOEXEC);
        require(stage.counters[i] >= 0, "%s can be read", paths[i]);
    }
}

void stage_open(const char *module)
{
    stage.pool = pool_open(SIZE_2M_KIB);
    require(unshare(CLONE_NEWNS | CLONE_NEWIPC) == 0 &&
                mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
                mount("proc", "/proc", "proc", 0, NULL) == 0 &&
                mount("orders", "/run", "tmpfs", 0, "mode=0755") == 0,
            "mounts and segments of our own");
    require(mkdir(HOME, 0755) == 0 && mkdir(HOME "/pages", 0755) == 0 &&
                mount("orders", HOME "/pages", "hugetlbfs", 0, "pagesize=2M,mode=0755") == 0,
            "a hugetlbfs of our own");
    for (int vm = 0; vm < MAX_VMS; vm++)
        require(mkdir(stage_directory(vm), 0700) == 0, "a directory for each VM");
    open_counters();
    open_handles(module);
}

/* ---- the pool */

static long read_counter(int counter)
{
    char text[32];
    ssize_t n = pread(stage.counters[counter], text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    return n > 0 ? strtol(text, NULL, 10) : -1;
}

static struct counts read_counts(void)
{
    const struct counts *base = &stage.pool.base;
    return COUNTS(read_counter(TOTAL) - base->total, read_counter(FREE), read_counter(RESV),
                  read_counter(SURPLUS));
}

static bool fail_counts(const char *text)
{
    struct counts now = read_counts();
    return stage_fail("%s: total %ld free %ld resv %ld surplus %ld, the administrator has %ld to "
                      "%ld",
                      text, now.total, now.free, now.resv, now.surplus, stage.low, stage.high);
}

bool stage_begin(long static_pages)
{
    if (read_counts().total != static_pages)
        pool_write(&stage.pool, static_pages);
    stage.static_pages = stage.low = stage.high = static_pages;
    stage.is_disturbed = false;
    return read_counts().total == static_pages || fail_counts("no such pool to begin with");
}

bool stage_admin(long pages)
{
    struct counts before = read_counts();
    pool_write(&stage.pool, before.total + pages);
    if (pages < 0) {
        long grown = before.total - before.surplus - stage.low;
        stage.high += grown < -pages ? grown : -pages;
    }
    /* A write upwards makes pages of VMs that were handed over persistent. If those VMs end before
     * hugevm looks, nothing tells these pages from the administrator's: they stay as his. */
    if (pages > 0)
        stage.high += before.surplus;
    stage.low += pages;
    stage.high += pages;
    stage.is_disturbed = true;
    return true;
}

bool stage_database(bool is_up)
{
    if (!is_up) {
        user_kill(&stage.database);
        return true;
    }
    stage.database = user_start(&stage.pool, DATABASE_PAGES, USER_TOUCH, ANY_NODE);
    return stage.database.outcome == OUTCOME_TOUCHED ||
           stage_fail("the database's start: %s", outcome_name(stage.database.outcome));
}

/* ---- the invariants */

bool stage_check_step(void)
{
    struct counts now = read_counts();
    if (now.free < now.resv)
        return fail_counts("more is promised than is free");
    if (now.total - now.surplus < stage.low)
        return fail_counts("the administrator's pages were taken");
    return true;
}

static bool is_as_before(void)
{
    struct counts now = read_counts();
    return now.total >= stage.low && now.total <= stage.high && now.free == now.total &&
           now.resv == 0 && now.surplus == 0;
}

/* The kernel may take a moment for what the dead leave. */
static bool becomes_as_before(void)
{
    const struct timespec pause = {.tv_nsec = SETTLE_PAUSE_MS * 1000000};
    for (int i = 0; i < SETTLE_TRIES && !is_as_before(); i++)
        nanosleep(&pause, NULL);
    return is_as_before();
}

static void call_once_more(void)
{
    struct hugevm_vm_ref nobody = {.size = sizeof nobody,
                                   .uuid = "00000000-0000-4000-8000-000000000fff"};
    stage.plugin->after_vm_destroy(stage.handles[GROW_ALL], &nobody, NULL);
}

/* The first line of a file that is_wanted says yes to, in out. */
static bool find_line(const char *path, bool (*is_wanted)(const char *line), char *out,
                      size_t bytes)
{
    FILE *stream = fopen(path, "re");
    bool found = false;
    while (stream != NULL && !found && fgets(out, (int)bytes, stream) != NULL)
        found = is_wanted(out);
    if (stream != NULL)
        fclose(stream);
    return found;
}

static bool is_guard(const char *line)
{
    char *end;
    long key = strtol(line, &end, 10);
    return end != line && ((uint32_t)key >> 20) == GUARD_KEY_PREFIX;
}

static bool is_launch_mount(const char *line)
{
    return strncmp(line, MOUNT_SOURCE, strlen(MOUNT_SOURCE)) == 0;
}

/* A claim, or pages grown or about to. */
static bool is_entry(const char *line)
{
    return strstr(line, "\"uuid\"") != NULL || strstr(line, "\"node\"") != NULL;
}

bool stage_check_end(void)
{
    char line[512];
    user_kill(&stage.database);
    if (stage.is_disturbed && !is_as_before())
        call_once_more();
    if (!becomes_as_before())
        return fail_counts("all are gone, the pool is not as it was");
    if (find_line("/proc/sysvipc/shm", is_guard, line, sizeof line))
        return stage_fail("a guard is left: %s", line);
    if (find_line("/proc/self/mounts", is_launch_mount, line, sizeof line))
        return stage_fail("a launch mount is left: %s", line);
    if (find_line(LEDGER_DIRECTORY "/ledger.json", is_entry, line, sizeof line))
        return stage_fail("the ledger is not empty: %s", line);
    return true;
}

/* ---- after a failure */

static void remove_guards(void)
{
    char line[512];
    int key, id;
    while (find_line("/proc/sysvipc/shm", is_guard, line, sizeof line))
        if (sscanf(line, "%d %d", &key, &id) != 2 || shmctl(id, IPC_RMID, NULL) != 0)
            return;
}

static void remove_mounts(void)
{
    char line[512], target[256];
    while (find_line("/proc/self/mounts", is_launch_mount, line, sizeof line))
        if (sscanf(line, "%*s %255s", target) != 1 || umount2(target, MNT_DETACH) != 0)
            return;
}

void stage_clear(void)
{
    user_kill(&stage.database);
    remove_mounts();
    remove_guards();
    unlink(LEDGER_DIRECTORY "/ledger.json");
    unlink(LEDGER_DIRECTORY "/ledger.copy.json");
    stage.low = stage.high = stage.static_pages;
    pool_write(&stage.pool, read_counts().total);
    pool_write(&stage.pool, stage.static_pages);
    becomes_as_before();
}
