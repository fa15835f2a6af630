/*
 * ranges.h: which parts of the arena's address space are taken.
 *
 * A best-fit allocator of address ranges: red-black trees by address and by size, neighbours coalesced, every
 * operation O(log n). It only does the arithmetic; memory is the business of arena.c. All its own data lie outside the
 * space it hands out.
 *
 * Not thread-safe: the holder of LOCK_RANGES calls it. Offsets are bytes from the arena's base; they and all sizes are
 * multiples of RANGE_STEP, those of blocks of RANGE_UNIT.
 */
#ifndef VP_ARENA_RANGES_H
#define VP_ARENA_RANGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <bsd/sys/tree.h>

#define RANGE_UNIT (UINT64_C(64) << 10)
#define RANGE_STEP UINT64_C(4096)

enum range_kind {
    RANGE_FREE, /* no memory behind it: closed */
    RANGE_KEPT, /* free, but still open, with old content: the next allocation saves its faults */
    RANGE_LIVE, /* allocated */
    RANGE_BUSY, /* changing hands: being freed or moved, not to be found by anybody */
    RANGE_MAPPED,   /* the program's own mapping (mapping.h) */
    RANGE_RESERVED, /* likewise, never accessible so far: nothing can be in it */
    RANGE_FOREIGN,  /* the program has put something else there, a file or shared memory: the kernel's business */
    RANGE_KINDS
};

struct range {
    RB_ENTRY(range) by_start;
    RB_ENTRY(range) by_size; /* FREE and KEPT only */
    struct range *newer;     /* KEPT: in the order in which they were freed */
    struct range *older;
    uint64_t start;
    uint64_t size;
    enum range_kind kind;
    int protection; /* MAPPED: PROT_* bits; else 0 */
};

RB_HEAD(range_starts, range);
RB_HEAD(range_sizes, range);

struct ranges {
    struct range_starts starts;
    struct range_sizes sizes[2]; /* FREE, KEPT */
    struct range *kept_newest, *kept_oldest;
    uint64_t bytes[RANGE_KINDS];
    uint64_t count[RANGE_KINDS];
    uint64_t high_water;  /* end of the highest range that was ever live */
    struct range *unused; /* nodes to use again, linked by `newer` */
    char *slab, *slab_end;
};

/** One free range: [0, size). Returns 0 or -ENOMEM. */
int ranges_init(struct ranges *ranges, uint64_t size);

/** Gives every node back. */
void ranges_fini(struct ranges *ranges);

/**
 * Takes the smallest range of `kind` (FREE or KEPT) in which `size` bytes fit at `align` (a power of two), the lowest
 * one among equals, and makes it LIVE. Returns NULL when there is none.
 */
struct range *range_take(struct ranges *ranges, enum range_kind kind, uint64_t size, uint64_t align);

/** The range that contains `offset`, of whatever kind. O(log n). */
struct range *range_find(struct ranges *ranges, uint64_t offset);

/** The ranges before and after, in address order; NULL at the ends. */
struct range *range_before(struct range *range);
struct range *range_after(struct range *range);

/** Changes what the range is. All but LIVE and BUSY ranges merge with neighbours of the same kind and protection: the
 *  range that remains is returned, and `range` itself may be gone. */
struct range *range_become(struct ranges *ranges, struct range *range, enum range_kind kind);

/** Cuts [start, start + size), which lies in `range`, out of it: what is returned is BUSY, what is left of `range` is as it
 *  was. Not for LIVE ranges. NULL when no node can be had (nothing changed). */
struct range *range_carve(struct ranges *ranges, struct range *range, uint64_t start, uint64_t size);

/** Cuts a range that is neither FREE nor KEPT at `size`: the rest becomes a range of the same kind, which is returned.
 *  NULL when no node can be had (nothing changed). */
struct range *range_split(struct ranges *ranges, struct range *range, uint64_t size);

/** Lengthens a LIVE range by `size` bytes from the FREE range after it. Returns whether that was possible. */
bool range_extend(struct ranges *ranges, struct range *range, uint64_t size);

/** Checks every invariant; for tests. Returns NULL, or what is wrong. */
const char *ranges_check(struct ranges *ranges, uint64_t size);

#endif
