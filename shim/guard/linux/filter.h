/*
 * filter.h: the seccomp filter that stops system calls with pointers into the arena.
 */
#ifndef VP_GUARD_FILTER_H
#define VP_GUARD_FILTER_H

#include <stdbool.h>
#include <stdint.h>

enum filter_action {
    FILTER_NOTIFY, /* a listener is told; the call goes on when it says so */
    FILTER_TRAP,   /* the calling thread gets SIGSYS, with FILTER_MARK as si_errno */
};

#define FILTER_MARK 0x5650

/* What the filter is about. */
struct filter_scope {
    uintptr_t start, end;           /* the arena */
    uintptr_t code_start, code_end; /* the program's own code, where it is not at the same place in every process; else 0 */
};

/**
 * Puts the filter on every thread of the process, for good, and on all its descendants. Without CAP_SYS_ADMIN the process
 * and its descendants gain no privileges by exec any more (no_new_privs).
 * Returns the listener (FILTER_NOTIFY) or 0, or a negative errno: nothing has changed, but for
 * no_new_privs. Calls from raw_syscall() pass.
 */
int filter_install(enum filter_action action, const struct filter_scope *scope);

struct sock_filter;

/** The filter itself: valid until the next call. One caller at a time. Returns NULL when it would be too long. */
const struct sock_filter *filter_program(enum filter_action action, const struct filter_scope *scope, unsigned *length);

/** Whether a filter of an ancestor's already covers memory at `start` (its arena was there). */
bool filter_covers(uintptr_t start);

/* What a server answers to filter_covers() of another process. */
#define FILTER_PROBE_SIZE  0x48595052
#define FILTER_PROBE_REPLY EDOM

#endif
