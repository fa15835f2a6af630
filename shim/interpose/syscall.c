/*
 * syscall.c: libc's syscall(), by which programs reach the kernel themselves. The guard's table says what it uses.
 */
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>

#include "../guard/linux/calls.h"
#include "../guard/linux/lease.h"
#include "../guard/pin.h"
#include "hooks.h"
#include "through.h"

static bool any_ours(const uint64_t arguments[CALL_ARGUMENTS])
{
    for (unsigned i = 0; i < CALL_ARGUMENTS; i++)
        if (guard_ours((const void *) (uintptr_t) arguments[i]))
            return true;
    return false;
}

static void let_go(void *lease) { lease_end(lease); }

/* Not a cancellation point, as libc's own is none. */
static __attribute__((noinline)) long held_call(const struct call *call, const uint64_t arguments[CALL_ARGUMENTS])
{
    struct lease lease;
    long result;
    lease_take(&lease, call, arguments);
    pthread_cleanup_push(let_go, &lease);
    result = raw_syscall(call->number, (long) arguments[0], (long) arguments[1], (long) arguments[2],
                         (long) arguments[3], (long) arguments[4], (long) arguments[5]);
    pthread_cleanup_pop(1);
    if (result >= 0 || result < -4095)
        return result;
    errno = (int) -result;
    return -1;
}

VP_EXPORT long syscall(long number, ...)
{
    uint64_t arguments[CALL_ARGUMENTS];
    va_list list;
    va_start(list, number);
    for (unsigned i = 0; i < CALL_ARGUMENTS; i++)
        arguments[i] = va_arg(list, uint64_t);
    va_end(list);
    const struct call *call = any_ours(arguments) || guard_filters() ? call_find(number) : NULL;
    if (call && (any_ours(arguments) || call_is_nested(call)))
        return held_call(call, arguments);
    return originals()->syscall(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4],
                                arguments[5]);
}
