/*
 * older_signals.c: System V's and BSD's interfaces to signals. libc makes them of sigaction() and sigprocmask(), by names of
 * its own that nobody can stand in for; so they are made here of ours, in the same way. Before we have taken over, and for
 * numbers that there are not, ours are libc's.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "../process/signals.h"
#include "hooks.h"

VP_EXPORT int __sigaction(int number, const struct sigaction *action, struct sigaction *old)
{
    return sigaction(number, action, old);
}

/* Whether the signal was blocked, or -1. */
static int change_one(int how, int number)
{
    sigset_t set, before;
    sigemptyset(&set);
    if (sigaddset(&set, number) < 0 || sigprocmask(how, &set, &before) < 0)
        return -1;
    return sigismember(&before, number);
}

VP_EXPORT int sighold(int number) { return change_one(SIG_BLOCK, number) < 0 ? -1 : 0; }

VP_EXPORT int sigrelse(int number) { return change_one(SIG_UNBLOCK, number) < 0 ? -1 : 0; }

static int set_plain(int number, sighandler_t handler, struct sigaction *old)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    return sigaction(number, &action, old);
}

VP_EXPORT int sigignore(int number) { return set_plain(number, SIG_IGN, NULL); }

VP_EXPORT sighandler_t sigset(int number, sighandler_t disposition)
{
    struct sigaction old;
    bool hold = disposition == SIG_HOLD;
    if (disposition == SIG_ERR || number < 1 || number >= NSIG) {
        errno = EINVAL;
        return SIG_ERR;
    }
    if (hold ? sigaction(number, NULL, &old) < 0 : set_plain(number, disposition, &old) < 0)
        return SIG_ERR;
    int blocked = change_one(hold ? SIG_BLOCK : SIG_UNBLOCK, number);
    return blocked < 0 ? SIG_ERR : blocked ? SIG_HOLD : old.sa_handler;
}

/* libc's remembers the signals for signal(), too. */
VP_EXPORT int siginterrupt(int number, int interrupt)
{
    struct sigaction action;
    if (!signals_claimed(number))
        return originals()->siginterrupt(number, interrupt);
    sigaction(number, NULL, &action);
    action.sa_flags = interrupt ? action.sa_flags & ~SA_RESTART : action.sa_flags | SA_RESTART;
    return sigaction(number, &action, NULL);
}

/* ---- masks of one word ---- */

static sigset_t set_of(int mask)
{
    sigset_t set;
    sigemptyset(&set);
    for (int number = 1; number <= 32; number++)
        if ((unsigned) mask >> (number - 1) & 1)
            sigaddset(&set, number);
    return set;
}

static int mask_of(const sigset_t *set)
{
    unsigned mask = 0;
    for (int number = 1; number <= 31; number++) /* libc has 32 for itself */
        mask |= (unsigned) (sigismember(set, number) == 1) << (number - 1);
    return (int) mask;
}

static int change_word(int how, int mask)
{
    sigset_t set = set_of(mask), before;
    return sigprocmask(how, &set, &before) < 0 ? -1 : mask_of(&before);
}

VP_EXPORT int sigblock(int mask) { return change_word(SIG_BLOCK, mask); }

VP_EXPORT int sigsetmask(int mask) { return change_word(SIG_SETMASK, mask); }

VP_EXPORT int siggetmask(void) { return change_word(SIG_BLOCK, 0); }
