/*
 * page.h: the state of a page, in one word.
 *
 * The word holds the state, its flags and the handle of the stored copy, and changes only by compare-and-swap or, where
 * one thread owns the page, by exchange. page_moves[] in page.c is the whole state machine.
 *
 *   state      who may act on the page                     what the memory holds
 *   FRESH      anybody who faults takes it to FILLING      nothing; reads as zero once filled
 *   FILLING    one thread owns it: a fault, a rescue, a    in motion
 *              free or a move; all others wait
 *   RESIDENT   anybody: a fault (write to a protected      the content; what place and handle name is a true copy
 *              page), the evictor
 *   EVICTING   the evictor reads it; a fault rescues it    the content, protected
 *   LEAVING    the evictor owns it; all others wait        being protected or taken away; later: going
 *   STORED     anybody who faults takes it to FILLING      nothing; the content is at PLACE, handle
 *   POISONED   nobody: the content is lost                 nothing
 *
 * DESIGN's COMPRESSED and SPILLED are STORED with the place PLACE_POOL and PLACE_SPILL.
 */
#ifndef VP_PAGER_PAGE_H
#define VP_PAGER_PAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "../tier/tier.h"

typedef uint64_t page_word;

enum page_state {
    PAGE_FRESH,
    PAGE_FILLING,
    PAGE_RESIDENT,
    PAGE_EVICTING,
    PAGE_LEAVING,
    PAGE_STORED,
    PAGE_POISONED,
    PAGE_STATES
};

/* Where a stored copy is. */
enum page_place {
    PLACE_NONE,
    PLACE_SAME, /* one 8-byte word over and over: the handle finds the word */
    PLACE_POOL,
    PLACE_SPILL,
};

#define PAGE_STATE_MASK UINT64_C(0x7)
#define PAGE_WAITERS    UINT64_C(0x8)  /* somebody sleeps until the owner is done */
#define PAGE_PROTECTED  UINT64_C(0x10) /* RESIDENT, EVICTING: writes trap; always so while a stored copy is kept */
#define PAGE_YOUNG      UINT64_C(0x20) /* filled since the evictor's hand last came by */
#define PAGE_HEAT_SHIFT 6              /* two bits: how often in a row it came back soon after it had left */
#define PAGE_HEAT_MASK  (UINT64_C(3) << PAGE_HEAT_SHIFT)
#define PAGE_PLACE_SHIFT 8
#define PAGE_PLACE_MASK  (UINT64_C(3) << PAGE_PLACE_SHIFT)
#define PAGE_MOVED       UINT64_C(0x400) /* the record was stored under another page number (realloc) */
#define PAGE_AGE_SHIFT   11 /* five bits. STORED: when it left; else: for how many rounds of the evictor's hand it stays */
#define PAGE_AGE_MAX     31u
#define PAGE_AGE_MASK    ((page_word) PAGE_AGE_MAX << PAGE_AGE_SHIFT)
#define PAGE_WRITTEN     UINT64_C(0x10000) /* it was written to after it had last come back */
#define PAGE_READ        UINT64_C(0x20000) /* it was only read then; neither: not known */
#define PAGE_HANDLE_SHIFT 18

static inline enum page_state page_state(page_word word) { return (enum page_state)(word & PAGE_STATE_MASK); }

static inline enum page_place page_place(page_word word)
{
    return (enum page_place)((word & PAGE_PLACE_MASK) >> PAGE_PLACE_SHIFT);
}

static inline tier_handle page_handle(page_word word) { return word >> PAGE_HANDLE_SHIFT; }

static inline unsigned page_heat(page_word word) { return (unsigned) ((word & PAGE_HEAT_MASK) >> PAGE_HEAT_SHIFT); }

static inline unsigned page_age(page_word word) { return (unsigned) (word >> PAGE_AGE_SHIFT) & PAGE_AGE_MAX; }

/* Place, handle and MOVED: everything about the stored copy. */
#define PAGE_STORE_MASK (~UINT64_C(0) << PAGE_HANDLE_SHIFT | PAGE_PLACE_MASK | PAGE_MOVED)

static inline page_word page_store_bits(enum page_place place, tier_handle handle)
{
    return (page_word) place << PAGE_PLACE_SHIFT | handle << PAGE_HANDLE_SHIFT;
}

/** The word with another state; flags, heat and stored copy as they are, WAITERS cleared. */
static inline page_word page_in_state(page_word word, enum page_state state)
{
    return (word & ~(PAGE_STATE_MASK | PAGE_WAITERS)) | state;
}

/** Whether the state machine has this step. */
bool page_may_move(enum page_state from, enum page_state to);

page_word page_load(const page_word *word);

/** Takes *word from *seen to `next`; on failure *seen is what it was instead. Wakes waiters. Any thread. */
bool page_swap(page_word *word, page_word *seen, page_word next);

/** The owner of a FILLING or LEAVING page sets what it becomes and wakes those who wait. */
void page_finish(page_word *word, page_word next);

/** Sleeps until the word, seen in a state that has an owner, has changed. May wake early. */
void page_wait(page_word *word, page_word seen);

#endif
