/*
 * malloc.c: the malloc family. Large requests go to the arena (block.h), the rest to the next allocator, usually libc's.
 */
#include <errno.h>
#include <malloc.h>
#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../base/log.h"
#include "../lifecycle.h"
#include "../vp.h"
#include "block.h"
#include "hooks.h"
#include "libc_heap.h"

#define CALLER __builtin_return_address(0)

/*
 * Finding the originals calls dlsym(), which may call malloc(): that is served from here. These few bytes are never
 * given back.
 */
static struct {
    alignas(16) char bytes[16 << 10];
    size_t used;
} bootstrap;

static void *bootstrap_alloc(size_t size)
{
    size_t place = (size + 15) & ~(size_t) 15;
    size_t at = __atomic_fetch_add(&bootstrap.used, place, __ATOMIC_RELAXED);
    if (place < size || at + place > sizeof bootstrap.bytes)
        return NULL;
    return bootstrap.bytes + at;
}

static bool is_bootstrap(const void *block)
{
    return (uintptr_t) block - (uintptr_t) bootstrap.bytes < sizeof bootstrap.bytes;
}

static void *no_memory(void)
{
    errno = ENOMEM;
    return NULL;
}

/* Whether the request is the arena's; *block is the answer then, NULL with errno set when nothing could back it. */
static bool arena_serves(size_t size, size_t align, bool zeroed, const void *caller, void **block)
{
    if (!block_wanted(size, caller))
        return false;
    bool refused;
    int saved = errno;
    *block = block_alloc(size, align, zeroed, &refused);
    errno = refused ? ENOMEM : saved;
    return *block || refused;
}

/* Small memory of this thread's since the budget was last compared. */
static __thread __attribute__((tls_model("initial-exec"))) size_t small_bytes;

static void note_small(size_t size)
{
    small_bytes += size;
    if (__builtin_expect(small_bytes < LIFECYCLE_SMALL_STEP, 1))
        return;
    small_bytes = 0;
    lifecycle_note_small();
}

/* ---- malloc, calloc ---- */

static void *allocate(size_t size, const void *caller)
{
    void *block;
    if (arena_serves(size, 1, false, caller, &block))
        return block;
    if (!hooks_ready()) {
        hooks_resolve();
        if (!hooks_ready())
            return bootstrap_alloc(size);
    }
    note_small(size);
    if (libc_heap_wants(caller) && (block = libc_heap_allocate(size)) != NULL)
        return block;
    return next.malloc(size);
}

static void *allocate_zeroed(size_t count, size_t size, const void *caller)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
        return no_memory();
    void *block;
    if (arena_serves(bytes, 1, true, caller, &block))
        return block;
    if (!hooks_ready()) {
        hooks_resolve();
        if (!hooks_ready())
            return bootstrap_alloc(bytes);
    }
    note_small(bytes);
    if (libc_heap_wants(caller) && (block = libc_heap_allocate_zeroed(count, size)) != NULL)
        return block;
    return next.calloc(count, size);
}

VP_EXPORT void *malloc(size_t size) { return allocate(size, CALLER); }

VP_EXPORT void *vp_malloc(size_t size) { return allocate(size, CALLER); }

VP_EXPORT void *calloc(size_t count, size_t size) { return allocate_zeroed(count, size, CALLER); }

VP_EXPORT void *vp_calloc(size_t count, size_t size) { return allocate_zeroed(count, size, CALLER); }

/* ---- free ---- */

static void release(void *block)
{
    if (block_owns(block)) {
        int saved = errno;
        if (*vp.arena.here)
            block_free(block);
        errno = saved;
    } else if (libc_heap_owns(block)) {
        libc_heap.free(block);
    } else if (block && !is_bootstrap(block)) {
        originals()->free(block);
    }
}

VP_EXPORT void free(void *block) { release(block); }

VP_EXPORT void vp_free(void *block) { release(block); }

VP_EXPORT void free_sized(void *block, size_t size)
{
    (void) size;
    release(block);
}

VP_EXPORT void free_aligned_sized(void *block, size_t alignment, size_t size)
{
    (void) alignment, (void) size;
    release(block);
}

/* ---- usable size ---- */

static size_t usable(void *block)
{
    if (!block || is_bootstrap(block))
        return 0;
    return block_owns(block)       ? block_size(block)
           : libc_heap_owns(block) ? libc_heap.usable(block)
                                   : originals()->malloc_usable_size(block);
}

