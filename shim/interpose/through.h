/*
 * through.h: the call behind a stand-in.
 *
 * libc's own function where there is no filter, for it is a cancellation point and sets errno. Where there is one it would
 * be stopped although its memory is held already: then the same call past the filter, a cancellation point as well.
 */
#ifndef VP_INTERPOSE_THROUGH_H
#define VP_INTERPOSE_THROUGH_H

#include <errno.h>
#include <pthread.h>

#include "../guard/guard.h"
#include "../../platform/linux/syscall.h"
#include "hooks.h"

/* What libc makes of the kernel's answer. */
static inline long answered(long result)
{
    if (result >= 0 || result < -4095)
        return result;
    errno = (int) -result;
    return -1;
}

static inline long past_filter(long number, long a, long b, long c, long d, long e, long f)
{
    int before, ignored;
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &before); /* as libc itself does around the call */
    long result = raw_syscall(number, a, b, c, d, e, f);
    pthread_setcanceltype(before, &ignored);
    return answered(result);
}

/* The kernel's number of the call and its six arguments; libc's call. */
#define THROUGH(number, a, b, c, d, e, f, original)                                                     \
    (guard_filters() ? past_filter(number, (long) (a), (long) (b), (long) (c), (long) (d), (long) (e), \
                                   (long) (f))                                                           \
                     : (original))

#endif
