/*
 * vectors.c: calls that give the kernel several buffers at once.
 *
 * The kernel gets a copy of the vector, outside the arena, cut to what can be held: a window (guard_window()). Reads may
 * always answer with less. What must be done as a whole, on files and by writers on streams, goes on after the cut; a
 * message is never cut.
 */
#include <stdint.h>

#include "../../platform/os.h"
#include "hooks.h"
#include "kinds.h"
#include "parts.h"
#include "through.h"

/* Vectors of so many parts need no memory of their own. */
#define FEW 8

struct cut {
    struct iovec *parts;
    size_t count;
    size_t bytes; /* that the parts name */
    bool whole;   /* nothing of the vector is left out */
    struct holds holds;
    void *memory; /* of all that, for many parts; NULL: `few` */
    size_t memory_size;
    struct iovec few[FEW];
    struct held few_held[FEW];
};

static bool get_room(struct cut *cut, size_t count)
{
    cut->parts = cut->few;
    cut->holds = (struct holds){.held = cut->few_held, .room = FEW};
    if (count <= FEW)
        return true;
    cut->memory_size = count * (sizeof *cut->parts + sizeof *cut->holds.held);
    cut->memory = os_map(cut->memory_size);
    cut->parts = cut->memory;
    cut->holds = (struct holds){.held = (struct held *) (cut->parts + count), .room = count};
    return cut->memory;
}

/* Adds one part, as much of it as can be held of the window that is left. Returns how much of it was taken. */
static size_t add_part(struct cut *cut, const struct iovec *part, size_t window, bool write, bool uncut)
{
    size_t size = part->iov_len;
    if (ours(part->iov_base)) {
        size_t left = window > cut->holds.bytes ? window - cut->holds.bytes : 0, wanted = size < left ? size : left;
        holds_add(&cut->holds, (struct part){part->iov_base, wanted, write});
        size = uncut ? size : wanted;
    }
    cut->parts[cut->count++] = (struct iovec){part->iov_base, size};
    cut->bytes += size;
    return size;
}

static void begin_cut(struct cut *cut, const struct iovec *vector, size_t count, bool write, bool uncut)
{
    size_t window = guard_window();
    cut->whole = true;
    if (!get_room(cut, count)) {
        cut->parts = (struct iovec *) (uintptr_t) vector; /* as the program has it, unheld */
        cut->count = count;
        return;
    }
    for (size_t i = 0; i < count && cut->whole; i++)
        cut->whole = add_part(cut, &vector[i], window, write, uncut) == vector[i].iov_len;
}

static void end_cut(void *argument)
{
    struct cut *cut = argument;
    let_go_all(&cut->holds);
    if (cut->memory)
        os_unmap(cut->memory, cut->memory_size);
}

/* The value of `call`, in which cut_ is the vector. uncut: all of it, though only a window is held. */
#define WITH_CUT(result, vector, n, write, uncut, call) \
    do {                                                \
        struct cut cut_;                                \
        cut_.count = cut_.bytes = cut_.holds.count = 0; \
        cut_.memory = NULL;                             \
        CLEANUP_PUSH(end_cut, &cut_);                   \
        begin_cut(&cut_, vector, n, write, uncut);      \
        result = call;                                  \
        CLEANUP_POP;                                    \
    } while (0)

static bool to_hold(const struct iovec *vector, int count)
{
    return vector && plausible((size_t) count) && vector_ours(vector, (size_t) count);
}

static bool exceeds_window(const struct iovec *vector, size_t count)
{
    size_t total = 0, window = guard_window();
    for (size_t i = 0; i < count && total <= window; i++)
        total += vector[i].iov_len;
    return total > window;
}

/* Part by part from byte `skip` of the vector on, as long as each is done completely. In `call`, at_ and n_ are what of a
 * part is to be done; done_ is how much is done, what was skipped included. */
#define PART_BY_PART(vector, count, skip, call)                                        \
    __extension__({                                                                    \
        size_t done_ = skip, before_ = 0;                                              \
        ssize_t got_ = 0;                                                              \
        bool on_ = true;                                                               \
        for (size_t i_ = 0; on_ && i_ < (count); before_ += (vector)[i_++].iov_len) {  \
            if (before_ + (vector)[i_].iov_len <= done_)                               \
                continue;                                                              \
            char *at_ = (char *) (vector)[i_].iov_base + (done_ - before_);            \
            size_t n_ = (vector)[i_].iov_len - (done_ - before_);                      \
            got_ = call;                                                               \
            on_ = got_ > 0 && (size_t) got_ == n_;                                     \
            done_ += got_ > 0 ? (size_t) got_ : 0;                                     \
        }                                                                              \
        done_ > 0 ? (ssize_t) done_ : got_;                                            \
    })

/* ---- files and streams ---- */

SLOW ssize_t readv_held(int fd, const struct iovec *vector, size_t count)
{
    ssize_t got;
    if (exceeds_window(vector, count) && kind_is_file(fd))
        return PART_BY_PART(vector, count, 0, read(fd, at_, n_));
    WITH_CUT(got, vector, count, true, false,
             THROUGH(SYS_readv, fd, cut_.parts, cut_.count, 0, 0, 0,
                     originals()->readv(fd, cut_.parts, (int) cut_.count)));
    return got;
}

VP_EXPORT ssize_t readv(int fd, const struct iovec *vector, int count)
{
    return to_hold(vector, count) ? readv_held(fd, vector, (size_t) count) : originals()->readv(fd, vector, count);
}

