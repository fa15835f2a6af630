/* spill_space.c: see spill_space.h. */
#include <errno.h>

#include "../../platform/os.h"
#include "spill_space.h"

/* `total` of a free segment without disk space. */
#define PUNCHED 0x80000000u

/* Disk space is asked for this much at a time: the first write to a block is slow without (FACTS). */
#define GROW_BYTES (64u << 20)

/* Free space is given back beyond this much, and when it is more than a quarter of the file; this much work a call. */
#define KEEP_FREE_BYTES (64u << 20)
#define TRIM_SEGMENTS   256

static uint32_t count_of(const _Atomic uint32_t *count)
{
    return atomic_load_explicit(count, memory_order_relaxed);
}

static uint64_t position(const struct spill_space *space, uint32_t index)
{
    return (uint64_t)index * space->segment_size;
}

/* The family's three counters change one after another: differences may be off for a moment, also below zero. */
static uint32_t free_segments(const struct spill_space *space)
{
    int64_t count = (int64_t)count_of(&space->family->frontier) - count_of(&space->family->used) -
                    count_of(&space->family->punched);
    return count > 0 ? (uint32_t)count : 0;
}

/* ---- birth and death ---- */

int spill_space_new_writer(struct spill_space *space)
{
    return os_random(&space->writer, sizeof(space->writer));
}

int spill_space_init(struct spill_space *space, struct spill_file *file, size_t segment_size, uint64_t max_bytes)
{
    uint64_t limit = max_bytes / segment_size;
    if (limit < 2 || limit >= UINT32_MAX)
        return -EINVAL;
    *space = (struct spill_space){.file = file, .segment_size = segment_size, .limit = (uint32_t)limit};
    space->segments = os_map(limit * sizeof(*space->segments));
    space->mine = os_map(limit * sizeof(*space->mine));
    space->total = os_map_shared(limit * sizeof(*space->total));
    space->family = os_map_shared(sizeof(*space->family));
    int error = space->segments && space->mine && space->total && space->family ? spill_space_new_writer(space)
                                                                                : -ENOMEM;
    if (error)
        spill_space_fini(space);
    return error;
}

static void unmap(void *start, size_t size)
{
    if (start)
        os_unmap(start, size);
}

void spill_space_fini(struct spill_space *space)
{
    uint32_t frontier = space->mine && space->total && space->family ? count_of(&space->family->frontier) : 0;
    for (uint32_t i = 0; i < frontier; i++) {
        if (count_of(&space->mine[i]))
            spill_space_drop(space, i, count_of(&space->mine[i]));
    }
    unmap(space->segments, space->limit * sizeof(*space->segments));
    unmap(space->mine, space->limit * sizeof(*space->mine));
    unmap(space->total, space->limit * sizeof(*space->total));
    unmap(space->family, sizeof(*space->family));
    *space = (struct spill_space){0};
}

/* ---- counting ---- */

void spill_space_hold(struct spill_space *space, uint32_t index, uint32_t count)
{
    atomic_fetch_add_explicit(&space->total[index], count, memory_order_relaxed);
    atomic_fetch_add_explicit(&space->mine[index], count, memory_order_relaxed);
}

/* `mine` first: it never exceeds this process's part of `total`. */
void spill_space_drop(struct spill_space *space, uint32_t index, uint32_t count)
{
    atomic_fetch_sub_explicit(&space->mine[index], count, memory_order_relaxed);
    if (atomic_fetch_sub_explicit(&space->total[index], count, memory_order_acq_rel) == count)
        atomic_fetch_sub_explicit(&space->family->used, 1, memory_order_relaxed);
}

uint32_t spill_space_sole(const struct spill_space *space, uint32_t index)
{
    uint32_t mine = count_of(&space->mine[index]);
    return mine == count_of(&space->total[index]) ? mine : 0;
}

/* ---- claiming ---- */

/* Claims the next segment whose total is `from`. */
static bool claim_next(struct spill_space *space, uint32_t from, uint32_t *index)
{
    uint32_t frontier = count_of(&space->family->frontier);
    for (uint32_t i = 0; i < frontier; i++) {
        *index = (space->cursor + i) % frontier;
        uint32_t expected = from;
        if (count_of(&space->total[*index]) == from &&
            atomic_compare_exchange_strong_explicit(&space->total[*index], &expected, 1, memory_order_acquire,
                                                    memory_order_relaxed))
            return true;
    }
    return false;
}

