/*
 * advice.c: what the program says about its memory: locking and advice.
 *
 * Once paging is armed the arena cannot promise to stay in memory: a request to lock it says so with ENOMEM, as a limit
 * on locked memory would (RLIMIT_MEMLOCK). Content that the program gives up is given up in the tiers too.
 *
 * The kernel must not merge equal pages then (KSM): a merged page has lost its write protection unseen. Who asks for it,
 * for some memory or for all, is told what a kernel without it says, EINVAL.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include "../base/log.h"
#include "../arena/mapping.h"
#include "../guard/guard.h"
#include "../guard/pin.h"
#include "../guard/resident.h"
#include "../lifecycle.h"
#include "hooks.h"
#include "mappings.h"

#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE  103
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ  22
#define MADV_POPULATE_WRITE 23
#endif

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

static int note_locked(int result, const void *start)
{
    if (result == 0 && arena_contains(&vp.arena, start))
        __atomic_store_n(&vp.engine.locked, true, __ATOMIC_RELAXED);
    return result;
}

VP_EXPORT int mlock(const void *start, size_t length)
{
    return refused(start) ? -1 : note_locked(originals()->mlock(start, length), start);
}

VP_EXPORT int mlock2(const void *start, size_t length, unsigned flags)
{
    return refused(start) ? -1 : note_locked(originals()->mlock2(start, length, flags), start);
}

VP_EXPORT int mlockall(int flags)
{
    if (refused((const void *) vp.platform.base))
        return -1;
    /* Our sparse tables are gigabytes that nothing has touched: they are locked as they are touched. */
    return note_locked(originals()->mlockall(vp.arena.ready ? flags | MCL_ONFAULT : flags),
                       (const void *) vp.platform.base);
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
    engine_discard(&vp.engine, &(struct extent){first, last - first}, true);
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

/* Brought in, a window at a time. */
static void populate(uintptr_t start, uintptr_t end)
{
    size_t window = guard_window();
    for (uintptr_t at = start; at < end; at += window) {
        size_t n = end - at < window ? end - at : window;
        guard_unpin((void *) at, guard_pin((void *) at, n, true));
    }
}

/* Does `act` to what there is of [start, end); advises the kernel on what is its business. Returns what it says. */
static int each_part(uintptr_t start, uintptr_t end, int advice, void (*act)(uintptr_t, uintptr_t))
{
    int result = 0;
    for (struct piece piece; start < end; start += piece.extent.length) {
        piece = mapping_piece(&vp.arena, start, end);
        if (piece.kind == RANGE_LIVE || piece.kind == RANGE_MAPPED)
            act(start, start + piece.extent.length);
        else if (piece.kind == RANGE_FOREIGN)
            result |= originals()->madvise((void *) start, piece.extent.length, advice);
    }
    return result;
}

static int advise(uintptr_t from, uintptr_t end, int advice)
{
    switch (advice) {
    case MADV_DONTNEED:
    case MADV_DONTNEED_LOCKED:
    case MADV_FREE: { /* may be done at once */
        int result = each_part(from, end, advice, discard);
        resident_renew(from, end);
        return result;
    }
    case MADV_PAGEOUT:
        return each_part(from, end, advice, page_out);
    case MADV_POPULATE_READ:
    case MADV_POPULATE_WRITE:
        return each_part(from, end, advice, populate);
    case MADV_WILLNEED:
    case MADV_COLD:
        return 0;
    default:
        return originals()->madvise((void *) from, end - from, advice);
    }
}

/* As from a kernel that does not know them: guards outlast the memory that they are in. */
static bool is_unknown(int advice)
{
    return advice == MADV_GUARD_INSTALL || advice == MADV_GUARD_REMOVE || (advice == MADV_MERGEABLE && lifecycle_armed());
}

VP_EXPORT int madvise(void *start, size_t length, int advice)
{
    uintptr_t from = (uintptr_t) start, end = (from + length + 4095) & ~(uintptr_t) 4095;
    if (!arena_contains(&vp.arena, start) || end < from || end - from < length || from % 4096 || end - vp.platform.base > vp.platform.size)
        return originals()->madvise(start, length, advice);
    if (is_unknown(advice)) {
        errno = EINVAL;
        return -1;
    }
    if (advice == MADV_WIPEONFORK || advice == MADV_KEEPONFORK) /* the kernel is not told: a stored page would not go */
        return mappings_wipe_on_fork(from, end - from, advice == MADV_WIPEONFORK);
    if (advice == MADV_DONTFORK)
        mappings_note_marks();
    guard_thread_is_back();
    int result = lifecycle_armed() ? 0 : originals()->madvise(start, length, advice);
    if (result == 0 && lifecycle_armed()) /* it may have been armed meanwhile, and what was given up stored */
        result = advise(from, end, advice);
    if (result == 0 && mappings_have_hole(start, length)) {
        errno = ENOMEM;
        return -1;
    }
    return result;
}

/* Arming waits meanwhile: it takes out of it what has been asked for till then. */
static int merge_all(const unsigned long a[4])
{
    if (!arena_is_here(&vp.arena))
        return originals()->prctl(PR_SET_MEMORY_MERGE, a[0], a[1], a[2], a[3]);
    lock_acquire(&vp.mappings);
    bool armed = lifecycle_armed();
    int result = armed ? -1 : originals()->prctl(PR_SET_MEMORY_MERGE, a[0], a[1], a[2], a[3]);
    lock_release(&vp.mappings);
    if (armed) {
        log_info("the program asks the kernel to merge equal pages: refused, paging is armed");
        errno = EINVAL;
    }
    return result;
}

VP_EXPORT int prctl(int what, ...)
{
    unsigned long a[4];
    va_list more;
    va_start(more, what);
    for (int i = 0; i < 4; i++)
        a[i] = va_arg(more, unsigned long); /* as libc does: what is not there is only looked at */
    va_end(more);
    return what == PR_SET_MEMORY_MERGE && a[0] ? merge_all(a) : originals()->prctl(what, a[0], a[1], a[2], a[3]);
}
