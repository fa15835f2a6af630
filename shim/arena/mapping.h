/*
 * mapping.h: the program's own mappings in the arena, page by page.
 *
 * What mmap() gives from the arena is a MAPPED or RESERVED range, what the program maps over it at a fixed address a
 * FOREIGN one. These functions keep the books only; protections and contents are the caller's business
 * (interpose/mappings.c), who makes one change at a time.
 *
 * Thread-safe against everything else in the arena. Addresses and sizes are multiples of the system's page.
 */
#ifndef VP_ARENA_MAPPING_H
#define VP_ARENA_MAPPING_H

#include "arena.h"

/* Beside the bits of a protection, with which it is cut, moved and merged: a forked child finds it empty (MADV_WIPEONFORK). */
#define MAPPING_WIPED 0x10000

/* Part of one range. */
struct piece {
    struct extent extent;
    enum range_kind kind;
    int protection; /* MAPPED: PROT_* bits, and the one below */
};

/** The range at `address` from there on, to its end or to `end`. Both in the arena. */
struct piece mapping_piece(struct arena *arena, uintptr_t address, uintptr_t end);

/** Takes a free range of `size` bytes, at `hint` if that lies in the arena and is free (0: anywhere), aligned to `align`.
 *  It is RESERVED; closed, as free ranges are. Returns its address, or 0. */
uintptr_t mapping_new(struct arena *arena, uint64_t size, uint64_t align, uintptr_t hint);

/** Makes `extent`, which lies in one range that is no block's, what is said. Returns whether it is: false when there is no
 *  memory for the books, or a block has come there. */
bool mapping_become(struct arena *arena, const struct extent *extent, enum range_kind kind, int protection);

/** Whether one more foreign range can be remembered. */
bool mapping_room(struct arena *arena);

/** Whether [start, start + size) has no free part (holes of the address space, to the program). */
bool mapping_is_whole(struct arena *arena, uintptr_t start, uint64_t size);

#endif
