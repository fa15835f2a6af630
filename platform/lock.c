/*
 * lock.c: a futex mutex after Ulrich Drepper, "Futexes Are Tricky" (2011), mutex 2, with signals blocked while held.
 */
#include "lock.h"

#include <assert.h>
#include <limits.h>
#include <stddef.h>

enum { FREE, HELD, CONTENDED };

static void hold(struct lock *lock, const struct os_sigmask *saved)
{
    lock->saved = *saved;
    __atomic_store_n(&lock->owner, os_thread_id(), __ATOMIC_RELAXED);
}

void lock_acquire(struct lock *lock)
{
    struct os_sigmask saved;
    os_signals_block(&saved);
    assert(!lock_held_by_me(lock));
    uint32_t seen = FREE;
    if (!__atomic_compare_exchange_n(&lock->word, &seen, HELD, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
        while (__atomic_exchange_n(&lock->word, CONTENDED, __ATOMIC_ACQUIRE) != FREE)
            os_futex_wait(&lock->word, CONTENDED, 0, false);
    }
    hold(lock, &saved);
}

bool lock_try(struct lock *lock)
{
    /* A glance first: the mask costs two system calls. */
    if (__atomic_load_n(&lock->word, __ATOMIC_RELAXED) != FREE)
        return false;
    struct os_sigmask saved;
    os_signals_block(&saved);
    uint32_t seen = FREE;
    if (!__atomic_compare_exchange_n(&lock->word, &seen, HELD, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
        os_signals_restore(&saved);
        return false;
    }
    hold(lock, &saved);
    return true;
}

void lock_release(struct lock *lock)
{
    assert(lock_held_by_me(lock));
    struct os_sigmask saved = lock->saved;
    __atomic_store_n(&lock->owner, 0, __ATOMIC_RELAXED);
    if (__atomic_exchange_n(&lock->word, FREE, __ATOMIC_RELEASE) == CONTENDED)
        os_futex_wake(&lock->word, 1, false);
    os_signals_restore(&saved);
}

bool lock_held_by_me(const struct lock *lock)
{
    return __atomic_load_n(&lock->owner, __ATOMIC_RELAXED) == os_thread_id();
}

void lock_adopt(struct lock *lock) { __atomic_store_n(&lock->owner, os_thread_id(), __ATOMIC_RELAXED); }
