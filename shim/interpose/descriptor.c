/*
 * descriptor.c: the shim's own descriptors (userfaultfd, spill, /proc files) are not the program's to close: a loop over
 * all numbers, as daemons run it, would take the paged-out memory with it. To the program they are not open. (fcntl() is
 * in files.c.)
 */
#include <errno.h>
#include <limits.h>
#include <unistd.h>

#include "../../platform/os.h"
#include "hooks.h"

static int not_open(void)
{
    errno = EBADF;
    return -1;
}

VP_EXPORT int close(int fd) { return os_fd_is_own(fd) ? not_open() : originals()->close(fd); }

/* Closes [first, last] around our own. */
static int close_around(unsigned first, unsigned last, int flags)
{
    int own;
    while (first <= last && (own = os_fd_next_own(first)) >= 0 && (unsigned) own <= last) {
        if ((unsigned) own > first && originals()->close_range(first, (unsigned) own - 1, flags) < 0)
            return -1;
        first = (unsigned) own + 1;
    }
    return first <= last ? originals()->close_range(first, last, flags) : 0;
}

VP_EXPORT int close_range(unsigned first, unsigned last, int flags)
{
    if (first > last)
        return originals()->close_range(first, last, flags);
    return close_around(first, last, flags);
}

VP_EXPORT void closefrom(int first)
{
    unsigned from = first < 0 ? 0 : (unsigned) first;
    int saved = errno;
    if (close_around(from, UINT_MAX, 0) < 0 && errno == ENOSYS)
        for (long fd = from, end = sysconf(_SC_OPEN_MAX); fd < end; fd++)
            close((int) fd);
    errno = saved;
}

VP_EXPORT int dup(int from) { return os_fd_is_own(from) ? not_open() : originals()->dup(from); }

VP_EXPORT int dup2(int from, int to)
{
    return os_fd_is_own(from) || os_fd_is_own(to) ? not_open() : originals()->dup2(from, to);
}

VP_EXPORT int dup3(int from, int to, int flags)
{
    return os_fd_is_own(from) || os_fd_is_own(to) ? not_open() : originals()->dup3(from, to, flags);
}
