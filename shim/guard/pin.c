#include "pin.h"

#include <errno.h>
#include <stdint.h>

#define WINDOW_MIN ((size_t) 64 << 10)

/* Paging may arm during a call: then all of its window has to be brought in at once. */
#define WINDOW_MAX ((size_t) 32 << 20)

static bool armed(void) { return __builtin_expect(__atomic_load_n(&vp.engine.trapping, __ATOMIC_SEQ_CST), 0); }

size_t guard_window(void)
{
    uint64_t quarter = __atomic_load_n(&vp.engine.limit, __ATOMIC_RELAXED) / 4;
    if (quarter > WINDOW_MAX >> vp.engine.page_shift)
        return WINDOW_MAX;
    size_t bytes = (size_t) quarter << vp.engine.page_shift;
    return bytes < WINDOW_MIN ? WINDOW_MIN : bytes;
}

/* Most buffers are small and in memory. */
#define SMALL ((size_t) 64 << 10)

static bool pin_present(const void *buffer, size_t size, bool write)
{
    return size <= SMALL && size <= vp.platform.base + vp.platform.size - (uintptr_t) buffer &&
           engine_pin_present(&vp.engine, (uintptr_t) buffer, size, write);
}

/* Before paging arms a pin is only a mark: anywhere below the highest block will do. */
static size_t markable(const void *buffer, size_t size)
{
    uint64_t offset = (uintptr_t) buffer - vp.platform.base;
    uint64_t used = __atomic_load_n(&vp.arena.ranges.high_water, __ATOMIC_RELAXED);
    return offset >= used ? 0 : size < used - offset ? size : used - offset;
}

size_t guard_pin(const void *buffer, size_t size, bool write)
{
    if (!guard_ours(buffer) || size == 0)
        return 0;
    bool is_armed = armed();
    if (is_armed && pin_present(buffer, size, write))
        return size;
    /* What is allocated of it: a program may name a length far beyond its block, as read(fd, p, SSIZE_MAX). */
    size = is_armed ? arena_reach(&vp.arena, (uintptr_t) buffer, size) : markable(buffer, size);
    if (size && !engine_pin(&vp.engine, (uintptr_t) buffer, size, write))
        size = 0;
    return size;
}

void guard_unpin(const void *buffer, size_t size)
{
    if (size)
        engine_unpin(&vp.engine, (uintptr_t) buffer, size);
}
