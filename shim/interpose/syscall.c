/*
 * syscall.c: libc's syscall(), by which programs reach the kernel themselves. The guard's table says what it uses.
 */
#include <errno.h>
#include <linux/sched.h>
#include <pthread.h>

#include "../../platform/os.h"
#include "../guard/linux/lease.h"
#include "../guard/pin.h"
#include "held_call.h"
#include "hooks.h"
#include "mappings.h"
#include "probe.h"
#include "process.h"
#include "signal.h"
#include "through.h"

/* The numbers among which those of clone and fork are. */
#ifdef SYS_fork
#define FORKS_FIRST (SYS_clone < SYS_fork ? SYS_clone : SYS_fork)
#define FORKS_LAST  (SYS_clone < SYS_fork ? SYS_fork : SYS_clone)
#else
#define FORKS_FIRST SYS_clone
#define FORKS_LAST  SYS_clone
#endif

static void end_call(void *lease) { lease_end(lease); }

long held_call(const struct call *call, const uint64_t arguments[CALL_ARGUMENTS])
{
    struct lease lease;
    long result;
    lease_take(&lease, call, arguments);
    CLEANUP_PUSH(end_call, &lease);
    result = raw_syscall(call->number, (long) arguments[0], (long) arguments[1], (long) arguments[2],
                         (long) arguments[3], (long) arguments[4], (long) arguments[5]);
    CLEANUP_POP;
    return answered(result);
}

/* Whether the call makes a process with memory of its own, that goes on where this one is. */
static bool forks(long number, uint64_t a, uint64_t b)
{
#ifdef SYS_fork
    if (number == SYS_fork)
        return true;
#endif
    if (number == SYS_clone)
        return !(a & CLONE_VM) && b == 0;
    const struct clone_args *arguments = (const struct clone_args *) (uintptr_t) a;
    return number == SYS_clone3 && can_read(arguments) && !(arguments->flags & CLONE_VM) && !arguments->stack;
}

SLOW long fork_call(long number, const uint64_t arguments[CALL_ARGUMENTS])
{
    lifecycle_fork(FORK_BEFORE);
    return answered(process_forked(raw_syscall(number, (long) arguments[0], (long) arguments[1], (long) arguments[2],
                                               (long) arguments[3], (long) arguments[4], 0)));
}

static inline bool is_ours(uint64_t argument) { return guard_ours((const void *) (uintptr_t) argument); }

static inline bool is_about_mappings(long number)
{
    return number == SYS_mmap || number == SYS_munmap || number == SYS_mprotect || number == SYS_pkey_mprotect ||
           number == SYS_mremap || number == SYS_madvise || number == SYS_msync || number == SYS_prctl;
}

/* Declared with all arguments that a call can have, of which the caller has passed some: the same registers as for libc's
 * declaration, without the cost of a list. What it has not passed is only looked at. */
VP_EXPORT long all_arguments(long number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
    __asm__("syscall");

long all_arguments(long number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
{
    bool pointers = is_ours(a) || is_ours(b) || is_ours(c) || is_ours(d) || is_ours(e) || is_ours(f);
    if (__builtin_expect(number == SYS_close, 0) && os_fd_is_own((int) a)) {
        errno = EBADF; /* the program has never opened it */
        return -1;
    }
    if (__builtin_expect(number == SYS_rt_sigprocmask, 0))
        return signal_mask_call((const uint64_t[CALL_ARGUMENTS]){a, b, c, d, e, f});
    if (__builtin_expect(number >= FORKS_FIRST && (number <= FORKS_LAST || number == SYS_clone3), 0) &&
        forks(number, a, b))
        return fork_call(number, (const uint64_t[CALL_ARGUMENTS]){a, b, c, d, e, f});
    if (__builtin_expect(is_about_mappings(number), 0)) {
        long result;
        if (mappings_syscall(number, (const uint64_t[CALL_ARGUMENTS]){a, b, c, d, e, f}, &result))
            return result;
    }
    const struct call *call = __builtin_expect(pointers, 0) ? call_find(number) : NULL;
    if (call)
        return held_call(call, (const uint64_t[CALL_ARGUMENTS]){a, b, c, d, e, f});
    return originals()->syscall(number, a, b, c, d, e, f);
}
