/*
 * files.c: calls that name files by strings, or are answered in structures, anywhere in the arena.
 *
 * Not here: what libc reads and writes in user mode only (readdir, realpath).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <sys/syscall.h>

#include "../../platform/os.h"
#include "../guard/linux/devices.h"
#include "held_call.h"
#include "hooks.h"
#include "parts.h"

/* The kernel gives no more of a path than this. */
static size_t path_room(size_t size) { return size < PATH_MAX ? size : PATH_MAX; }

/* ---- what a file is ---- */

STAND_IN(int, stat, (const char *path, struct stat *out), (path, out), TEXT(path), OUT_ONE(out))
STAND_IN(int, stat64, (const char *path, struct stat64 *out), (path, out), TEXT(path), OUT_ONE(out))
STAND_IN(int, lstat, (const char *path, struct stat *out), (path, out), TEXT(path), OUT_ONE(out))
STAND_IN(int, lstat64, (const char *path, struct stat64 *out), (path, out), TEXT(path), OUT_ONE(out))
STAND_IN(int, fstat, (int fd, struct stat *out), (fd, out), OUT_ONE(out))
STAND_IN(int, fstat64, (int fd, struct stat64 *out), (fd, out), OUT_ONE(out))
STAND_IN(int, fstatat, (int fd, const char *path, struct stat *out, int flags), (fd, path, out, flags),
         TEXT(path), OUT_ONE(out))
STAND_IN(int, fstatat64, (int fd, const char *path, struct stat64 *out, int flags), (fd, path, out, flags),
         TEXT(path), OUT_ONE(out))
STAND_IN(int, statx, (int fd, const char *path, int flags, unsigned mask, struct statx *out),
         (fd, path, flags, mask, out), TEXT(path), OUT_ONE(out))

/* What programs linked to an older libc call instead. */
STAND_IN(int, __xstat, (int version, const char *path, struct stat *out), (version, path, out),
         TEXT(path), OUT_ONE(out))
STAND_IN(int, __xstat64, (int version, const char *path, struct stat64 *out), (version, path, out),
         TEXT(path), OUT_ONE(out))
STAND_IN(int, __lxstat, (int version, const char *path, struct stat *out), (version, path, out),
         TEXT(path), OUT_ONE(out))
STAND_IN(int, __lxstat64, (int version, const char *path, struct stat64 *out), (version, path, out),
         TEXT(path), OUT_ONE(out))
STAND_IN(int, __fxstat, (int version, int fd, struct stat *out), (version, fd, out), OUT_ONE(out))
STAND_IN(int, __fxstat64, (int version, int fd, struct stat64 *out), (version, fd, out), OUT_ONE(out))
STAND_IN(int, __fxstatat, (int version, int fd, const char *path, struct stat *out, int flags),
         (version, fd, path, out, flags), TEXT(path), OUT_ONE(out))
STAND_IN(int, __fxstatat64, (int version, int fd, const char *path, struct stat64 *out, int flags),
         (version, fd, path, out, flags), TEXT(path), OUT_ONE(out))

STAND_IN(int, statfs, (const char *path, struct statfs *out), (path, out), TEXT(path), OUT_ONE(out))
STAND_IN(int, statfs64, (const char *path, struct statfs64 *out), (path, out), TEXT(path), OUT_ONE(out))
STAND_IN(int, fstatfs, (int fd, struct statfs *out), (fd, out), OUT_ONE(out))
STAND_IN(int, fstatfs64, (int fd, struct statfs64 *out), (fd, out), OUT_ONE(out))
STAND_IN(int, statvfs, (const char *path, struct statvfs *out), (path, out), TEXT(path), OUT_ONE(out))
STAND_IN(int, statvfs64, (const char *path, struct statvfs64 *out), (path, out), TEXT(path), OUT_ONE(out))

STAND_IN(int, access, (const char *path, int mode), (path, mode), TEXT(path))
STAND_IN(int, faccessat, (int fd, const char *path, int mode, int flags), (fd, path, mode, flags), TEXT(path))

STAND_IN(ssize_t, readlink, (const char *path, char *out, size_t size), (path, out, size),
         TEXT(path), OUT(out, path_room(size)))
STAND_IN(ssize_t, readlinkat, (int fd, const char *path, char *out, size_t size), (fd, path, out, size),
         TEXT(path), OUT(out, path_room(size)))
STAND_IN(ssize_t, __readlink_chk, (const char *path, char *out, size_t size, size_t room), (path, out, size, room),
         TEXT(path), OUT(out, path_room(size)))
STAND_IN(ssize_t, __readlinkat_chk, (int fd, const char *path, char *out, size_t size, size_t room),
         (fd, path, out, size, room), TEXT(path), OUT(out, path_room(size)))
STAND_IN(char *, getcwd, (char *out, size_t size), (out, size), OUT(out, path_room(size)))
STAND_IN(char *, __getcwd_chk, (char *out, size_t size, size_t room), (out, size, room), OUT(out, path_room(size)))
STAND_IN(ssize_t, getdents64, (int fd, void *out, size_t size), (fd, out, size), OUT(out, size))

