/*
 * block.h: large blocks: what malloc and its family do with requests of at least the threshold.
 */
#ifndef VP_INTERPOSE_BLOCK_H
#define VP_INTERPOSE_BLOCK_H

#include <stdbool.h>
#include <stddef.h>

#include "../lifecycle.h"

bool block_owns_aligned(const void *block);

/** Whether a pointer given to free() and the like is the arena's to judge: as long as the program has no mappings of its own
 *  there, every arena address is, right or wrong; and in a process that has lost the arena. */
static inline bool block_owns(const void *block)
{
    return arena_spans(&vp.arena, block) &&
           (!__atomic_load_n(&vp.arena.ranges.count[RANGE_MAPPED], __ATOMIC_RELAXED) || !*vp.arena.here ||
            block_owns_aligned(block));
}

/** Whether a request of `size` bytes made by the code at `caller` is for the arena. */
bool block_wanted(size_t size, const void *caller);

/** A block of at least `size` bytes aligned to `align`, zeroed where asked. NULL: the arena cannot (errno untouched);
 *  *refused tells whether libc should not be asked either, because nothing could back the memory. */
void *block_alloc(size_t size, size_t align, bool zeroed, bool *refused);

/** Frees the block at `block`, an arena address. A pointer that is no live block's start is reported and ignored. */
void block_free(void *block);

/** Usable bytes of the block at `block`, an arena address; 0 for anything but a live block's start. */
size_t block_size(void *block);

/** Resizes a block within the arena, moving pages if it must. NULL: the arena cannot; the old block is as it was. */
void *block_resize(void *block, size_t size);

#endif
