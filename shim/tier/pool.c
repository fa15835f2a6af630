/*
 * pool.c: see pool.h.
 *
 * Who writes what: everything belongs to the holder of LOCK_EVICT, except what load() and release() touch: a record's
 * `state`, a segment's `live`, and the list of emptied segments. A segment's `live` also counts one hold while the
 * segment is open for appending and one while it is picked; so it falls to zero exactly once, and whoever takes it
 * there puts the segment on the emptied list, from which the evictor collects.
 */
#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "../../platform/os.h"
#include "pool.h"

enum {
    UNIT = 16,            /* records start at multiples of it */
    SEGMENT_MIN = 262144, /* and never less than SEGMENT_PAGES pages, so that the odd end of a segment stays small */
    SEGMENT_PAGES = 16,
    HOT_SEGMENTS = 4, /* free segments that keep their memory, so that a steady pool makes no system call */
};

#define NONE UINT32_MAX /* no segment */

/* A segment's life. Free memory is told from discarded memory, which no longer counts as held. */
enum segment_state { SEGMENT_CLEAN, SEGMENT_HOT, SEGMENT_USED };

/* Not bare flags: a stale handle points into the middle of other records. */
enum header_state { HEADER_LIVE = 0x4c495645, HEADER_DEAD = 0x44454144 };

/* In front of each record's bytes. */
struct header {
    uint64_t page;
    uint32_t size_codec; /* size << 8 | codec */
    _Atomic uint32_t state;
};
_Static_assert(sizeof(struct header) == UNIT, "handles count headers");

struct segment {
    _Atomic uint32_t live; /* bytes of live records, and HOLD for each hold */
    uint32_t used;         /* bytes appended; final once closed */
    uint32_t next_emptied;
    uint32_t older, newer; /* the used segments in the order of opening; in a free segment `older` links the free */
    uint8_t state;
};

/* A record is at least two units: one unit is no record's size. */
#define HOLD UNIT

struct pool {
    struct tier tier;
    char *base;
    struct segment *segments;
    size_t segment_size, page_size;
    uint32_t reserved; /* segments of address space */
    uint32_t capacity; /* segments that may be held */
    uint32_t fresh;    /* segments never used yet start here */
    uint32_t used, hot;
    uint32_t oldest, newest;
    uint32_t open, picked;
    uint32_t hot_list, clean_list;
    uint64_t stores, bytes_written;
    _Alignas(64) _Atomic uint32_t emptied; /* list of segments whose live bytes fell to zero */
    _Atomic uint64_t live_records, live_bytes, loads, bytes_read, errors;
};

static struct pool *pool_of(const struct tier *tier)
{
    return (struct pool *)tier;
}

size_t pool_segment_size(size_t page_size)
{
    return page_size * SEGMENT_PAGES > SEGMENT_MIN ? page_size * SEGMENT_PAGES : SEGMENT_MIN;
}

static uint32_t record_bytes(uint32_t size)
{
    return (uint32_t)sizeof(struct header) + ((size + UNIT - 1) & ~(UNIT - 1u));
}

static char *segment_start(const struct pool *pool, uint32_t index)
{
    return pool->base + (size_t)index * pool->segment_size;
}

/* ---- handles ---- */

static tier_handle handle_of(const struct pool *pool, const struct header *header)
{
    return (uint64_t)((const char *)header - pool->base) / UNIT + 1;
}

/* The header that a handle names, or NULL when it lies outside the pool. */
static struct header *header_at(const struct pool *pool, tier_handle handle)
{
    uint64_t offset = (handle - 1) * UNIT;
    if (handle == 0 || handle >> TIER_HANDLE_BITS || offset >= (uint64_t)pool->reserved * pool->segment_size)
        return NULL;
    return (struct header *)(pool->base + offset);
}

static struct segment *segment_of(const struct pool *pool, const struct header *header)
{
    return &pool->segments[(size_t)((const char *)header - pool->base) / pool->segment_size];
}

static struct record record_of(const struct header *header)
{
    return (struct record){.page = header->page,
                           .bytes = header + 1,
                           .size = header->size_codec >> 8,
                           .codec = (uint8_t)header->size_codec};
}

/* ---- segments: counting down (any thread) ---- */

/* Lock-free stack with one popper, which takes the whole list: no ABA. */
static void push_emptied(struct pool *pool, struct segment *segment)
{
    uint32_t index = (uint32_t)(segment - pool->segments);
    uint32_t head = atomic_load_explicit(&pool->emptied, memory_order_relaxed);
    do
        segment->next_emptied = head;
    while (!atomic_compare_exchange_weak_explicit(&pool->emptied, &head, index, memory_order_release,
                                                  memory_order_relaxed));
}

