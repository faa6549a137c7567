/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * VMs start, run, are killed and reported gone in every order, on the kernel's real pool of 2 MiB
 * pages.
 *
 *   orders [OPTION]... MODULE
 *
 *   --count N       at most so many orders of each group (default: all, or RANDOM_ORDERS)
 *   --variations N  the same for groups that vary the four plain ones of two and three VMs
 *   --seed N        for random orders and random places (default 1)
 *   --group NAME    only this group
 *   --order TEXT    one order, as a failure prints it; with --group and --index as printed
 *   --index N       its index, from which sizes and other traits of its VMs follow
 *   --static N      so many static pages, whatever the group says
 *
 * An order is a list of events, two letters each: what happens, and to whom.
 *
 *   cA lA mA sA kA gA   VM A is claimed for, launched, mapped, started, killed, reported gone
 *   xA tA               it discards all its pages, it touches them all
 *   +3 -3               the administrator adds 3 pages to the pool, or takes 3
 *   uD dD               the database, which lives on all static pages, goes up or down
 *
 * No call and no touch may fail, the invariants hold after each event, and when all is over the
 * pool is as the administrator wants it, with no guard, launch mount or ledger entry left.
 */
#include "orders.h"

#include <getopt.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    RANDOM_ORDERS = 1500,
    STATIC_PAGES = DATABASE_PAGES,
    MAX_SHOWN = 3, /* failures of one group */
};

#define ROOM "----------------" /* a quarter of COMMAND_LINE_BYTES */

/* configuration of a group: this one, or GROW_ALL and PREALLOCATED in turns */
enum { IN_TURNS = CONFIGURATIONS };

struct group {
    const char *name;
    const char *text;
    int vms;
    long static_pages;
    int configuration;
    enum mixed_in mixed_in;
    bool is_silent;
};

static const struct group groups[] = {
    {"two", "two VMs", 2, 0, GROW_ALL},
    {"two-static", "two VMs", 2, STATIC_PAGES, GROW_ALL},
    {"two-preallocated", "two VMs, free pages are used", 2, 0, PREALLOCATED},
    {"two-preallocated-static", "two VMs, free pages are used", 2, STATIC_PAGES, PREALLOCATED},
    {"three", "three VMs", 3, 0, IN_TURNS},
    {"three-static", "three VMs", 3, STATIC_PAGES, IN_TURNS},
    {"raise", "two VMs, the administrator adds pages and takes them away", 2, 0, GROW_ALL,
     ADMIN_RAISES_FIRST},
    {"lower-static", "two VMs, the administrator takes pages and adds them again", 2, STATIC_PAGES,
     GROW_ALL, ADMIN_LOWERS_FIRST},
    {"database", "two VMs, a database on reserved pages restarts", 2, STATIC_PAGES, RESERVED,
     DATABASE},
    {"discard", "two VMs, one migrates in and discards", 2, 0, IN_TURNS, DISCARD},
    {"discard-exposed",
     "two VMs, one migrates in without a launch mount, discards and touches again", 2, STATIC_PAGES,
     IN_TURNS, DISCARD_EXPOSED},
    {"silent", "two VMs whose agents announce no launch", 2, 0, IN_TURNS, NOTHING, true},
};

static struct {
    const char *module, *group, *order;
    long count, variations, index, static_pages;
    unsigned long seed;
} options = {.count = RANDOM_ORDERS, .variations = RANDOM_ORDERS, .static_pages = -1, .seed = 1};

static void show_order(const struct group *group, const struct order *order, long index, int at)
{
    char text[ORDER_TEXT_BYTES];
    order_print(order, text);
    if (at < order->length)
        diag("  event %d (%c%c): %s", at + 1, order->events[at].what, order->events[at].who,
             stage_seen());
    else
        diag("  at the end: %s", stage_seen());
    diag("  again: --group %s --index %ld --static %ld --order '%s'", group->name, index,
         group->static_pages, text);
}

/* ---- one order */

static int configuration_of(const struct group *group, long index)
{
    if (group->configuration != IN_TURNS)
        return group->configuration;
    return index / 4 % 2 == 0 ? GROW_ALL : PREALLOCATED;
}

/* 1 to 4, most often 1: zeroing them is what takes the time. */
static long cell_pages(uint64_t traits)
{
    return 1 + __builtin_ctz((unsigned)traits | 8u);
}

static void make_vm(struct vm *vm, const struct group *group, const struct order *order, long index)
{
    uint64_t traits = orders_mix((uint64_t)index * MAX_VMS + (uint64_t)vm->number);
    char letter = (char)('A' + vm->number);
    vm->handle = stage_handle(configuration_of(group, index));
    vm->pages[0] = cell_pages(traits);
    vm->pages[1] = cell_pages(traits >> 8);
    vm->is_private = traits >> 16 & 1;
    vm->has_command_line = traits >> 17 & 1;
    /* all, none, all, some */
    vm->has_directory = index % 2 == 0 || (index % 4 == 3 && (traits >> 18 & 1));
    vm->is_silent = group->is_silent;
    vm->has_balloon = index % 8 >= 6;
    vm->is_incoming = order_place(order, 'x', letter) < order->length;
    /* What is discarded is the VM's again only where a launch mount keeps it, and as long as the
     * claim counts as exposed. */
    if (vm->is_incoming)
        vm->has_directory = group->mixed_in == DISCARD;
}

static bool happen(struct vm *vms, struct event event)
{
    switch (event.what) {
    case '+':
        return stage_admin(event.who - '0');
    case '-':
        return stage_admin('0' - event.who);
    case 'u':
    case 'd':
        return stage_database(event.what == 'u');
    default:
        if (event.who < 'A' || event.who >= 'A' + MAX_VMS)
            return stage_fail("there is no VM %c", event.who);
        return vm_event(&vms[event.who - 'A'], event.what);
    }
}

