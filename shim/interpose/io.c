/*
 * io.c: calls that give the kernel a buffer. Inside the arena its pages are made present and held (pinned) for the
 * call, because the kernel answers EFAULT for an absent page instead of asking us.
 *
 * A buffer larger than a quarter of the budget is passed on in windows; the caller still gets the full count wherever
 * one call would have given it. One range check is all that a buffer elsewhere costs.
 *
 * The originals are called, never the kernel itself: they are cancellation points and set errno.
 */
#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "../lifecycle.h"
#include "hooks.h"

#define WINDOW_MIN ((size_t) 64 << 10)

/* The most that Linux transfers in one call, whatever it is asked for. */
#define CALL_MAX ((size_t) 0x7ffff000)

static bool ours(const void *buffer) { return __builtin_expect(arena_contains(&vp.arena, buffer), 0); }

static size_t window_size(void)
{
    uint64_t quarter = __atomic_load_n(&vp.engine.limit, __ATOMIC_RELAXED) / 4;
    if (quarter > SIZE_MAX >> vp.engine.page_shift)
        return SIZE_MAX;
    size_t bytes = (size_t) quarter << vp.engine.page_shift;
    return bytes < WINDOW_MIN ? WINDOW_MIN : bytes;
}

/* What of a buffer is allocated memory: a program may name a length far beyond its block, as read(fd, p, SSIZE_MAX). */
static size_t allocated(const void *buffer, size_t size)
{
    struct extent block;
    if (!arena_extent(&vp.arena, (uintptr_t) buffer, &block))
        return 0;
    size_t left = block.start + block.length - (uintptr_t) buffer;
    return size < left ? size : left;
}

/* Returns how many bytes are pinned. Poisoned content cannot be: the kernel will say EFAULT, which is what an unreadable
 * page means to it. */
static size_t pin(const void *buffer, size_t size, bool write)
{
    int saved = errno;
    size = allocated(buffer, size);
    if (size && !engine_pin(&vp.engine, (uintptr_t) buffer, size, write))
        size = 0;
    errno = saved;
    return size;
}

static void unpin(const void *buffer, size_t size)
{
    if (size)
        engine_unpin(&vp.engine, (uintptr_t) buffer, size);
}

