/*
 * parts.h: stand-ins that do nothing but hold what they are given, a line each:
 *
 *     STAND_IN(int, access, (const char *path, int mode), (path, mode), TEXT(path))
 *
 * IN, OUT and TEXT are what the kernel reads, writes, and reads up to its NUL. What is not in the arena costs a range
 * check. A size is only computed for what is in the arena: it may need memory that only then is known to be there.
 */
#ifndef VP_INTERPOSE_PARTS_H
#define VP_INTERPOSE_PARTS_H

#include <limits.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "hold.h"

/* What one argument points to. */
struct part {
    const void *start;
    size_t size;
    bool write;
};

/* Measured when it is held. */
#define UP_TO_NUL SIZE_MAX

/* No string that the kernel takes is longer (MAX_ARG_STRLEN); what names a file may have 4096 bytes. */
#define TEXT_MAX ((size_t) 128 << 10)

#define IN(pointer, bytes)  ((struct part){pointer, ours(pointer) ? (bytes) : 0, false})
#define OUT(pointer, bytes) ((struct part){pointer, ours(pointer) ? (bytes) : 0, true})
#define IN_ONE(pointer)     IN(pointer, sizeof *(pointer))
#define OUT_ONE(pointer)    OUT(pointer, sizeof *(pointer))
#define TEXT(pointer)       ((struct part){pointer, UP_TO_NUL, false})

/* Bytes of the string at `text`, an arena address, with its NUL. Each page is held while it is looked at: nothing traps
 * here, whatever signals are blocked. A string that nothing ends is the kernel's to refuse. */
static inline size_t text_size(const char *text)
{
    size_t size = 0;
    while (size < TEXT_MAX) {
        size_t step = 4096 - ((uintptr_t) text + size) % 4096;
        size_t there = guard_pin(text + size, step, false);
        size_t length = strnlen(text + size, there);
        guard_unpin(text + size, there);
        size += length;
        if (length < there)
            return size + 1;
        if (there < step)
            return size;
    }
    return size;
}

static inline bool part_is_ours(const struct part *part) { return ours(part->start); }

#define ANY_PART(test)                                                    \
    _Pragma("GCC unroll 8") for (size_t i = 0; i < count; i++)            \
    {                                                                     \
        if (test(parts[i].start))                                         \
            return true;                                                  \
    }                                                                     \
    return false

static inline bool any_ours(const struct part *parts, size_t count) { ANY_PART(ours); }
static inline bool any_unguarded(const struct part *parts, size_t count) { ANY_PART(unguarded); }

/* Several buffers while they are held. */
struct holds {
    struct held *held;
    size_t room;
    size_t count;
    size_t bytes; /* pinned */
};

/* Holds one more part where it is in the arena. Returns false where there is no room to remember it. */
static inline bool holds_add(struct holds *holds, struct part part)
{
    if (!part_is_ours(&part))
        return true;
    size_t size = part.size == UP_TO_NUL ? text_size(part.start) : part.size;
    if (size == 0)
        return true;
    if (holds->count == holds->room)
        return false;
    /* It counts before it is held: a cancellation in between finds nothing to let go of. */
    struct held *held = &holds->held[holds->count];
    *held = (struct held){part.start, 0};
    holds->count++;
    *held = hold(part.start, size, part.write);
    holds->bytes += held->size;
    return true;
}

/* Each buffer of a vector. Returns false where there was not room to remember all of them. */
static inline bool holds_add_vector(struct holds *holds, const struct iovec *vector, size_t count, bool write)
{
    bool all = true;
    for (size_t i = 0; i < count; i++)
        all &= holds_add(holds, (struct part){vector[i].iov_base, vector[i].iov_len, write});
    return all;
}

/* Whether the kernel takes a vector of so many parts. */
static inline bool plausible(size_t count) { return count > 0 && count <= IOV_MAX; }

static inline bool vector_ours(const struct iovec *vector, size_t count)
{
    if (ours(vector))
        return true;
    for (size_t i = 0; i < count; i++)
        if (ours(vector[i].iov_base))
            return true;
    return false;
}

/* What a message points to, the message itself left aside. */
static inline bool message_parts_ours(const struct msghdr *message)
{
    return ours(message->msg_name) || ours(message->msg_control) ||
           (plausible(message->msg_iovlen) && vector_ours(message->msg_iov, message->msg_iovlen));
}

static inline void holds_add_all(struct holds *holds, const struct part *parts, size_t count)
{
    for (size_t i = 0; i < count; i++)
        holds_add(holds, parts[i]);
}

static inline void let_go_all(void *argument)
{
    const struct holds *holds = argument;
    for (size_t i = 0; i < holds->count; i++)
        guard_unpin(holds->held[i].buffer, holds->held[i].size);
}

/* The value of `call`, made while the parts are held if `any` of them needs it. */
#define HELD_IF(any, call, ...)                                             \
    __extension__({                                                         \
        const struct part parts_[] = {__VA_ARGS__};                         \
        enum { PARTS_ = sizeof parts_ / sizeof *parts_ };                   \
        __typeof__(call) result_;                                           \
        if (__builtin_expect(any(parts_, PARTS_), 0)) {                     \
            struct held held_[PARTS_];                                      \
            struct holds holds_ = {.held = held_, .room = PARTS_};          \
            CLEANUP_PUSH(let_go_all, &holds_);                      \
            holds_add_all(&holds_, parts_, PARTS_);                         \
            result_ = call;                                                 \
            CLEANUP_POP;                                         \
        } else {                                                            \
            result_ = call;                                                 \
        }                                                                   \
        result_;                                                            \
    })

/* Where the net does it, if there is one; and where no net reaches. */
#define GUARDED(call, ...) HELD_IF(any_unguarded, call, __VA_ARGS__)
#define ALWAYS_HELD(call, ...) HELD_IF(any_ours, call, __VA_ARGS__)

/* The rare way is a function of its own: the common one is a few instructions and a jump. */
#define STAND_IN_IF(any, result, name, parameters, arguments, ...)                              \
    SLOW result held_##name parameters                                                          \
    {                                                                                           \
        return HELD_IF(any, originals()->name arguments, __VA_ARGS__);                          \
    }                                                                                           \
    VP_EXPORT result name parameters                                                            \
    {                                                                                           \
        const struct part parts[] = {__VA_ARGS__};                                              \
        if (__builtin_expect(any(parts, sizeof parts / sizeof *parts), 0))                      \
            return held_##name arguments;                                                       \
        return originals()->name arguments;                                                     \
    }

#define STAND_IN(result, name, parameters, arguments, ...) \
    STAND_IN_IF(any_unguarded, result, name, parameters, arguments, __VA_ARGS__)
#define STAND_IN_ALWAYS(result, name, parameters, arguments, ...) \
    STAND_IN_IF(any_ours, result, name, parameters, arguments, __VA_ARGS__)

#endif
