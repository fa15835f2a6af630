/*
 * map_fuzz STEPS SEED: random calls of the mmap family on two windows of the address space side by side: one is the arena's
 * under the shim, the other is the kernel's, made by the instruction. After each call the answers must be the same; after
 * some, what every page holds and allows as well.
 */
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "victim.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

enum { PAGES = 1024, SIDES = 2 };

static char *window[SIDES]; /* [0]: through libc, [1]: the kernel's */
static uint64_t seed;
static int file;

static uint64_t below(uint64_t n)
{
    return random_next(&seed) % n;
}

static long raw(long number, long a, long b, long c, long d, long e, long f)
{
#if defined(__x86_64__)
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
#else
    const long result = syscall(number, a, b, c, d, e, f);
    return result < 0 ? -errno : result;
#endif
}

/* A call's answer: an error, or an offset from the window's start (or the number itself). */
static long answer(int side, long result, bool address)
{
    if (side == 0 && result == -1)
        return -errno;
    return address && (result >= 0 || result < -4095) ? result - (long)window[side] : result;
}

static long do_mmap(int side, void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    return answer(side, side == 0 ? (long)mmap(at, size, protection, flags, fd, offset)
                                  : raw(SYS_mmap, (long)at, (long)size, protection, flags, fd, offset), true);
}

static long do_munmap(int side, void *at, size_t size)
{
    return answer(side, side == 0 ? munmap(at, size) : raw(SYS_munmap, (long)at, (long)size, 0, 0, 0, 0), false);
}

static long do_mprotect(int side, void *at, size_t size, int protection)
{
    return answer(side, side == 0 ? mprotect(at, size, protection)
                                  : raw(SYS_mprotect, (long)at, (long)size, protection, 0, 0, 0), false);
}

static long do_madvise(int side, void *at, size_t size, int advice)
{
    return answer(side, side == 0 ? madvise(at, size, advice)
                                  : raw(SYS_madvise, (long)at, (long)size, advice, 0, 0, 0), false);
}

static long do_mremap(int side, void *at, size_t old, size_t size, int flags, void *to)
{
    return answer(side, side == 0 ? (long)mremap(at, old, size, flags, to)
                                  : raw(SYS_mremap, (long)at, (long)old, (long)size, flags, (long)to, 0), true);
}

/* ---- what a page holds and allows ---- */

static sigjmp_buf refused;
static volatile sig_atomic_t probing;

static void on_fault(int number)
{
    if (!probing)
        die("signal %d outside a probe", number);
    probing = false;
    siglongjmp(refused, number);
}

#define PROBE (probing = true, sigsetjmp(refused, 1) == 0)

/* 0: not to be read; else 1 + what it holds first and last. */
static uint64_t probe_read(const char *page)
{
    if (!PROBE)
        return 0;
    const uint64_t held = *(const volatile uint64_t *)page ^ *(const volatile uint64_t *)(page + PAGE - 8) << 1;
    probing = false;
    return 1 + held;
}

static bool probe_write(char *page)
{
    if (!PROBE)
        return false;
    *(volatile uint64_t *)(page + 64) = *(volatile uint64_t *)(page + 64);
    probing = false;
    return true;
}

static void compare(size_t page, const char *what)
{
    const uint64_t a = probe_read(window[0] + page * PAGE), b = probe_read(window[1] + page * PAGE);
    if (a != b)
        die("page %zu after %s: %llx here, %llx with the kernel", page, what, (unsigned long long)a, (unsigned long long)b);
    const bool wa = probe_write(window[0] + page * PAGE), wb = probe_write(window[1] + page * PAGE);
    if (wa != wb)
        die("page %zu after %s: writable %d here, %d with the kernel", page, what, wa, wb);
}

static void scribble(size_t page, uint64_t mark)
{
    for (int side = 0; side < SIDES; side++) {
        char *at = window[side] + page * PAGE;
        if (!PROBE)
            continue;
        *(volatile uint64_t *)at = mark;
        *(volatile uint64_t *)(at + PAGE - 8) = mix64(mark);
        probing = false;
    }
}

/* ---- one step ---- */

static const int protections[] = {PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE};

/* Mostly small, sometimes large. */
static size_t some_pages(size_t most)
{
    const size_t limit = below(8) ? 32 : PAGES;
    const size_t n = 1 + below(limit);
    return n < most ? n : most;
}

