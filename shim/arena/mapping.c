#include "mapping.h"

static uint64_t offset_of(const struct arena *arena, uintptr_t address) { return address - arena->pf->base; }

static bool is_mapped(enum range_kind kind)
{
    return kind == RANGE_MAPPED || kind == RANGE_RESERVED || kind == RANGE_FOREIGN;
}

struct piece mapping_piece(struct arena *arena, uintptr_t address, uintptr_t end)
{
    lock_acquire(&arena->lock);
    const struct range *range = range_find(&arena->ranges, offset_of(arena, address));
    uintptr_t stop = arena->pf->base + range->start + range->size;
    struct piece piece = {{address, (stop < end ? stop : end) - address}, range->kind, range->protection};
    lock_release(&arena->lock);
    return piece;
}

/* The backend watches all of the arena but these. The holder of the lock calls it. */
static void list_foreign(struct arena *arena)
{
    struct foreign *list = &arena->pf->foreign;
    list->count = 0;
    struct range *range = arena->ranges.count[RANGE_FOREIGN] ? range_find(&arena->ranges, 0) : NULL;
    for (; range; range = range_after(range))
        if (range->kind == RANGE_FOREIGN)
            list->extents[list->count++] = (struct extent){arena->pf->base + range->start, range->size};
}

/* Whether there is room in that list, one cut into two included. */
static bool room_for_foreign(const struct arena *arena, const struct range *range, uint64_t size)
{
    return arena->ranges.count[RANGE_FOREIGN] < FOREIGN_MAX || (range->kind == RANGE_FOREIGN && range->size == size);
}

/* The holder of the lock calls it. Returns the range that `extent` is then part of. */
static struct range *become(struct arena *arena, const struct extent *extent, enum range_kind kind, int protection)
{
    uint64_t start = offset_of(arena, extent->start);
    struct range *range = range_find(&arena->ranges, start);
    if (range->kind == RANGE_LIVE || range->kind == RANGE_KEPT || range->start + range->size < start + extent->length)
        return NULL;
    bool foreign = kind == RANGE_FOREIGN || range->kind == RANGE_FOREIGN;
    if (foreign && !room_for_foreign(arena, range, extent->length))
        return NULL;
    range = range_carve(&arena->ranges, range, start, extent->length);
    if (!range)
        return NULL;
    range->protection = protection;
    range = range_become(&arena->ranges, range, kind);
    if (foreign)
        list_foreign(arena);
    return range;
}

bool mapping_become(struct arena *arena, const struct extent *extent, enum range_kind kind, int protection)
{
    lock_acquire(&arena->lock);
    bool done = become(arena, extent, kind, protection);
    arena->wiped |= kind == RANGE_MAPPED && protection & MAPPING_WIPED;
    arena_note_peak(arena);
    lock_release(&arena->lock);
    return done;
}

/* The free range at `hint`, if it is large enough. */
static bool take_at(struct arena *arena, uint64_t size, uintptr_t hint)
{
    if (!hint || !arena_contains(arena, (const void *) hint))
        return false;
    struct range *range = range_find(&arena->ranges, offset_of(arena, hint));
    return range->kind == RANGE_FREE && become(arena, &(struct extent){hint, size}, RANGE_RESERVED, 0);
}

uintptr_t mapping_new(struct arena *arena, uint64_t size, uint64_t align, uintptr_t hint)
{
    uintptr_t start = hint;
    lock_acquire(&arena->lock);
    if (!take_at(arena, size, hint)) {
        struct range *range = range_take(&arena->ranges, RANGE_FREE, size, align);
        start = range ? arena->pf->base + range->start : 0;
        if (range)
            range_become(&arena->ranges, range, RANGE_RESERVED);
    }
    lock_release(&arena->lock);
    return start;
}

bool mapping_room(struct arena *arena)
{
    lock_acquire(&arena->lock);
    bool room = arena->ranges.count[RANGE_FOREIGN] + 1 < FOREIGN_MAX;
    lock_release(&arena->lock);
    return room;
}

bool mapping_is_whole(struct arena *arena, uintptr_t start, uint64_t size)
{
    for (uintptr_t at = start; at < start + size;) {
        struct piece piece = mapping_piece(arena, at, start + size);
        if (piece.kind != RANGE_LIVE && !is_mapped(piece.kind))
            return false;
        at += piece.extent.length;
    }
    return true;
}
