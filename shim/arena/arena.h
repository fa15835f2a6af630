/*
 * arena.h: the arena: address ranges with memory behind them.
 *
 * Joins the range allocator with the platform. It knows nothing of pages' states: whoever frees a range while paging is
 * armed tells the engine between arena_detach() and arena_return().
 *
 * Thread-safe; not async-signal-safe, except arena_contains() and arena_extent().
 */
#ifndef VP_ARENA_ARENA_H
#define VP_ARENA_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../platform/lock.h"
#include "../../platform/platform.h"
#include "ranges.h"

struct arena {
    struct platform *pf;
    struct lock lock;     /* guards `ranges` and all below */
    struct ranges ranges;
    uint64_t peak_live;
    uint64_t keep_max;    /* bytes of freed ranges that may keep their memory; 0 once paging is armed */
    bool wiped;           /* there has been memory that forked children find empty */
    bool ready;           /* set last at start-up, by one thread */
    const bool *here;     /* false in a process that has the addresses, but not what was in them (process/strangers.h) */
};

/** Takes over the reserved space of `pf`. Returns 0 or -ENOMEM. */
int arena_init(struct arena *arena, struct platform *pf);

/** Whether there is an arena, and what is in it is this process's. */
static inline bool arena_is_here(const struct arena *arena) { return arena->ready && *arena->here; }

/** Whether the address is one of the arena's, be it served or not. */
static inline bool arena_spans(const struct arena *arena, const void *pointer)
{
    return arena->ready && (uintptr_t) pointer - arena->pf->base < arena->pf->size;
}

static inline bool arena_contains(const struct arena *arena, const void *pointer)
{
    return arena_spans(arena, pointer) && *arena->here;
}

/**
 * A range of at least `size` bytes, aligned to `align` (a power of two; at least RANGE_UNIT is given), usable at once.
 * zeroed: its content must read as zero; else it may hold what a freed block left.
 * Returns its address, or 0 when address space or the system's memory is exhausted. *got is its size.
 */
uintptr_t arena_alloc(struct arena *arena, uint64_t size, uint64_t align, bool zeroed, uint64_t *got);

/**
 * Takes the live range that starts at `start` away from everybody: nothing finds it any more. Its memory is untouched.
 * Returns false when no live range starts there (a double free, or a foreign pointer).
 */
bool arena_detach(struct arena *arena, uintptr_t start, struct extent *out);

/** Ends what arena_detach() began: gives memory and range back. reusable: the content is all in memory (not armed), so
 *  a small range may be kept as it is for the next allocation. */
void arena_return(struct arena *arena, const struct extent *extent, bool reusable);

/** Undoes arena_detach(). */
void arena_attach(struct arena *arena, const struct extent *extent);

/** Makes the live range at `start` at least `size` bytes long without moving it. Returns whether it is now. */
bool arena_extend(struct arena *arena, uintptr_t start, uint64_t size, uint64_t *got);

/** Cuts the live range at `start` to `size` bytes, rounded up; *rest is what was cut off, detached (length 0: nothing). */
bool arena_shrink(struct arena *arena, uintptr_t start, uint64_t size, struct extent *rest);

/** The block, or the run of pages that the program has mapped alike, that contains `address`. Any thread, in the fault
 *  path too. */
bool arena_extent(struct arena *arena, uintptr_t address, struct extent *out);

/** Whether what is at `address` is just changing hands. Any thread, in the fault path too. */
bool arena_is_changing(struct arena *arena, uintptr_t address);

/** How many bytes from `address` on, up to `size`, belong to one block or to mappings next to each other. */
uint64_t arena_reach(struct arena *arena, uintptr_t address, uint64_t size);

/** Closes all free memory that was kept for the next allocation. */
void arena_let_go_of_kept(struct arena *arena);

/** The same, and nothing is kept from now on. */
void arena_stop_keeping(struct arena *arena);

/** The length of the block that starts at `start`; 0 when none does. */
uint64_t arena_block_size(struct arena *arena, uintptr_t start);

/** Calls visit for all memory in use, blocks and mappings, in address order. The caller holds arena->lock. */
void arena_each(struct arena *arena, void (*visit)(void *context, const struct extent *live), void *context);

/** Keeps nothing of what is freed any more, and gives back what was kept. The caller holds arena->lock. */
void arena_keep_nothing(struct arena *arena);

/** How many times arena_each() visits at the most. The caller holds arena->lock. */
uint64_t arena_count(const struct arena *arena);

/** Books the peak of arena_live_bytes(). The caller holds arena->lock. */
void arena_note_peak(struct arena *arena);

/** Bytes of blocks and of what the program has mapped and can use. Any thread. */
uint64_t arena_live_bytes(struct arena *arena);

#endif