/* ---- opening ---- */

/* The optional last argument, as libc itself takes it. */
#define MODE(flags)                                                             \
    __extension__({                                                             \
        mode_t mode_ = 0;                                                       \
        if ((flags) & O_CREAT || ((flags) & O_TMPFILE) == O_TMPFILE) {          \
            va_list more_;                                                      \
            va_start(more_, flags);                                             \
            mode_ = va_arg(more_, mode_t);                                      \
            va_end(more_);                                                      \
        }                                                                       \
        mode_;                                                                  \
    })

VP_EXPORT int open(const char *path, int flags, ...)
{
    mode_t mode = MODE(flags);
    return GUARDED(originals()->open(path, flags, mode), TEXT(path));
}

VP_EXPORT int open64(const char *path, int flags, ...)
{
    mode_t mode = MODE(flags);
    return GUARDED(originals()->open64(path, flags, mode), TEXT(path));
}

VP_EXPORT int openat(int fd, const char *path, int flags, ...)
{
    mode_t mode = MODE(flags);
    return GUARDED(originals()->openat(fd, path, flags, mode), TEXT(path));
}

VP_EXPORT int openat64(int fd, const char *path, int flags, ...)
{
    mode_t mode = MODE(flags);
    return GUARDED(originals()->openat64(fd, path, flags, mode), TEXT(path));
}

STAND_IN(int, __open_2, (const char *path, int flags), (path, flags), TEXT(path))
STAND_IN(int, __open64_2, (const char *path, int flags), (path, flags), TEXT(path))
STAND_IN(int, __openat_2, (int fd, const char *path, int flags), (fd, path, flags), TEXT(path))
STAND_IN(int, __openat64_2, (int fd, const char *path, int flags), (fd, path, flags), TEXT(path))
STAND_IN(int, creat, (const char *path, mode_t mode), (path, mode), TEXT(path))
STAND_IN(int, creat64, (const char *path, mode_t mode), (path, mode), TEXT(path))
STAND_IN(FILE *, fopen, (const char *path, const char *mode), (path, mode), TEXT(path))
STAND_IN(FILE *, fopen64, (const char *path, const char *mode), (path, mode), TEXT(path))
STAND_IN(DIR *, opendir, (const char *path), (path), TEXT(path))
STAND_IN(int, mkstemp, (char *path), (path), TEXT(path))
STAND_IN(int, mkstemp64, (char *path), (path), TEXT(path))
STAND_IN(int, mkostemp, (char *path, int flags), (path, flags), TEXT(path))
STAND_IN(int, mkostemp64, (char *path, int flags), (path, flags), TEXT(path))
STAND_IN(char *, mkdtemp, (char *path), (path), TEXT(path))

/* ---- changing names and attributes ---- */

STAND_IN(int, unlink, (const char *path), (path), TEXT(path))
STAND_IN(int, unlinkat, (int fd, const char *path, int flags), (fd, path, flags), TEXT(path))
STAND_IN(int, remove, (const char *path), (path), TEXT(path))
STAND_IN(int, rmdir, (const char *path), (path), TEXT(path))
STAND_IN(int, mkdir, (const char *path, mode_t mode), (path, mode), TEXT(path))
STAND_IN(int, mkdirat, (int fd, const char *path, mode_t mode), (fd, path, mode), TEXT(path))
STAND_IN(int, mkfifo, (const char *path, mode_t mode), (path, mode), TEXT(path))
STAND_IN(int, rename, (const char *from, const char *to), (from, to), TEXT(from), TEXT(to))
STAND_IN(int, renameat, (int from_fd, const char *from, int to_fd, const char *to), (from_fd, from, to_fd, to),
         TEXT(from), TEXT(to))
STAND_IN(int, renameat2, (int from_fd, const char *from, int to_fd, const char *to, unsigned flags),
         (from_fd, from, to_fd, to, flags), TEXT(from), TEXT(to))
STAND_IN(int, link, (const char *from, const char *to), (from, to), TEXT(from), TEXT(to))
STAND_IN(int, linkat, (int from_fd, const char *from, int to_fd, const char *to, int flags),
         (from_fd, from, to_fd, to, flags), TEXT(from), TEXT(to))
STAND_IN(int, symlink, (const char *target, const char *path), (target, path), TEXT(target), TEXT(path))
STAND_IN(int, symlinkat, (const char *target, int fd, const char *path), (target, fd, path), TEXT(target), TEXT(path))
STAND_IN(int, chdir, (const char *path), (path), TEXT(path))
STAND_IN(int, chmod, (const char *path, mode_t mode), (path, mode), TEXT(path))
STAND_IN(int, fchmodat, (int fd, const char *path, mode_t mode, int flags), (fd, path, mode, flags), TEXT(path))
STAND_IN(int, chown, (const char *path, uid_t user, gid_t group), (path, user, group), TEXT(path))
STAND_IN(int, lchown, (const char *path, uid_t user, gid_t group), (path, user, group), TEXT(path))
STAND_IN(int, fchownat, (int fd, const char *path, uid_t user, gid_t group, int flags),
         (fd, path, user, group, flags), TEXT(path))
