/*
 * io.c: calls that give the kernel a buffer. Inside the arena its pages are made present and held (pinned) for the
 * call, because the kernel answers EFAULT for an absent page instead of asking us.
 *
 * A buffer larger than a quarter of the budget is passed on in windows; the caller still gets the full count wherever
 * one call would have given it. One range check is all that a buffer elsewhere costs.
 *
 */
#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "hold.h"
#include "hooks.h"
#include "stream.h"
#include "through.h"

/* The most that Linux transfers in one call, whatever it is asked for. */
#define CALL_MAX ((size_t) 0x7ffff000)

/* Kept apart, so that a call on other memory is a check and a jump. */
#define SLOW __attribute__((noinline))

/* ---- read and write ---- */

/* A file on a disk fills a request completely; anything else may answer with less. */
static bool is_regular(int fd)
{
    struct stat status;
    int saved = errno;
    bool regular = fstat(fd, &status) == 0 && (S_ISREG(status.st_mode) || S_ISBLK(status.st_mode));
    errno = saved;
    return regular;
}

/* What one call in a run of windows means for the run: whether to go on, and what the caller gets. */
static bool more(ssize_t got, size_t asked, size_t *done)
{
    if (got > 0)
        *done += (size_t) got;
    return got > 0 && (size_t) got == asked;
}

static ssize_t outcome(ssize_t last, size_t done) { return done > 0 ? (ssize_t) done : last; }

/*
 * Runs `call` over the buffer in windows. In `call`, at_ and n_ are the window; done_ is what is done already.
 * whole: go on after a full window (else one window is an answer that the caller must expect anyway).
 */
/* A size that the kernel refuses is for it to refuse. */
static bool plausible_size(size_t size) { return (ssize_t) size >= 0; }

#define WINDOWED(buffer, size, write, whole, call)                                          \
    __extension__({                                                                          \
        size_t total_ = (size) < CALL_MAX ? (size) : CALL_MAX;                              \
        size_t done_ = 0, window_ = guard_window();                                          \
        ssize_t got_;                                                                       \
        bool again_;                                                                        \
        do {                                                                                \
            char *at_ = (char *) (uintptr_t) (buffer) + done_;                              \
            size_t n_ = total_ - done_ < window_ ? total_ - done_ : window_;                \
            PINNED(got_, at_, n_, write, call);                                             \
            again_ = more(got_, n_, &done_) && done_ < total_ && (whole);                   \
        } while (again_);                                                                   \
        outcome(got_, done_);                                                               \
    })

/* Whether bytes are all that counts, not how many came in one call. */
static bool is_stream(int fd)
{
    struct stat status;
    int type = SOCK_STREAM, saved = errno;
    socklen_t length = sizeof type;
    bool stream = fstat(fd, &status) == 0;
    if (stream && S_ISSOCK(status.st_mode))
        stream = getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) == 0 && type == SOCK_STREAM;
    else if (stream)
        stream = !S_ISCHR(status.st_mode);
    errno = saved;
    return stream;
}

/* One call where that matters or suffices, else windows. `buffer` is the caller's. */
#define TRANSFER(fd, size, whole, write, call)                                                      \
    __extension__({                                                                                 \
        ssize_t all_;                                                                               \
        if ((size) > guard_window() && is_stream(fd))                                                \
            all_ = WINDOWED(buffer, size, write, whole, call);                                      \
        else {                                                                                      \
            char *at_ = (char *) (uintptr_t) buffer;                                                \
            size_t n_ = size;                                                                       \
            PINNED(all_, at_, n_, write, call);                                                     \
        }                                                                                           \
        all_;                                                                                       \
    })

SLOW static ssize_t read_ours(int fd, void *buffer, size_t size)
{
    return WINDOWED(buffer, size, true, is_regular(fd), THROUGH(SYS_read, fd, at_, n_, 0, 0, 0, originals()->read(fd, at_, n_)));
}

VP_EXPORT ssize_t read(int fd, void *buffer, size_t size)
{
    if (!ours(buffer) || !plausible_size(size))
        return originals()->read(fd, buffer, size);
    return read_ours(fd, buffer, size);
}

VP_EXPORT ssize_t __read_chk(int fd, void *buffer, size_t size, size_t room)
{
    if (!ours(buffer) || size > room)
        return originals()->__read_chk(fd, buffer, size, room);
    return read(fd, buffer, size);
}

