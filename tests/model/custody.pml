/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who owns the huge pages at each moment: one node, one page size, a few pages.
 *
 * Two agents start and stop one VM each; QEMU may die whenever it lives. Beside them, by option:
 * an administrator (ADMIN writes), a database on static pages that restarts (FOREIGN), a thief who
 * takes any free page (THIEF), and the death of an agent or of its call between any two effects
 * (KILLS). At the end one more call is made, and every pool must be as the administrator left it.
 *
 * The kernel's steps are atomic (tests/kernel/FACTS.md). A ledger transaction is lock, effects on
 * the kernel one by one, replacement; the replacement is atomic, and a death frees the locks. A
 * pool write is: lock the size, record the intent, write, record the result, unlock.
 *
 * The administrator writes when no intent is open and no transaction runs. Writes of his in between
 * cannot be told from ours, by any ledger: ANYTIME allows them, and asserts less.
 *
 * Handed-over pages that he makes persistent are grown again as far as VMs still run that were
 * handed over: a VM that has died unseen may have returned its pages before he wrote, and then
 * the page that appeared is his. So what cannot be told is left to him (is_ambiguous).
 *
 * Each MUTANT_ leaves out one rule of the protocol; some assertion must then fail.
 */

#ifndef NEED0
#define NEED0 1
#endif
#ifndef NEED1
#define NEED1 1
#endif
#ifndef BASE /* static pages */
#define BASE 0
#endif
#ifndef BUDDY /* pages that the pool may still grow by */
#define BUDDY 4
#endif
#ifndef ADMIN /* writes of the administrator */
#define ADMIN 0
#endif
#ifndef THIEF /* pages that the thief takes, one after the other */
#define THIEF 0
#endif
#ifndef FOREIGN /* restarts of the user of the static pages; he reserves them by configuration */
#define FOREIGN 0
#endif
#ifndef KILLS /* deaths of agents or of their calls */
#define KILLS 1
#endif
#ifndef MOUNT0 /* has the agent a directory for a launch mount? */
#define MOUNT0 1
#endif
#ifndef MOUNT1
#define MOUNT1 0
#endif
#ifndef TRIES /* rounds of growing for one guard, of pinning for one drop */
#define TRIES 2
#endif

#define NEED(v) ((v) == 0 -> NEED0 : NEED1)
#define HAS_MOUNT(v) ((v) == 0 -> MOUNT0 : MOUNT1)
#if FOREIGN
#define RESERVED BASE
#else
#define RESERVED 0
#endif

/* Claims. */
#define NONE 0
#define CLAIMED 1
#define GUARDED 2
#define LAUNCHING 3
#define MOUNTED 4
#define RUNNING 5

/* QEMU. */
#define ABSENT 0
#define SPAWNED 1
#define MAPPED 2
#define DEAD 3

/* Kinds of pool writes. */
#define GROW 1
#define GIVE 2
#define PIN 3
#define HAND 4

/* What dies: the agent, or only the call that it made. */
#define KILL_AGENT 1
#define KILL_CALL 2

/* Kernel. */
byte total = BASE, free = BASE, resv, surplus, buddy = BUDDY;
byte guard[2];    /* pages a guard reserves */
byte mount[2];    /* min_size of an attached launch mount */
byte detached[2]; /* the same, detached while QEMU uses it */
byte qemu[2];
byte foreign_pages, thief_pages;

/* Ledger. */
byte state[2];
byte grown;
byte recorded;     /* persistent pages when it was last settled */
byte handed;       /* pages handed over, as far as they may still be surplus */
byte regained;     /* of the pages handed over: what others have made persistent again */
bool is_handed[2]; /* this claim ran when pages were handed over */
byte intent, before, target; /* intent: 0 or the kind of write */

/* Locks: 0 or the holder's number plus one. */
byte ledger_lock, size_lock;

/* Processes. */
byte killed[3];
bool is_owner_dead[2];
byte busy = 2; /* agents that have not finished */
bool has_ended[3];