/* acq_rel: whoever reaches zero has seen the last reads of all who counted down before. */
static void segment_drop(struct pool *pool, struct segment *segment, uint32_t bytes)
{
    if (atomic_fetch_sub_explicit(&segment->live, bytes, memory_order_acq_rel) == bytes)
        push_emptied(pool, segment);
}

/* ---- segments: the evictor's side ---- */

static void unlink_used(struct pool *pool, struct segment *segment)
{
    if (segment->older == NONE)
        pool->oldest = segment->newer;
    else
        pool->segments[segment->older].newer = segment->newer;
    if (segment->newer == NONE)
        pool->newest = segment->older;
    else
        pool->segments[segment->newer].older = segment->older;
}

static void link_newest(struct pool *pool, uint32_t index)
{
    struct segment *segment = &pool->segments[index];
    segment->older = pool->newest;
    segment->newer = NONE;
    if (pool->newest == NONE)
        pool->oldest = index;
    else
        pool->segments[pool->newest].newer = index;
    pool->newest = index;
}

static void push_free(struct pool *pool, uint32_t *list, uint32_t index, enum segment_state state)
{
    pool->segments[index].state = (uint8_t)state;
    pool->segments[index].older = *list;
    *list = index;
}

static uint32_t pop_free(struct pool *pool, uint32_t *list)
{
    uint32_t index = *list;
    *list = pool->segments[index].older;
    return index;
}

/* Takes in the segments that release() emptied since the last call. */
static void collect(struct pool *pool)
{
    uint32_t index = atomic_exchange_explicit(&pool->emptied, NONE, memory_order_acquire);
    while (index != NONE) {
        uint32_t next = pool->segments[index].next_emptied;
        unlink_used(pool, &pool->segments[index]);
        push_free(pool, &pool->hot_list, index, SEGMENT_HOT);
        pool->used--;
        pool->hot++;
        index = next;
    }
}

/* A free segment, hot ones first, or NONE. */
static uint32_t take_free(struct pool *pool)
{
    if (pool->hot_list != NONE) {
        pool->hot--;
        return pop_free(pool, &pool->hot_list);
    }
    if (pool->clean_list != NONE)
        return pop_free(pool, &pool->clean_list);
    return pool->fresh < pool->reserved ? pool->fresh++ : NONE;
}

static void close_segment(struct pool *pool)
{
    if (pool->open != NONE)
        segment_drop(pool, &pool->segments[pool->open], HOLD);
    pool->open = NONE;
}

static int open_segment(struct pool *pool)
{
    close_segment(pool);
    collect(pool);
    uint32_t kept_back = pool->picked == NONE && pool->capacity > 1;
    if (pool->used + kept_back >= pool->capacity)
        return -ENOSPC;
    uint32_t index = take_free(pool);
    if (index == NONE)
        return -ENOSPC;
    struct segment *segment = &pool->segments[index];
    segment->state = SEGMENT_USED;
    segment->used = 0;
    atomic_store_explicit(&segment->live, HOLD, memory_order_relaxed);
    link_newest(pool, index);
    pool->used++;
    pool->open = index;
    return 0;
}

/* ---- store ---- */

static int make_room(struct pool *pool, uint32_t bytes)
{
    if (pool->open != NONE && pool->segments[pool->open].used + bytes <= pool->segment_size)
        return 0;
    return open_segment(pool);
}

/* The record's bytes are published by whoever publishes the handle (the page's state word), not by anything here. */
static tier_handle append(struct pool *pool, const struct record *record, uint32_t bytes)
{
    struct segment *segment = &pool->segments[pool->open];
    struct header *header = (struct header *)(segment_start(pool, pool->open) + segment->used);
    header->page = record->page;
    header->size_codec = record->size << 8 | record->codec;
    memcpy(header + 1, record->bytes, record->size);
    atomic_store_explicit(&header->state, HEADER_LIVE, memory_order_relaxed);
    segment->used += bytes;
    atomic_fetch_add_explicit(&segment->live, bytes, memory_order_relaxed);
    return handle_of(pool, header);
}

static int pool_store(struct tier *tier, const struct record *run, size_t n, tier_handle *handles)
{
    struct pool *pool = pool_of(tier);
    uint64_t total = 0;
    size_t done = 0;
    int error = -EINVAL;
    for (; done < n && run[done].size && run[done].size <= pool->page_size; done++) {
        uint32_t bytes = record_bytes(run[done].size);
        error = make_room(pool, bytes);
        if (error)
            break;
        handles[done] = append(pool, &run[done], bytes);
        total += bytes;
    }
    atomic_fetch_add_explicit(&pool->live_records, done, memory_order_relaxed);
    atomic_fetch_add_explicit(&pool->live_bytes, total, memory_order_relaxed);
    pool->stores += done;
    pool->bytes_written += total;
    return done ? (int)done : error;
}

/* ---- load, release: any thread ---- */

