/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the parts of `orders` share: orders-make.c makes the orders, orders.c goes through them,
 * orders-vm.c lets one event of one VM happen, orders-stage.c has the pool, its other users, and
 * the invariants.
 *
 * Everything returns whether it went well; what was seen otherwise is in stage_seen().
 */
#pragma once

#include "hugevm/plugin.h"
#include "probe.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { MAX_VMS = 3, CELLS = 2, DATABASE_PAGES = 20 };

/* The configuration files that a handle may be opened with. */
enum configuration {
    GROW_ALL,     /* use_preallocated_hugepages = false */
    PREALLOCATED, /* = true: free pages of the administrator's are used */
    RESERVED,     /* the same, but the database's pages are withheld */
    CONFIGURATIONS,
};

/* ---- orders-make.c */

enum {
    EVENTS = 6,       /* of one VM */
    ALL_OF_TWO = 924, /* orders of two VMs: 12 over 6 */
    MAX_EVENTS = MAX_VMS * EVENTS + 3,
    ORDER_TEXT_BYTES = MAX_EVENTS * 3 + 1,
};

struct event {
    char what, who;
};

struct order {
    struct event events[MAX_EVENTS];
    int length;
};

enum mixed_in {
    NOTHING,
    ADMIN_RAISES_FIRST,
    ADMIN_LOWERS_FIRST,
    DATABASE,        /* is up in the beginning, goes down, comes up again */
    DISCARD,         /* between map and started; touched again between started and kill */
    DISCARD_EXPOSED, /* touched again before started */
};

/* Numbers that repeat: a hash, and 0 <= result < limit with a state that moves on. */
uint64_t orders_mix(uint64_t x);
int orders_draw(uint64_t *state, int limit);

/* The next of ALL_OF_TWO; *mask is 0 before the first. */
void order_next_of_two(struct order *order, unsigned *mask);
void order_random(struct order *order, int vms, uint64_t *state);
void order_mix_in(struct order *order, enum mixed_in mixed_in, uint64_t *state);
/* Where the event is; the order's length: nowhere. */
int order_place(const struct order *order, char what, char who);
void order_parse(struct order *order, const char *text);
/* To ORDER_TEXT_BYTES. */
void order_print(const struct order *order, char *out);

/* ---- orders-stage.c */

/* Namespaces of our own, the pool, the module: once. */
void stage_open(const char *module);
/* Exactly that many static free pages; what the administrator and the database do counts from here.
 */
bool stage_begin(long static_pages);

bool stage_admin(long pages);
bool stage_database(bool is_up);

/* Holds after each event; holds once all VMs are gone. */
bool stage_check_step(void);
bool stage_check_end(void);
/* After a failure: nothing of this order stays, as far as that can be done by hand. */
void stage_clear(void);

const struct hugevm_plugin *stage_plugin(void);
struct hugevm_handle *stage_handle(enum configuration configuration);
/* A directory on hugetlbfs of 2 MiB. */
const char *stage_directory(int vm);

bool stage_fail(const char *text, ...) __attribute__((format(printf, 1, 2)));
const char *stage_seen(void);

/* ---- orders-vm.c */

/* How the VMs of one order differ from those of others; all of it follows from the order's index.
 */
struct vm {
    int number;
    struct hugevm_handle *handle;
    long pages[CELLS];
    bool is_incoming;      /* the target of a migration */
    bool is_silent;        /* its agent never calls vm_launching */
    bool has_directory;    /* its agent knows where QEMU will make its files */
    bool is_private;       /* its memory is mapped MAP_PRIVATE */
    bool has_command_line; /* hugevm has to find its QEMU by itself */
    bool has_balloon;      /* its pages are never handed over to the kernel */
    uint64_t generation;
    pid_t pid;
    int channel;
};

enum { COMMAND_LINE_BYTES = 64 };

/* Where the command line is that a stand-in writes its own over: once, at least
 * COMMAND_LINE_BYTES. */
void vm_command_line(char *start, size_t bytes);
/* c claim, l launch, m map and touch all, x discard all, s started, t touch all, k kill, g gone */
bool vm_event(struct vm *vm, char event);
/* Whatever state it is in: kills it and says that it is gone. */
void vm_end(struct vm *vm);