STAND_IN(int, truncate, (const char *path, off_t size), (path, size), TEXT(path))
STAND_IN(int, truncate64, (const char *path, off64_t size), (path, size), TEXT(path))
STAND_IN(int, utimensat, (int fd, const char *path, const struct timespec times[2], int flags),
         (fd, path, times, flags), TEXT(path), IN(times, 2 * sizeof *times))
STAND_IN(int, futimens, (int fd, const struct timespec times[2]), (fd, times), IN(times, 2 * sizeof *times))
STAND_IN(int, inotify_add_watch, (int fd, const char *path, uint32_t mask), (fd, path, mask), TEXT(path))

STAND_IN(ssize_t, getxattr, (const char *path, const char *name, void *value, size_t size), (path, name, value, size),
         TEXT(path), TEXT(name), OUT(value, size))
STAND_IN(ssize_t, lgetxattr, (const char *path, const char *name, void *value, size_t size), (path, name, value, size),
         TEXT(path), TEXT(name), OUT(value, size))
STAND_IN(ssize_t, fgetxattr, (int fd, const char *name, void *value, size_t size), (fd, name, value, size),
         TEXT(name), OUT(value, size))
STAND_IN(int, setxattr, (const char *path, const char *name, const void *value, size_t size, int flags),
         (path, name, value, size, flags), TEXT(path), TEXT(name), IN(value, size))
STAND_IN(int, lsetxattr, (const char *path, const char *name, const void *value, size_t size, int flags),
         (path, name, value, size, flags), TEXT(path), TEXT(name), IN(value, size))
STAND_IN(int, fsetxattr, (int fd, const char *name, const void *value, size_t size, int flags),
         (fd, name, value, size, flags), TEXT(name), IN(value, size))
STAND_IN(ssize_t, listxattr, (const char *path, char *list, size_t size), (path, list, size),
         TEXT(path), OUT(list, size))
STAND_IN(ssize_t, llistxattr, (const char *path, char *list, size_t size), (path, list, size),
         TEXT(path), OUT(list, size))
STAND_IN(ssize_t, flistxattr, (int fd, char *list, size_t size), (fd, list, size), OUT(list, size))

/* ---- between files: the data passes by, the offsets do not ---- */

STAND_IN(ssize_t, sendfile, (int to, int from, off_t *offset, size_t size), (to, from, offset, size), OUT_ONE(offset))
STAND_IN(ssize_t, sendfile64, (int to, int from, off64_t *offset, size_t size), (to, from, offset, size),
         OUT_ONE(offset))
STAND_IN(ssize_t, copy_file_range,
         (int from, off64_t *from_offset, int to, off64_t *to_offset, size_t size, unsigned flags),
         (from, from_offset, to, to_offset, size, flags), OUT_ONE(from_offset), OUT_ONE(to_offset))
STAND_IN(ssize_t, splice, (int from, off64_t *from_offset, int to, off64_t *to_offset, size_t size, unsigned flags),
         (from, from_offset, to, to_offset, size, flags), OUT_ONE(from_offset), OUT_ONE(to_offset))

/* ---- control: what the argument is depends on the request; a number is no address in the arena ---- */

#define ARGUMENT(last)                      \
    __extension__({                         \
        va_list more_;                      \
        va_start(more_, last);              \
        void *argument_ = va_arg(more_, void *); \
        va_end(more_);                      \
        argument_;                          \
    })

/* What its structure points to is found by looking at the structure, wherever that lies. */
SLOW int held_ioctl(int fd, unsigned long request, void *argument)
{
    return (int) held_call(call_find(SYS_ioctl),
                           (const uint64_t[CALL_ARGUMENTS]){(uint64_t) fd, request, (uintptr_t) argument});
}

VP_EXPORT int ioctl(int fd, unsigned long request, ...)
{
    void *argument = ARGUMENT(request);
    devices_note_request(request);
    if (__builtin_expect(__atomic_load_n(&vp.engine.trapping, __ATOMIC_RELAXED) || ours(argument), 0))
        return held_ioctl(fd, request, argument);
    return originals()->ioctl(fd, request, argument);
}

/* To the program our own are not open (descriptor.c). */
static bool is_not_open(int fd)
{
    bool own = os_fd_is_own(fd);
    if (own)
        errno = EBADF;
    return own;
}

/* Locks are the largest of its structures. */
VP_EXPORT int fcntl(int fd, int command, ...)
{
    void *argument = ARGUMENT(command);
    if (is_not_open(fd))
        return -1;
    return GUARDED(originals()->fcntl(fd, command, argument), OUT(argument, sizeof(struct flock64)));
}

VP_EXPORT int fcntl64(int fd, int command, ...)
{
    void *argument = ARGUMENT(command);
    if (is_not_open(fd))
        return -1;
    return GUARDED(originals()->fcntl64(fd, command, argument), OUT(argument, sizeof(struct flock64)));
}
