/*
 * sockets.c: calls that make and ask sockets and pipes, and those on many messages; what transfers one is io.c's.
 */
#include <limits.h>

#include "../guard/linux/devices.h"
#include "hooks.h"
#include "parts.h"

/* ---- addresses, options, pairs of descriptors ---- */

/* Room for an address, as its length says. */
#define ROOM_FOR(address, length) OUT(address, (length) ? *(length) : 0)

VP_EXPORT int accept(int fd, sockaddr_room from, socklen_t *length)
{
    const void *address = from.__sockaddr__;
    return GUARDED(originals()->accept(fd, from, length), ROOM_FOR(address, length), OUT_ONE(length));
}

VP_EXPORT int accept4(int fd, sockaddr_room from, socklen_t *length, int flags)
{
    const void *address = from.__sockaddr__;
    return GUARDED(originals()->accept4(fd, from, length, flags), ROOM_FOR(address, length), OUT_ONE(length));
}

VP_EXPORT int getsockname(int fd, sockaddr_room own, socklen_t *length)
{
    const void *address = own.__sockaddr__;
    return GUARDED(originals()->getsockname(fd, own, length), ROOM_FOR(address, length), OUT_ONE(length));
}

VP_EXPORT int getpeername(int fd, sockaddr_room other, socklen_t *length)
{
    const void *address = other.__sockaddr__;
    return GUARDED(originals()->getpeername(fd, other, length), ROOM_FOR(address, length), OUT_ONE(length));
}

VP_EXPORT int connect(int fd, sockaddr_given to, socklen_t length)
{
    const void *address = to.__sockaddr__;
    return GUARDED(originals()->connect(fd, to, length), IN(address, length));
}

VP_EXPORT int bind(int fd, sockaddr_given own, socklen_t length)
{
    const void *address = own.__sockaddr__;
    return GUARDED(originals()->bind(fd, own, length), IN(address, length));
}

STAND_IN(int, getsockopt, (int fd, int level, int name, void *value, socklen_t *length),
         (fd, level, name, value, length), ROOM_FOR(value, length), OUT_ONE(length))

VP_EXPORT int setsockopt(int fd, int level, int name, const void *value, socklen_t length)
{
    devices_note_option(level, name);
    return GUARDED(originals()->setsockopt(fd, level, name, value, length), IN(value, length));
}

STAND_IN(int, socketpair, (int domain, int type, int protocol, int ends[2]), (domain, type, protocol, ends),
         OUT(ends, 2 * sizeof *ends))
STAND_IN(int, pipe, (int ends[2]), (ends), OUT(ends, 2 * sizeof *ends))
STAND_IN(int, pipe2, (int ends[2], int flags), (ends, flags), OUT(ends, 2 * sizeof *ends))

/*
 * ---- many messages ----
 *
 * Both calls may do fewer messages than they were asked to: they do as many as can be held at once.
 */

#define MESSAGES_MAX 1024 /* that Linux does in one call */

/* The parts of at least one message, whatever it has: each buffer, and the name, the control data and the vector. */
#define MESSAGE_ROOM (IOV_MAX + 3)

/* The kernel refuses longer vectors. */
static size_t vector_length(const struct msghdr *message)
{
    return message->msg_iovlen <= IOV_MAX ? message->msg_iovlen : 0;
}

/* The net too has only so much room for the parts of one call, and no way to make it a smaller one. */
static bool messages_ours(const struct mmsghdr *messages, unsigned count)
{
    bool any = ours(messages);
    for (unsigned i = 0; messages && !any && i < count; i++)
        any = message_parts_ours(&messages[i].msg_hdr);
    return any;
}

/* Returns false where there was not room for all of it. */
static bool hold_message(struct holds *holds, const struct msghdr *message, bool write)
{
    const struct part header[] = {
        {message->msg_name, message->msg_namelen, write},
        {message->msg_control, message->msg_controllen, write},
        {message->msg_iov, vector_length(message) * sizeof *message->msg_iov, false},
    };
    for (size_t i = 0; i < sizeof header / sizeof *header; i++)
        if (!holds_add(holds, header[i]))
            return false;
    return holds_add_vector(holds, message->msg_iov, vector_length(message), write);
}

/* Holds as many as there is room for, and memory: always one. Returns how many. */
static unsigned hold_messages(struct holds *holds, const struct mmsghdr *messages, unsigned count, bool write)
{
    for (unsigned i = 0; i < count; i++)
        if (!hold_message(holds, &messages[i].msg_hdr, write) || holds->bytes > guard_window())
            return i > 0 ? i : 1;
    return count;
}

/* In `call`, n_ is how many. */
#define MESSAGES(messages, count, write, call)                                      \
    __extension__({                                                                 \
        int done_;                                                                  \
        struct held room_[MESSAGE_ROOM];                                            \
        struct holds all_ = {.held = room_, .room = MESSAGE_ROOM};                  \
        HOLD(array_, messages, (count) * sizeof *(messages), true);                 \
        CLEANUP_PUSH(let_go_all, &all_);                                            \
        unsigned n_ = hold_messages(&all_, messages, count, write);                 \
        done_ = call;                                                               \
        CLEANUP_POP;                                                                \
        LET_GO;                                                                     \
        done_;                                                                      \
    })

/* Kept apart: their room on the stack is not for those who need none of it. */
SLOW int recvmmsg_held(int fd, struct mmsghdr *messages, unsigned count, int flags,
                                                   struct timespec *timeout)
{
    return MESSAGES(messages, count, true,
                    GUARDED(originals()->recvmmsg(fd, messages, n_, flags, timeout), OUT_ONE(timeout)));
}

SLOW int sendmmsg_held(int fd, struct mmsghdr *messages, unsigned count, int flags)
{
    return MESSAGES(messages, count, false, originals()->sendmmsg(fd, messages, n_, flags));
}

VP_EXPORT int recvmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags, struct timespec *timeout)
{
    unsigned most = count < MESSAGES_MAX ? count : MESSAGES_MAX;
    if (!messages_ours(messages, most))
        return GUARDED(originals()->recvmmsg(fd, messages, count, flags, timeout), OUT_ONE(timeout));
    return recvmmsg_held(fd, messages, most, flags, timeout);
}

VP_EXPORT int sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags)
{
    unsigned most = count < MESSAGES_MAX ? count : MESSAGES_MAX;
    if (!messages_ours(messages, most))
        return originals()->sendmmsg(fd, messages, count, flags);
    return sendmmsg_held(fd, messages, most, flags);
}
