/*
 * io.c: calls that give the kernel a buffer. Inside the arena its pages are made present and held (pinned) for the
 * call, because the kernel answers EFAULT for an absent page instead of asking us.
 *
 * A buffer larger than a quarter of the budget is passed on in windows; the caller still gets the full count wherever
 * one call would have given it. One range check is all that a buffer elsewhere costs.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <sys/random.h>

#include "hold.h"
#include "hooks.h"
#include "kinds.h"
#include "stream.h"
#include "through.h"

/* The most that Linux transfers in one call, whatever it is asked for. */
#define CALL_MAX ((size_t) 0x7ffff000)

/* ---- read and write ---- */

/* What one call in a run of windows means for the run: whether to go on, and what the caller gets. */
static bool more(ssize_t got, size_t asked, size_t *done)
{
    if (got > 0)
        *done += (size_t) got;
    return got > 0 && (size_t) got == asked;
}

static ssize_t outcome(ssize_t last, size_t done) { return done > 0 ? (ssize_t) done : last; }

/* A size that the kernel refuses is for it to refuse. */
static bool plausible_size(size_t size) { return (ssize_t) size >= 0; }

/*
 * Runs `call` over the buffer in windows. In `call`, at_ and n_ are the window; done_ is what is done already.
 * whole: go on after a full window (else one window is an answer that the caller must expect anyway).
 */
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

/* One call where that matters or suffices, else windows. `buffer` is the caller's. */
#define TRANSFER(fd, size, whole, write, call)                                                      \
    __extension__({                                                                                 \
        ssize_t all_;                                                                               \
        if ((size) > guard_window() && kind_is_stream(fd))                                                \
            all_ = WINDOWED(buffer, size, write, whole, call);                                      \
        else {                                                                                      \
            char *at_ = (char *) (uintptr_t) buffer;                                                \
            size_t n_ = size;                                                                       \
            PINNED(all_, at_, n_, write, call);                                                     \
        }                                                                                           \
        all_;                                                                                       \
    })

SLOW ssize_t read_ours(int fd, void *buffer, size_t size)
{
    return WINDOWED(buffer, size, true, kind_is_file(fd), THROUGH(SYS_read, fd, at_, n_, 0, 0, 0, originals()->read(fd, at_, n_)));
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

SLOW ssize_t write_ours(int fd, const void *buffer, size_t size)
{
    return TRANSFER(fd, size, true, false, THROUGH(SYS_write, fd, at_, n_, 0, 0, 0, originals()->write(fd, at_, n_)));
}

VP_EXPORT ssize_t write(int fd, const void *buffer, size_t size)
{
    if (!ours(buffer) || !plausible_size(size))
        return originals()->write(fd, buffer, size);
    return write_ours(fd, buffer, size);
}

SLOW ssize_t pread64_ours(int fd, void *buffer, size_t size, off64_t offset)
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

SLOW ssize_t pwrite64_ours(int fd, const void *buffer, size_t size, off64_t offset)
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

/* ---- sockets: on a stream, in windows; else one call is one message, and none is larger than a window ---- */

/* Each look at the same bytes (MSG_PEEK) begins anew: there one window has to do. */
static bool waits_for_all(int flags) { return (flags & (MSG_WAITALL | MSG_PEEK)) == MSG_WAITALL; }

SLOW ssize_t recv_ours(int fd, void *buffer, size_t size, int flags)
{
    return TRANSFER(fd, size, waits_for_all(flags), true,
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

SLOW ssize_t send_ours(int fd, const void *buffer, size_t size, int flags)
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
    got = TRANSFER(fd, size, waits_for_all(flags), true,
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
