/*
 * waits.c: calls that wait for descriptors, time, children and signals, and whose sets, times and answers may lie in
 * the arena.
 *
 * Not here, and so only the net's: the futexes of mutexes, condition variables, semaphores and barriers. libc changes
 * their words in user mode just before it waits on them, which brings them in; what is left is the moment in between,
 * and threads that sleep on a page which leaves meanwhile, which the kernel does not mind.
 */
#include "../guard/resident.h"
#include "../process/signals.h"
#include "hooks.h"
#include "parts.h"
#include "probe.h"

/* A mask that holds for a call must leave our traps open, or the handlers that run meanwhile meet absent memory. The copy
 * needs no holding. */
static const sigset_t *with_traps_open(const sigset_t *mask, sigset_t *copy)
{
    if (!mask || !signals_claimed(SIGSEGV) || !can_read(mask))
        return mask;
    *copy = *mask;
    signals_strip(copy);
    return copy;
}

/* ---- descriptors ---- */

STAND_IN(int, poll, (struct pollfd *fds, nfds_t count, int timeout), (fds, count, timeout),
         OUT(fds, count * sizeof *fds))
STAND_IN(int, __poll_chk, (struct pollfd *fds, nfds_t count, int timeout, size_t room), (fds, count, timeout, room),
         OUT(fds, count * sizeof *fds))

VP_EXPORT int ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask)
{
    sigset_t copy;
    const sigset_t *passed = with_traps_open(mask, &copy);
    return GUARDED(originals()->ppoll(fds, count, timeout, passed),
                   OUT(fds, count * sizeof *fds), IN_ONE(timeout), IN_ONE(passed));
}

VP_EXPORT int __ppoll_chk(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask,
                          size_t room)
{
    sigset_t copy;
    const sigset_t *passed = with_traps_open(mask, &copy);
    return GUARDED(originals()->__ppoll_chk(fds, count, timeout, passed, room),
                   OUT(fds, count * sizeof *fds), IN_ONE(timeout), IN_ONE(passed));
}

/* A set is as long as its highest descriptor says, in whole words. */
static size_t set_size(int count) { return count > 0 ? ((size_t) count + 63) / 64 * 8 : 0; }

STAND_IN(int, select, (int count, fd_set *in, fd_set *out, fd_set *except, struct timeval *timeout),
         (count, in, out, except, timeout),
         OUT(in, set_size(count)), OUT(out, set_size(count)), OUT(except, set_size(count)), OUT_ONE(timeout))

VP_EXPORT int pselect(int count, fd_set *in, fd_set *out, fd_set *except, const struct timespec *timeout,
                      const sigset_t *mask)
{
    sigset_t copy;
    const sigset_t *passed = with_traps_open(mask, &copy);
    return GUARDED(originals()->pselect(count, in, out, except, timeout, passed),
                   OUT(in, set_size(count)), OUT(out, set_size(count)), OUT(except, set_size(count)), IN_ONE(timeout),
                   IN_ONE(passed));
}

static size_t events_size(int count) { return count > 0 ? (size_t) count * sizeof(struct epoll_event) : 0; }

STAND_IN(int, epoll_ctl, (int epoll, int what, int fd, struct epoll_event *event), (epoll, what, fd, event),
         IN_ONE(event))
STAND_IN(int, epoll_wait, (int epoll, struct epoll_event *events, int count, int timeout),
         (epoll, events, count, timeout), OUT(events, events_size(count)))

VP_EXPORT int epoll_pwait(int epoll, struct epoll_event *events, int count, int timeout, const sigset_t *mask)
{
    sigset_t copy;
    const sigset_t *passed = with_traps_open(mask, &copy);
    return GUARDED(originals()->epoll_pwait(epoll, events, count, timeout, passed),
                   OUT(events, events_size(count)), IN_ONE(passed));
}

VP_EXPORT int epoll_pwait2(int epoll, struct epoll_event *events, int count, const struct timespec *timeout,
                           const sigset_t *mask)
{
    sigset_t copy;
    const sigset_t *passed = with_traps_open(mask, &copy);
    return GUARDED(originals()->epoll_pwait2(epoll, events, count, timeout, passed),
                   OUT(events, events_size(count)), IN_ONE(timeout), IN_ONE(passed));
}

/* ---- time ---- */