/* What nobody in the system knows: pages that are the administrator's own. */
byte own = BASE;
byte own_settled = BASE; /* the same, when the ledger was last settled */
short net;               /* what he has changed since, as one change */
byte handed_surplus;     /* surplus that handover made */
bool is_decreased;       /* he took pages away */
bool is_pinned;          /* he made handed-over pages persistent */
bool is_ambiguous;       /* and more happened before the ledger saw it: kept, as if his */
bool is_unbacked;        /* a dead QEMU's page was surplus, and its mount's reservation stays */
byte collisions;         /* his writes between our reading and our record */

hidden short asked, amount, bound, held, exposed, others, avail, give;

#define PERSISTENT (total - surplus)
#define MIN2(a, b) ((a) < (b) -> (a) : (b))
#define MINUS(a, b) ((a) > (b) -> (a) - (b) : 0)

/* ---- kernel ---- */

#ifdef OLD_KERNEL
#define UNFREEABLE (resv + total - free)
#else
#define UNFREEABLE (resv + PERSISTENT - free)
#endif

inline kernel_write(pages)
{
    asked = pages;
    amount = MIN2(surplus, MINUS(asked, PERSISTENT));
    surplus = surplus - amount;
    amount = MIN2(buddy, MINUS(asked, PERSISTENT));
    total = total + amount;
    free = free + amount;
    buddy = buddy - amount;
    bound = (UNFREEABLE > asked -> UNFREEABLE : asked);
    amount = MIN2(free, MINUS(PERSISTENT, bound));
    total = total - amount;
    free = free - amount;
    buddy = buddy + amount;
    surplus = surplus + MINUS(PERSISTENT, asked);
}

#define CAN_RESERVE(pages) (free >= resv + (pages))

inline kernel_unreserve(pages)
{
    resv = resv - pages;
    amount = MIN2(MIN2(pages, surplus), free);
    total = total - amount;
    free = free - amount;
    surplus = surplus - amount;
    buddy = buddy + amount;
    handed_surplus = MIN2(handed_surplus, surplus)
}

/* Pages in use are freed: where there is surplus, to the buddy allocator. */
inline kernel_free(pages)
{
    amount = MIN2(pages, surplus);
    total = total - amount;
    surplus = surplus - amount;
    buddy = buddy + amount;
    free = free + pages - amount;
    handed_surplus = MIN2(handed_surplus, surplus)
}

#ifdef ANYTIME
#define CHECK_POOL skip
#else
#define CHECK_POOL assert(PERSISTENT >= own)
#endif

#define IS_QUIET (ledger_lock == 0 && intent == 0)
#ifdef ANYTIME
#define CAN_WRITE true
#else
#define CAN_WRITE IS_QUIET
#endif

/* ---- ledger ---- */

#define IS_ALIVE(v) (qemu[v] == SPAWNED || qemu[v] == MAPPED)

#ifdef MUTANT_CREDIT_NEWER
#define LIVE_IN(v) (state[v] == RUNNING && IS_ALIVE(v) -> NEED(v) : 0)
#else
#define LIVE_IN(v) (is_handed[v] && IS_ALIVE(v) -> NEED(v) : 0)
#endif
#ifdef MUTANT_CREDIT_DEAD
#define LIVE_PAGES handed
#else
#define LIVE_PAGES MINUS(LIVE_IN(0) + LIVE_IN(1), regained)
#endif

inline settle()
{
    if
    :: intent != 0 ->
        if
        :: grown == 0 && handed == 0 -> recorded = before
        :: else
        fi;
        if
        :: target >= before ->
            amount = MIN2(MINUS(PERSISTENT, before), target - before);
            grown = grown + amount;
            recorded = before + amount
        :: else ->
            amount = MIN2(MINUS(before, PERSISTENT), before - target);
            grown = MINUS(grown, amount);
            recorded = before - amount;
            if
            :: intent == HAND ->
                handed = MIN2(amount, surplus);
                regained = 0;
                is_handed[0] = (state[0] == RUNNING);
                is_handed[1] = (state[1] == RUNNING)
            :: else
            fi
        fi;
        intent = 0; before = 0; target = 0
    :: else
    fi;
    if
    :: grown != 0 || handed != 0 ->
        grown = MINUS(grown, MINUS(recorded, PERSISTENT));
        /* handed over, and not surplus any more: pinned by others, unless its VM is dead */
        amount = MIN2(MINUS(PERSISTENT, recorded), MIN2(MINUS(handed, surplus), LIVE_PAGES));
        grown = grown + amount;
        regained = regained + amount;
        handed = MIN2(handed - amount, surplus);
        regained = (handed == 0 -> 0 : regained);
        recorded = PERSISTENT
    :: else
    fi;
    if
    :: grown == 0 && handed == 0 -> recorded = 0
    :: else
    fi;
    own_settled = own;
    net = 0
}