SLOW static ssize_t write_ours(int fd, const void *buffer, size_t size)
{
    return TRANSFER(fd, size, true, false, THROUGH(SYS_write, fd, at_, n_, 0, 0, 0, originals()->write(fd, at_, n_)));
}

VP_EXPORT ssize_t write(int fd, const void *buffer, size_t size)
{
    if (!ours(buffer) || !plausible_size(size))
        return originals()->write(fd, buffer, size);
    return write_ours(fd, buffer, size);
}

SLOW static ssize_t pread64_ours(int fd, void *buffer, size_t size, off64_t offset)
{
    return WINDOWED(buffer, size, true, true, 
                    THROUGH(SYS_pread64, fd, at_, n_, offset + (off64_t) done_, 0, 0,
                            originals()->pread64(fd, at_, n_, offset + (off64_t) done_)));
}

VP_EXPORT ssize_t pread64(int fd, void *buffer, size_t size, off64_t offset)
{
    if (!ours(buffer) || !plausible_size(size))
        return originals()->pread64(fd, buffer, size, offset);
    return pread64_ours(fd, buffer, size, offset);
}

VP_EXPORT ssize_t pread(int fd, void *buffer, size_t size, off_t offset) { return pread64(fd, buffer, size, offset); }

VP_EXPORT ssize_t __pread_chk(int fd, void *buffer, size_t size, off_t offset, size_t room)
{
    if (!ours(buffer) || size > room)
        return originals()->__pread_chk(fd, buffer, size, offset, room);
    return pread64(fd, buffer, size, offset);
}

VP_EXPORT ssize_t __pread64_chk(int fd, void *buffer, size_t size, off64_t offset, size_t room)
{
    if (!ours(buffer) || size > room)
        return originals()->__pread64_chk(fd, buffer, size, offset, room);
    return pread64(fd, buffer, size, offset);
}

SLOW static ssize_t pwrite64_ours(int fd, const void *buffer, size_t size, off64_t offset)
{
    return WINDOWED(buffer, size, false, true, 
                    THROUGH(SYS_pwrite64, fd, at_, n_, offset + (off64_t) done_, 0, 0,
                            originals()->pwrite64(fd, at_, n_, offset + (off64_t) done_)));
}

VP_EXPORT ssize_t pwrite64(int fd, const void *buffer, size_t size, off64_t offset)
{
    if (!ours(buffer) || !plausible_size(size))
        return originals()->pwrite64(fd, buffer, size, offset);
    return pwrite64_ours(fd, buffer, size, offset);
}

VP_EXPORT ssize_t pwrite(int fd, const void *buffer, size_t size, off_t offset)
{
    return pwrite64(fd, buffer, size, offset);
}

VP_EXPORT ssize_t getrandom(void *buffer, size_t size, unsigned flags)
{
    if (!ours(buffer) || !plausible_size(size))
        return originals()->getrandom(buffer, size, flags);
    return WINDOWED(buffer, size, true, true, THROUGH(SYS_getrandom, at_, n_, flags, 0, 0, 0, originals()->getrandom(at_, n_, flags)));
}

/* ---- vectors and messages: pinned whole, they are one call ---- */

static bool vector_ours(const struct iovec *vector, size_t count)
{
    if (ours(vector))
        return true;
    for (size_t i = 0; i < count; i++)
        if (ours(vector[i].iov_base))
            return true;
    return false;
}

/* What of each part is held, as the vector was when it was held. */
struct held_vector {
    size_t count;
    struct held parts[IOV_MAX];
};

static void pin_vector(struct held_vector *held, const struct iovec *vector, size_t count, bool write)
{
    for (size_t i = 0; i < count; i++) {
        held->parts[i] = (struct held){vector[i].iov_base, 0};
        held->count = i + 1; /* before it is held: a cancellation in between finds nothing to let go of */
        held->parts[i] = hold(vector[i].iov_base, vector[i].iov_len, write);
    }
}

static void let_go_vector(void *argument)
{
    struct held_vector *held = argument;
    for (size_t i = 0; i < held->count; i++)
        let_go(&held->parts[i]);
}

