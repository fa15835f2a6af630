/*
 * signal.c: what the program says about signals, as far as it concerns SIGSEGV and SIGBUS (process/signals.h).
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

/* signal() and its relatives, for one of our two. */
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

/*
 * What this thread believes to have blocked of our two. The kernel never sees them blocked.
 */
static __thread __attribute__((tls_model("initial-exec"))) bool believed[2];

static void believe(int how, const sigset_t *set)
{
    static const int numbers[] = {SIGSEGV, SIGBUS};
    for (int i = 0; i < 2; i++) {
        bool member = sigismember(set, numbers[i]) == 1;
        if (how == SIG_SETMASK)
            believed[i] = member;
        else if (member)
            believed[i] = how == SIG_BLOCK;
    }
}

static int change_mask(int (*original)(int, const sigset_t *, sigset_t *), int how, const sigset_t *set, sigset_t *old)
{
    if (!signals_claimed(SIGSEGV))
        return original(how, set, old);
    sigset_t real;
    bool segv = believed[0], bus = believed[1];
    if (set) {
        real = *set;
        if (how != SIG_UNBLOCK)
            signals_strip(&real);
    }
    int result = original(how, set ? &real : NULL, old);
    if (result != 0)
        return result;
    if (set)
        believe(how, set);
    if (old && segv)
        sigaddset(old, SIGSEGV);
    if (old && bus)
        sigaddset(old, SIGBUS);
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
