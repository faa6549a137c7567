/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Orders of events: all of two VMs, random ones of more, and what is mixed in at random places.
 *
 * An order of VMs is a list of whose turn it is: each VM's own events always come in the same
 * order.
 */
#include "orders.h"

#include <stdio.h>
#include <string.h>

enum { TWO_VMS = 2 * EVENTS };

static const char life[EVENTS] = {'c', 'l', 'm', 's', 'k', 'g'};

/* ---- numbers that repeat */

uint64_t orders_mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

int orders_draw(uint64_t *state, int limit)
{
    *state = orders_mix(*state);
    return (int)(*state % (uint64_t)limit);
}

/* ---- orders */

/* whose[i] says whose next event comes i-th. */
static void fill_order(struct order *order, const char *whose, int length)
{
    int next[MAX_VMS] = {0};
    order->length = length;
    for (int i = 0; i < length; i++)
        order->events[i] = (struct event){life[next[whose[i] - 'A']++], whose[i]};
}

void order_next_of_two(struct order *order, unsigned *mask)
{
    char whose[TWO_VMS];
    while (__builtin_popcount(*mask) != EVENTS)
        ++*mask;
    for (int i = 0; i < TWO_VMS; i++)
        whose[i] = *mask >> i & 1u ? 'B' : 'A';
    ++*mask;
    fill_order(order, whose, TWO_VMS);
}

void order_random(struct order *order, int vms, uint64_t *state)
{
    char whose[MAX_VMS * EVENTS];
    int length = vms * EVENTS;
    for (int i = 0; i < length; i++)
        whose[i] = (char)('A' + i / EVENTS);
    for (int i = length - 1; i > 0; i--) {
        int other = orders_draw(state, i + 1);
        char here = whose[i];
        whose[i] = whose[other];
        whose[other] = here;
    }
    fill_order(order, whose, length);
}

int order_place(const struct order *order, char what, char who)
{
    int i = 0;
    while (i < order->length && (order->events[i].what != what || order->events[i].who != who))
        i++;
    return i;
}

/* The new event becomes the one with that place. */
static void insert(struct order *order, int place, struct event event)
{
    memmove(&order->events[place + 1], &order->events[place],
            (size_t)(order->length - place) * sizeof event);
    order->events[place] = event;
    order->length++;
}

/* Somewhere behind one event of the list, and not behind another. */
static void insert_between(struct order *order, int first, int last, struct event event,
                           uint64_t *state)
{
    insert(order, first + 1 + orders_draw(state, last - first), event);
}

static void insert_pair(struct order *order, struct event first, struct event second,
                        uint64_t *state)
{
    insert_between(order, -1, order->length, first, state);
    insert_between(order, order_place(order, first.what, first.who), order->length, second, state);
}

void order_mix_in(struct order *order, enum mixed_in mixed_in, uint64_t *state)
{
    char pages = (char)('1' + orders_draw(state, 8));
    char vm = (char)('A' + orders_draw(state, 2));
    switch (mixed_in) {
    case NOTHING:
        break;
    case ADMIN_RAISES_FIRST:
        insert_pair(order, (struct event){'+', pages}, (struct event){'-', pages}, state);
        break;
    case ADMIN_LOWERS_FIRST:
        insert_pair(order, (struct event){'-', pages}, (struct event){'+', pages}, state);
        break;
    case DATABASE:
        insert_pair(order, (struct event){'d', 'D'}, (struct event){'u', 'D'}, state);
        insert(order, 0, (struct event){'u', 'D'});
        break;
    case DISCARD:
        insert_between(order, order_place(order, 'm', vm), order_place(order, 's', vm),
                       (struct event){'x', vm}, state);
        insert_between(order, order_place(order, 's', vm), order_place(order, 'k', vm),
                       (struct event){'t', vm}, state);
        break;
    case DISCARD_EXPOSED:
        insert_between(order, order_place(order, 'm', vm), order_place(order, 's', vm),
                       (struct event){'x', vm}, state);
        insert_between(order, order_place(order, 'x', vm), order_place(order, 's', vm),
                       (struct event){'t', vm}, state);
        break;
    }
}

void order_parse(struct order *order, const char *text)
{
    int used = 0;
    struct event event;
    for (;
         order->length < MAX_EVENTS && sscanf(text, " %c%c%n", &event.what, &event.who, &used) == 2;
         text += used)
        order->events[order->length++] = event;
}

void order_print(const struct order *order, char *out)
{
    *out = '\0';
    for (int i = 0; i < order->length; i++)
        out +=
            sprintf(out, "%s%c%c", i > 0 ? " " : "", order->events[i].what, order->events[i].who);
}
