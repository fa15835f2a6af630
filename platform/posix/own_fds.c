#include "own_fds.h"

#include "../os.h"

/* A handful; any thread, atomically. */
#define OWN_MAX 32
static int own_fds[OWN_MAX]; /* number + 1; 0 is an empty place */

static void replace(int from, int to)
{
    for (int i = 0; i < OWN_MAX; i++) {
        int seen = from;
        if (__atomic_compare_exchange_n(&own_fds[i], &seen, to, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            return;
    }
}

void own_fds_add(int fd) { replace(0, fd + 1); }

void own_fds_remove(int fd)
{
    if (os_fd_is_own(fd))
        replace(fd + 1, 0);
}

void os_fd_adopt(int fd)
{
    if (!os_fd_is_own(fd))
        own_fds_add(fd);
}

bool os_fd_is_own(int fd)
{
    for (int i = 0; fd >= 0 && i < OWN_MAX; i++)
        if (__atomic_load_n(&own_fds[i], __ATOMIC_RELAXED) == fd + 1)
            return true;
    return false;
}

int os_fd_next_own(unsigned from)
{
    int next = -1;
    for (int i = 0; i < OWN_MAX; i++) {
        int fd = __atomic_load_n(&own_fds[i], __ATOMIC_RELAXED) - 1;
        if (fd >= 0 && (unsigned) fd >= from && (next < 0 || fd < next))
            next = fd;
    }
    return next;
}
