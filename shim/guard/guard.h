/*
 * guard.h: system calls on memory that may be absent.
 *
 * The kernel answers EFAULT for an absent page instead of asking us. Three layers see to it that it never meets one:
 *   - stand-ins for libc's functions (interpose/), which hold their buffers for the call;
 *   - the net under them: a seccomp filter that stops any call with a pointer into the arena, whoever makes it, until
 *     what it points to is held (server.c; trap.c where there can be no server);
 *   - a platform that serves the kernel's own faults needs neither.
 */
#ifndef VP_GUARD_GUARD_H
#define VP_GUARD_GUARD_H

#include <stdbool.h>

struct guard {
    bool serving; /* the net is there, or the kernel's own faults are served; set when paging arms, read by any thread */
};

extern struct guard guard;

/** Whether calls are seen to without the stand-ins: those that are rarely called need not do it twice. Any thread. */
static inline bool guard_serves(void) { return __atomic_load_n(&guard.serving, __ATOMIC_ACQUIRE); }

#endif
