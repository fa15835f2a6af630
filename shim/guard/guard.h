/*
 * guard.h: system calls on memory that may be absent.
 *
 * The kernel answers EFAULT for an absent page instead of asking us. Three layers see to it that it never meets one:
 *   - stand-ins for libc's functions (interpose/), which hold their buffers for the call;
 *   - the net under them: a seccomp filter that stops any call with a pointer into the arena, whoever makes it, until
 *     what it points to is held (linux/server.c; linux/trap.c where there can be no server);
 *   - a platform that serves the kernel's own faults needs neither.
 */
#ifndef VP_GUARD_GUARD_H
#define VP_GUARD_GUARD_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

enum guard_kind {
    GUARD_OFF,
    GUARD_KERNEL, /* the kernel's own faults are served */
    GUARD_NOTIFY, /* a filter, and a thread that hears of what it stops */
    GUARD_TRAP,   /* a filter, and signals */
};

struct guard {
    uint32_t kind;    /* enum guard_kind; set when paging arms, read by any thread */
    uint64_t stopped; /* calls that the net has stopped; any thread */
};

extern struct guard guard;

/** Whether calls are seen to without the stand-ins: those that are rarely called need not do it twice. Any thread. */
static inline bool guard_serves(void) { return __atomic_load_n(&guard.kind, __ATOMIC_ACQUIRE) != GUARD_OFF; }

/** Whether a stand-in that holds its buffers should pass the filter (interpose/through.h): libc's own call would be stopped
 *  once more. */
static inline bool guard_filters(void) { return __atomic_load_n(&guard.kind, __ATOMIC_RELAXED) >= GUARD_NOTIFY; }

/** For reports: "off", "kernel", "notify" or "trap". */
const char *guard_name(void);

/** Puts up the net, before the first page can be absent. `wanted`: "notify", "trap", or "off". Holder of LOCK_LIFECYCLE.
 *  What cannot be had is replaced by the next best, with one line to the user where that leaves gaps. */
void guard_start(const char *wanted);

/** Whether the program has rings or queues that the kernel fills by itself (io_uring, aio): their memory must not be
 *  paged. Holder of LOCK_LIFECYCLE. */
bool guard_finds_rings(void);

/** Whether the program has mapped a device, which may then write to its memory by itself. */
bool guard_finds_devices(void);

/** The calling thread is not in a stopped call: whatever the net still holds for it is let go. Async-signal-safe. */
void guard_thread_is_back(void);

/** Serves a SIGSYS; false: it is the program's own. */
bool guard_serve_signal(const siginfo_t *info, void *context);

/** In a forked child, by the thread that forked, with LOCK_LIFECYCLE held. */
void guard_after_fork_child(void);

/** The process is about to become another program, in which nobody listens: the kernel would answer ENOSYS to whatever the
 *  filter stops, even by what is left in a register. A signal tells that program's shim instead. Not in a child that shares
 *  this memory. Keeps errno. */
void guard_before_exec(void);

/** Whether an ancestor's net lies where an arena at `start` would be. */
bool guard_is_elsewhere(uintptr_t start);

#endif
