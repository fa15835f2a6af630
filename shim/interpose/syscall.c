/*
 * syscall.c: libc's syscall(), by which programs reach the kernel themselves. The guard's table says what it uses.
 */
#include <errno.h>
#include <pthread.h>

#include "../../platform/os.h"
#include "../guard/linux/calls.h"
#include "../guard/linux/lease.h"
#include "../guard/pin.h"
#include "hooks.h"
#include "through.h"

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

static inline bool is_ours(uint64_t argument) { return guard_ours((const void *) (uintptr_t) argument); }

/* Declared with all arguments that a call can have, of which the caller has passed some: the same registers as for libc's
 * declaration, without the cost of a list. What it has not passed is only looked at. */
VP_EXPORT long all_arguments(long number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
    __asm__("syscall");

long all_arguments(long number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
{
    bool pointers = is_ours(a) | is_ours(b) | is_ours(c) | is_ours(d) | is_ours(e) | is_ours(f);
    if (__builtin_expect(number == SYS_close, 0) && os_fd_is_own((int) a)) {
        errno = EBADF; /* the program has never opened it */
        return -1;
    }
    const struct call *call = __builtin_expect(pointers, 0) ? call_find(number) : NULL;
    if (call)
        return held_call(call, (const uint64_t[CALL_ARGUMENTS]){a, b, c, d, e, f});
    return originals()->syscall(number, a, b, c, d, e, f);
}
