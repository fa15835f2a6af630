/*
 * process.c: fork(), for what pthread_atfork() handlers cannot know: that it failed.
 */
#include "../lifecycle.h"
#include "hooks.h"

VP_EXPORT pid_t fork(void)
{
    pid_t pid = originals()->fork();
    if (pid < 0)
        lifecycle_fork_failed();
    return pid;
}