static const char *step(void)
{
    const size_t page = below(PAGES), n = some_pages(PAGES - page);
    const int protection = protections[below(4)];
    const size_t to = below(PAGES), m = some_pages(PAGES - to);
    const uint64_t what = below(100), mark = random_next(&seed), sub = below(16);
    const char *name = "write";
    long results[SIDES] = {0};
    /* mremap() wants one mapping, and what that is depends on the kernel's history with the place. */
    if (what >= 58 && what < 73) {
        const bool shared = sub == 5;
        for (int side = 0; side < SIDES; side++)
            CHECK(do_mmap(side, window[side] + page * PAGE, n * PAGE, PROT_READ | PROT_WRITE,
                          (shared ? MAP_SHARED : MAP_PRIVATE) | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == (long)(page * PAGE));
        for (size_t i = 0; i < n && i < 8; i++)
            scribble(page + i, mark + i);
        for (int side = 0; side < SIDES; side++)
            do_mprotect(side, window[side] + page * PAGE, n * PAGE, protection);
    }
    for (int side = 0; side < SIDES; side++) {
        char *at = window[side] + page * PAGE, *target = window[side] + to * PAGE;
        const int anonymous = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
        if (what < 12) {
            name = "munmap";
            results[side] = do_munmap(side, at, n * PAGE - (sub == 0 ? 100 : 0));
        } else if (what < 26) {
            name = "mmap fixed";
            results[side] = do_mmap(side, at, n * PAGE, protection, anonymous, -1, 0);
        } else if (what < 32) {
            name = "mmap noreplace";
            results[side] = do_mmap(side, at, n * PAGE, protection, (anonymous & ~MAP_FIXED) | MAP_FIXED_NOREPLACE, -1, 0);
        } else if (what < 35) {
            name = "mmap of a file";
            results[side] = do_mmap(side, at, (n < 16 ? n : 16) * PAGE, protection, MAP_PRIVATE | MAP_FIXED,
                                    sub == 0 ? -1 : file, sub == 1 ? 1 : 0);
        } else if (what < 36) {
            name = "mmap shared";
            results[side] = do_mmap(side, at, n * PAGE, protection, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        } else if (what < 50) {
            name = "mprotect";
            results[side] = do_mprotect(side, sub == 0 ? at + 8 : at, n * PAGE, protection);
        } else if (what < 58) {
            name = "madvise dontneed";
            results[side] = do_madvise(side, at, n * PAGE, MADV_DONTNEED);
        } else if (what < 62) {
            name = "mremap in place";
            results[side] = do_mremap(side, at, n * PAGE, (sub < 8 ? n + sub : n > sub ? n - sub : n) * PAGE, 0, NULL);
        } else if (what < 70) {
            name = "mremap fixed";
            results[side] = do_mremap(side, at, n * PAGE, m * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target);
        } else if (what < 73) {
            name = "mremap dontunmap";
            results[side] = do_mremap(side, at, n * PAGE, n * PAGE,
                                      MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP,
                                      to + n <= PAGES ? target : at);
        } else if (what < 74) {
            name = "msync";
            results[side] = side == 0 ? (msync(at, n * PAGE, MS_ASYNC) ? -errno : 0)
                                      : raw(SYS_msync, (long)at, (long)(n * PAGE), MS_ASYNC, 0, 0, 0);
        }
    }
    if (results[0] != results[1])
        die("%s of %zu pages at %zu, to %zu (%zu pages), protection %d, sub %d: %ld here, %ld with the kernel", name, n, page, to,
            m, protection, (int)sub, results[0], results[1]);
    if (what >= 74)
        for (size_t i = 0; i < n && i < 8; i++)
            scribble(page + i, mark + i);
    for (size_t i = 0; i < n && i < 4; i++)
        compare(page + below(n), name);
    if (what >= 62 && what < 73 && to < PAGES)
        compare(to, name);
    return name;
}

int main(int argc, char **argv)
{
    const size_t steps = argument(argc, argv, 1, 20000);
    seed = argument(argc, argv, 2, 1);
    struct sigaction action = {.sa_handler = on_fault, .sa_flags = SA_NODEFER};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    char name[] = "/tmp/map_fuzz.XXXXXX";
    file = mkstemp(name);
    CHECK(file >= 0 && unlink(name) == 0 && ftruncate(file, 16 * (off_t)PAGE) == 0);
    for (uint64_t i = 0; i < 16; i++)
        CHECK(pwrite(file, &i, sizeof i, (off_t)(i * PAGE)) == sizeof i);
    /* Nothing of either side's neighbours is within reach, and nobody maps anything into the holes of the kernel's side. */
    const long KERNELS = 0x10000000000;
    for (int side = 0; side < SIDES; side++) {
        const long at = side == 0 ? (long)mmap(NULL, 3 * PAGES * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
                                  : raw(SYS_mmap, KERNELS, 3 * PAGES * (long)PAGE, PROT_NONE,
                                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        CHECK(at > 0);
        window[side] = (char *)at + PAGES * PAGE;
    }
    CHECK(in_arena(window[0]) != 0 && in_arena(window[1]) != 1);
    /* Pressure: other memory in use all the time. */
    const size_t other = 24 * MIB;
    unsigned char *pressure = big_malloc(other);
    for (size_t i = 0; i < steps; i++) {
        step();
        for (int k = 0; k < 2; k++)
            pressure[below(other / PAGE) * PAGE] = (unsigned char)i;
        if (i % 4096 == 0)
            for (size_t page = 0; page < PAGES; page++)
                compare(page, "a while");
    }
    for (size_t page = 0; page < PAGES; page++)
        compare(page, "everything");
    printf("%zu steps alike\n", steps);
    return 0;
}