#define VECTORED(result, vector, n, write, call)                        \
    do {                                                                \
        struct held_vector held_;                                       \
        held_.count = 0;                                                \
        HOLD(self_, vector, (n) * sizeof *(vector), false);             \
        pthread_cleanup_push(let_go_vector, &held_);                    \
        pin_vector(&held_, vector, n, write);                           \
        result = call;                                                  \
        pthread_cleanup_pop(1);                                         \
        LET_GO;                                                         \
    } while (0)

static bool plausible(size_t count) { return count > 0 && count <= IOV_MAX; }

static bool exceeds_window(const struct iovec *vector, size_t count)
{
    size_t total = 0, window = guard_window();
    for (size_t i = 0; i < count && total <= window; i++)
        total += vector[i].iov_len;
    return total > window;
}

/* A vector too large to be held at once goes part by part, as far as each part is done completely. */
#define PART_BY_PART(vector, n, call)                                                   \
    __extension__({                                                                     \
        size_t done_ = 0;                                                               \
        ssize_t got_ = 0;                                                               \
        for (size_t i_ = 0; i_ < (n); i_++) {                                           \
            const struct iovec *part_ = &(vector)[i_];                                  \
            if (part_->iov_len == 0)                                                    \
                continue;                                                               \
            got_ = call;                                                                \
            if (!more(got_, part_->iov_len, &done_))                                    \
                break;                                                                  \
        }                                                                               \
        outcome(got_, done_);                                                           \
    })

VP_EXPORT ssize_t readv(int fd, const struct iovec *vector, int count)
{
    if (!vector || !plausible((size_t) count) || !vector_ours(vector, (size_t) count))
        return originals()->readv(fd, vector, count);
    if (exceeds_window(vector, (size_t) count) && is_stream(fd))
        return PART_BY_PART(vector, (size_t) count, read(fd, part_->iov_base, part_->iov_len));
    ssize_t got;
    VECTORED(got, vector, (size_t) count, true, THROUGH(SYS_readv, fd, vector, count, 0, 0, 0, originals()->readv(fd, vector, count)));
    return got;
}

VP_EXPORT ssize_t writev(int fd, const struct iovec *vector, int count)
{
    if (!vector || !plausible((size_t) count) || !vector_ours(vector, (size_t) count))
        return originals()->writev(fd, vector, count);
    if (exceeds_window(vector, (size_t) count) && is_stream(fd))
        return PART_BY_PART(vector, (size_t) count, write(fd, part_->iov_base, part_->iov_len));
    ssize_t put;
    VECTORED(put, vector, (size_t) count, false, THROUGH(SYS_writev, fd, vector, count, 0, 0, 0, originals()->writev(fd, vector, count)));
    return put;
}

VP_EXPORT ssize_t preadv64v2(int fd, const struct iovec *vector, int count, off64_t offset, int flags)
{
    if (!vector || !plausible((size_t) count) || !vector_ours(vector, (size_t) count))
        return originals()->preadv64v2(fd, vector, count, offset, flags);
    if (!flags && offset >= 0 && exceeds_window(vector, (size_t) count))
        return PART_BY_PART(vector, (size_t) count,
                            pread64(fd, part_->iov_base, part_->iov_len, offset + (off64_t) done_));
    ssize_t got;
    VECTORED(got, vector, (size_t) count, true, THROUGH(SYS_preadv2, fd, vector, count, offset, 0, flags, originals()->preadv64v2(fd, vector, count, offset, flags)));
    return got;
}

VP_EXPORT ssize_t pwritev64v2(int fd, const struct iovec *vector, int count, off64_t offset, int flags)
{
    if (!vector || !plausible((size_t) count) || !vector_ours(vector, (size_t) count))
        return originals()->pwritev64v2(fd, vector, count, offset, flags);
    if (!flags && offset >= 0 && exceeds_window(vector, (size_t) count))
        return PART_BY_PART(vector, (size_t) count,
                            pwrite64(fd, part_->iov_base, part_->iov_len, offset + (off64_t) done_));
    ssize_t put;
    VECTORED(put, vector, (size_t) count, false, THROUGH(SYS_pwritev2, fd, vector, count, offset, 0, flags, originals()->pwritev64v2(fd, vector, count, offset, flags)));
    return put;
}

VP_EXPORT ssize_t preadv2(int fd, const struct iovec *vector, int count, off_t offset, int flags)
{
    return preadv64v2(fd, vector, count, offset, flags);
}

VP_EXPORT ssize_t pwritev2(int fd, const struct iovec *vector, int count, off_t offset, int flags)
{
    return pwritev64v2(fd, vector, count, offset, flags);
}

