/*
 * hold.h: memory that is given to the kernel, present and held for the call. There is no net under this on Darwin: what
 * is not held here may meet EFAULT.
 *
 *     STAND_IN(int, access, (const char *path, int mode), (path, mode), TEXT(path))
 *
 * IN, OUT and TEXT are what the kernel reads, writes, and reads up to its NUL. What is not in the arena costs a range
 * check.
 */
#ifndef VP_INTERPOSE_DARWIN_HOLD_H
#define VP_INTERPOSE_DARWIN_HOLD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "../../guard/pin.h"

/* What one argument points to, and what of it is pinned. */
struct part {
    const void *start;
    size_t size;
    bool write;
};

/* Measured when it is held. */
#define UP_TO_NUL SIZE_MAX

/* No string that the kernel takes is longer (ARG_MAX). */
#define TEXT_MAX ((size_t) 1 << 20)

#define IN(pointer, bytes)  ((struct part){pointer, guard_ours(pointer) ? (bytes) : 0, false})
#define OUT(pointer, bytes) ((struct part){pointer, guard_ours(pointer) ? (bytes) : 0, true})
#define IN_ONE(pointer)     IN(pointer, sizeof *(pointer))
#define OUT_ONE(pointer)    OUT(pointer, sizeof *(pointer))
#define TEXT(pointer)       ((struct part){pointer, UP_TO_NUL, false})

struct holds {
    struct part *parts;
    size_t count;
};

static inline bool any_ours(const struct part *parts, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (guard_ours(parts[i].start))
            return true;
    return false;
}

/* Each page is held while it is looked at: a trap would be served here, but not where the caller has blocked signals. */
static inline size_t text_size(const char *text)
{
    size_t size = 0;
    while (size < TEXT_MAX) {
        size_t step = 4096 - ((uintptr_t) text + size) % 4096, there = guard_pin(text + size, step, false);
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

/* From here on `size` is what is pinned. */
static inline void hold_part(struct part *part)
{
    size_t size = !guard_ours(part->start) ? 0 : part->size == UP_TO_NUL ? text_size(part->start) : part->size;
    part->size = size ? guard_pin(part->start, size, part->write) : 0;
}

static inline void hold_all(struct part *parts, size_t count)
{
    for (size_t i = 0; i < count; i++)
        hold_part(&parts[i]);
}

static inline void let_go(void *argument)
{
    const struct holds *holds = argument;
    for (size_t i = 0; i < holds->count; i++)
        if (holds->parts[i].size)
            guard_unpin(holds->parts[i].start, holds->parts[i].size);
}

/* The call may be a cancellation point: then the cleanup handler lets go. */
#define HELD(result, parts_, n, call)                  \
    do {                                               \
        struct holds holds_ = {parts_, n};             \
        hold_all(holds_.parts, holds_.count);          \
        pthread_cleanup_push(let_go, &holds_);         \
        result = call;                                 \
        pthread_cleanup_pop(1);                        \
    } while (0)

#define STAND_IN(type, name, parameters, arguments, ...)                    \
    type hooked_##name parameters                                           \
    {                                                                       \
        struct part parts[] = {__VA_ARGS__};                                \
        size_t count_ = sizeof parts / sizeof *parts;                       \
        type result;                                                        \
        if (__builtin_expect(!any_ours(parts, count_), 1))                  \
            return name arguments;                                          \
        HELD(result, parts, count_, name arguments);                        \
        return result;                                                      \
    }

#endif
