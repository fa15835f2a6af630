/*
 * signal.c: what the program says about signals, as far as it concerns those that are ours (process/signals.h).
 */
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "../process/signals.h"
#include "hooks.h"

VP_EXPORT int sigaction(int number, const struct sigaction *action, struct sigaction *old)
{
    return signals_claimed(number) ? signals_program_action(number, action, old) : originals()->sigaction(number, action, old);
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

/* What this thread believes to have blocked of ours. The kernel never sees them blocked. */
static const int ours[] = {SIGSEGV, SIGBUS, SIGSYS};
#define OURS (sizeof ours / sizeof *ours)
static __thread __attribute__((tls_model("initial-exec"))) bool believed[OURS];

static void believe(int how, const sigset_t *set)
{
    for (size_t i = 0; i < OURS; i++) {
        bool member = sigismember(set, ours[i]) == 1;
        if (how == SIG_SETMASK)
            believed[i] = member;
        else if (member)
            believed[i] = how == SIG_BLOCK;
    }
}

static void add_believed(sigset_t *set)
{
    for (size_t i = 0; i < OURS; i++)
        if (believed[i])
            sigaddset(set, ours[i]);
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
    }
    int result = original(how, set ? &real : NULL, &before);
    if (result != 0)
        return result;
    add_believed(&before);
    if (set)
        believe(how, &wanted);
    if (old)
        *old = before;
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
