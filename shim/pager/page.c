#include "page.h"

#include <assert.h>
#include <limits.h>

#include "../../platform/os.h"

/* The whole state machine: from (row) to (column). */
static const bool page_moves[PAGE_STATES][PAGE_STATES] = {
    [PAGE_FRESH] = {[PAGE_FILLING] = true,   /* first touch; free, move */
                    [PAGE_RESIDENT] = true}, /* found in memory when paging arms */
    [PAGE_FILLING] = {[PAGE_RESIDENT] = true, /* filled, rescued, unprotected */
                      [PAGE_FRESH] = true,    /* freed; or a fill that failed goes back to where it came from */
                      [PAGE_STORED] = true,   /* likewise; and arrival of a moved page */
                      [PAGE_POISONED] = true},
    [PAGE_RESIDENT] = {[PAGE_FILLING] = true,  /* first write to a kept copy; free, move */
                       [PAGE_RESIDENT] = true, /* flags: age, heat */
                       [PAGE_LEAVING] = true}, /* the evictor has chosen it */
    [PAGE_EVICTING] = {[PAGE_FILLING] = true,  /* rescue by a write; free, move; or the evictor changes its mind */
                       [PAGE_LEAVING] = true}, /* stored: the memory goes */
    [PAGE_LEAVING] = {[PAGE_STORED] = true,
                      [PAGE_EVICTING] = true, /* its writers are blocked now */
                      [PAGE_RESIDENT] = true, /* pinned meanwhile; could not be taken or stored */
                      [PAGE_FRESH] = true},   /* the program itself has dropped its memory */
    [PAGE_STORED] = {[PAGE_FILLING] = true,
                     [PAGE_STORED] = true}, /* the record moved to another segment or tier */
    [PAGE_POISONED] = {[PAGE_FILLING] = true}, /* free */
};

bool page_may_move(enum page_state from, enum page_state to) { return page_moves[from][to]; }

/* Waiters sleep on the half of the word that holds the state. */
static const uint32_t *futex_of(const page_word *word)
{
    return (const uint32_t *) word + (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__);
}

page_word page_load(const page_word *word) { return __atomic_load_n(word, __ATOMIC_SEQ_CST); }

static void wake(page_word *word, page_word old)
{
    if (old & PAGE_WAITERS)
        os_futex_wake(futex_of(word), INT_MAX, false);
}

bool page_swap(page_word *word, page_word *seen, page_word next)
{
    assert(page_may_move(page_state(*seen), page_state(next)));
    page_word old = *seen;
    if (!__atomic_compare_exchange_n(word, seen, next, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        return false;
    wake(word, old);
    return true;
}

void page_finish(page_word *word, page_word next)
{
    page_word old = __atomic_exchange_n(word, next, __ATOMIC_SEQ_CST);
    assert(page_state(old) == PAGE_FILLING || page_state(old) == PAGE_LEAVING);
    assert(page_may_move(page_state(old), page_state(next)));
    wake(word, old);
}

void page_wait(page_word *word, page_word seen)
{
    page_word waiting = seen | PAGE_WAITERS;
    if (waiting != seen && !__atomic_compare_exchange_n(word, &seen, waiting, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        return;
    os_futex_wait(futex_of(word), (uint32_t) waiting, 0, false);
}
