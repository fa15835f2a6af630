/*
 * lock.h: the one kind of lock the shim has.
 *
 * A futex word with a rank. Rules:
 *   1. Taken only with all signals blocked: lock_acquire() blocks them, lock_release() restores them.
 *   2. Taken in rising rank only; fork takes all of them in that order.
 *   3. No arena memory is touched while one is held: the fault path takes locks too.
 */
#ifndef VP_PLATFORM_LOCK_H
#define VP_PLATFORM_LOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "os.h"

/* Every lock of the shim, in the order in which they may be taken. */
enum lock_rank {
    LOCK_MAPPINGS,  /* the program's mappings: one change at a time */
    LOCK_LIFECYCLE, /* start, arming, fork, exit */
    LOCK_RANGES,    /* arena: the range allocator */
    LOCK_EVICT,     /* pager: one evictor at a time; the tiers' store side */
    LOCK_TRAP,      /* platform: a backend's own bookkeeping */
    LOCK_VM,        /* platform: the arena's memory itself (darwin/vm.c) */
    LOCK_RANKS
};

struct lock {
    uint32_t word;  /* 0 free, 1 held, 2 held with waiters */
    uint32_t owner; /* thread id of the holder, for lock_held_by_me() */
    enum lock_rank rank;
    struct os_sigmask saved; /* the holder's mask, written by the holder only */
};

#define LOCK_INIT(r) { .rank = (r) }

/** Blocks signals and takes the lock; sleeps while another thread has it. */
void lock_acquire(struct lock *lock);

/** Takes the lock if it is free, without waiting. Returns whether it was taken (only then signals are blocked). */
bool lock_try(struct lock *lock);

/** Releases and restores the holder's signal mask. */
void lock_release(struct lock *lock);

/** Whether the calling thread holds the lock. */
bool lock_held_by_me(const struct lock *lock);

/** In a forked child, by the thread that forked while it held the lock: it holds it still. */
void lock_adopt(struct lock *lock);

#endif