#ifdef MUTANT_NO_INTENT
#define forget_intent() intent = 0; before = 0; target = 0
#else
#define forget_intent() skip
#endif

#define IS_HELD(v) (state[v] == GUARDED || state[v] == MOUNTED || state[v] == RUNNING)
#define IS_EXPOSED(v) (state[v] == CLAIMED || state[v] == LAUNCHING)

/* Needs of all claims but those of `self` (2: of all). */
inline count_claims(self)
{
    held = (self != 0 && IS_HELD(0) -> NEED0 : 0) + (self != 1 && IS_HELD(1) -> NEED1 : 0);
    exposed =
        (self != 0 && IS_EXPOSED(0) -> NEED0 : 0) + (self != 1 && IS_EXPOSED(1) -> NEED1 : 0);
    others = MINUS(total - free + resv, held)
}

inline count_available(self)
{
    count_claims(self);
    bound = (intent != 0 && target < before -> MINUS(PERSISTENT, target) : 0);
    avail = MINUS(free, bound + resv + MINUS(RESERVED, others) + exposed)
}

inline count_give()
{
    count_claims(2);
#ifdef MUTANT_GIVE_EXPOSED
    exposed = 0;
#endif
    bound = MINUS(MINUS(total, grown), others);
#ifdef MUTANT_GIVE_STATIC
    bound = 0;
#endif
    give = MIN2(grown, MINUS(free, resv + exposed + bound))
}

#define IS_RUNNING(v) (state[v] == NONE || state[v] == RUNNING)
#ifdef MUTANT_HAND_GUARDED
#define MAY_HAND \
    (state[0] != CLAIMED && state[1] != CLAIMED && surplus == 0 && grown == PERSISTENT && \
     grown > 0)
#else
#define MAY_HAND \
    (IS_RUNNING(0) && IS_RUNNING(1) && resv == 0 && surplus == 0 && grown == PERSISTENT && \
     grown > 0)
#endif

#define IS_GONE(v) (!IS_ALIVE(v) && (is_owner_dead[v] || state[v] == RUNNING))

/* ---- one ledger transaction's sweep ---- */

#ifdef MUTANT_DROP_UNPINNED
#define MAY_DROP true
#else
#define MAY_DROP (surplus == 0)
#endif

/* May what claim v has stay? `removed`: bits of the claims that this transaction removes. */
#ifdef MUTANT_SWEEP_ALL
#define KEEPS(v, wanted) false
#else
#define KEEPS(v, wanted) (state[v] == wanted && !(removed & (1 << v)))
#endif

#define MUST_SWEEP(v) \
    ((guard[v] != 0 && !KEEPS(v, GUARDED)) || (mount[v] != 0 && !KEEPS(v, MOUNTED)))

inline sweep_one(v)
{
    if
    :: d_step { MUST_SWEEP(v) ->
        if
        :: guard[v] != 0 && !KEEPS(v, GUARDED) && MAY_DROP ->
            kernel_unreserve(guard[v]);
            guard[v] = 0;
            CHECK_POOL
        :: else
        fi;
        if
        :: mount[v] != 0 && !KEEPS(v, MOUNTED) && qemu[v] == MAPPED ->
            detached[v] = mount[v];
            mount[v] = 0
        :: mount[v] != 0 && !KEEPS(v, MOUNTED) && qemu[v] != MAPPED && MAY_DROP ->
            kernel_unreserve(mount[v]);
            mount[v] = 0;
            CHECK_POOL
        :: else
        fi
    }
    :: else
    fi
}

inline lock_ledger()
{
    ledger_lock == 0 -> ledger_lock = me + 1
}

inline unlock_ledger()
{
    ledger_lock = 0
}

