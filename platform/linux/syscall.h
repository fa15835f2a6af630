/*
 * syscall.h: system calls without libc in between: errno and thread-local storage stay untouched, no cancellation point.
 * Returns what the kernel returns: a negative errno value on failure.
 */
#ifndef VP_LINUX_SYSCALL_H
#define VP_LINUX_SYSCALL_H

#include <sys/syscall.h>

/* One function for the whole shim, so that there is one address that a system-call filter of ours has to let pass. */
long raw_syscall(long number, long a, long b, long c, long d, long e, long f) __attribute__((visibility("hidden")));

/* The instruction after the call: what a filter sees. */
extern const char raw_syscall_passed[] __attribute__((visibility("hidden")));

#define SYS0(n)                raw_syscall((n), 0, 0, 0, 0, 0, 0)
#define SYS1(n, a)             raw_syscall((n), (long) (a), 0, 0, 0, 0, 0)
#define SYS2(n, a, b)          raw_syscall((n), (long) (a), (long) (b), 0, 0, 0, 0)
#define SYS3(n, a, b, c)       raw_syscall((n), (long) (a), (long) (b), (long) (c), 0, 0, 0)
#define SYS4(n, a, b, c, d)    raw_syscall((n), (long) (a), (long) (b), (long) (c), (long) (d), 0, 0)
#define SYS5(n, a, b, c, d, e) raw_syscall((n), (long) (a), (long) (b), (long) (c), (long) (d), (long) (e), 0)
#define SYS6(n, a, b, c, d, e, f) \
    raw_syscall((n), (long) (a), (long) (b), (long) (c), (long) (d), (long) (e), (long) (f))

#endif