/* Without flags an offset of -1 is an error, not the file's position. */
VP_EXPORT ssize_t preadv64(int fd, const struct iovec *vector, int count, off64_t offset)
{
    return offset < 0 ? originals()->preadv64(fd, vector, count, offset) : preadv64v2(fd, vector, count, offset, 0);
}

VP_EXPORT ssize_t pwritev64(int fd, const struct iovec *vector, int count, off64_t offset)
{
    return offset < 0 ? originals()->pwritev64(fd, vector, count, offset) : pwritev64v2(fd, vector, count, offset, 0);
}

VP_EXPORT ssize_t preadv(int fd, const struct iovec *vector, int count, off_t offset)
{
    return preadv64(fd, vector, count, offset);
}

VP_EXPORT ssize_t pwritev(int fd, const struct iovec *vector, int count, off_t offset)
{
    return pwritev64(fd, vector, count, offset);
}

/* Whether any of what a message points to is in the arena. */
static bool message_ours(const struct msghdr *message)
{
    return message && (ours(message) || ours(message->msg_name) || ours(message->msg_control) ||
                       (plausible(message->msg_iovlen) && vector_ours(message->msg_iov, message->msg_iovlen)));
}

#define MESSAGE(result, message, write, call)                                       \
    do {                                                                            \
        HOLD(header_, message, sizeof *(message), write);                           \
        HOLD(name_, (message)->msg_name, (message)->msg_namelen, write);            \
        HOLD(control_, (message)->msg_control, (message)->msg_controllen, write);   \
        size_t n_ = plausible((message)->msg_iovlen) ? (message)->msg_iovlen : 0;   \
        VECTORED(result, (message)->msg_iov, n_, write, call);                      \
        LET_GO;                                                                     \
        LET_GO;                                                                     \
        LET_GO;                                                                     \
    } while (0)

VP_EXPORT ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    if (!message_ours(message))
        return originals()->recvmsg(fd, message, flags);
    ssize_t got;
    MESSAGE(got, message, true, THROUGH(SYS_recvmsg, fd, message, flags, 0, 0, 0, originals()->recvmsg(fd, message, flags)));
    return got;
}

VP_EXPORT ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    if (!message_ours(message))
        return originals()->sendmsg(fd, message, flags);
    ssize_t put;
    MESSAGE(put, message, false, THROUGH(SYS_sendmsg, fd, message, flags, 0, 0, 0, originals()->sendmsg(fd, message, flags)));
    return put;
}

/* ---- sockets: on a stream, in windows; else one call is one message, and none is larger than a window ---- */

SLOW static ssize_t recv_ours(int fd, void *buffer, size_t size, int flags)
{
    return TRANSFER(fd, size, flags & MSG_WAITALL, true, 
                    THROUGH(SYS_recvfrom, fd, at_, n_, flags, 0, 0, originals()->recv(fd, at_, n_, flags)));
}

VP_EXPORT ssize_t recv(int fd, void *buffer, size_t size, int flags)
{
    if (!ours(buffer) || !plausible_size(size))
        return originals()->recv(fd, buffer, size, flags);
    return recv_ours(fd, buffer, size, flags);
}

VP_EXPORT ssize_t __recv_chk(int fd, void *buffer, size_t size, size_t room, int flags)
{
    if (!ours(buffer) || size > room)
        return originals()->__recv_chk(fd, buffer, size, room, flags);
    return recv(fd, buffer, size, flags);
}

SLOW static ssize_t send_ours(int fd, const void *buffer, size_t size, int flags)
{
    return TRANSFER(fd, size, true, false, 
                    THROUGH(SYS_sendto, fd, at_, n_, flags, 0, 0, originals()->send(fd, at_, n_, flags)));
}

VP_EXPORT ssize_t send(int fd, const void *buffer, size_t size, int flags)
{
    if (!ours(buffer) || !plausible_size(size))
        return originals()->send(fd, buffer, size, flags);
    return send_ours(fd, buffer, size, flags);
}

