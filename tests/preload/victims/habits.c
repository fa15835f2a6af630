/*
 * habits MODE: what runtimes and crash reporters do with SIGSEGV and with addresses.
 *   barrier        a collector's write barrier: it protects its own pages and notes who writes
 *   barrier_large  the same on a large block, of which some is away
 *   probe          asks the kernel whether addresses can be read: live ones can, others cannot
 *   crash          a crash handler that walks the stack, on its own stack, and then lets the program die
 */
#include "../victim.h"

#include <execinfo.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>

/* ---- barrier ---- */

static unsigned char *heap;
static size_t heap_pages;
static unsigned char dirty[1 << 16];
static volatile unsigned barrier_hits;

static void on_write(int number, siginfo_t *info, void *context)
{
    (void)number, (void)context;
    const size_t page = (size_t)((unsigned char *)info->si_addr - heap) / PAGE;
    if (page >= heap_pages || info->si_code != SEGV_ACCERR)
        die("a fault at %p, code %d", info->si_addr, info->si_code);
    dirty[page] = 1;
    __atomic_fetch_add(&barrier_hits, 1, __ATOMIC_RELAXED);
    mprotect(heap + page * PAGE, PAGE, PROT_READ | PROT_WRITE);
}

/* Each thread has every fourth page. */
static void *mutate(void *number)
{
    uint64_t state = (uintptr_t)number;
    for (int i = 0; i < 2000; i++) {
        const size_t page = (random_next(&state) % (heap_pages / 4)) * 4 + (uintptr_t)number;
        heap[page * PAGE + 8]++;
    }
    return NULL;
}

static void barrier(size_t size)
{
    pthread_t threads[4];
    struct sigaction action = {.sa_sigaction = on_write, .sa_flags = SA_SIGINFO | SA_RESTART};
    unsigned total = 0, changed = 0, noted = 0;
    heap = aligned_alloc(64 * 1024, size);
    heap_pages = size / PAGE;
    CHECK(heap && heap_pages <= sizeof dirty && in_arena(heap) == (in_arena(heap) < 0 ? -1 : size >= THRESHOLD));
    for (size_t i = 0; i < heap_pages; i++)
        memset(heap + i * PAGE, (int)i, 4);
    CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
    for (int round = 0; round < 3; round++) {
        memset(dirty, 0, sizeof dirty);
        CHECK(mprotect(heap, size, PROT_READ) == 0);
        unsigned char *before = malloc(heap_pages);
        for (size_t i = 0; i < heap_pages; i++)
            before[i] = heap[i * PAGE + 8];
        for (uintptr_t i = 0; i < 4; i++)
            CHECK(pthread_create(&threads[i], NULL, mutate, (void *)i) == 0);
        for (int i = 0; i < 4; i++)
            pthread_join(threads[i], NULL);
        for (size_t i = 0; i < heap_pages; i++) {
            CHECK(heap[i * PAGE] == (unsigned char)i);
            changed += heap[i * PAGE + 8] != before[i];
            noted += dirty[i];
            total += (unsigned char)(heap[i * PAGE + 8] - before[i]);
        }
        free(before);
    }
    CHECK(changed <= noted); /* a page may have come round to what it was */
    printf("%u writes, on %u pages, hits enough %d\n", total, noted, barrier_hits >= noted);
}

/* ---- probe ---- */

static void try_address(const char *name, const void *address)
{
    int ends[2];
    char byte;
    CHECK(pipe(ends) == 0);
    /* First, for the others bring it in. A change of the mask that there is not: the set is read before that is found. */
    const uintptr_t word = (uintptr_t)address & ~(uintptr_t)7;
    const bool by_mask = syscall(SYS_rt_sigprocmask, ~0L, word, NULL, 8) < 0 && errno == EINVAL && word;
    const bool by_write = write(ends[1], address, 1) == 1;
    struct iovec here = {&byte, 1}, there = {(void *)(uintptr_t)address, 1};
    const bool by_vm = process_vm_readv(getpid(), &here, 1, &there, 1, 0) == 1;
    void *page = (void *)((uintptr_t)address & ~(PAGE - 1));
    unsigned char present;
    const bool by_msync = msync(page, PAGE, MS_ASYNC) == 0, by_mincore = mincore(page, PAGE, &present) == 0;
    printf("%s: write %d, process_vm_readv %d, msync %d, mincore %d, mask %d\n", name, by_write, by_vm, by_msync, by_mincore,
           by_mask);
    close(ends[0]);
    close(ends[1]);
}

static void probe(void)
{
    unsigned char *large = big_malloc(96 * MIB), *hole = mmap(NULL, 3 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(large, 1, 96 * MIB);
    munmap(hole + PAGE, PAGE);
    for (int i = 0; i < 24; i++)
        try_address("large", large + (size_t)i * 4 * MIB + 77);
    large = realloc(large, 128 * MIB);
    CHECK(large);
    try_address("large, never touched", large + 120 * MIB);
    try_address("stack", &hole);
    try_address("code", (const void *)(uintptr_t)try_address);
    try_address("null", NULL);
    try_address("hole", hole + PAGE);
    try_address("beyond", (const void *)(uintptr_t)0x7fffffffff000);
    for (size_t i = 0; i < 96 * MIB; i += PAGE)
        CHECK(large[i] == 1);
}

/* ---- crash ---- */

static unsigned char *large;

static void on_crash(int number, siginfo_t *info, void *context)
{
    void *frames[64];
    (void)context;
    const int count = backtrace(frames, 64);
    bool through_main = false;
    extern int main(int, char **);
    for (int i = 0; i < count; i++) {
        const uintptr_t at = (uintptr_t)frames[i], start = (uintptr_t)main;
        through_main |= at >= start && at < start + 4096;
    }
    printf("crash: signal %d, code %d, address %zx, stack walked to main %d, data %d\n", number, info->si_code,
           (size_t)info->si_addr, through_main, large[50 * MIB]);
    fflush(stdout);
    signal(number, SIG_DFL);
    raise(number);
}

__attribute__((noinline)) static void crash_deep(int depth, volatile int *nowhere)
{
    if (depth > 0)
        crash_deep(depth - 1, nowhere);
    *nowhere = depth;
}

static void crash(void)
{
    static unsigned char own_stack[256 << 10];
    const stack_t stack = {.ss_sp = own_stack, .ss_size = sizeof own_stack};
    struct sigaction action = {.sa_sigaction = on_crash, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    void *warm[1];
    backtrace(warm, 1); /* loads the unwinder */
    large = big_malloc(96 * MIB);
    memset(large, 5, 96 * MIB);
    CHECK(sigaltstack(&stack, NULL) == 0 && sigaction(SIGSEGV, &action, NULL) == 0);
    static volatile int *volatile nowhere;
    crash_deep(5, nowhere);
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";
    if (strcmp(mode, "barrier") == 0)
        barrier(512 * 1024);
    else if (strcmp(mode, "barrier_large") == 0)
        barrier(96 * MIB);
    else if (strcmp(mode, "probe") == 0)
        probe();
    else if (strcmp(mode, "crash") == 0)
        crash();
    else
        return 2;
    return 0;
}
