/* zone.c: see zone.h. */
#include "zone.h"

#include <errno.h>
#include <mach/vm_page_size.h>
#include <malloc/malloc.h>
#include <string.h>

#include "../../lifecycle.h"
#include "../block.h"
#include "hooks.h"

#define VERSION 10 /* has claimed_address, wants reinit_lock */

static bool is_ours(const void *block) { return arena_contains(&vp.arena, block); }

static size_t zone_size(malloc_zone_t *zone, const void *block)
{
    (void) zone;
    return is_ours(block) ? block_size((void *) (uintptr_t) block) : 0;
}

static boolean_t zone_claims(malloc_zone_t *zone, void *block)
{
    (void) zone;
    return is_ours(block);
}

static void *allocate(size_t size, size_t alignment, bool zeroed)
{
    bool refused;
    void *block = vp.arena.ready ? block_alloc(size ? size : 1, alignment, zeroed, &refused) : NULL;
    if (!block)
        errno = ENOMEM;
    return block;
}

static void *zone_malloc(malloc_zone_t *zone, size_t size)
{
    (void) zone;
    return allocate(size, 1, false);
}

static void *zone_calloc(malloc_zone_t *zone, size_t count, size_t size)
{
    size_t bytes;
    (void) zone;
    return __builtin_mul_overflow(count, size, &bytes) ? NULL : allocate(bytes, 1, true);
}

static void *zone_valloc(malloc_zone_t *zone, size_t size)
{
    (void) zone;
    return allocate(size, vm_page_size, false);
}

static void *zone_memalign(malloc_zone_t *zone, size_t alignment, size_t size)
{
    (void) zone;
    return allocate(size, alignment, false);
}

static void zone_free(malloc_zone_t *zone, void *block)
{
    (void) zone;
    hooked_free(block);
}

static void zone_free_sized(malloc_zone_t *zone, void *block, size_t size)
{
    (void) zone, (void) size;
    hooked_free(block);
}

static void *zone_realloc(malloc_zone_t *zone, void *block, size_t size)
{
    (void) zone;
    return hooked_realloc(block, size);
}

/* It lasts as long as the arena: as the process. */
static void zone_destroy(malloc_zone_t *zone) { (void) zone; }

/* ---- what debuggers and fork ask ---- */

static kern_return_t enumerate(task_t task, void *context, unsigned types, vm_address_t zone, memory_reader_t reader,
                               vm_range_recorder_t recorder)
{
    (void) task, (void) context, (void) types, (void) zone, (void) reader, (void) recorder;
    return KERN_SUCCESS; /* blocks are not told: leaks(1) must not touch pages that are away */
}

static size_t good_size(malloc_zone_t *zone, size_t size)
{
    (void) zone;
    return size;
}

static boolean_t check(malloc_zone_t *zone)
{
    (void) zone;
    return true;
}

static void print(malloc_zone_t *zone, boolean_t verbose) { (void) zone, (void) verbose; }

static void log_address(malloc_zone_t *zone, void *address) { (void) zone, (void) address; }

/* fork() takes our locks by pthread_atfork(). */
static void nothing(malloc_zone_t *zone) { (void) zone; }

static void statistics(malloc_zone_t *zone, malloc_statistics_t *out)
{
    (void) zone;
    memset(out, 0, sizeof *out);
    out->size_in_use = out->size_allocated = arena_live_bytes(&vp.arena);
}

static boolean_t locked(malloc_zone_t *zone)
{
    (void) zone;
    return false;
}

static malloc_introspection_t introspection = {
    .enumerator = enumerate,
    .good_size = good_size,
    .check = check,
    .print = print,
    .log = log_address,
    .force_lock = nothing,
    .force_unlock = nothing,
    .statistics = statistics,
    .zone_locked = locked,
    .reinit_lock = nothing,
};

static malloc_zone_t zone = {
    .size = zone_size,
    .malloc = zone_malloc,
    .calloc = zone_calloc,
    .valloc = zone_valloc,
    .free = zone_free,
    .realloc = zone_realloc,
    .destroy = zone_destroy,
    .zone_name = "Hyperion",
    .introspect = &introspection,
    .version = VERSION,
    .memalign = zone_memalign,
    .free_definite_size = zone_free_sized,
    .claimed_address = zone_claims,
};

void zone_register(void) { malloc_zone_register(&zone); }
