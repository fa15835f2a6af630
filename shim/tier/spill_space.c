/* spill_space.c: see spill_space.h. */
#include <errno.h>

#include "../../platform/os.h"
#include "../base/log.h"
#include "spill_space.h"

/* `total` of a free segment without disk space. */
#define PUNCHED 0x80000000u

/* Disk space is asked for this much at a time: the first write to a block is slow without (FACTS). */
#define GROW_BYTES (64u << 20)

/* Free space is given back beyond this much, and when it is more than a quarter of the file; this much work a call. */
#define KEEP_FREE_BYTES (64u << 20)
#define TRIM_SEGMENTS   256

/* The dead are looked for this often where nothing depends on it. */
#define REAP_NS UINT64_C(100000000)

static uint32_t count_of(const _Atomic uint32_t *count)
{
    return atomic_load_explicit(count, memory_order_relaxed);
}

/* At most the records of a segment and two holds: 16 bits do. */
static uint16_t part_of(const _Atomic uint16_t *row, uint32_t index)
{
    return atomic_load_explicit(&row[index], memory_order_relaxed);
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

/* ---- counting: in which order, see spill_space.h ---- */

static void add_to(struct spill_space *space, _Atomic uint16_t *row, uint32_t index, uint32_t count)
{
    atomic_fetch_add_explicit(&space->total[index], count, memory_order_relaxed);
    atomic_fetch_add_explicit(&row[index], (uint16_t)count, memory_order_release);
}

static void subtract_from_total(struct spill_space *space, uint32_t index, uint32_t count)
{
    if (atomic_fetch_sub_explicit(&space->total[index], count, memory_order_acq_rel) == count)
        atomic_fetch_sub_explicit(&space->family->used, 1, memory_order_relaxed);
}

void spill_space_hold(struct spill_space *space, uint32_t index, uint32_t count)
{
    add_to(space, space->mine, index, count);
}

void spill_space_drop(struct spill_space *space, uint32_t index, uint32_t count)
{
    atomic_fetch_sub_explicit(&space->mine[index], (uint16_t)count, memory_order_relaxed);
    subtract_from_total(space, index, count);
}

/* Gives back all that is in a row. */
static void give_back(struct spill_space *space, _Atomic uint16_t *row)
{
    uint32_t frontier = count_of(&space->family->frontier);
    for (uint32_t i = 0; i < frontier; i++) {
        uint32_t count = part_of(row, i) ? atomic_exchange_explicit(&row[i], 0, memory_order_acquire) : 0;
        if (count)
            subtract_from_total(space, i, count);
    }
}

bool spill_space_is_mine(const struct spill_space *space)
{
    return os_process_id() == space->process;
}

bool spill_space_is_needed(const struct spill_space *space, uint32_t index)
{
    return part_of(space->mine, index) != 0;
}

uint32_t spill_space_sole(const struct spill_space *space, uint32_t index)
{
    uint32_t mine = part_of(space->mine, index);
    return mine == count_of(&space->total[index]) ? mine : 0;
}

bool spill_space_reap(struct spill_space *space, bool now)
{
    struct spill_members *members = &space->members;
    uint64_t time = os_now_ns();
    if (members->self == SPILL_NOBODY || (!now && time - space->reaped_ns < REAP_NS) ||
        !spill_space_is_mine(space)) /* a child that shares our locks */
        return false;
    space->reaped_ns = time;
    bool any = false;
    for (uint32_t slot = 0; slot < members->slots; slot++) {
        if (!spill_members_is_dead(members, space->file, slot))
            continue;
        give_back(space, spill_members_row(members, slot));
        spill_members_bury(members, space->file, slot);
        any = true;
    }
    return any;
}

/* ---- birth and death ---- */

/* A new writer id: at the start and in every forked child. */
static int new_writer(struct spill_space *space)
{
    space->process = os_process_id();
    return os_random(&space->writer, sizeof(space->writer));
}

int spill_space_init(struct spill_space *space, struct spill_file *file, size_t segment_size, uint64_t max_bytes)
{
    uint64_t limit = max_bytes / segment_size;
    if (limit < 2 || limit >= UINT32_MAX)
        return -EINVAL;
    *space = (struct spill_space){.file = file,
                                  .segment_size = segment_size,
                                  .limit = (uint32_t)limit,
                                  .members.self = SPILL_NOBODY,
                                  .child.fd = -1};
    space->segments = os_map(limit * sizeof(*space->segments));
    for (int i = 0; i < 2; i++)
        space->own[i] = os_map(limit * sizeof(*space->own[i]));
    space->mine = space->own[0];
    space->total = os_map_shared(limit * sizeof(*space->total));
    space->family = os_map_shared(sizeof(*space->family));
    bool mapped = space->segments && space->own[0] && space->own[1] && space->total && space->family;
    int error = mapped ? new_writer(space) : -ENOMEM;
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
    spill_space_after_fork_parent(space);
    if (space->mine && space->total && space->family && spill_space_is_mine(space)) {
        give_back(space, space->mine);
        spill_members_leave(&space->members);
    }
    spill_members_fini(&space->members);
    unmap(space->segments, space->limit * sizeof(*space->segments));
    for (int i = 0; i < 2; i++)
        unmap((void *)space->own[i], space->limit * sizeof(*space->own[i]));
    unmap(space->total, space->limit * sizeof(*space->total));
    unmap(space->family, sizeof(*space->family));
    *space = (struct spill_space){0};
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

/* Makes more segments free; also 0 when it may just be worth another look. */
static int grow(struct spill_space *space)
{
    if (spill_space_reap(space, true) || refill(space) == 0)
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
    atomic_fetch_add_explicit(&space->mine[*index], 1, memory_order_release);
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
    spill_space_reap(space, false);
    for (int i = 0; i < TRIM_SEGMENTS; i++) {
        uint64_t unused = position(space, free_segments(space));
        if (unused <= KEEP_FREE_BYTES || unused <= spill_space_held(space) / 4 || !punch_one(space))
            return;
    }
}

/* ---- fork ---- */

/* Without liveness a child that does not end by spill_free() takes space for good; nothing worse. */
static void tell(struct spill_space *space, int error)
{
    if (!space->told)
        log_info("spill space of forked children that are killed will stay taken (error %u)", (uint64_t)-error);
    space->told = true;
}

/* Moves this process's counts into the family's new table. */
static void found(struct spill_space *space)
{
    space->founded = true;
    int error = spill_members_found(&space->members, space->file, space->limit);
    if (error) {
        tell(space, error);
        return;
    }
    _Atomic uint16_t *row = spill_members_row(&space->members, space->members.self);
    uint32_t frontier = count_of(&space->family->frontier);
    for (uint32_t i = 0; i < frontier; i++)
        atomic_store_explicit(&row[i], part_of(space->mine, i), memory_order_relaxed);
    space->mine = row;
}

/* Sees to a row for the child: in the table, else private. */
static void admit(struct spill_space *space)
{
    struct spill_members *members = &space->members;
    spill_space_reap(space, false);
    space->child.fd = spill_members_admit(members, space->file, &space->child.slot);
    if (space->child.fd == -EUSERS && spill_space_reap(space, true))
        space->child.fd = spill_members_admit(members, space->file, &space->child.slot);
    if (space->child.fd >= 0) {
        space->child.row = spill_members_row(members, space->child.slot);
        return;
    }
    if (members->slots)
        tell(space, space->child.fd);
    space->child.fd = -1;
    space->child.slot = SPILL_NOBODY;
    space->child.row = space->own[space->mine == space->own[0]];
}

void spill_space_before_fork(struct spill_space *space)
{
    spill_space_after_fork_parent(space);
    if (!spill_space_is_mine(space)) {
        space->child.row = NULL;
        space->child.slot = SPILL_NOBODY;
        space->child.thread = 0;
        return;
    }
    if (!space->founded)
        found(space);
    admit(space);
    space->child.thread = os_thread_id();
    uint32_t frontier = count_of(&space->family->frontier);
    for (uint32_t i = 0; i < frontier; i++) {
        uint16_t mine = part_of(space->mine, i);
        atomic_store_explicit(&space->child.row[i], 0, memory_order_relaxed); /* a private one has old counts */
        if (mine)
            add_to(space, space->child.row, i, mine);
    }
}

int spill_space_after_fork_child(struct spill_space *space)
{
    spill_file_after_fork(space->file, space->child.fd);
    space->members.self = space->child.slot;
    space->child.fd = -1;
    space->child.thread = 0;
    space->process = 0;
    if (!space->child.row)
        return -EPERM;
    space->mine = space->child.row;
    return new_writer(space);
}

void spill_space_after_fork_parent(struct spill_space *space)
{
    if (space->child.fd >= 0)
        os_close(space->child.fd);
    space->child.fd = -1;
}

/* A slot without a process is a dead one's. A private row is this fork's, unless another thread has forked since: its
 * counts are lost then. */
void spill_space_fork_failed(struct spill_space *space)
{
    spill_space_after_fork_parent(space);
    if (space->child.slot != SPILL_NOBODY)
        spill_space_reap(space, true);
    else if (space->child.thread == os_thread_id())
        give_back(space, space->child.row);
    space->child.thread = 0;
}
