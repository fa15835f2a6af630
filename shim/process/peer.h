/*
 * peer.h: what can be seen of another process, and of this one, from outside: whether it lives, and what memory is its.
 *
 * Async-signal-safe, errno untouched, little stack: the pager asks.
 */
#ifndef VP_PROCESS_PEER_H
#define VP_PROCESS_PEER_H

#include <stdbool.h>
#include <stdint.h>

struct peer {
    uint64_t birth;  /* when it began, in clock ticks since boot: tells it from a later process of the same number */
    uint64_t use;    /* bytes in memory, its part of what it shares (PSS); all it has (RSS) where that is not to be seen */
    uint64_t shared; /* bytes in memory that count as others' (RSS less PSS) */
};

/** Tells PID namespaces apart: a process of one has other numbers, or none, in another. */
uint64_t peer_namespace(void);

/** Returns whether there is such a process, and not only what its parent has not waited for. What is not to be seen of
 *  it is 0. */
bool peer_look(uint32_t pid, struct peer *out);

/** This process's resident and proportional set sizes (RSS, PSS) in bytes, of one moment. Returns false where the kernel
 *  does not tell. One thread at a time. Takes time with the memory there is: milliseconds a gigabyte. */
bool peer_self(uint64_t *resident, uint64_t *proportional);

#endif
