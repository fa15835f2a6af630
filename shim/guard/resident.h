/*
 * resident.h: memory that must stay in memory for longer than a call: stacks of signal handlers and threads, buffers of
 * streams, requests under way, robust mutexes. The kernel, or libc with all signals blocked, uses it at any time.
 *
 * A span belongs to whatever uses it, its owner: an address that names it, as that of the stream. It stays until the owner
 * lets go, or the block that it lies in is given back: then the pin must go with it, or what comes there next could never
 * leave.
 */
#ifndef VP_GUARD_RESIDENT_H
#define VP_GUARD_RESIDENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../arena/arena.h"
#include "pin.h"

/* Spans that there are; any thread, atomically. */
extern uint32_t resident_spans;

static inline bool resident_any(void)
{
    return __builtin_expect(__atomic_load_n(&resident_spans, __ATOMIC_RELAXED) != 0, 0);
}

/** [start, start + size) of the arena stays in memory for `owner`, instead of what it had so far. What is not arena memory
 *  is only let go of. Keeps errno. */
void resident_add(const void *owner, const void *start, size_t size);

/** Takes the span away from its owner, still pinned: *start and *size are for guard_unpin(). Returns whether it had one. */
bool resident_take(const void *owner, const void **start, size_t *size);

/** The owner has no use for its span any more. Async-signal-safe. */
void resident_drop(const void *owner);

/** The content of [start, end) was given up, not the memory: what must be there is there again, as zeros. */
void resident_renew(uintptr_t start, uintptr_t end);

/** The memory of `extent` is given back: no span is left in it. */
void resident_forget(const struct extent *extent);

/** In a forked child, in which all pins are gone: these stay. Before anything can be paged out there. */
void resident_after_fork_child(void);

#endif
