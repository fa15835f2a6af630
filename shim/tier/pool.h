/*
 * pool.h: the compressed tier, a log in RAM.
 *
 * Records are appended to segments; a segment is free when its last record is released, and sparse segments are cleaned
 * by moving what lives in them (tier.h: pick). So memory never fragments beyond what cleaning allows, and writing is a
 * copy to the end of the log.
 * Source: Rumble, Kejriwal, Ousterhout, "Log-structured Memory for DRAM-based Storage", FAST 2014.
 */
#ifndef VP_TIER_POOL_H
#define VP_TIER_POOL_H

#include "tier.h"

struct pool_config {
    uint64_t reserve;  /* bytes of address space, which bound the capacity for good; rounded down to segments */
    uint64_t capacity; /* bytes of memory the pool may hold; see pool_set_capacity() */
    size_t page_size;  /* bytes: a power of two, at most 64 KiB */
};

/**
 * Makes a pool. load() answers in place, without scratch. Returns 0, -EINVAL or -ENOMEM.
 * A pool of at least two segments keeps one back for cleaning: store() uses it only between pick() and pick_done().
 */
int pool_new(struct tier **out, const struct pool_config *config);

/** Frees the pool and its memory; NULL is allowed. Nobody may be loading or releasing. */
void pool_free(struct tier *tier);

/**
 * Changes how many bytes of memory the pool may hold (rounded down to segments, at most the reserve). Below what it
 * holds now, store() says -ENOSPC until enough was released or moved away; trim() gives the memory back.
 * Caller holds LOCK_EVICT.
 */
void pool_set_capacity(struct tier *tier, uint64_t capacity);

/** The record at `handle` is page `page`'s from now on: its block has moved. Caller holds LOCK_EVICT, and nobody loads the
 *  record meanwhile. */
void pool_renumber(struct tier *tier, tier_handle handle, uint64_t page);

/** Bytes in a segment for pages of `page_size` bytes: the unit in which capacity is given out. */
size_t pool_segment_size(size_t page_size);

#endif