VP_EXPORT ssize_t recvfrom(int fd, void *buffer, size_t size, int flags, sockaddr_room from, socklen_t *length)
{
    const void *address = from.__sockaddr__;
    if ((!ours(buffer) && !ours(address) && !ours(length)) || !plausible_size(size))
        return originals()->recvfrom(fd, buffer, size, flags, from, length);
    ssize_t got;
    HOLD(address_, address, length ? *length : 0, true);
    HOLD(length_, length, sizeof *length, true);
    got = TRANSFER(fd, size, flags & MSG_WAITALL, true, 
                   THROUGH(SYS_recvfrom, fd, at_, n_, flags, address, length,
                           originals()->recvfrom(fd, at_, n_, flags, from, length)));
    LET_GO;
    LET_GO;
    return got;
}

VP_EXPORT ssize_t sendto(int fd, const void *buffer, size_t size, int flags, sockaddr_given to, socklen_t length)
{
    const void *address = to.__sockaddr__;
    if ((!ours(buffer) && !ours(address)) || !plausible_size(size))
        return originals()->sendto(fd, buffer, size, flags, to, length);
    ssize_t put;
    HOLD(address_, address, length, false);
    put = TRANSFER(fd, size, true, false, 
                   THROUGH(SYS_sendto, fd, at_, n_, flags, address, length,
                           originals()->sendto(fd, at_, n_, flags, to, length)));
    LET_GO;
    return put;
}

/* ---- streams: libc's own reads and writes of large requests go straight to the buffer ---- */

/* In bytes and in windows, as one operation on the stream. transfer_ is fread_unlocked or fwrite_unlocked. */
#define STREAMED(buffer, size, count, stream, write, transfer)                                      \
    __extension__({                                                                                  \
        size_t bytes_ = (size) * (count), done_ = 0, window_ = guard_window(), n_, got_;             \
        do {                                                                                        \
            char *at_ = (char *) (uintptr_t) (buffer) + done_;                                      \
            n_ = bytes_ - done_ < window_ ? bytes_ - done_ : window_;                               \
            PINNED(got_, at_, n_, write, transfer(at_, 1, n_, stream));                             \
            done_ += got_;                                                                          \
        } while (got_ == n_ && done_ < bytes_);                                                     \
        done_ == bytes_ ? (count) : done_ / (size);                                                 \
    })

/* Requests that fit the stream's own buffer are copied by libc in user mode, where a trap serves them. */
static bool streamable(const void *buffer, size_t size, size_t count, FILE *stream)
{
    size_t bytes;
    return ours(buffer) && !__builtin_mul_overflow(size, count, &bytes) && bytes > 0 && bytes >= __fbufsize(stream);
}

VP_EXPORT size_t fread_unlocked(void *buffer, size_t size, size_t count, FILE *stream)
{
    if (!streamable(buffer, size, count, stream))
        return originals()->fread_unlocked(buffer, size, count, stream);
    return STREAMED(buffer, size, count, stream, true, originals()->fread_unlocked);
}

VP_EXPORT size_t fread(void *buffer, size_t size, size_t count, FILE *stream)
{
    if (!streamable(buffer, size, count, stream))
        return originals()->fread(buffer, size, count, stream);
    size_t got;
    LOCKED(got, stream, fread_unlocked(buffer, size, count, stream));
    return got;
}

VP_EXPORT size_t __fread_chk(void *buffer, size_t room, size_t size, size_t count, FILE *stream)
{
    if (!streamable(buffer, size, count, stream) || size * count > room)
        return originals()->__fread_chk(buffer, room, size, count, stream);
    return fread(buffer, size, count, stream);
}

VP_EXPORT size_t __fread_unlocked_chk(void *buffer, size_t room, size_t size, size_t count, FILE *stream)
{
    if (!streamable(buffer, size, count, stream) || size * count > room)
        return originals()->__fread_unlocked_chk(buffer, room, size, count, stream);
    return fread_unlocked(buffer, size, count, stream);
}

VP_EXPORT size_t fwrite_unlocked(const void *buffer, size_t size, size_t count, FILE *stream)
{
    if (!streamable(buffer, size, count, stream))
        return originals()->fwrite_unlocked(buffer, size, count, stream);
    return STREAMED(buffer, size, count, stream, false, originals()->fwrite_unlocked);
}

VP_EXPORT size_t fwrite(const void *buffer, size_t size, size_t count, FILE *stream)
{
    if (!streamable(buffer, size, count, stream))
        return originals()->fwrite(buffer, size, count, stream);
    size_t put;
    LOCKED(put, stream, fwrite_unlocked(buffer, size, count, stream));
    return put;
}
