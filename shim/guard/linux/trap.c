/*
 * trap.c: see trap.h.
 *
 * What a listener does better: a program that has SIGSYS blocked dies of it (the stand-ins of sigprocmask and the like
 * keep it open, but libc blocks everything around its own thread and process creation), and a thread that is cancelled in
 * such a call, or jumps out of a handler in the middle of it, leaves its memory pinned.
 */
#include "trap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <ucontext.h>

#include "../../../platform/linux/syscall.h"
#include "../../lifecycle.h"
#include "../guard.h"
#include "filter.h"
#include "lease.h"

#ifndef SYS_SECCOMP
#define SYS_SECCOMP 1 /* si_code; the headers' name for it is not everywhere */
#endif

#define KERNEL_SIGSET_SIZE 8

#if defined(__x86_64__)
static void arguments_of(const ucontext_t *context, uint64_t out[CALL_ARGUMENTS])
{
    static const int registers[CALL_ARGUMENTS] = {REG_RDI, REG_RSI, REG_RDX, REG_R10, REG_R8, REG_R9};
    for (unsigned i = 0; i < CALL_ARGUMENTS; i++)
        out[i] = (uint64_t) context->uc_mcontext.gregs[registers[i]];
}

static void set_result(ucontext_t *context, long result) { context->uc_mcontext.gregs[REG_RAX] = result; }
#elif defined(__aarch64__)
static void arguments_of(const ucontext_t *context, uint64_t out[CALL_ARGUMENTS])
{
    for (unsigned i = 0; i < CALL_ARGUMENTS; i++)
        out[i] = context->uc_mcontext.regs[i];
}

static void set_result(ucontext_t *context, long result) { context->uc_mcontext.regs[0] = (uint64_t) result; }
#endif

/* Where no process has memory. */
#define BAD_ADDRESS 1

static bool is_number(uint64_t command)
{
    switch (command) {
    case F_DUPFD:
    case F_DUPFD_CLOEXEC:
    case F_SETFD:
    case F_SETFL:
    case F_SETOWN:
    case F_SETSIG:
    case F_SETLEASE:
    case F_NOTIFY:
    case F_SETPIPE_SZ:
    case F_ADD_SEALS:
        return true;
    default:
        return false;
    }
}

/* An ancestor's filter sees its own arena in what is left in a register that this call does not use, or in half of one: no
 * memory of this process is there. So that the call can go on past that filter, there is another bad address instead. */
static void avoid_ancestors(const struct call *call, uint64_t arguments[CALL_ARGUMENTS])
{
    unsigned pointers = call_pointers(call);
    for (unsigned i = 0; i < CALL_ARGUMENTS; i++) {
        bool arenas = arguments[i] >= ARENAS_START && arguments[i] < ARENAS_END;
        if (!(pointers & 1u << i) || !arenas || arena_contains(&vp.arena, (const void *) (uintptr_t) arguments[i]))
            continue;
        bool number = call->number == SYS_fcntl && is_number(arguments[1]);
        arguments[i] = number ? (uint32_t) arguments[i] : BAD_ADDRESS;
    }
}

/* The call as the program made it, its own signals let in: it may wait for one. */
static long make(const ucontext_t *context, long number, const uint64_t arguments[CALL_ARGUMENTS])
{
    uint64_t ours;
    SYS4(SYS_rt_sigprocmask, SIG_SETMASK, &context->uc_sigmask, &ours, KERNEL_SIGSET_SIZE);
    long result = raw_syscall(number, (long) arguments[0], (long) arguments[1], (long) arguments[2],
                             (long) arguments[3], (long) arguments[4], (long) arguments[5]);
    SYS4(SYS_rt_sigprocmask, SIG_SETMASK, &ours, NULL, KERNEL_SIGSET_SIZE);
    return result;
}

bool trap_serve(const siginfo_t *info, void *context)
{
    const struct call *call;
    struct lease lease;
    uint64_t arguments[CALL_ARGUMENTS];
    if (info->si_code != SYS_SECCOMP || info->si_errno != FILTER_MARK || !(call = call_find(info->si_syscall)))
        return false;
    if (info->si_call_addr == raw_syscall_passed) {
        /* An ancestor's filter, which does not know this program's own calls: serving it would be stopped again. */
        set_result(context, -ENOSYS);
        return true;
    }
    arguments_of(context, arguments);
    avoid_ancestors(call, arguments);
    lease_take(&lease, call, arguments);
    set_result(context, make(context, call->number, arguments));
    lease_end(&lease);
    __atomic_fetch_add(&guard.stopped, 1, __ATOMIC_RELAXED);
    return true;
}
