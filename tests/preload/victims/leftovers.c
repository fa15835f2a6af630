/*
 * leftovers: calls that do not use all their registers, with every address that may be an arena's in one of those. The
 * filters of this program's ancestors must not mind.
 */
#include <fcntl.h>
#include <linux/futex.h>
#include <sys/syscall.h>

#include "victim.h"

#define TIB (UINT64_C(1) << 40)

/* The instruction: libc's functions are stood in for. */
static long call(long number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e)
{
#if defined(__x86_64__)
    register uint64_t r10 __asm__("r10") = d, r8 __asm__("r8") = e;
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return result;
#else
    return syscall(number, a, b, c, d, e);
#endif
}

int main(void)
{
    static uint32_t word;
    const long flags = call(SYS_fcntl, 1, F_GETFL, 0, 0, 0);
    for (uint64_t at = TIB / 2; at < 127 * TIB; at += TIB / 2) {
        CHECK(call(SYS_fcntl, 1, F_GETFL, at, 0, 0) == flags);
        CHECK(call(SYS_fcntl, 1, F_SETFL, at | (uint64_t)flags, 0, 0) == 0);
        CHECK(call(SYS_futex, (uintptr_t)&word, FUTEX_WAKE, 1, at, at) == 0);
    }
    CHECK(call(SYS_fcntl, 1, F_GETFL, 0, 0, 0) == flags);
    puts("nothing minded");
    return 0;
}
