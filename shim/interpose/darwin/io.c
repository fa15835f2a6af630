/*
 * io.c: calls with buffers that may be large. A buffer larger than a quarter of the budget is passed on in windows; the
 * caller still gets the full count wherever one call would have given it: from files, and into streams.
 */
#include <errno.h>
#include <limits.h>

#include "hold.h"
#include "hooks.h"

/* Darwin refuses more at once (EINVAL); that is for it to refuse. */
#define plausible(size) ((size) <= INT_MAX)

static bool is_file(int fd)
{
    struct stat status;
    int saved = errno;
    bool file = fstat(fd, &status) == 0 && (S_ISREG(status.st_mode) || S_ISBLK(status.st_mode));
    errno = saved;
    return file;
}

/* A socket where one call is one message: it must stay one. */
static bool is_message(int fd)
{
    int type, saved = errno;
    socklen_t length = sizeof type;
    bool message = getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) == 0 && type != SOCK_STREAM;
    errno = saved;
    return message;
}

/* Runs `call` over the buffer in windows; in it, at_ and n_ are the window, done_ is what is done. `whole`: go on
 * after a full window, else one window is an answer that the caller must expect anyway. */
#define WINDOWED(buffer, size, write, window, whole, call)                                   \
    __extension__({                                                                          \
        size_t done_ = 0, window_ = window, n_;                                              \
        ssize_t got_;                                                                        \
        do {                                                                                 \
            char *at_ = (char *) (uintptr_t) (buffer) + done_;                               \
            n_ = (size) -done_ < window_ ? (size) -done_ : window_;                          \
            struct part part_[] = {write ? OUT(at_, n_) : IN(at_, n_)};                      \
            HELD(got_, part_, 1, call);                                                      \
            done_ += got_ > 0 ? (size_t) got_ : 0;                                           \
        } while (got_ > 0 && (size_t) got_ == n_ && done_ < (size) && (whole));              \
        done_ > 0 ? (ssize_t) done_ : got_;                                                  \
    })

/* A message is one window, however large. */
static size_t window_of(int fd, size_t size) { return size > guard_window() && is_message(fd) ? size : guard_window(); }

/* ---- one buffer ---- */

#define READ(name)                                                                                             \
    ssize_t hooked_##name(int fd, void *buffer, size_t size)                                                   \
    {                                                                                                          \
        if (!guard_ours(buffer) || !plausible(size))                                                           \
            return name(fd, buffer, size);                                                                     \
        return WINDOWED(buffer, size, true, window_of(fd, size), is_file(fd), name(fd, at_, n_));              \
    }
READ(read)
READ(read_nocancel)

#define WRITE(name)                                                                                            \
    ssize_t hooked_##name(int fd, const void *buffer, size_t size)                                             \
    {                                                                                                          \
        if (!guard_ours(buffer) || !plausible(size))                                                           \
            return name(fd, buffer, size);                                                                     \
        return WINDOWED(buffer, size, false, window_of(fd, size), true, name(fd, at_, n_));                    \
    }
WRITE(write)
WRITE(write_nocancel)

#define PREAD(name)                                                                                            \
    ssize_t hooked_##name(int fd, void *buffer, size_t size, off_t offset)                                     \
    {                                                                                                          \
        if (!guard_ours(buffer) || !plausible(size))                                                           \
            return name(fd, buffer, size, offset);                                                             \
        return WINDOWED(buffer, size, true, guard_window(), true, name(fd, at_, n_, offset + (off_t) done_));  \
    }
PREAD(pread)
PREAD(pread_nocancel)

#define PWRITE(name)                                                                                           \
    ssize_t hooked_##name(int fd, const void *buffer, size_t size, off_t offset)                               \
    {                                                                                                          \
        if (!guard_ours(buffer) || !plausible(size))                                                           \
            return name(fd, buffer, size, offset);                                                             \
        return WINDOWED(buffer, size, false, guard_window(), true, name(fd, at_, n_, offset + (off_t) done_)); \
    }
PWRITE(pwrite)
PWRITE(pwrite_nocancel)

static bool waits_for_all(int flags) { return (flags & (MSG_WAITALL | MSG_PEEK)) == MSG_WAITALL; }

ssize_t hooked_recv(int fd, void *buffer, size_t size, int flags)
{
    if (!guard_ours(buffer) || !plausible(size))
        return recv(fd, buffer, size, flags);
    return WINDOWED(buffer, size, true, window_of(fd, size), waits_for_all(flags), recv(fd, at_, n_, flags));
}

ssize_t hooked_send(int fd, const void *buffer, size_t size, int flags)
{
    if (!guard_ours(buffer) || !plausible(size))
        return send(fd, buffer, size, flags);
    return WINDOWED(buffer, size, false, window_of(fd, size), true, send(fd, at_, n_, flags));
}