/* Claims that this transaction removes, and nothing else. */
inline remove_claims()
{
    if
    :: removed & 1 -> state[0] = NONE; is_handed[0] = false
    :: else
    fi;
    if
    :: removed & 2 -> state[1] = NONE; is_handed[1] = false
    :: else
    fi;
    removed = 0
}

#ifdef MUTANT_NO_SWEEP
#define sweep() skip
#else
inline sweep()
{
    sweep_one(0);
    sweep_one(1)
}
#endif

#define IS_LEFT(v) \
    ((guard[v] != 0 && state[v] != GUARDED) || (mount[v] != 0 && state[v] != MOUNTED))

/*
 * me: 0 and 1 start a VM and release it; 2 is the one call that comes after everything.
 * from_release: the call that was made has died, its agent lives and releases.
 */
proctype agent(byte me; bool from_release)
{
    byte kind, pages, write, old_total, tries, pins, removed;
    bool is_pin, is_write;
again:
    {
        if
        :: from_release -> goto release
        :: else
        fi;

        /* decision: the claim is recorded */
        atomic { lock_ledger(); removed = (IS_GONE(0) -> 1 : 0) | (IS_GONE(1) -> 2 : 0) }
        sweep();
        atomic {
            d_step {
                remove_claims();
                count_available(me);
                state[me] = CLAIMED;
                pages = MINUS(NEED(me), avail);
                unlock_ledger()
            }
            if
            :: pages > 0 -> kind = GROW; goto resize
            :: else
            fi
        }

get_guard:
        atomic {
            lock_ledger();
            d_step { count_available(me); pages = MINUS(NEED(me), avail) }
            if
            :: pages > 0 -> unlock_ledger(); kind = GROW; goto try_again
            :: else
            fi
        }
        if
        :: d_step { CAN_RESERVE(NEED(me)) -> resv = resv + NEED(me); guard[me] = NEED(me) }
        :: atomic { !CAN_RESERVE(NEED(me)) ->
            unlock_ledger(); kind = NONE; goto try_again
        }
        fi;
        d_step { state[me] = GUARDED; tries = 0; unlock_ledger() }

launch:
        atomic {
            lock_ledger();
            if
            :: !MAY_DROP && pins < TRIES -> unlock_ledger(); pins++; kind = PIN; goto resize
            :: !MAY_DROP && pins == TRIES -> unlock_ledger(); goto release
            :: else
            fi
        }
        d_step { kernel_unreserve(guard[me]); guard[me] = 0; CHECK_POOL }
        if
        :: !HAS_MOUNT(me) -> d_step { state[me] = LAUNCHING; unlock_ledger() }
        :: d_step { HAS_MOUNT(me) && CAN_RESERVE(NEED(me)) ->
            resv = resv + NEED(me);
            mount[me] = NEED(me)
        }
            d_step { state[me] = MOUNTED; unlock_ledger() }
        :: atomic { HAS_MOUNT(me) && !CAN_RESERVE(NEED(me)) ->
            /* a clean refusal: of a thief, of the administrator who took the page of a claim that
               is launching, or of a dead QEMU's mount that took its reservation back */
            assert(THIEF > 0 || collisions > 0 || is_unbacked ||
                   (is_decreased && !(MOUNT0 && MOUNT1)));
            state[me] = NONE;
            unlock_ledger();
            goto release
        }
        fi;
        d_step { qemu[me] = SPAWNED; pins = 0 }

        /* started */
        if
        :: qemu[me] == MAPPED
        :: qemu[me] == DEAD -> goto release
        fi;
        atomic { lock_ledger(); removed = 1 << me }
        sweep_one(me);
        d_step { removed = 0; state[me] = RUNNING; kind = HAND; unlock_ledger() }
        goto resize;

try_again:
        atomic {
            if
            :: tries == TRIES -> goto release
            :: tries < TRIES && kind == GROW -> tries++; goto resize
            :: tries < TRIES && kind != GROW -> tries++; goto get_guard
            fi
        }

release:
        atomic {
            me == 2 || !IS_ALIVE(me) ->
            from_release = true; pages = 0; tries = 0
        }
        atomic {
            lock_ledger();
            removed = (IS_GONE(0) -> 1 : 0) | (IS_GONE(1) -> 2 : 0) | (me < 2 -> 1 << me : 0)
        }
        sweep();
        d_step {
            remove_claims();
            unlock_ledger();
            if
            :: pins < TRIES && (IS_LEFT(0) || IS_LEFT(1)) && surplus > 0 -> pins++; kind = PIN
            :: else -> kind = GIVE
            fi
        }

        /* ---- one pool write, then on to what it was made for ---- */
resize:
        atomic {
#ifndef HANDOVER
            if
            :: kind == HAND -> goto resized
            :: else
            fi;
#endif
            size_lock == 0 -> size_lock = me + 1
        }
announce:
        atomic {
            ledger_lock == 0;
            d_step {
                settle();
                count_give();
                old_total = total;
                write = total;
                if
                :: kind == GROW -> write = total + pages
                :: kind == GIVE -> write = total - give
                :: kind == HAND && MAY_HAND -> write = 0
                :: else
                fi;
                is_pin = surplus > 0 && (write != total || kind == PIN);
                is_write = is_pin || write != total;
                if
                :: is_pin -> write = total; intent = PIN; before = PERSISTENT; target = total
                :: !is_pin && is_write -> intent = kind; before = total; target = write
                :: else
                fi;
                forget_intent()
            }
            if
            :: !is_write -> goto written
            :: else
            fi
        }
        d_step {
            kernel_write(write);
            handed_surplus = (kind == HAND && !is_pin -> surplus : MIN2(handed_surplus, surplus));
            write = 0;
            CHECK_POOL
        }
        atomic {
            ledger_lock == 0;
            d_step {
                settle();
                pages = (kind == GROW && !is_pin -> MINUS(old_total + pages, total) : pages);
                old_total = 0
            }
            if
            :: is_pin && kind != PIN -> goto announce
            :: else
            fi
        }
written:
        atomic { size_lock = 0; old_total = 0; write = 0; is_pin = false; is_write = false }
resized:
        atomic {
            if
            :: kind == GROW && pages > 0 -> goto release /* the pool gave too few */
            :: kind == GROW && pages == 0 -> goto get_guard
            :: kind == PIN && !from_release -> goto launch
            :: kind == PIN && from_release -> goto release
            :: kind == HAND && !from_release -> goto release
            :: kind == HAND && from_release
            :: kind == GIVE -> kind = HAND; goto resize
            fi
        }
    } unless { killed[me] != 0 };

    d_step {
        kind = 0; pages = 0; write = 0; old_total = 0; tries = 0; pins = 0; removed = 0;
        is_pin = false; is_write = false
    }
    if
    :: atomic { killed[me] == KILL_CALL -> killed[me] = 0; from_release = true; goto again }
    :: atomic { killed[me] != KILL_CALL -> busy = busy - (me < 2 -> 1 : 0); has_ended[me] = true }
    fi
}

