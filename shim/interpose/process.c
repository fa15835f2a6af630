/*
 * process.c: processes that are made otherwise than by fork(), whose handlers (pthread_atfork) then do not run, and fork()
 * itself for what these cannot know: that it failed.
 *
 * Left alone: vfork() and whatever shares this memory; a child is nothing of its own then until it calls exec.
 */
#include <sched.h>
#include <stdarg.h>

#include "../lifecycle.h"
#include "hooks.h"
#include "process.h"

VP_EXPORT pid_t fork(void)
{
    pid_t pid = originals()->fork();
    if (pid < 0)
        lifecycle_fork_failed();
    return pid;
}

long process_forked(long pid)
{
    lifecycle_fork(pid == 0 ? FORK_CHILD : FORK_PARENT);
    if (pid < 0)
        lifecycle_fork_failed();
    return pid;
}

VP_EXPORT pid_t _Fork(void)
{
    lifecycle_fork(FORK_BEFORE);
    return (pid_t) process_forked(originals()->_Fork());
}

/* What a child made by clone() is to do, once it is one. */
struct cloned {
    int (*run)(void *);
    void *argument;
};

static int begin_clone(void *given)
{
    const struct cloned *cloned = given;
    lifecycle_fork(FORK_CHILD);
    return cloned->run(cloned->argument);
}

VP_EXPORT int clone(int (*function)(void *), void *stack, int flags, void *argument, ...)
{
    va_list more;
    va_start(more, argument);
    void *parent = va_arg(more, void *), *tls = va_arg(more, void *), *child = va_arg(more, void *);
    va_end(more);
    if (flags & CLONE_VM || !function || !stack)
        return originals()->clone(function, stack, flags, argument, parent, tls, child);
    struct cloned cloned = {function, argument};
    lifecycle_fork(FORK_BEFORE);
    return (int) process_forked(originals()->clone(begin_clone, stack, flags, &cloned, parent, tls, child));
}
