/*
 * calls.c: stand-ins that do nothing but hold what they are given; and those that keep our own descriptors ours.
 */
#include <errno.h>
#include <stdarg.h>

#include "../../../platform/os.h"
#include "hold.h"
#include "hooks.h"

/* ---- files ---- */

STAND_IN(int, stat, (const char *path, struct stat *out), (path, out), TEXT(path), OUT_ONE(out))
STAND_IN(int, lstat, (const char *path, struct stat *out), (path, out), TEXT(path), OUT_ONE(out))
STAND_IN(int, fstat, (int fd, struct stat *out), (fd, out), OUT_ONE(out))
STAND_IN(int, fstatat, (int fd, const char *path, struct stat *out, int flags), (fd, path, out, flags), TEXT(path),
         OUT_ONE(out))
STAND_IN(int, statfs, (const char *path, struct statfs *out), (path, out), TEXT(path), OUT_ONE(out))
STAND_IN(int, fstatfs, (int fd, struct statfs *out), (fd, out), OUT_ONE(out))
STAND_IN(int, access, (const char *path, int mode), (path, mode), TEXT(path))
STAND_IN(int, faccessat, (int fd, const char *path, int mode, int flags), (fd, path, mode, flags), TEXT(path))
STAND_IN(ssize_t, readlink, (const char *path, char *out, size_t size), (path, out, size), TEXT(path), OUT(out, size))
STAND_IN(ssize_t, readlinkat, (int fd, const char *path, char *out, size_t size), (fd, path, out, size), TEXT(path),
         OUT(out, size))
STAND_IN(int, unlink, (const char *path), (path), TEXT(path))
STAND_IN(int, rmdir, (const char *path), (path), TEXT(path))
STAND_IN(int, mkdir, (const char *path, mode_t mode), (path, mode), TEXT(path))
STAND_IN(int, rename, (const char *from, const char *to), (from, to), TEXT(from), TEXT(to))
STAND_IN(int, link, (const char *from, const char *to), (from, to), TEXT(from), TEXT(to))
STAND_IN(int, symlink, (const char *target, const char *path), (target, path), TEXT(target), TEXT(path))
STAND_IN(int, chdir, (const char *path), (path), TEXT(path))
STAND_IN(int, chmod, (const char *path, mode_t mode), (path, mode), TEXT(path))
STAND_IN(int, truncate, (const char *path, off_t size), (path, size), TEXT(path))
STAND_IN(ssize_t, getxattr,
         (const char *path, const char *name, void *value, size_t size, uint32_t position, int options),
         (path, name, value, size, position, options), TEXT(path), TEXT(name), OUT(value, size))
STAND_IN(int, setxattr,
         (const char *path, const char *name, const void *value, size_t size, uint32_t position, int options),
         (path, name, value, size, position, options), TEXT(path), TEXT(name), IN(value, size))

/* The mode is there when a file may be made; arm64 passes it otherwise than arguments that have a name. */
#define MODE_AFTER(flags)                                \
    __extension__({                                      \
        va_list more_;                                   \
        va_start(more_, flags);                          \
        int mode_ = flags & O_CREAT ? va_arg(more_, int) : 0; \
        va_end(more_);                                   \
        mode_;                                           \
    })

int hooked_open(const char *path, int flags, ...)
{
    struct part parts[] = {TEXT(path)};
    int mode = MODE_AFTER(flags), result;
    if (!guard_ours(path))
        return open(path, flags, mode);
    HELD(result, parts, 1, open(path, flags, mode));
    return result;
}

int hooked_openat(int fd, const char *path, int flags, ...)
{
    struct part parts[] = {TEXT(path)};
    int mode = MODE_AFTER(flags), result;
    if (!guard_ours(path))
        return openat(fd, path, flags, mode);
    HELD(result, parts, 1, openat(fd, path, flags, mode));
    return result;
}

/* ---- sockets ---- */

#define LENGTH(length) ((length) ? *(length) : 0)

STAND_IN(int, accept, (int fd, struct sockaddr *from, socklen_t *length), (fd, from, length),
         OUT(from, LENGTH(length)), OUT_ONE(length))
STAND_IN(int, connect, (int fd, const struct sockaddr *to, socklen_t length), (fd, to, length), IN(to, length))
STAND_IN(int, bind, (int fd, const struct sockaddr *own, socklen_t length), (fd, own, length), IN(own, length))
STAND_IN(int, getsockname, (int fd, struct sockaddr *own, socklen_t *length), (fd, own, length),
         OUT(own, LENGTH(length)), OUT_ONE(length))
STAND_IN(int, getpeername, (int fd, struct sockaddr *other, socklen_t *length), (fd, other, length),
         OUT(other, LENGTH(length)), OUT_ONE(length))
STAND_IN(int, getsockopt, (int fd, int level, int name, void *value, socklen_t *length),
         (fd, level, name, value, length), OUT(value, LENGTH(length)), OUT_ONE(length))
STAND_IN(int, setsockopt, (int fd, int level, int name, const void *value, socklen_t length),
         (fd, level, name, value, length), IN(value, length))
STAND_IN(int, socketpair, (int domain, int type, int protocol, int ends[2]), (domain, type, protocol, ends),
         OUT(ends, 2 * sizeof(int)))
STAND_IN(int, pipe, (int ends[2]), (ends), OUT(ends, 2 * sizeof(int)))

/* ---- waiting ---- */

STAND_IN(int, poll, (struct pollfd *fds, nfds_t count, int timeout), (fds, count, timeout),
         OUT(fds, count * sizeof *fds))
STAND_IN(int, select, (int count, fd_set *in, fd_set *out, fd_set *except, struct timeval *timeout),
         (count, in, out, except, timeout), OUT_ONE(in), OUT_ONE(out), OUT_ONE(except), OUT_ONE(timeout))
STAND_IN(int, kevent,
         (int queue, const struct kevent *changes, int change_count, struct kevent *events, int event_count,
          const struct timespec *timeout),
         (queue, changes, change_count, events, event_count, timeout),
         IN(changes, (size_t) change_count * sizeof *changes), OUT(events, (size_t) event_count * sizeof *events),
         IN_ONE(timeout))
STAND_IN(pid_t, waitpid, (pid_t pid, int *status, int flags), (pid, status, flags), OUT_ONE(status))
STAND_IN(pid_t, wait4, (pid_t pid, int *status, int flags, struct rusage *usage), (pid, status, flags, usage),
         OUT_ONE(status), OUT_ONE(usage))

/* ---- the rest ---- */

STAND_IN(int, getrusage, (int who, struct rusage *out), (who, out), OUT_ONE(out))
STAND_IN(int, getentropy, (void *buffer, size_t size), (buffer, size), OUT(buffer, size))

/* Once paging is armed the arena cannot promise to stay in memory. */
int hooked_mlock(const void *start, size_t length)
{
    if (guard_ours(start) && __atomic_load_n(&vp.engine.paging, __ATOMIC_ACQUIRE)) {
        errno = ENOMEM;
        return -1;
    }
    return mlock(start, length);
}

/* ---- descriptors of our own: to the program they are not open ---- */

static int not_open(void)
{
    errno = EBADF;
    return -1;
}

int hooked_close(int fd) { return os_fd_is_own(fd) ? not_open() : close(fd); }

int hooked_close_nocancel(int fd) { return os_fd_is_own(fd) ? not_open() : close_nocancel(fd); }

int hooked_dup2(int from, int to) { return os_fd_is_own(from) || os_fd_is_own(to) ? not_open() : dup2(from, to); }