/* QEMU of one VM: it lives as long as it likes. */
proctype vm(byte v)
{
    do
    :: busy == 0 && !IS_ALIVE(v) -> break
    :: qemu[v] == SPAWNED -> qemu[v] = DEAD
    :: d_step { qemu[v] == SPAWNED && mount[v] != 0 ->
        /* the mount's own reservation: nobody can have it */
        assert(resv >= NEED(v) && free >= NEED(v));
        resv = resv - NEED(v);
        free = free - NEED(v);
        qemu[v] = MAPPED
    }
    :: d_step { qemu[v] == SPAWNED && mount[v] == 0 ->
        if
        :: CAN_RESERVE(NEED(v)) -> free = free - NEED(v); qemu[v] = MAPPED
        :: else ->
            assert(!HAS_MOUNT(v) && (THIEF > 0 || is_decreased || collisions > 0));
            qemu[v] = DEAD
        fi
    }
    :: d_step { qemu[v] == MAPPED ->
        qemu[v] = DEAD;
        is_ambiguous = is_ambiguous || (is_pinned && handed > 0);
        kernel_free(NEED(v));
        /* freed pages are the mount's again; a detached one goes with its last file */
        if
        :: mount[v] != 0 -> resv = resv + mount[v]
        :: detached[v] != 0 ->
            resv = resv + detached[v];
            kernel_unreserve(detached[v]);
            detached[v] = 0
        :: else
        fi;
        is_unbacked = is_unbacked || resv > free;
        CHECK_POOL
    }
    od
}