/* With an address it is a message. */
STAND_IN(ssize_t, recvfrom, (int fd, void *buffer, size_t size, int flags, struct sockaddr *from, socklen_t *length),
         (fd, buffer, size, flags, from, length), OUT(buffer, size), OUT(from, length ? *length : 0), OUT_ONE(length))
STAND_IN(ssize_t, sendto, (int fd, const void *buffer, size_t size, int flags, const struct sockaddr *to, socklen_t length),
         (fd, buffer, size, flags, to, length), IN(buffer, size), IN(to, length))

/* ---- several buffers: all at once, a short count where that is more than a window ---- */


static bool vector_ours(const struct iovec *vector, int count)
{
    if (guard_ours(vector))
        return true;
    for (int i = 0; i < count; i++)
        if (guard_ours(vector[i].iov_base))
            return true;
    return false;
}

/* As much of the vector as fits a window, held: its parts are cut where it ends. Returns the parts that are left. */
static int cut(const struct iovec *vector, int count, struct iovec *out)
{
    size_t left = guard_window();
    int n = 0;
    for (; n < count && left > 0; n++) {
        out[n] = vector[n];
        if (guard_ours(out[n].iov_base) && out[n].iov_len > left)
            out[n].iov_len = left;
        left -= guard_ours(out[n].iov_base) ? out[n].iov_len : 0;
        if (out[n].iov_len < vector[n].iov_len)
            return n + 1;
    }
    return n;
}

static void parts_of(const struct iovec *vector, int count, bool write, struct part *parts)
{
    for (int i = 0; i < count; i++)
        parts[i] = write ? OUT(vector[i].iov_base, vector[i].iov_len) : IN(vector[i].iov_base, vector[i].iov_len);
}

/* `unheld` for what is not ours; `call` with cut_ instead of the vector. */
#define VECTOR(name, writes, parameters, unheld, call)                                            \
    ssize_t hooked_##name parameters                                                              \
    {                                                                                             \
        if (count <= 0 || count > IOV_MAX || !vector_ours(vector, count))                         \
            return unheld;                                                                        \
        struct iovec cut_[IOV_MAX];                                                               \
        struct part parts_[IOV_MAX];                                                              \
        ssize_t result_;                                                                          \
        if (is_message(fd))                                                                       \
            memcpy(cut_, vector, (size_t) count * sizeof *vector);                                \
        else                                                                                      \
            count = cut(vector, count, cut_);                                                     \
        parts_of(cut_, count, writes, parts_);                                                    \
        HELD(result_, parts_, (size_t) count, call);                                              \
        return result_;                                                                           \
    }

#define WHOLE_VECTOR(name, writes)                                                                            \
    VECTOR(name, writes, (int fd, const struct iovec *vector, int count), name(fd, vector, count),            \
           name(fd, cut_, count))
WHOLE_VECTOR(readv, true)
WHOLE_VECTOR(readv_nocancel, true)
WHOLE_VECTOR(writev, false)
WHOLE_VECTOR(writev_nocancel, false)

#define VECTOR_AT(name, writes)                                                                               \
    VECTOR(name, writes, (int fd, const struct iovec *vector, int count, off_t offset),                       \
           name(fd, vector, count, offset), name(fd, cut_, count, offset))
VECTOR_AT(preadv, true)
VECTOR_AT(pwritev, false)

/* A message and all that it points to. Returns how many parts. */
static size_t message_parts(const struct msghdr *message, bool write, struct part *parts)
{
    parts[0] = OUT_ONE(message);
    parts[1] = OUT(message->msg_name, message->msg_namelen);
    parts[2] = OUT(message->msg_control, message->msg_controllen);
    int count = message->msg_iovlen > 0 && message->msg_iovlen <= IOV_MAX ? message->msg_iovlen : 0;
    parts[3] = IN(message->msg_iov, (size_t) count * sizeof *message->msg_iov);
    parts_of(message->msg_iov, count, write, parts + 4);
    return (size_t) count + 4;
}

#define MESSAGE(name, writes, type)                                       \
    ssize_t hooked_##name(int fd, type *message, int flags)               \
    {                                                                     \
        struct part parts_[IOV_MAX + 4];                                  \
        size_t n_ = message_parts(message, writes, parts_);               \
        ssize_t result_;                                                  \
        if (!any_ours(parts_, n_))                                        \
            return name(fd, message, flags);                              \
        HELD(result_, parts_, n_, name(fd, message, flags));              \
        return result_;                                                   \
    }
MESSAGE(recvmsg, true, struct msghdr)
MESSAGE(sendmsg, false, const struct msghdr)
