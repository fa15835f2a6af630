/*
 * advice.c: what the program says about its memory: locking and advice.
 *
 * Once paging is armed the arena cannot promise to stay in memory: a request to lock it says so with ENOMEM, as a limit
 * on locked memory would (RLIMIT_MEMLOCK). Content that the program gives up is given up in the tiers too.
 */
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "../guard/guard.h"
#include "../guard/resident.h"
#include "../lifecycle.h"
#include "hooks.h"

/* A page to ask the kernel with: it may say that this user must not lock memory at all (EPERM). */
static char probe;

static bool refused(const void *start)
{
    if (!arena_contains(&vp.arena, start) || !__atomic_load_n(&vp.engine.paging, __ATOMIC_ACQUIRE))
        return false;
    if (originals()->mlock(&probe, 1) == 0) {
        munlock(&probe, 1);
        errno = ENOMEM;
    }
    return true;
}

VP_EXPORT int mlock(const void *start, size_t length)
{
    return refused(start) ? -1 : originals()->mlock(start, length);
}

VP_EXPORT int mlock2(const void *start, size_t length, unsigned flags)
{
    return refused(start) ? -1 : originals()->mlock2(start, length, flags);
}

VP_EXPORT int mlockall(int flags)
{
    if (refused((const void *) vp.platform.base))
        return -1;
    /* Our sparse tables are gigabytes that nothing has touched: they are locked as they are touched. */
    return originals()->mlockall(vp.arena.ready ? flags | MCL_ONFAULT : flags);
}

/* Part of a page that the backend can only treat as a whole. */
static void zero(uintptr_t start, uintptr_t end)
{
    if (start < end)
        memset((void *) start, 0, end - start);
}

/* Anonymous memory reads as zero from now on. */
static void discard(uintptr_t start, uintptr_t end)
{
    size_t page = vp.platform.page;
    uintptr_t first = (start + page - 1) & ~(page - 1), last = end & ~(page - 1);
    if (first >= last) {
        zero(start, end);
        return;
    }
    engine_discard(&vp.engine, &(struct extent){first, last - first});
    zero(start, first);
    zero(last, end);
}

/* It may go, now. */
static void page_out(uintptr_t start, uintptr_t end)
{
    uintptr_t mask = vp.platform.page - 1, first = (start + mask) & ~mask, last = end & ~mask;
    if (first < last)
        engine_page_out(&vp.engine, &(struct extent){first, last - first});
}

/* Does `act` to what is allocated of [start, end), a block at a time. */
static void each_block(uintptr_t start, uintptr_t end, void (*act)(uintptr_t, uintptr_t))
{
    struct extent block;
    while (start < end && arena_extent(&vp.arena, start, &block)) {
        uintptr_t stop = block.start + block.length < end ? block.start + block.length : end;
        act(start, stop);
        start = stop;
    }
}

VP_EXPORT int madvise(void *start, size_t length, int advice)
{
    bool ours = arena_contains(&vp.arena, start) && __atomic_load_n(&vp.engine.trapping, __ATOMIC_ACQUIRE);
    uintptr_t from = (uintptr_t) start, end = (from + length + 4095) & ~(uintptr_t) 4095;
    if (!ours || end < from || from % 4096)
        return originals()->madvise(start, length, advice);
    guard_thread_is_back();
    switch (advice) {
    case MADV_DONTNEED:
    case MADV_FREE: /* may be done at once */
        each_block(from, end, discard);
        resident_renew(from, end);
        return 0;
    case MADV_PAGEOUT:
        each_block(from, end, page_out);
        return 0;
    case MADV_MERGEABLE: /* a merged page would lose its write protection unseen */
    case MADV_WILLNEED:
    case MADV_COLD:
        return 0;
    default:
        return originals()->madvise(start, length, advice);
    }
}
