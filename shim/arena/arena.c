#include "arena.h"

#include <string.h>

/* Blocks that could use huge pages start where those do. */
#define HUGE_PAGE (UINT64_C(2) << 20)

/* Freed ranges whose memory is kept: what glibc keeps of its own at the most (twice its largest mmap threshold). */
#define KEEP_TOTAL (UINT64_C(64) << 20)
#define KEEP_ONE   (UINT64_C(32) << 20)

int arena_init(struct arena *arena, struct platform *pf)
{
    static const bool always = true;
    *arena = (struct arena){.pf = pf, .lock = LOCK_INIT(LOCK_RANGES), .keep_max = KEEP_TOTAL, .here = &always};
    return ranges_init(&arena->ranges, pf->size);
}

static uint64_t unit_for(uint64_t size) { return (size + RANGE_UNIT - 1) & ~(RANGE_UNIT - 1); }

static uintptr_t address_of(const struct arena *arena, const struct range *range)
{
    return arena->pf->base + range->start;
}

static struct extent extent_of(const struct arena *arena, const struct range *range)
{
    return (struct extent){address_of(arena, range), range->size};
}

/* The range of that kind that starts at the address; NULL when there is none. */
static struct range *range_at(struct arena *arena, uintptr_t start, enum range_kind kind)
{
    struct range *range = range_find(&arena->ranges, start - arena->pf->base);
    return range && range->kind == kind && address_of(arena, range) == start ? range : NULL;
}

static bool in_use(const struct range *range) { return range->kind == RANGE_LIVE || range->kind == RANGE_MAPPED; }

void arena_note_peak(struct arena *arena)
{
    uint64_t live = arena_live_bytes(arena);
    if (live > arena->peak_live)
        arena->peak_live = live;
}

/* Closes kept ranges, the oldest first, until no more than `limit` bytes of them are left. */
static void trim_kept(struct arena *arena, uint64_t limit)
{
    struct ranges *ranges = &arena->ranges;
    while (ranges->bytes[RANGE_KEPT] > limit) {
        struct range *oldest = ranges->kept_oldest;
        arena->pf->ops->close(arena->pf, address_of(arena, oldest), oldest->size);
        range_become(ranges, oldest, RANGE_FREE);
    }
}

/* A fresh range, opened. */
static struct range *take_free(struct arena *arena, uint64_t size, uint64_t align)
{
    struct range *range = range_take(&arena->ranges, RANGE_FREE, size, align);
    if (!range && arena->ranges.bytes[RANGE_KEPT]) {
        trim_kept(arena, 0); /* what was kept may be what is missing */
        range = range_take(&arena->ranges, RANGE_FREE, size, align);
    }
    if (range && arena->pf->ops->open(arena->pf, address_of(arena, range), range->size) < 0) {
        range_become(&arena->ranges, range, RANGE_FREE);
        return NULL;
    }
    return range;
}

uintptr_t arena_alloc(struct arena *arena, uint64_t size, uint64_t align, bool zeroed, uint64_t *got)
{
    if (size > arena->pf->size || align > arena->pf->size)
        return 0;
    size = unit_for(size ? size : 1);
    uint64_t natural = size >= HUGE_PAGE ? HUGE_PAGE : RANGE_UNIT;
    if (align < natural)
        align = natural;
    /* Alignment is of addresses: the base is aligned to less than the largest alignment one may ask for. */
    if (align > (arena->pf->base & -arena->pf->base))
        return 0;

    lock_acquire(&arena->lock);
    struct range *range = zeroed ? NULL : range_take(&arena->ranges, RANGE_KEPT, size, align);
    if (!range)
        range = take_free(arena, size, align);
    uintptr_t start = range ? address_of(arena, range) : 0;
    *got = range ? range->size : 0;
    arena_note_peak(arena);
    lock_release(&arena->lock);
    return start;
}

bool arena_detach(struct arena *arena, uintptr_t start, struct extent *out)
{
    lock_acquire(&arena->lock);
    struct range *range = range_at(arena, start, RANGE_LIVE);
    if (range)
        *out = extent_of(arena, range_become(&arena->ranges, range, RANGE_BUSY));
    lock_release(&arena->lock);
    return range;
}

void arena_attach(struct arena *arena, const struct extent *extent)
{
    lock_acquire(&arena->lock);
    range_become(&arena->ranges, range_at(arena, extent->start, RANGE_BUSY), RANGE_LIVE);
    lock_release(&arena->lock);
}

