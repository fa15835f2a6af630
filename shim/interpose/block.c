#include "block.h"

#include "../base/log.h"
#include "../guard/resident.h"
#include "../lifecycle.h"
#include "libc.h"

bool block_wanted(size_t size, const void *caller)
{
    /* libc keeps what it allocates for itself: it hands such memory to the kernel with all signals blocked. */
    return size >= vp.options.threshold && arena_is_here(&vp.arena) && !hooks_in_libc(caller);
}

void *block_alloc(size_t size, size_t align, bool zeroed, bool *refused)
{
    uint64_t got;
    *refused = !lifecycle_can_back(size);
    if (*refused)
        return NULL;
    uintptr_t start = arena_alloc(&vp.arena, size, align, zeroed, &got);
    if (start)
        lifecycle_note_growth();
    return (void *) start;
}

/* Gives back a detached range. Whether paging was armed is asked first: what is kept must be all in memory. */
static void give_back(const struct extent *extent)
{
    bool reusable = !lifecycle_armed();
    resident_forget(extent);
    engine_forget(&vp.engine, extent);
    arena_return(&vp.arena, extent, reusable && !lifecycle_armed());
    if (reusable)
        lifecycle_note_shrink();
}

void block_free(void *block)
{
    struct extent extent;
    if (arena_detach(&vp.arena, (uintptr_t) block, &extent))
        give_back(&extent);
    else
        log_warn("free of %x, which is no allocated block: ignored", (uint64_t) (uintptr_t) block);
}

/* Another allocator may have mapped its memory in the arena. What it hands out seldom looks like a block. */
bool block_owns_aligned(const void *block)
{
    return (uintptr_t) block % RANGE_UNIT == 0 && arena_block_size(&vp.arena, (uintptr_t) block) > 0;
}

size_t block_size(void *block)
{
    return arena_block_size(&vp.arena, (uintptr_t) block);
}

/* Shortens the block; never fails, the rest just stays where it cannot be cut off. */
static void shrink(void *block, size_t size)
{
    struct extent rest;
    if (arena_shrink(&vp.arena, (uintptr_t) block, size, &rest) && rest.length)
        give_back(&rest);
}

/* Moves the block to a larger range. */
static void *move(void *block, size_t size)
{
    bool refused;
    struct extent from;
    void *to = block_alloc(size, RANGE_UNIT, true, &refused);
    if (!to)
        return NULL;
    if (!arena_detach(&vp.arena, (uintptr_t) block, &from)) {
        block_free(to);
        return NULL;
    }
    engine_move(&vp.engine, &from, (uintptr_t) to);
    give_back(&from);
    return to;
}

void *block_resize(void *block, size_t size)
{
    uint64_t got;
    size_t old = block_size(block);
    if (size <= old) {
        shrink(block, size);
        return block;
    }
    if (!lifecycle_can_back(size - old))
        return NULL;
    if (arena_extend(&vp.arena, (uintptr_t) block, size, &got)) {
        lifecycle_note_growth();
        return block;
    }
    return move(block, size);
}
