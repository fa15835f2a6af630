/*
 * libc_heap.h: libc's own memory, kept apart when another allocator stands behind malloc().
 *
 * jemalloc and the like map their memory, which is the arena's then, and pages leave it. libc must not live there: in a
 * forked child it uses its streams, its locks and its list of fork handlers before any of those handlers has made absent
 * pages trap again, and around thread and process creation it blocks all signals. So what libc's and the loader's code
 * allocates comes from libc's own allocator, which is held to the break: by their addresses its blocks are told from the
 * other allocator's.
 *
 * Thread-safe like malloc itself.
 */
#ifndef VP_INTERPOSE_LIBC_HEAP_H
#define VP_INTERPOSE_LIBC_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hooks.h"

struct libc_heap {
    void *(*malloc)(size_t size); /* NULL: the usual case, libc's allocator is the program's */
    void *(*calloc)(size_t count, size_t size);
    void *(*realloc)(void *block, size_t size);
    void (*free)(void *block);
    size_t (*usable)(void *block);
    uintptr_t start;
    char *const *end; /* libc's own record of the break */
};

extern struct libc_heap libc_heap;

/** Finds out which case it is. Once, when the originals are known, before libc's allocator was first used. */
void libc_heap_init(void);

/** Whether a request by the code at `caller` is libc's own. */
static inline bool libc_heap_wants(const void *caller)
{
    return __builtin_expect(libc_heap.malloc != NULL, 0) && hooks_in_libc(caller);
}

static inline bool libc_heap_owns(const void *block)
{
    return __builtin_expect(libc_heap.malloc != NULL, 0) && (uintptr_t) block >= libc_heap.start &&
           (uintptr_t) block < (uintptr_t) *libc_heap.end;
}

/** As malloc() and calloc(); NULL also where the break cannot grow: the other allocator has to do. */
void *libc_heap_allocate(size_t size);
void *libc_heap_allocate_zeroed(size_t count, size_t size);

#endif