void arena_return(struct arena *arena, const struct extent *extent, bool reusable)
{
    /* Giving memory back takes long: not under the lock. */
    bool keep = reusable && extent->length <= KEEP_ONE &&
                extent->length <= __atomic_load_n(&arena->keep_max, __ATOMIC_RELAXED);
    if (!keep)
        arena->pf->ops->close(arena->pf, extent->start, extent->length);
    lock_acquire(&arena->lock);
    struct range *range = range_at(arena, extent->start, RANGE_BUSY);
    range_become(&arena->ranges, range, keep ? RANGE_KEPT : RANGE_FREE);
    trim_kept(arena, arena->keep_max);
    lock_release(&arena->lock);
}

/* Lengthens the range by `more` bytes from the free space after it. The caller holds the lock. */
static bool extend_locked(struct arena *arena, struct range *range, uint64_t more)
{
    uintptr_t end = address_of(arena, range) + range->size;
    if (!range_extend(&arena->ranges, range, more))
        return false;
    if (arena->pf->ops->open(arena->pf, end, more) == 0)
        return true;
    struct range *rest = range_split(&arena->ranges, range, range->size - more);
    if (rest)
        range_become(&arena->ranges, rest, RANGE_FREE);
    return false;
}

bool arena_extend(struct arena *arena, uintptr_t start, uint64_t size, uint64_t *got)
{
    if (size > arena->pf->size)
        return false;
    size = unit_for(size);
    lock_acquire(&arena->lock);
    struct range *range = range_at(arena, start, RANGE_LIVE);
    bool done = range && (range->size >= size || extend_locked(arena, range, size - range->size));
    if (done)
        *got = range->size;
    arena_note_peak(arena);
    lock_release(&arena->lock);
    return done;
}

bool arena_shrink(struct arena *arena, uintptr_t start, uint64_t size, struct extent *rest)
{
    size = unit_for(size ? size : 1);
    *rest = (struct extent){0};
    lock_acquire(&arena->lock);
    struct range *range = range_at(arena, start, RANGE_LIVE);
    if (range && range->size > size) {
        struct range *cut = range_split(&arena->ranges, range, size);
        if (cut)
            *rest = extent_of(arena, range_become(&arena->ranges, cut, RANGE_BUSY));
    }
    lock_release(&arena->lock);
    return range;
}

bool arena_extent(struct arena *arena, uintptr_t address, struct extent *out)
{
    lock_acquire(&arena->lock);
    struct range *range = range_find(&arena->ranges, address - arena->pf->base);
    bool found = range && in_use(range);
    if (found)
        *out = extent_of(arena, range);
    lock_release(&arena->lock);
    return found;
}

void arena_stop_keeping(struct arena *arena)
{
    lock_acquire(&arena->lock);
    arena_keep_nothing(arena);
    lock_release(&arena->lock);
}

bool arena_is_changing(struct arena *arena, uintptr_t address)
{
    lock_acquire(&arena->lock);
    const struct range *range = range_find(&arena->ranges, address - arena->pf->base);
    bool changing = range && range->kind == RANGE_BUSY;
    lock_release(&arena->lock);
    return changing;
}

uint64_t arena_reach(struct arena *arena, uintptr_t address, uint64_t size)
{
    lock_acquire(&arena->lock);
    struct range *range = range_find(&arena->ranges, address - arena->pf->base);
    uint64_t reach = range && in_use(range) ? address_of(arena, range) + range->size - address : 0;
    while (reach && reach < size && range->kind == RANGE_MAPPED && (range = range_after(range)) != NULL &&
           range->kind == RANGE_MAPPED)
        reach += range->size;
    lock_release(&arena->lock);
    return reach < size ? reach : size;
}

void arena_let_go_of_kept(struct arena *arena)
{
    lock_acquire(&arena->lock);
    trim_kept(arena, 0);
    lock_release(&arena->lock);
}

uint64_t arena_block_size(struct arena *arena, uintptr_t start)
{
    lock_acquire(&arena->lock);
    const struct range *range = range_at(arena, start, RANGE_LIVE);
    uint64_t size = range ? range->size : 0;
    lock_release(&arena->lock);
    return size;
}

void arena_each(struct arena *arena, void (*visit)(void *context, const struct extent *live), void *context)
{
    for (struct range *range = range_find(&arena->ranges, 0); range; range = range_after(range)) {
        if (in_use(range)) {
            struct extent live = extent_of(arena, range);
            visit(context, &live);
        }
    }
}

void arena_keep_nothing(struct arena *arena)
{
    arena->keep_max = 0;
    trim_kept(arena, 0);
}

uint64_t arena_count(const struct arena *arena)
{
    return arena->ranges.count[RANGE_LIVE] + arena->ranges.count[RANGE_MAPPED];
}

uint64_t arena_live_bytes(struct arena *arena)
{
    return __atomic_load_n(&arena->ranges.bytes[RANGE_LIVE], __ATOMIC_RELAXED) +
           __atomic_load_n(&arena->ranges.bytes[RANGE_MAPPED], __ATOMIC_RELAXED);
}