VP_EXPORT size_t malloc_usable_size(void *block) { return usable(block); }

VP_EXPORT size_t vp_usable_size(void *block) { return usable(block); }

/* ---- realloc ---- */

/* From one allocator to the other. */
static void *relocate(void *block, size_t old, void *fresh, size_t size)
{
    if (!fresh)
        return NULL;
    memcpy(fresh, block, old < size ? old : size);
    release(block);
    return fresh;
}

static void *resize_block(void *block, size_t size, const void *caller)
{
    size_t old = block_size(block);
    if (old == 0) {
        log_warn("realloc of %x, which is no allocated block: refused", (uint64_t) (uintptr_t) block);
        return no_memory();
    }
    if (size == 0) { /* what glibc does */
        release(block);
        return NULL;
    }
    /* A little below the threshold it stays: a block that shrinks and grows around it would be copied every time. */
    if (size < vp.options.threshold / 2)
        return relocate(block, old, allocate(size, caller), size);
    int saved = errno;
    void *resized = block_resize(block, size);
    errno = saved;
    return resized ? resized : relocate(block, old, allocate(size, caller), size);
}

static void *resize(void *block, size_t size, const void *caller)
{
    if (!block)
        return allocate(size, caller);
    if (is_bootstrap(block)) {
        size_t most = (size_t) (bootstrap.bytes + sizeof bootstrap.bytes - (char *) block);
        void *fresh = allocate(size, caller);
        return fresh ? memcpy(fresh, block, most < size ? most : size) : NULL;
    }
    if (block_owns(block))
        return *vp.arena.here ? resize_block(block, size, caller) : no_memory();
    void *fresh;
    if (!arena_serves(size, 1, false, caller, &fresh)) {
        note_small(size);
        return libc_heap_owns(block) ? libc_heap.realloc(block, size) : originals()->realloc(block, size);
    }
    return relocate(block, usable(block), fresh, size);
}

VP_EXPORT void *realloc(void *block, size_t size) { return resize(block, size, CALLER); }

VP_EXPORT void *vp_realloc(void *block, size_t size) { return resize(block, size, CALLER); }

VP_EXPORT void *reallocarray(void *block, size_t count, size_t size)
{
    size_t bytes;
    return __builtin_mul_overflow(count, size, &bytes) ? no_memory() : resize(block, bytes, CALLER);
}

/* ---- alignment ---- */

/* The alignment is a power of two. */
static void *allocate_aligned(size_t alignment, size_t size, const void *caller)
{
    void *block;
    if (arena_serves(size, alignment, false, caller, &block))
        return block;
    note_small(size);
    return originals()->memalign(alignment, size);
}

static bool is_power_of_two(size_t value) { return value && !(value & (value - 1)); }

static void *allocate_memalign(size_t alignment, size_t size, const void *caller)
{
    if (alignment > SIZE_MAX / 2 + 1) {
        errno = EINVAL;
        return NULL;
    }
    size_t rounded = sizeof(void *);
    while (rounded < alignment)
        rounded *= 2;
    return allocate_aligned(rounded, size, caller);
}

VP_EXPORT void *memalign(size_t alignment, size_t size) { return allocate_memalign(alignment, size, CALLER); }

VP_EXPORT void *vp_memalign(size_t alignment, size_t size) { return allocate_memalign(alignment, size, CALLER); }

/* glibc's is memalign() under another name: any alignment will do. */
VP_EXPORT void *aligned_alloc(size_t alignment, size_t size) { return allocate_memalign(alignment, size, CALLER); }

VP_EXPORT int posix_memalign(void **out, size_t alignment, size_t size)
{
    if (!is_power_of_two(alignment) || alignment % sizeof(void *))
        return EINVAL;
    int saved = errno;
    void *block = allocate_aligned(alignment, size, CALLER);
    errno = saved;
    if (!block)
        return ENOMEM;
    *out = block;
    return 0;
}

VP_EXPORT void *valloc(size_t size) { return allocate_aligned((size_t) getpagesize(), size, CALLER); }

VP_EXPORT void *pvalloc(size_t size)
{
    size_t page = (size_t) getpagesize(), rounded = (size + page - 1) & ~(page - 1);
    return rounded < size ? no_memory() : allocate_aligned(page, rounded, CALLER);
}

VP_EXPORT bool vp_contains(const void *pointer) { return arena_contains(&vp.arena, pointer); }
