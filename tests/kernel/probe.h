// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What the kernel probes share.
//
// A probe establishes facts of the running kernel that hugevm's custody of pages rests on. It
// brings one pool to a known state, lets child processes ("users") map pages of it, writes the
// pool, and compares all four counters with what the design expects. One fact is one TAP point; the
// numbers seen follow as diagnostics, because on another kernel they are the news.
//
// Three files: probe-run.c (TAP, and the supervisor that restores every pool whatever happens to
// the facts), probe-pool.c (counters and writes), probe-user.c (processes and guards).
//
// Counters are relative to what was there before: free pages found in a pool are parked, that is
// held by a user for as long as the probe runs, so nothing of the administrator's is ever given
// away. In a throwaway VM nothing is parked, and the probe may use what boot allocated.

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum { MAX_NODES = 8, ANY_NODE = -1, SIZE_2M_KIB = 2048, SIZE_1G_KIB = 1048576 };

// ---- probe-run.c

// Runs facts() under the supervisor and returns the exit status of the probe.
int probe_run(void (*facts)(void));
bool probe_in_throwaway_vm(void);

// One TAP point; returns `passed`.
bool ok(bool passed, const char *fact, ...) __attribute__((format(printf, 2, 3)));
void skip(const char *reason, const char *fact, ...) __attribute__((format(printf, 2, 3)));
void diag(const char *text, ...) __attribute__((format(printf, 1, 2)));
// A fact that differs between kernels: reported with the kernel's release, never failed.
void characterise(const char *text, ...) __attribute__((format(printf, 1, 2)));
// For what must not fail if the facts are to mean anything: ends the facts, the pools are restored.
void require(bool condition, const char *what, ...) __attribute__((format(printf, 2, 3)));

// ---- probe-pool.c

struct counts {
    long total, free, resv, surplus;
};
#define COUNTS(total, free, resv, surplus) ((struct counts){total, free, resv, surplus})

// All pools of one page size. `base` is what is in use by others, parked pages included.
struct pool {
    unsigned size_kib;
    const char *name;
    int nodes[MAX_NODES];
    int node_count;
    struct counts base;
    struct counts node_base[MAX_NODES];
};

bool pool_offered(unsigned size_kib);
bool pool_is_gigantic(const struct pool *pool);
size_t pool_page_bytes(const struct pool *pool);
// Opens the pools of one size, parking free pages unless this is a throwaway VM.
struct pool pool_open(unsigned size_kib);

struct counts pool_counts(const struct pool *pool);
// resv is 0 here: the kernel keeps it per size only.
struct counts pool_node_counts(const struct pool *pool, int index);

// Writes nr_hugepages, relative to base, globally or on one node (an index into nodes).
void pool_write(const struct pool *pool, long pages);
void pool_write_node(const struct pool *pool, int index, long pages);
// Asks for pages of one node to be split; a refusal shows in the counters.
void pool_demote_node(const struct pool *pool, int index, long pages);
long pool_overcommit(const struct pool *pool, long pages);

// Ends all users and guards, then leaves exactly `pages` free pages, all on one node. False when
// the kernel gave fewer.
bool pool_stock(const struct pool *pool, int index, long pages);
// Adds `pages` on another node, beside what is stocked already.
bool pool_stock_more(const struct pool *pool, int index, long pages);

// One TAP point: the counters become `want` within two seconds.
bool expect(const struct pool *pool, struct counts want, const char *fact, ...)
    __attribute__((format(printf, 3, 4)));
bool expect_node(const struct pool *pool, int index, struct counts want, const char *fact, ...)
    __attribute__((format(printf, 4, 5)));

// For the supervisor: all pools of the machine, before and after.
void pools_remember(void);
bool pools_restore(void);

// ---- probe-user.c

enum user_flags { USER_MAP = 0, USER_TOUCH = 1, USER_NORESERVE = 2, USER_PRIVATE = 4 };

enum outcome {
    OUTCOME_MAPPED = 'M',
    OUTCOME_TOUCHED = 'T',
    OUTCOME_NO_MEMORY = 'N',
    OUTCOME_SIGBUS = 'B',
    OUTCOME_FAILED = 'F',
};

// A process that maps pages, and lives until user_kill() unless its outcome was a failure.
struct user {
    pid_t pid;
    int channel;
    enum outcome outcome;
};

struct user user_start(const struct pool *pool, long pages, int flags, int node_index);
// On a file of its own in a hugetlbfs directory, as QEMU does it.
struct user user_start_in(const struct pool *pool, const char *directory, long pages, int flags);
// Touches all pages; the process is gone when that ends in SIGBUS.
enum outcome user_touch(struct user *user);
// Gives the first pages of the mapping back, as a balloon or postcopy does.
enum outcome user_discard(struct user *user, long pages);
void user_kill(struct user *user);
void users_kill_all(void);
// A user that users_kill_all() leaves alone.
void user_park(const struct pool *pool, long pages);
const char *outcome_name(enum outcome outcome);

// Guards by slot number, so that they are found again without any record. guard_make() returns
// 0 or errno.
int guard_make(const struct pool *pool, int slot, long pages);
int guard_find(int slot);
void guard_drop(int slot);
void guards_drop_all(void);

// Runs body in a child process; its return value, or 128 + signal.
int in_child(int (*body)(void *data), void *data);
// In a child: a mount namespace of its own, without any hugetlbfs in it.
int leave_hugetlbfs_mounts(void);
