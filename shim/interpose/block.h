/*
 * block.h: large blocks: what malloc and its family do with requests of at least the threshold.
 */
#ifndef VP_INTERPOSE_BLOCK_H
#define VP_INTERPOSE_BLOCK_H

#include <stdbool.h>
#include <stddef.h>

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