static bool try_order(const struct group *group, const struct order *order, long index)
{
    struct vm vms[MAX_VMS] = {0};
    for (int i = 0; i < MAX_VMS; i++) {
        vms[i].number = i;
        make_vm(&vms[i], group, order, index);
    }
    bool is_good = stage_begin(group->static_pages);
    int at = 0;
    while (is_good && at < order->length) {
        is_good = happen(vms, order->events[at]) && stage_check_step();
        at += is_good;
    }
    if (is_good && stage_check_end())
        return true;
    show_order(group, order, index, at);
    for (int i = 0; i < MAX_VMS; i++)
        vm_end(&vms[i]);
    stage_clear();
    return false;
}

/* ---- groups */

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static bool is_variation(const struct group *group)
{
    return group->mixed_in != NOTHING || group->is_silent || group->configuration == PREALLOCATED;
}

/* Of fewer than all orders of two VMs, those that are drawn. */
static long try_all(const struct group *group, long *out_tried)
{
    long failures = 0;
    unsigned mask = 0;
    long all = group->vms == 2 ? ALL_OF_TWO : RANDOM_ORDERS;
    uint64_t state = orders_mix(orders_mix(options.seed) + (uint64_t)(group - groups));
    long most = is_variation(group) && options.variations < options.count ? options.variations
                                                                          : options.count;
    long wanted = most < all ? most : all;
    *out_tried = 0;
    for (long index = 0; index < all && *out_tried < wanted; index++) {
        uint64_t own = orders_mix(state + (uint64_t)index);
        struct order order;
        if (group->vms == 2)
            order_next_of_two(&order, &mask);
        else
            order_random(&order, group->vms, &own);
        if (orders_draw(&own, (int)(all - index)) >= wanted - *out_tried)
            continue;
        ++*out_tried;
        order_mix_in(&order, group->mixed_in, &own);
        if (try_order(group, &order, index))
            continue;
        if (++failures == MAX_SHOWN)
            break;
    }
    return failures;
}

static void try_group(const struct group *group)
{
    long tried = 0;
    double start = seconds_now();
    long failures = try_all(group, &tried);
    ok(failures == 0, "%s, %ld static pages: %ld orders", group->text, group->static_pages, tried);
    diag("  %s: %.1f s%s", group->name, seconds_now() - start,
         failures == MAX_SHOWN ? ", given up after that many failures" : "");
}

static void try_given_order(struct group group)
{
    struct order order = {0};
    order_parse(&order, options.order);
    if (options.static_pages >= 0)
        group.static_pages = options.static_pages;
    ok(try_order(&group, &order, options.index), "the order '%s'", options.order);
}

static int try_groups(void *data)
{
    (void)data;
    stage_open(options.module);
    diag("seed %lu", options.seed);
    int tried = 0;
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
        struct group group = groups[i];
        if (options.group != NULL && strcmp(options.group, group.name) != 0)
            continue;
        tried++;
        if (options.order != NULL) {
            try_given_order(group);
            return 0;
        }
        try_group(&groups[i]);
    }
    require(tried > 0, "there is a group named %s", options.group);
    return 0;
}

/* The first process of its own process namespace: whatever it has started ends with it. */
static void try_groups_apart(void)
{
    require(unshare(CLONE_NEWPID) == 0, "processes of our own");
    int status = in_child(try_groups, NULL);
    require(status == 0, "all groups were tried (status %d)", status);
}

/* Executes this program again with one more word, so that a stand-in's command line has room. */
static int make_room(int argc, char **argv)
{
    static char room[] = "--room=" ROOM ROOM ROOM ROOM;
    char **words = calloc((size_t)argc + 2, sizeof *words);
    if (words == NULL)
        return 2;
    words[0] = argv[0];
    words[1] = room;
    memcpy(words + 2, argv + 1, (size_t)argc * sizeof *words);
    execv("/proc/self/exe", words);
    perror("orders: /proc/self/exe");
    free(words);
    return 2;
}

static bool parse_options(int argc, char **argv)
{
    static const struct option known[] = {
        {"count", required_argument, NULL, 'c'},
        {"seed", required_argument, NULL, 's'},
        {"group", required_argument, NULL, 'g'},
        {"room", required_argument, NULL, 'r'},
        {"order", required_argument, NULL, 'o'},
        {"index", required_argument, NULL, 'i'},
        {"static", required_argument, NULL, 'p'},
        {"variations", required_argument, NULL, 'v'},
        {0},
    };
    for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;)
        switch (option) {
        case 'c':
            options.count = atol(optarg);
            break;
        case 'v':
            options.variations = atol(optarg);
            break;
        case 's':
            options.seed = strtoul(optarg, NULL, 10);
            break;
        case 'g':
            options.group = optarg;
            break;
        case 'o':
            options.order = optarg;
            break;
        case 'i':
            options.index = atol(optarg);
            break;
        case 'p':
            options.static_pages = atol(optarg);
            break;
        case 'r':
            break;
        default:
            return false;
        }
    options.module = argv[optind];
    return optind == argc - 1;
}

int main(int argc, char **argv)
{
    if (argc < 2 || strncmp(argv[1], "--room=", strlen("--room=")) != 0)
        return make_room(argc, argv);
    vm_command_line(argv[0], (size_t)(argv[argc - 1] + strlen(argv[argc - 1]) + 1 - argv[0]));
    if (!parse_options(argc, argv)) {
        fprintf(stderr, "usage: orders [--count N] [--seed N] [--group NAME] "
                        "[--order TEXT [--index N] [--static N]] MODULE\n");
        return 2;
    }
    return probe_run(try_groups_apart);
}