/* One call on one window. */
#define PINNED(result, buffer, size, write, call)                     \
    do {                                                              \
        size_t pinned_ = pin(buffer, size, write);                    \
        result = call;                                                \
        unpin(buffer, pinned_);                                       \
    } while (0)

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
#define WINDOWED(buffer, size, write, whole, call)                                          \
    __extension__({                                                                          \
        size_t total_ = (size) < CALL_MAX ? (size) : CALL_MAX;                              \
        size_t done_ = 0, window_ = window_size();                                          \
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

VP_EXPORT ssize_t read(int fd, void *buffer, size_t size)
{
    if (!ours(buffer))
        return originals()->read(fd, buffer, size);
    return WINDOWED(buffer, size, true, is_regular(fd), originals()->read(fd, at_, n_));
}

VP_EXPORT ssize_t __read_chk(int fd, void *buffer, size_t size, size_t room)
{
    if (!ours(buffer) || size > room)
        return originals()->__read_chk(fd, buffer, size, room);
    return read(fd, buffer, size);
}

VP_EXPORT ssize_t write(int fd, const void *buffer, size_t size)
{
    if (!ours(buffer))
        return originals()->write(fd, buffer, size);
    return WINDOWED(buffer, size, false, true, originals()->write(fd, at_, n_));
}

VP_EXPORT ssize_t pread64(int fd, void *buffer, size_t size, off64_t offset)
{
    if (!ours(buffer))
        return originals()->pread64(fd, buffer, size, offset);
    return WINDOWED(buffer, size, true, true, originals()->pread64(fd, at_, n_, offset + (off64_t) done_));
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

VP_EXPORT ssize_t pwrite64(int fd, const void *buffer, size_t size, off64_t offset)
{
    if (!ours(buffer))
        return originals()->pwrite64(fd, buffer, size, offset);
    return WINDOWED(buffer, size, false, true, originals()->pwrite64(fd, at_, n_, offset + (off64_t) done_));
}

VP_EXPORT ssize_t pwrite(int fd, const void *buffer, size_t size, off_t offset)
{
    return pwrite64(fd, buffer, size, offset);
}

VP_EXPORT ssize_t getrandom(void *buffer, size_t size, unsigned flags)
{
    if (!ours(buffer))
        return originals()->getrandom(buffer, size, flags);
    return WINDOWED(buffer, size, true, true, originals()->getrandom(at_, n_, flags));
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

/* pinned[i] keeps how much of vector[i] is held. */
static void pin_vector(const struct iovec *vector, size_t count, bool write, size_t *pinned)
{
    for (size_t i = 0; i < count; i++)
        pinned[i] = ours(vector[i].iov_base) ? pin(vector[i].iov_base, vector[i].iov_len, write) : 0;
}

static void unpin_vector(const struct iovec *vector, size_t count, const size_t *pinned)
{
    for (size_t i = 0; i < count; i++)
        unpin(vector[i].iov_base, pinned[i]);
}

#define VECTORED(vector, count, write, call)                                                      \
    __extension__({                                                                                \
        size_t pinned_[IOV_MAX];                                                                  \
        size_t self_ = ours(vector) ? pin(vector, (count) * sizeof *(vector), false) : 0;         \
        pin_vector(vector, count, write, pinned_);                                                \
        ssize_t got_ = call;                                                                      \
        unpin_vector(vector, count, pinned_);                                                     \
        unpin(vector, self_);                                                                     \
        got_;                                                                                     \
    })

static bool plausible(size_t count) { return count > 0 && count <= IOV_MAX; }

VP_EXPORT ssize_t readv(int fd, const struct iovec *vector, int count)
{
    if (!plausible((size_t) count) || !vector_ours(vector, (size_t) count))
        return originals()->readv(fd, vector, count);
    return VECTORED(vector, (size_t) count, true, originals()->readv(fd, vector, count));
}

VP_EXPORT ssize_t writev(int fd, const struct iovec *vector, int count)
{
    if (!plausible((size_t) count) || !vector_ours(vector, (size_t) count))
        return originals()->writev(fd, vector, count);
    return VECTORED(vector, (size_t) count, false, originals()->writev(fd, vector, count));
}

VP_EXPORT ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    if (!plausible(message->msg_iovlen) || !vector_ours(message->msg_iov, message->msg_iovlen))
        return originals()->recvmsg(fd, message, flags);
    return VECTORED(message->msg_iov, message->msg_iovlen, true, originals()->recvmsg(fd, message, flags));
}

VP_EXPORT ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    if (!plausible(message->msg_iovlen) || !vector_ours(message->msg_iov, message->msg_iovlen))
        return originals()->sendmsg(fd, message, flags);
    return VECTORED(message->msg_iov, message->msg_iovlen, false, originals()->sendmsg(fd, message, flags));
}

/* ---- sockets: one call is one message ---- */

#define WHOLE(buffer, size, write, call)           \
    __extension__({                                 \
        ssize_t got_;                              \
        PINNED(got_, buffer, size, write, call);   \
        got_;                                      \
    })

VP_EXPORT ssize_t recv(int fd, void *buffer, size_t size, int flags)
{
    if (!ours(buffer))
        return originals()->recv(fd, buffer, size, flags);
    return WHOLE(buffer, size, true, originals()->recv(fd, buffer, size, flags));
}

VP_EXPORT ssize_t __recv_chk(int fd, void *buffer, size_t size, size_t room, int flags)
{
    if (!ours(buffer) || size > room)
        return originals()->__recv_chk(fd, buffer, size, room, flags);
    return recv(fd, buffer, size, flags);
}

VP_EXPORT ssize_t send(int fd, const void *buffer, size_t size, int flags)
{
    if (!ours(buffer))
        return originals()->send(fd, buffer, size, flags);
    return WHOLE(buffer, size, false, originals()->send(fd, buffer, size, flags));
}

VP_EXPORT ssize_t recvfrom(int fd, void *buffer, size_t size, int flags, sockaddr_room from, socklen_t *length)
{
    if (!ours(buffer))
        return originals()->recvfrom(fd, buffer, size, flags, from, length);
    return WHOLE(buffer, size, true, originals()->recvfrom(fd, buffer, size, flags, from, length));
}

VP_EXPORT ssize_t sendto(int fd, const void *buffer, size_t size, int flags, sockaddr_given to, socklen_t length)
{
    if (!ours(buffer))
        return originals()->sendto(fd, buffer, size, flags, to, length);
    return WHOLE(buffer, size, false, originals()->sendto(fd, buffer, size, flags, to, length));
}

/* ---- streams: libc's own reads and writes of large requests go straight to the buffer ---- */

/* In bytes and in windows, as one operation on the stream. transfer_ is fread_unlocked or fwrite_unlocked. */
#define STREAMED(buffer, size, count, stream, write, transfer)                                      \
    __extension__({                                                                                  \
        size_t bytes_ = (size) * (count), done_ = 0, window_ = window_size(), n_, got_;             \
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
    flockfile(stream);
    size_t got = fread_unlocked(buffer, size, count, stream);
    funlockfile(stream);
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
    flockfile(stream);
    size_t put = fwrite_unlocked(buffer, size, count, stream);
    funlockfile(stream);
    return put;
}
