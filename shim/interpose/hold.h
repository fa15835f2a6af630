/*
 * hold.h: what the stand-ins of functions that give the kernel memory have in common.
 *
 *     HOLD(a, buffer, size, true);         present from here on, and it stays;
 *     result = originals()->call(...);     may be a cancellation point: the cleanup handler lets go
 *     LET_GO;                              one for each HOLD of the block
 */
#ifndef VP_INTERPOSE_HOLD_H
#define VP_INTERPOSE_HOLD_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include "../guard/guard.h"
#include "../guard/pin.h"

/*
 * Cleanup handlers of the older kind: a list of libc's from which cancellation, and longjmp() too, take what lies in the
 * frames that they leave. Those of pthread_cleanup_push() are setjmp()s, which longjmp() would leave standing.
 */
void _pthread_cleanup_push(struct _pthread_cleanup_buffer *buffer, void (*routine)(void *), void *argument);
void _pthread_cleanup_pop(struct _pthread_cleanup_buffer *buffer, int execute);

#pragma GCC diagnostic ignored "-Wshadow" /* they nest */
#define CLEANUP_PUSH(routine, argument)               \
    {                                                 \
        struct _pthread_cleanup_buffer cleanup_;      \
        _pthread_cleanup_push(&cleanup_, routine, argument)
#define CLEANUP_POP                                   \
        _pthread_cleanup_pop(&cleanup_, 1);           \
    }

/* The rare way of a stand-in, kept apart so that the common one is a check and a jump. */
#define SLOW static __attribute__((noinline))

/* In the arena: the one check that a buffer elsewhere costs. */
static inline bool ours(const void *buffer) { return guard_ours(buffer); }

/* The same, for calls made so rarely that the guard's net does for them where there is one. */
static inline bool unguarded(const void *buffer) { return guard_ours(buffer) && !guard_serves(); }

/* A buffer while it is held. */
struct held {
    const void *buffer;
    size_t size;
};

static inline struct held hold(const void *buffer, size_t size, bool write)
{
    return (struct held){buffer, guard_pin(buffer, size, write)};
}

static inline void let_go(void *argument)
{
    const struct held *held = argument;
    guard_unpin(held->buffer, held->size);
}

#define HOLD(name, buffer, size, write)               \
    struct held name = hold(buffer, size, write);     \
    CLEANUP_PUSH(let_go, &name)
#define LET_GO CLEANUP_POP

/* One call on one buffer. */
#define PINNED(result, buffer, size, write, call) \
    do {                                          \
        HOLD(held_, buffer, size, write);         \
        result = call;                            \
        LET_GO;                                   \
    } while (0)

#endif