SLOW ssize_t writev_held(int fd, const struct iovec *vector, size_t count)
{
    ssize_t put;
    if (exceeds_window(vector, count) && kind_is_stream(fd))
        return PART_BY_PART(vector, count, 0, write(fd, at_, n_));
    WITH_CUT(put, vector, count, false, kind_is_message(fd),
             THROUGH(SYS_writev, fd, cut_.parts, cut_.count, 0, 0, 0,
                     originals()->writev(fd, cut_.parts, (int) cut_.count)));
    return put;
}

VP_EXPORT ssize_t writev(int fd, const struct iovec *vector, int count)
{
    return to_hold(vector, count) ? writev_held(fd, vector, (size_t) count) : originals()->writev(fd, vector, count);
}

SLOW ssize_t preadv_held(int fd, const struct iovec *vector, size_t count, off64_t offset, int flags)
{
    ssize_t got;
    if (!flags && offset >= 0 && exceeds_window(vector, count))
        return PART_BY_PART(vector, count, 0, pread64(fd, at_, n_, offset + (off64_t) done_));
    WITH_CUT(got, vector, count, true, false,
             THROUGH(SYS_preadv2, fd, cut_.parts, cut_.count, offset, 0, flags,
                     originals()->preadv64v2(fd, cut_.parts, (int) cut_.count, offset, flags)));
    return got;
}

VP_EXPORT ssize_t preadv64v2(int fd, const struct iovec *vector, int count, off64_t offset, int flags)
{
    return to_hold(vector, count) ? preadv_held(fd, vector, (size_t) count, offset, flags)
                                  : originals()->preadv64v2(fd, vector, count, offset, flags);
}

SLOW ssize_t pwritev_held(int fd, const struct iovec *vector, size_t count, off64_t offset, int flags)
{
    ssize_t put;
    if (!flags && offset >= 0 && exceeds_window(vector, count))
        return PART_BY_PART(vector, count, 0, pwrite64(fd, at_, n_, offset + (off64_t) done_));
    WITH_CUT(put, vector, count, false, false,
             THROUGH(SYS_pwritev2, fd, cut_.parts, cut_.count, offset, 0, flags,
                     originals()->pwritev64v2(fd, cut_.parts, (int) cut_.count, offset, flags)));
    return put;
}

VP_EXPORT ssize_t pwritev64v2(int fd, const struct iovec *vector, int count, off64_t offset, int flags)
{
    return to_hold(vector, count) ? pwritev_held(fd, vector, (size_t) count, offset, flags)
                                  : originals()->pwritev64v2(fd, vector, count, offset, flags);
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

/* ---- messages ---- */

static bool message_ours(const struct msghdr *message)
{
    return message && (ours(message) || message_parts_ours(message));
}

/* What a call made of the cut vector did, and how much that was meant to be. */
struct outcome {
    ssize_t done;
    size_t meant;
    bool whole;
};

static long call_message(long number, int fd, struct msghdr *message, int flags)
{
    return number == SYS_recvmsg
               ? THROUGH(SYS_recvmsg, fd, message, flags, 0, 0, 0, originals()->recvmsg(fd, message, flags))
               : THROUGH(SYS_sendmsg, fd, message, flags, 0, 0, 0, originals()->sendmsg(fd, message, flags));
}

/* `message` is a copy; on return it has what the kernel has answered. */
static struct outcome transfer_message(long number, int fd, struct msghdr *message, int flags, bool uncut)
{
    bool write = number == SYS_recvmsg;
    struct outcome outcome;
    struct iovec *vector = message->msg_iov;
    HOLD(name, message->msg_name, message->msg_namelen, write);
    HOLD(control, message->msg_control, message->msg_controllen, write);
    WITH_CUT(outcome.done, vector, message->msg_iovlen, write, uncut, __extension__({
                 message->msg_iov = cut_.parts;
                 message->msg_iovlen = cut_.count;
                 outcome.meant = cut_.bytes;
                 outcome.whole = cut_.whole;
                 call_message(number, fd, message, flags);
             }));
    LET_GO;
    LET_GO;
    return outcome;
}

static bool goes_on(const struct outcome *outcome)
{
    return !outcome->whole && outcome->done > 0 && (size_t) outcome->done == outcome->meant;
}

SLOW ssize_t recvmsg_held(int fd, struct msghdr *message, int flags)
{
    struct msghdr copy = *message;
    struct outcome outcome = transfer_message(SYS_recvmsg, fd, &copy, flags, false);
    if (outcome.done < 0)
        return outcome.done;
    message->msg_namelen = copy.msg_namelen;
    message->msg_controllen = copy.msg_controllen;
    message->msg_flags = copy.msg_flags;
    if ((flags & (MSG_WAITALL | MSG_PEEK)) == MSG_WAITALL && goes_on(&outcome) && kind_is_stream(fd))
        return PART_BY_PART(message->msg_iov, message->msg_iovlen, (size_t) outcome.done, recv(fd, at_, n_, flags));
    return outcome.done;
}

VP_EXPORT ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    if (!message_ours(message) || !plausible(message->msg_iovlen))
        return originals()->recvmsg(fd, message, flags);
    return recvmsg_held(fd, message, flags);
}

SLOW ssize_t sendmsg_held(int fd, const struct msghdr *message, int flags)
{
    struct msghdr copy = *message;
    bool stream = kind_is_stream(fd);
    struct outcome outcome = transfer_message(SYS_sendmsg, fd, &copy, flags, !stream);
    if (stream && goes_on(&outcome))
        return PART_BY_PART(message->msg_iov, message->msg_iovlen, (size_t) outcome.done, send(fd, at_, n_, flags));
    return outcome.done;
}

VP_EXPORT ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    if (!message_ours(message) || !plausible(message->msg_iovlen))
        return originals()->sendmsg(fd, message, flags);
    return sendmsg_held(fd, message, flags);
}
