/*
 * lease.h: the memory of one system call, held while the call is under way.
 */
#ifndef VP_GUARD_LEASE_H
#define VP_GUARD_LEASE_H

#include <stddef.h>
#include <stdint.h>

#include "calls.h"

#define LEASE_PIECES 8

struct lease_piece {
    const void *buffer;
    size_t size;
};

struct lease {
    size_t bytes; /* pinned */
    size_t room;  /* bytes that may still be pinned: a call never holds more than a window (guard_window()) */
    unsigned count, capacity;
    struct lease_piece *pieces; /* `few`, or memory of its own */
    struct lease_piece few[LEASE_PIECES];
};

/**
 * Makes present and pins what the call may use of the arena. What exceeds the window is left out: the kernel then does
 * part of the work, which reads and writes of that size must expect. Async-signal-safe, errno kept; any thread.
 */
void lease_take(struct lease *lease, const struct call *call, const uint64_t arguments[CALL_ARGUMENTS]);

/** Lets go of everything. */
void lease_end(struct lease *lease);

#endif