STAND_IN(int, nanosleep, (const struct timespec *wanted, struct timespec *left), (wanted, left),
         IN_ONE(wanted), OUT_ONE(left))
STAND_IN(int, clock_nanosleep, (clockid_t clock, int flags, const struct timespec *wanted, struct timespec *left),
         (clock, flags, wanted, left), IN_ONE(wanted), OUT_ONE(left))
STAND_IN(int, timerfd_settime, (int fd, int flags, const struct itimerspec *value, struct itimerspec *old),
         (fd, flags, value, old), IN_ONE(value), OUT_ONE(old))
STAND_IN(int, timerfd_gettime, (int fd, struct itimerspec *value), (fd, value), OUT_ONE(value))

/* ---- children ---- */

STAND_IN(pid_t, wait, (int *status), (status), OUT_ONE(status))
STAND_IN(pid_t, waitpid, (pid_t pid, int *status, int flags), (pid, status, flags), OUT_ONE(status))
STAND_IN(pid_t, wait3, (int *status, int flags, struct rusage *usage), (status, flags, usage),
         OUT_ONE(status), OUT_ONE(usage))
STAND_IN(pid_t, wait4, (pid_t pid, int *status, int flags, struct rusage *usage), (pid, status, flags, usage),
         OUT_ONE(status), OUT_ONE(usage))
STAND_IN(int, waitid, (idtype_t type, id_t id, siginfo_t *info, int flags), (type, id, info, flags), OUT_ONE(info))

/* ---- signals ---- */

/* One of ours that came while the thread believed it blocked (process/signals.h). Those that come while it waits, the kernel
 * hands over. */
static int take_held(const sigset_t *set, siginfo_t *info)
{
    siginfo_t held;
    if (!signals_held() || !can_read(set))
        return 0;
    int number = signals_take_held(signals_ours_in(set), &held);
    if (number && info) {
        *info = held;
        if (held.si_code == SI_TKILL) /* as libc tells it */
            info->si_code = SI_USER;
    }
    return number;
}

VP_EXPORT int sigwait(const sigset_t *set, int *number)
{
    int held = take_held(set, NULL);
    if (held)
        *number = held;
    return held ? 0 : GUARDED(originals()->sigwait(set, number), IN_ONE(set), OUT_ONE(number));
}

VP_EXPORT int sigwaitinfo(const sigset_t *set, siginfo_t *info)
{
    int held = take_held(set, info);
    return held ? held : GUARDED(originals()->sigwaitinfo(set, info), IN_ONE(set), OUT_ONE(info));
}

VP_EXPORT int sigtimedwait(const sigset_t *set, siginfo_t *info, const struct timespec *timeout)
{
    int held = take_held(set, info);
    return held ? held
                : GUARDED(originals()->sigtimedwait(set, info, timeout), IN_ONE(set), OUT_ONE(info), IN_ONE(timeout));
}

VP_EXPORT int sigsuspend(const sigset_t *mask)
{
    sigset_t copy;
    const sigset_t *passed = with_traps_open(mask, &copy);
    return GUARDED(originals()->sigsuspend(passed), IN_ONE(passed));
}

/* No net: it leaves the calls about masks alone. */
VP_EXPORT int sigpending(sigset_t *set)
{
    int result = ALWAYS_HELD(originals()->sigpending(set), OUT_ONE(set));
    if (result == 0)
        signals_add(set, signals_held());
    return result;
}

/* ---- robust mutexes: the kernel looks at them when their holder ends, when nobody can be asked any more ---- */

static bool is_robust(const pthread_mutexattr_t *attributes)
{
    int robust = PTHREAD_MUTEX_STALLED;
    return attributes && pthread_mutexattr_getrobust(attributes, &robust) == 0 && robust == PTHREAD_MUTEX_ROBUST;
}

VP_EXPORT int pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attributes)
{
    int error = originals()->pthread_mutex_init(mutex, attributes);
    if (error == 0 && ours(mutex) && is_robust(attributes))
        resident_add(mutex, mutex, sizeof *mutex);
    return error;
}

VP_EXPORT int pthread_mutex_destroy(pthread_mutex_t *mutex)
{
    int error = originals()->pthread_mutex_destroy(mutex);
    if (error == 0 && ours(mutex))
        resident_drop(mutex);
    return error;
}