static bool is_live(const struct header *header)
{
    return atomic_load_explicit(&header->state, memory_order_relaxed) == HEADER_LIVE;
}

static int pool_load(struct tier *tier, uint64_t page, tier_handle handle, void *scratch, struct record *out)
{
    struct pool *pool = pool_of(tier);
    (void)scratch;
    const struct header *header = header_at(pool, handle);
    if (!header || !is_live(header) || (page != TIER_ANY_PAGE && header->page != page) ||
        header->size_codec >> 8 > pool->page_size) {
        atomic_fetch_add_explicit(&pool->errors, 1, memory_order_relaxed);
        return -EBADMSG;
    }
    *out = record_of(header);
    atomic_fetch_add_explicit(&pool->loads, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&pool->bytes_read, out->size, memory_order_relaxed);
    return 0;
}

/* Exactly one of two releases of the same handle counts, so that an owner's mistake cannot free a neighbour. */
static void pool_release(struct tier *tier, tier_handle handle)
{
    struct pool *pool = pool_of(tier);
    struct header *header = header_at(pool, handle);
    uint32_t live = HEADER_LIVE;
    if (!header || !atomic_compare_exchange_strong_explicit(&header->state, &live, HEADER_DEAD, memory_order_relaxed,
                                                            memory_order_relaxed)) {
        atomic_fetch_add_explicit(&pool->errors, 1, memory_order_relaxed);
        return;
    }
    uint32_t bytes = record_bytes(header->size_codec >> 8);
    atomic_fetch_sub_explicit(&pool->live_records, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&pool->live_bytes, bytes, memory_order_relaxed);
    segment_drop(pool, segment_of(pool, header), bytes);
}

/* ---- cleaning ---- */

/* Takes a hold unless the segment is empty already: then it is on the emptied list and no longer ours to hold. */
static bool hold_segment(struct segment *segment)
{
    uint32_t live = atomic_load_explicit(&segment->live, memory_order_relaxed);
    do
        if (live == 0)
            return false;
    while (!atomic_compare_exchange_weak_explicit(&segment->live, &live, live + HOLD, memory_order_acquire,
                                                  memory_order_relaxed));
    return true;
}

static uint32_t find_oldest(const struct pool *pool)
{
    uint32_t index = pool->oldest;
    while (index != NONE && (index == pool->open || atomic_load(&pool->segments[index].live) == 0))
        index = pool->segments[index].newer;
    return index;
}

static uint32_t find_emptiest(const struct pool *pool, unsigned max_live_percent)
{
    uint64_t least = (uint64_t)pool->segment_size * max_live_percent / 100;
    uint32_t found = NONE;
    for (uint32_t i = 0; i < pool->fresh; i++) {
        uint32_t live = atomic_load_explicit(&pool->segments[i].live, memory_order_relaxed);
        if (pool->segments[i].state != SEGMENT_USED || i == pool->open || live == 0 || live >= least)
            continue;
        least = live;
        found = i;
    }
    return found;
}

static int offer_live(const struct pool *pool, uint32_t index, struct tier_item *items, size_t max)
{
    const char *start = segment_start(pool, index);
    size_t count = 0;
    for (uint32_t at = 0; at < pool->segments[index].used && count < max;) {
        const struct header *header = (const struct header *)(start + at);
        if (is_live(header))
            items[count++] = (struct tier_item){record_of(header), handle_of(pool, header)};
        at += record_bytes(header->size_codec >> 8);
    }
    return (int)count;
}

static void pool_pick_done(struct tier *tier)
{
    struct pool *pool = pool_of(tier);
    if (pool->picked != NONE)
        segment_drop(pool, &pool->segments[pool->picked], HOLD);
    pool->picked = NONE;
}

static int pool_pick(struct tier *tier, enum tier_pick which, unsigned max_live_percent, struct tier_item *items,
                     size_t max)
{
    struct pool *pool = pool_of(tier);
    pool_pick_done(tier);
    collect(pool);
    uint32_t index;
    do {
        index = which == PICK_OLDEST ? find_oldest(pool) : find_emptiest(pool, max_live_percent);
        if (index == NONE)
            return 0;
    } while (!hold_segment(&pool->segments[index])); /* refused: it was emptied this moment, which is better still */
    pool->picked = index;
    return offer_live(pool, index, items, max);
}

/* ---- giving memory back ---- */

/* The hot segments to keep: a few, within the capacity. */
static uint32_t hot_wanted(const struct pool *pool)
{
    uint32_t room = pool->capacity > pool->used ? pool->capacity - pool->used : 0;
    return room < HOT_SEGMENTS ? room : HOT_SEGMENTS;
}

/* How many segments from `first` on are hot, counted up to `max`. */
static uint32_t hot_run(const struct pool *pool, uint32_t first, uint32_t max)
{
    uint32_t run = 0;
    while (run < max && first + run < pool->fresh && pool->segments[first + run].state == SEGMENT_HOT)
        run++;
    return run;
}

