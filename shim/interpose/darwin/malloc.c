/*
 * malloc.c: the malloc family. Large requests go to the arena (block.h), the rest to libmalloc.
 *
 * No thread-local storage here: on Darwin its first use in a thread calls malloc.
 */
#include <errno.h>
#include <mach/vm_page_size.h>
#include <stdint.h>
#include <string.h>

#include "../../base/log.h"
#include "../../lifecycle.h"
#include "../../vp.h"
#include "../block.h"
#include "hooks.h"
#include "zone.h"

#define CALLER    __builtin_return_address(0)
#define VP_PUBLIC __attribute__((visibility("default")))

static bool is_ours(const void *block) { return arena_contains(&vp.arena, block); }

/* With the first block, and before anybody has it: libmalloc ends a program that frees what no zone knows. */
static pthread_once_t zone_known = PTHREAD_ONCE_INIT;

/* Whether the request is the arena's; *block is the answer then, NULL with errno set when nothing could back it. */
static bool arena_serves(size_t size, size_t align, bool zeroed, const void *caller, void **block)
{
    if (!block_wanted(size, caller))
        return false;
    bool refused;
    int saved = errno;
    pthread_once(&zone_known, zone_register);
    *block = block_alloc(size, align, zeroed, &refused);
    errno = refused ? ENOMEM : saved;
    return *block || refused;
}

/* Memory below the threshold counts against the budget too. The smallest requests are not counted: the sum is shared
 * by all threads, and would cost them more than the request. */
#define COUNTED ((size_t) 32 << 10)
static size_t small_bytes; /* any thread, atomically */

static void note_small(size_t size)
{
    if (__builtin_expect(size < COUNTED, 1))
        return;
    if (__atomic_add_fetch(&small_bytes, size, __ATOMIC_RELAXED) < LIFECYCLE_SMALL_STEP)
        return;
    __atomic_store_n(&small_bytes, 0, __ATOMIC_RELAXED);
    lifecycle_note_small();
}

static void *no_memory(void)
{
    errno = ENOMEM;
    return NULL;
}

/* ---- malloc, calloc ---- */

static void *allocate(size_t size, const void *caller)
{
    void *block;
    if (arena_serves(size, 1, false, caller, &block))
        return block;
    note_small(size);
    return malloc(size);
}

static void *allocate_zeroed(size_t count, size_t size, const void *caller)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
        return no_memory();
    void *block;
    if (arena_serves(bytes, 1, true, caller, &block))
        return block;
    note_small(bytes);
    return calloc(count, size);
}

void *hooked_malloc(size_t size) { return allocate(size, CALLER); }
void *hooked_calloc(size_t count, size_t size) { return allocate_zeroed(count, size, CALLER); }
VP_PUBLIC void *vp_malloc(size_t size) { return allocate(size, CALLER); }
VP_PUBLIC void *vp_calloc(size_t count, size_t size) { return allocate_zeroed(count, size, CALLER); }

/* ---- free, size ---- */

static void release(void *block)
{
    int saved = errno;
    if (is_ours(block)) {
        block_free(block);
        errno = saved;
    } else {
        free(block);
    }
}

void hooked_free(void *block) { release(block); }
VP_PUBLIC void vp_free(void *block) { release(block); }

static size_t usable(const void *block)
{
    return is_ours(block) ? block_size((void *) (uintptr_t) block) : malloc_size(block);
}

size_t hooked_malloc_size(const void *block) { return usable(block); }
VP_PUBLIC size_t vp_usable_size(void *block) { return block ? usable(block) : 0; }

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
    if (is_ours(block))
        return resize_block(block, size, caller);
    void *fresh;
    if (!arena_serves(size, 1, false, caller, &fresh)) {
        note_small(size);
        return realloc(block, size);
    }
    return relocate(block, malloc_size(block), fresh, size);
}

void *hooked_realloc(void *block, size_t size) { return resize(block, size, CALLER); }
VP_PUBLIC void *vp_realloc(void *block, size_t size) { return resize(block, size, CALLER); }

void *hooked_reallocf(void *block, size_t size)
{
    void *resized = resize(block, size, CALLER);
    if (!resized && size)
        release(block);
    return resized;
}

/* ---- alignment ---- */

static bool is_power_of_two(size_t value) { return value && !(value & (value - 1)); }

/* libmalloc's own answer where the arena has none. */
#define ALIGNED(alignment, size, caller, original)                      \
    __extension__({                                                     \
        void *block_;                                                   \
        bool served_ = is_power_of_two(alignment) &&                    \
                       arena_serves(size, alignment, false, caller, &block_); \
        if (!served_) {                                                 \
            note_small(size);                                           \
            block_ = original;                                          \
        }                                                               \
        block_;                                                         \
    })

void *hooked_valloc(size_t size) { return ALIGNED(vm_page_size, size, CALLER, valloc(size)); }

void *hooked_aligned_alloc(size_t alignment, size_t size)
{
    return ALIGNED(alignment, size, CALLER, aligned_alloc(alignment, size));
}

VP_PUBLIC void *vp_memalign(size_t alignment, size_t size)
{
    return ALIGNED(alignment, size, CALLER, aligned_alloc(alignment, size));
}

int hooked_posix_memalign(void **out, size_t alignment, size_t size)
{
    void *block;
    int saved = errno;
    if (!is_power_of_two(alignment) || alignment % sizeof(void *) || !arena_serves(size, alignment, false, CALLER, &block))
        return posix_memalign(out, alignment, size);
    errno = saved;
    if (!block)
        return ENOMEM;
    *out = block;
    return 0;
}

VP_PUBLIC bool vp_contains(const void *pointer) { return is_ours(pointer); }
