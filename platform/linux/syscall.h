/*
 * syscall.h: system calls without libc in between: errno and thread-local storage stay untouched, no cancellation point.
 * Returns what the kernel returns: a negative errno value on failure.
 */
#ifndef VP_LINUX_SYSCALL_H
#define VP_LINUX_SYSCALL_H

#include <sys/syscall.h>

#if defined(__x86_64__)
static inline long raw_syscall(long number, long a, long b, long c, long d, long e, long f)
{
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}
#elif defined(__aarch64__)
static inline long raw_syscall(long number, long a, long b, long c, long d, long e, long f)
{
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
}
#else
#error "write raw_syscall() for this processor: three lines, see above"
#endif

#define SYS0(n)                raw_syscall((n), 0, 0, 0, 0, 0, 0)
#define SYS1(n, a)             raw_syscall((n), (long) (a), 0, 0, 0, 0, 0)
#define SYS2(n, a, b)          raw_syscall((n), (long) (a), (long) (b), 0, 0, 0, 0)
#define SYS3(n, a, b, c)       raw_syscall((n), (long) (a), (long) (b), (long) (c), 0, 0, 0)
#define SYS4(n, a, b, c, d)    raw_syscall((n), (long) (a), (long) (b), (long) (c), (long) (d), 0, 0)
#define SYS5(n, a, b, c, d, e) raw_syscall((n), (long) (a), (long) (b), (long) (c), (long) (d), (long) (e), 0)
#define SYS6(n, a, b, c, d, e, f) \
    raw_syscall((n), (long) (a), (long) (b), (long) (c), (long) (d), (long) (e), (long) (f))

#endif