/* Ends a claim that was only for working on the segment's disk space. */
static void unclaim(struct spill_space *space, uint32_t index, uint32_t to)
{
    atomic_store_explicit(&space->total[index], to, memory_order_release);
}

/* Gives one punched segment its disk space back. */
static int refill(struct spill_space *space)
{
    uint32_t index;
    if (count_of(&space->family->punched) == 0 || !claim_next(space, PUNCHED, &index))
        return -ENOSPC;
    int error = spill_file_allocate(space->file, position(space, index), space->segment_size);
    if (!error)
        atomic_fetch_sub_explicit(&space->family->punched, 1, memory_order_relaxed);
    unclaim(space, index, error ? PUNCHED : 0);
    return error;
}

/* Extends the file by up to `count` segments. Two processes may do it at once: one's work counts, the other's is the
 * same range again. */
static int extend(struct spill_space *space, uint32_t count)
{
    uint32_t frontier = count_of(&space->family->frontier);
    if (frontier >= space->limit)
        return -ENOSPC;
    if (count > space->limit - frontier)
        count = space->limit - frontier;
    int error = spill_file_allocate(space->file, position(space, frontier), count * space->segment_size);
    if (error)
        return error;
    atomic_compare_exchange_strong_explicit(&space->family->frontier, &frontier, frontier + count, memory_order_relaxed,
                                            memory_order_relaxed);
    return 0;
}

static int grow(struct spill_space *space)
{
    if (refill(space) == 0)
        return 0;
    int error = extend(space, (uint32_t)(GROW_BYTES / space->segment_size));
    return error == -ENOSPC ? extend(space, 1) : error; /* the disk's last megabytes */
}

int spill_space_claim(struct spill_space *space, bool last, uint32_t *index)
{
    uint32_t wanted = last ? 1 : 2;
    int error = 0;
    while (!error && free_segments(space) < wanted)
        error = grow(space);
    while (!error && !claim_next(space, 0, index)) /* the rest of the family was faster */
        error = grow(space);
    if (error)
        return error;
    space->cursor = *index + 1;
    atomic_fetch_add_explicit(&space->family->used, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&space->mine[*index], 1, memory_order_relaxed);
    space->segments[*index] = (struct spill_segment){.writer = space->writer, .sequence = ++space->sequence};
    return 0;
}

/* ---- giving space back ---- */

uint64_t spill_space_held(const struct spill_space *space)
{
    uint32_t punched = count_of(&space->family->punched), frontier = count_of(&space->family->frontier);
    return frontier > punched ? position(space, frontier - punched) : 0;
}

static bool punch_one(struct spill_space *space)
{
    uint32_t index;
    if (!claim_next(space, 0, &index))
        return false;
    int error = spill_file_punch(space->file, position(space, index), space->segment_size);
    if (!error)
        atomic_fetch_add_explicit(&space->family->punched, 1, memory_order_relaxed);
    unclaim(space, index, error ? 0 : PUNCHED);
    space->cursor = index + 1;
    return !error;
}

void spill_space_trim(struct spill_space *space)
{
    for (int i = 0; i < TRIM_SEGMENTS; i++) {
        uint64_t unused = position(space, free_segments(space));
        if (unused <= KEEP_FREE_BYTES || unused <= spill_space_held(space) / 4 || !punch_one(space))
            return;
    }
}

/* ---- fork ---- */

void spill_space_before_fork(struct spill_space *space)
{
    uint32_t frontier = count_of(&space->family->frontier);
    for (uint32_t i = 0; i < frontier; i++) {
        uint32_t mine = count_of(&space->mine[i]);
        if (mine)
            atomic_fetch_add_explicit(&space->total[i], mine, memory_order_relaxed);
    }
}

void spill_space_fork_failed(struct spill_space *space)
{
    uint32_t frontier = count_of(&space->family->frontier);
    for (uint32_t i = 0; i < frontier; i++) {
        uint32_t mine = count_of(&space->mine[i]);
        if (mine)
            atomic_fetch_sub_explicit(&space->total[i], mine, memory_order_relaxed);
    }
}
