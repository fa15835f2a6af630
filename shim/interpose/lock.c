/*
 * lock.c: memory locking. Once paging is armed the arena cannot promise to stay in memory: a request says so with
 * ENOMEM, as a limit on locked memory would (RLIMIT_MEMLOCK).
 */
#include <errno.h>

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
    return refused((const void *) vp.platform.base) ? -1 : originals()->mlockall(flags);
}