static void rebuild_free_lists(struct pool *pool)
{
    pool->hot_list = pool->clean_list = NONE;
    for (uint32_t i = 0; i < pool->fresh; i++) {
        if (pool->segments[i].state == SEGMENT_HOT)
            push_free(pool, &pool->hot_list, i, SEGMENT_HOT);
        else if (pool->segments[i].state == SEGMENT_CLEAN)
            push_free(pool, &pool->clean_list, i, SEGMENT_CLEAN);
    }
}

/* Discards what is hot beyond `keep`, neighbours by one call. What the kernel refuses to take stays hot. */
static void discard_hot(struct pool *pool, uint32_t keep)
{
    uint32_t run;
    for (uint32_t i = 0; i < pool->fresh && pool->hot > keep; i += run ? run : 1) {
        run = hot_run(pool, i, pool->hot - keep);
        if (run == 0 || os_discard(segment_start(pool, i), run * pool->segment_size) != 0)
            continue;
        for (uint32_t j = i; j < i + run; j++)
            pool->segments[j].state = SEGMENT_CLEAN;
        pool->hot -= run;
    }
    rebuild_free_lists(pool);
}

static void pool_trim(struct tier *tier)
{
    struct pool *pool = pool_of(tier);
    collect(pool);
    if (pool->hot > hot_wanted(pool))
        discard_hot(pool, hot_wanted(pool));
}

void pool_set_capacity(struct tier *tier, uint64_t capacity)
{
    struct pool *pool = pool_of(tier);
    uint64_t segments = capacity / pool->segment_size;
    pool->capacity = segments < pool->reserved ? (uint32_t)segments : pool->reserved;
    if (pool->used > pool->capacity)
        close_segment(pool);
}

/* ---- statistics, birth and death ---- */

static uint64_t counter(const _Atomic uint64_t *value)
{
    return atomic_load_explicit(value, memory_order_relaxed);
}

static void pool_stats(const struct tier *tier, struct tier_stats *out)
{
    const struct pool *pool = pool_of(tier);
    *out = (struct tier_stats){
        .records = counter(&pool->live_records),
        .bytes = counter(&pool->live_bytes),
        .held_bytes = (uint64_t)(pool->used + pool->hot) * pool->segment_size,
        .idle_bytes = (uint64_t)pool->hot * pool->segment_size,
        .capacity = (uint64_t)pool->capacity * pool->segment_size,
        .stores = pool->stores,
        .loads = counter(&pool->loads),
        .bytes_written = pool->bytes_written,
        .bytes_read = counter(&pool->bytes_read),
        .errors = counter(&pool->errors),
    };
}

static const struct tier_ops pool_ops = {
    .name = "compressed",
    .store = pool_store,
    .load = pool_load,
    .release = pool_release,
    .pick = pool_pick,
    .pick_done = pool_pick_done,
    .trim = pool_trim,
    .stats = pool_stats,
};

int pool_new(struct tier **out, const struct pool_config *config)
{
    size_t page_size = config->page_size, segment_size = pool_segment_size(page_size);
    uint64_t reserved = config->reserve / segment_size;
    if (page_size < UNIT || page_size > 65536 || page_size & (page_size - 1) || reserved == 0 || reserved >= NONE)
        return -EINVAL;
    struct pool *pool = os_map(sizeof(*pool));
    if (!pool)
        return -ENOMEM;
    *pool = (struct pool){.tier.ops = &pool_ops,
                          .segment_size = segment_size,
                          .page_size = page_size,
                          .reserved = (uint32_t)reserved,
                          .oldest = NONE,
                          .newest = NONE,
                          .open = NONE,
                          .picked = NONE,
                          .hot_list = NONE,
                          .clean_list = NONE,
                          .emptied = NONE};
    pool->segments = os_map(reserved * sizeof(*pool->segments));
    pool->base = os_map(reserved * segment_size);
    if (!pool->segments || !pool->base) {
        pool_free(&pool->tier);
        return -ENOMEM;
    }
    pool_set_capacity(&pool->tier, config->capacity);
    *out = &pool->tier;
    return 0;
}

void pool_free(struct tier *tier)
{
    if (!tier)
        return;
    struct pool *pool = pool_of(tier);
    if (pool->base)
        os_unmap(pool->base, pool->reserved * pool->segment_size);
    if (pool->segments)
        os_unmap(pool->segments, pool->reserved * sizeof(*pool->segments));
    os_unmap(pool, sizeof(*pool));
}

void pool_renumber(struct tier *tier, tier_handle handle, uint64_t page)
{
    struct header *header = header_at(pool_of(tier), handle);
    if (header && is_live(header))
        header->page = page;
}
