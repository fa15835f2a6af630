/*
 * signal.c: what the program says about signals, as far as it concerns those that are ours (process/signals.h).
 */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>

#include <sys/syscall.h>

#include "../process/signals.h"
#include "held_call.h"
#include "hooks.h"
#include "probe.h"
#include "signal.h"

/* Which of ours the program wants blocked during its handler of each signal, a bit each: there too they stay open. */
static uint8_t wanted_masked[NSIG];

/* A handler for a signal that is not ours. */
static int set_action(int number, const struct sigaction *action, struct sigaction *old)
{
    struct sigaction open;
    if (!signals_claimed(SIGSEGV) || number <= 0 || number >= NSIG)
        return originals()->sigaction(number, action, old);
    uint8_t before = __atomic_load_n(&wanted_masked[number], __ATOMIC_RELAXED), wanted = 0;
    if (action) {
        open = *action;
        wanted = signals_ours_in(&open.sa_mask);
        signals_strip(&open.sa_mask);
    }
    int result = originals()->sigaction(number, action ? &open : NULL, old);
    if (result == 0 && old)
        signals_add(&old->sa_mask, before);
    if (result == 0 && action)
        __atomic_store_n(&wanted_masked[number], wanted, __ATOMIC_RELAXED);
    return result;
}

VP_EXPORT int sigaction(int number, const struct sigaction *action, struct sigaction *old)
{
    return signals_claimed(number) ? signals_program_action(number, action, old) : set_action(number, action, old);
}

/* signal() and its relatives, for one of ours. */
static sighandler_t set_handler(int number, sighandler_t handler, int flags)
{
    struct sigaction action, old;
    if (handler == SIG_ERR) {
        errno = EINVAL;
        return SIG_ERR;
    }
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    action.sa_flags = flags;
    if (!(flags & SA_NODEFER))
        sigaddset(&action.sa_mask, number);
    signals_program_action(number, &action, &old);
    return old.sa_handler;
}

/* BSD semantics: the handler stays, calls are restarted. */
VP_EXPORT sighandler_t signal(int number, sighandler_t handler)
{
    return signals_claimed(number) ? set_handler(number, handler, SA_RESTART) : originals()->signal(number, handler);
}

VP_EXPORT sighandler_t bsd_signal(int number, sighandler_t handler)
{
    return signals_claimed(number) ? set_handler(number, handler, SA_RESTART)
                                   : originals()->bsd_signal(number, handler);
}

VP_EXPORT sighandler_t ssignal(int number, sighandler_t handler)
{
    return signals_claimed(number) ? set_handler(number, handler, SA_RESTART) : originals()->ssignal(number, handler);
}

/* System V semantics: the handler goes with its first signal. What signal() is under strict C and POSIX. */
VP_EXPORT sighandler_t __sysv_signal(int number, sighandler_t handler)
{
    return signals_claimed(number) ? set_handler(number, handler, SA_RESETHAND | SA_NODEFER)
                                   : originals()->__sysv_signal(number, handler);
}

VP_EXPORT sighandler_t sysv_signal(int number, sighandler_t handler)
{
    return signals_claimed(number) ? set_handler(number, handler, SA_RESETHAND | SA_NODEFER)
                                   : originals()->sysv_signal(number, handler);
}

/* The program's sets are only touched here, in user mode: in the kernel their memory might be absent. */
static int change_mask(int (*original)(int, const sigset_t *, sigset_t *), int how, const sigset_t *set, sigset_t *old)
{
    if (!signals_claimed(SIGSEGV))
        return original(how, set, old);
    sigset_t wanted, real, before;
    if (set) {
        real = wanted = *set;
        if (how != SIG_UNBLOCK)
            signals_strip(&real);
        signals_mark(&wanted, &real);
    }
    int result = original(how, set ? &real : NULL, &before);
    if (result != 0)
        return result;
    if (old) {
        *old = before;
        signals_show(old);
    }
    if (set)
        signals_changed(how, &wanted, &before);
    return 0;
}

VP_EXPORT int sigprocmask(int how, const sigset_t *set, sigset_t *old)
{
    return change_mask(originals()->sigprocmask, how, set, old);
}

VP_EXPORT int pthread_sigmask(int how, const sigset_t *set, sigset_t *old)
{
    return change_mask(originals()->pthread_sigmask, how, set, old);
}

/* The kernel's sets are shorter than libc's. */
#define KERNEL_SET_SIZE 8

static bool is_change(const uint64_t arguments[CALL_ARGUMENTS])
{
    int how = (int) arguments[0];
    return (how == SIG_BLOCK || how == SIG_UNBLOCK || how == SIG_SETMASK) && arguments[3] == KERNEL_SET_SIZE &&
           arguments[1] && can_read((const void *) (uintptr_t) arguments[1]);
}

long signal_mask_call(const uint64_t arguments[CALL_ARGUMENTS])
{
    static const struct call mask_call = {
        SYS_rt_sigprocmask,
        {{.kind = RULE_FIXED, .argument = 1, .unit = KERNEL_SET_SIZE},
         {.kind = RULE_FIXED, .argument = 2, .unit = KERNEL_SET_SIZE, .write = true}},
    };
    if (!signals_claimed(SIGSEGV))
        return held_call(&mask_call, arguments);
    uint64_t passed[CALL_ARGUMENTS];
    sigset_t wanted = {0}, real, kernels = {0}, before = {0};
    bool changes = is_change(arguments);
    void *old = (void *) (uintptr_t) arguments[2];
    memcpy(passed, arguments, sizeof passed);
    if (changes) {
        memcpy(&wanted, (const void *) (uintptr_t) arguments[1], KERNEL_SET_SIZE);
        real = wanted;
        if ((int) arguments[0] != SIG_UNBLOCK)
            signals_strip(&real);
        signals_mark(&wanted, &real);
        originals()->pthread_sigmask(SIG_BLOCK, NULL, &kernels);
        passed[1] = (uintptr_t) &real;
    }
    long result = held_call(&mask_call, passed);
    if (result == 0 && old) {
        memcpy(&before, old, KERNEL_SET_SIZE);
        signals_show(&before);
        memcpy(old, &before, KERNEL_SET_SIZE);
    }
    if (result == 0 && changes)
        signals_changed((int) arguments[0], &wanted, &kernels);
    return result;
}