/* Kills agents, or the calls that they make. A dead process holds no lock. */
proctype fate()
{
    byte kills, victim;
    do
    :: atomic { kills < KILLS && !(has_ended[0] && has_ended[1]) ->
            kills++;
            if
            :: !has_ended[0] -> victim = 0
            :: !has_ended[1] -> victim = 1
            fi;
            if
            :: killed[victim] = KILL_AGENT; is_owner_dead[victim] = true
            :: killed[victim] == 0 -> killed[victim] = KILL_CALL
            fi;
            d_step {
                ledger_lock = (ledger_lock == victim + 1 -> 0 : ledger_lock);
                size_lock = (size_lock == victim + 1 -> 0 : size_lock);
                victim = 0
            }
        }
    :: break
    od
}

/*
 * What the administrator writes is his, but for handed-over pages that it makes persistent. Between
 * two settlements the ledger sees the sum of his writes, so it is the sum that counts.
 */
inline admin_write(pages)
{
    collisions = collisions + (IS_QUIET -> 0 : 1);
    is_ambiguous = is_ambiguous || (is_pinned && handed > 0);
    net = net - PERSISTENT;
    kernel_write(pages);
    net = net + PERSISTENT - MINUS(handed_surplus, surplus);
    is_pinned = is_pinned || handed_surplus > surplus;
    handed_surplus = MIN2(handed_surplus, surplus);
    own = (net < 0 -> MIN2(own_settled, PERSISTENT) : own_settled + net)
}

/* One page more or less than the total that he reads. */
proctype admin()
{
    byte writes;
    do
    :: atomic { writes < ADMIN && CAN_WRITE ->
        writes++;
        if
        :: d_step { admin_write(total + 1) }
        :: d_step { total > 0 -> is_decreased = true; admin_write(total - 1) }
        fi
    }
    :: break
    od
}

/* Takes any page that nobody has reserved. */
proctype thief()
{
    byte thefts;
    do
    :: d_step { thefts < THIEF && CAN_RESERVE(1) ->
        free--; thief_pages++; thefts++
    }
    :: d_step { thief_pages > 0 -> thief_pages--; kernel_free(1); CHECK_POOL }
    :: thief_pages == 0 -> break
    od
}

#define CAN_RESTART (!is_decreased || CAN_RESERVE(BASE))

/* A database on the static pages: lets go, and finds them again. */
proctype database()
{
    byte restarts;
    do
    :: d_step { foreign_pages > 0 ->
        kernel_free(foreign_pages);
        foreign_pages = 0;
        CHECK_POOL
    }
    :: d_step { foreign_pages == 0 && restarts < FOREIGN && CAN_RESTART ->
        restarts++;
        assert(CAN_RESERVE(BASE));
        free = free - BASE;
        foreign_pages = BASE
    }
    :: foreign_pages == 0 -> break
    od
}

init
{
    atomic {
        run agent(0, false);
        run agent(1, false);
        run vm(0);
        run vm(1);
        run fate();
#if ADMIN
        run admin();
#endif
#if THIEF
        run thief();
#endif
#if FOREIGN
        run database();
#endif
    }
    /* only this process is left: every VM is gone, and every agent */
    _nr_pr == 1;
    d_step {
#ifdef HANDOVER
        /* where handover was in force, no call was needed */
        assert(handed == 0 || grown != 0 || intent != 0 || is_pinned || total == own);
#endif
        is_owner_dead[0] = true;
        is_owner_dead[1] = true
    }
    run agent(2, true);
    _nr_pr == 1;
    assert(guard[0] + guard[1] + mount[0] + mount[1] + detached[0] + detached[1] == 0);
    assert(state[0] == NONE && state[1] == NONE);
    assert(resv == 0 && surplus == 0 && free == total);
    assert(grown == 0 && intent == 0);
#ifndef ANYTIME
    assert(total == own || (is_ambiguous && total > own))
#endif
}
