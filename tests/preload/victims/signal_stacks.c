/*
 * signal_stacks MODE: where a handler runs, and what it finds there. One line a situation.
 *   where        on the stack that its flags call for; returning, jumping out, asking, unwinding
 *   state        registers, the direction flag and the floating-point unit: clean in the handler, put back afterwards
 *   masks        what is blocked in a handler, whatever it does to the mask, and after it has been jumped out of
 *   overflow     a stack that is full: caught on an alternate stack, else the end
 *   arena        all that on stacks in large blocks
 *   threads      faults in eight threads at a time, with paging under way
 *   small        a stack with room for hardly more than a handler, on which pages come back from the disk; a further
 *                argument prints how deep that goes
 */
#include "../victim.h"

#include <execinfo.h>
#include <fenv.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>

#define STEP (1 * MIB)

static unsigned char *block;
static volatile size_t next_page;
static volatile unsigned char *page; /* the program's own trap */

/* The first touch of memory that nobody has touched. */
static void touch(void)
{
    block[(next_page += STEP) % (60 * MIB)] = 1;
}

static void set_handler(int number, void (*handler)(int, siginfo_t *, void *), int flags)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags};
    CHECK(sigaction(number, &action, NULL) == 0);
}

static void close_page(void)
{
    CHECK(mprotect((void *)page, PAGE, PROT_NONE) == 0);
}

__attribute__((noinline, section("faulting"))) static void store(volatile unsigned char *at)
{
    *at = 1;
    __asm__ volatile("" ::: "memory");
}
extern const char __start_faulting[], __stop_faulting[];

/* ---- where ---- */

static unsigned char own_stack[128 << 10], second_stack[64 << 10];
static volatile uintptr_t fault_sp, handler_sp;
static sigjmp_buf back_to;
static volatile bool jumps;
static volatile int depth;

static const char *place_of(uintptr_t sp)
{
    return sp - (uintptr_t)own_stack < sizeof own_stack         ? "own stack"
           : sp - (uintptr_t)second_stack < sizeof second_stack ? "second stack"
           : sp < fault_sp && fault_sp - sp < 64 << 10          ? "below the fault"
                                                                : "elsewhere";
}

static bool unwinds(void)
{
    void *frames[64];
    const int count = backtrace(frames, 64);
    for (int i = 0; i < count; i++)
        if ((char *)frames[i] >= __start_faulting && (char *)frames[i] < __stop_faulting)
            return i + 2 < count; /* and beyond */
    return false;
}

static void on_where(int number, siginfo_t *info, void *context)
{
    char here;
    stack_t now;
    const ucontext_t *uc = context;
    handler_sp = (uintptr_t)&here;
    touch();
    CHECK(sigaltstack(NULL, &now) == 0);
    printf(" %d %s, address %d, context %s, sigaltstack %x/%x, unwinds %d;", number, place_of(handler_sp),
           info->si_addr == (void *)(page + 123),
           place_of((uintptr_t)context) == place_of(handler_sp) ? "with it" : "elsewhere", (unsigned)now.ss_flags,
           uc->uc_stack.ss_size ? 0 : SS_DISABLE, unwinds());
    if (jumps)
        siglongjmp(back_to, 1);
    mprotect((void *)page, PAGE, PROT_READ | PROT_WRITE);
}

__attribute__((noinline)) static void fault_here(const char *when)
{
    char here;
    fault_sp = (uintptr_t)&here;
    printf("%s:", when);
    close_page();
    if (!jumps || sigsetjmp(back_to, 1) == 0)
        store(page + 123);
    puts(jumps ? " out" : " back");
}

static void on_user(int number)
{
    (void)number;
    fault_here("in a handler on the own stack");
}

static void try_where(int flags)
{
    printf("flags %x\n", (unsigned)flags);
    set_handler(SIGSEGV, on_where, flags);
    for (int jump = 0; jump < 2; jump++) {
        jumps = jump;
        fault_here("plain");
        struct sigaction user = {.sa_handler = on_user, .sa_flags = SA_ONSTACK};
        stack_t now;
        CHECK(sigaction(SIGUSR1, &user, NULL) == 0 && sigaltstack(NULL, &now) == 0);
        if (!(now.ss_flags & SS_DISABLE))
            raise(SIGUSR1);
    }
}

/* A handler that sets a stack, which may stay. */
static void on_sets(int number, siginfo_t *info, void *context)
{
    const stack_t other = {.ss_sp = second_stack, .ss_size = sizeof second_stack};
    (void)number, (void)info, (void)context;
    printf(" sets a stack: %s;", sigaltstack(&other, NULL) == 0 ? "done" : strerror(errno));
    mprotect((void *)page, PAGE, PROT_READ | PROT_WRITE);
}

static void *where_all(void *unused)
{
    const stack_t own = {.ss_sp = own_stack, .ss_size = sizeof own_stack}, off = {.ss_flags = SS_DISABLE};
    stack_t now;
    try_where(0);
    jumps = false;
    set_handler(SIGSEGV, on_sets, 0);
    fault_here("no stack");
    CHECK(sigaltstack(&own, NULL) == 0);
    try_where(0);
    try_where(SA_ONSTACK);
    try_where(SA_ONSTACK | SA_NODEFER);
    jumps = false;
    set_handler(SIGSEGV, on_sets, SA_ONSTACK);
    fault_here("on it");
    set_handler(SIGSEGV, on_sets, 0);
    fault_here("beside it");
    CHECK(sigaltstack(NULL, &now) == 0);
    printf("then %x %s\n", (unsigned)now.ss_flags, now.ss_sp == own_stack ? "own" : "other");
    CHECK(sigaltstack(&off, NULL) == 0);
    try_where(0);
    return unused;
}

/* ---- state ---- */

#ifdef __x86_64__
static volatile bool clean;

static void on_state(int number, siginfo_t *info, void *context)
{
    (void)number, (void)info, (void)context;
    uint64_t flags;
    uint16_t status, control;
    uint32_t mxcsr;
    volatile long double one;
    __asm__ volatile("pushfq\n pop %0\n fnstsw %1\n fnstcw %2\n stmxcsr %3"
                     : "=r"(flags), "=m"(status), "=m"(control), "=m"(mxcsr));
    clean = !(flags & 0x400) && (status >> 11 & 7) == 0 && control == 0x37f && (mxcsr & 0xffc0) == 0x1f80;
    one = 1;
    for (int i = 0; i < 8; i++)
        one = one * 3 + 1;
    touch();
    __asm__ volatile("pxor %%xmm5, %%xmm5\n fninit\n fld1\n" ::: "xmm5");
    clean = clean && one == 9841.0L;
    mprotect((void *)page, PAGE, PROT_READ | PROT_WRITE);
}

static void try_state(int flags)
{
    set_handler(SIGSEGV, on_state, flags);
    close_page();
    clean = false;
    uint64_t in[8] = {11, 12, 13, 14, 15, 16, 17, 18}, out[8] = {0}, red = 0, eflags = 0;
    uint32_t mxcsr = 0x7f80, mxcsr_after, mxcsr_plain = 0x1f80;
    long double sum = 0;
    __asm__ volatile("ldmxcsr %[mx]\n"
                     "movq 8(%[in]), %%xmm5\n"
                     "fld1\n fld1\n fld1\n fld1\n fld1\n fld1\n fld1\n fld1\n" /* the x87 stack is full */
                     "movq 16(%[in]), %%r12\n movq 24(%[in]), %%r15\n"
                     "movq $77, -64(%%rsp)\n" /* the red zone */
                     "std\n"
                     "movb $1, 123(%[page])\n"
                     "pushfq\n pop %[flags]\n cld\n"
                     "movq %%r12, (%[out])\n movq %%r15, 8(%[out])\n movq %%xmm5, 16(%[out])\n"
                     "faddp\n faddp\n faddp\n faddp\n faddp\n faddp\n faddp\n fstpt %[sum]\n"
                     "stmxcsr %[after]\n ldmxcsr %[plain]\n"
                     : [flags] "=&r"(eflags), [sum] "=m"(sum), [after] "=m"(mxcsr_after)
                     : [in] "r"(in), [out] "r"(out), [page] "r"(page), [mx] "m"(mxcsr), [plain] "m"(mxcsr_plain)
                     : "r12", "r15", "xmm5", "memory", "cc");
    printf("flags %x: clean %d, back %d %d %d, direction %d, sum %d, mxcsr %x\n", (unsigned)flags, clean, (int)out[0],
           (int)out[1], (int)out[2], (int)(eflags >> 10 & 1), (int)sum, mxcsr_after);

    /* Leaf functions keep things below the stack pointer. */
    close_page();
    __asm__ volatile("movq $77, -120(%%rsp)\n movb $1, 5(%[page])\n movq -120(%%rsp), %[red]\n"
                     : [red] "=&r"(red)
                     : [page] "r"(page)
                     : "memory");
    printf("red zone %d\n", (int)red);
}

static void state_all(void)
{
    const stack_t own = {.ss_sp = own_stack, .ss_size = sizeof own_stack};
    try_state(0);
    CHECK(sigaltstack(&own, NULL) == 0);
    try_state(0);
    try_state(SA_ONSTACK);
}
#else
static void state_all(void)
{
}
#endif

/* ---- masks ---- */

static void print_mask(const char *when)
{
    sigset_t now;
    CHECK(sigprocmask(SIG_BLOCK, NULL, &now) == 0);
    printf("  %s:", when);
    for (int i = 1; i < 65; i++)
        if (sigismember(&now, i) == 1)
            printf(" %d", i);
    putchar('\n');
}

static volatile int what;

static void on_mask(int number, siginfo_t *info, void *context)
{
    sigset_t one, none, before;
    (void)info, (void)context;
    sigemptyset(&none);
    sigemptyset(&one);
    sigaddset(&one, number);
    print_mask("in the handler");
    if (what == 1) { /* as who saves and restores */
        CHECK(sigprocmask(SIG_BLOCK, &none, &before) == 0);
        CHECK(sigprocmask(SIG_SETMASK, &none, NULL) == 0);
        print_mask("open");
        CHECK(sigprocmask(SIG_SETMASK, &before, NULL) == 0);
        print_mask("restored");
    }
    if (what == 2) {
        CHECK(sigprocmask(SIG_UNBLOCK, &one, NULL) == 0);
        print_mask("unblocked");
        if (depth++ < 3)
            store(page);
    }
    if (jumps)
        siglongjmp(back_to, 1);
    mprotect((void *)page, PAGE, PROT_READ | PROT_WRITE);
}

__attribute__((noinline)) static void fault_deep(int n)
{
    volatile unsigned char frame[3000];
    frame[0] = (unsigned char)n;
    if (n > 0)
        fault_deep(n - 1);
    else if (sigsetjmp(back_to, 1) == 0)
        store(page);
    CHECK(frame[0] == (unsigned char)n);
}

static void masks_all(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    CHECK(sigprocmask(SIG_SETMASK, &set, NULL) == 0);
    for (int deferred = 0; deferred < 2; deferred++)
        for (what = 0; what < 3; what++) {
            const int flags = deferred ? SA_NODEFER : 0;
            printf("flags %x, %d\n", (unsigned)flags, what);
            set_handler(SIGSEGV, on_mask, flags);
            close_page();
            depth = 0;
            jumps = false;
            store(page);
            print_mask("back");
            close_page();
            jumps = true;
            for (int i = 0; i < 60; i += 7) /* each deeper than the one before */
                fault_deep(i);
            print_mask("jumped out");
        }
    /* By longjmp(), which leaves the mask: the next one kills. */
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        what = 0;
        set_handler(SIGSEGV, on_mask, 0);
        if (sigsetjmp(back_to, 0) == 0)
            store(page);
        print_mask("left");
        fflush(stdout);
        fault_deep(20);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    printf("%s %d\n", WIFSIGNALED(status) ? "signal" : "exit", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

/* ---- overflow ---- */

static int recurse(volatile char *above, int n)
{
    volatile char frame[4096];
    frame[0] = above[0] = (char)n;
    return n > 0 ? recurse(frame, n + 1) + frame[0] : 0;
}

static void on_overflow(int number, siginfo_t *info, void *context)
{
    (void)info, (void)context;
    touch();
    printf("  caught %d on %s\n", number, place_of((uintptr_t)&number));
    fflush(stdout);
    siglongjmp(back_to, 1);
}

static void *overflow(void *with_stack)
{
    const stack_t own = {.ss_sp = own_stack, .ss_size = sizeof own_stack};
    volatile char first[1];
    if (with_stack)
        CHECK(sigaltstack(&own, NULL) == 0);
    for (volatile int i = 0; i < 3; i++)
        if (sigsetjmp(back_to, 1) == 0)
            recurse(first, 1);
    puts("  survived");
    return NULL;
}

static void try_overflow(const char *name, int flags, bool with_stack, bool in_thread)
{
    printf("%s\n", name);
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        const struct rlimit no_core = {0, 0}, small = {1 << 20, 1 << 20};
        pthread_t thread;
        setrlimit(RLIMIT_CORE, &no_core);
        setrlimit(RLIMIT_STACK, &small);
        alarm(20);
        set_handler(SIGSEGV, on_overflow, flags);
        if (in_thread)
            CHECK(pthread_create(&thread, NULL, overflow, with_stack ? own_stack : NULL) == 0 &&
                  pthread_join(thread, NULL) == 0);
        else
            overflow(with_stack ? own_stack : NULL);
        fflush(stdout);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    printf("  %s %d\n", WIFSIGNALED(status) ? "signal" : "exit", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

static void overflow_all(void)
{
    for (int thread = 0; thread < 2; thread++) {
        try_overflow("alternate stack, asked for", SA_ONSTACK, true, thread);
        try_overflow("alternate stack, not asked for", 0, true, thread);
        try_overflow("none", 0, false, thread);
    }
}

/* ---- arena ---- */

static void arena_all(void)
{
    static ucontext_t context, main_context;
    const size_t size = 8 * MIB;
    pthread_attr_t attributes;
    pthread_t thread;
    CHECK(pthread_attr_init(&attributes) == 0 && pthread_attr_setstack(&attributes, block + 16 * MIB, size) == 0);
    CHECK(pthread_create(&thread, &attributes, where_all, NULL) == 0 && pthread_join(thread, NULL) == 0);
    CHECK(getcontext(&context) == 0);
    context.uc_stack = (stack_t){.ss_sp = block + 32 * MIB, .ss_size = size};
    context.uc_link = &main_context;
    makecontext(&context, (void (*)(void))where_all, 0);
    CHECK(swapcontext(&main_context, &context) == 0);
#ifdef __x86_64__
    /* One that nobody has been told of. */
    unsigned char *top = block + 48 * MIB;
    __asm__ volatile("mov %%rsp, %%r12\n mov %0, %%rsp\n call *%1\n mov %%r12, %%rsp\n"
                     :
                     : "r"(top), "r"(where_all)
                     : "r12", "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory", "cc");
#endif
}

/* ---- threads ---- */

#define THREADS 8
#define ROUNDS  2000

static __thread sigjmp_buf thread_back;
static __thread volatile unsigned char *thread_page;
static __thread volatile unsigned handled;

static void on_thread(int number, siginfo_t *info, void *context)
{
    (void)number, (void)info, (void)context;
    handled++;
    block[(handled * 7919 + (size_t)(thread_page - page)) % (96 * MIB / PAGE) * PAGE] = 1;
    if (handled % 3 == 0)
        siglongjmp(thread_back, 1);
    mprotect((void *)thread_page, PAGE, PROT_READ | PROT_WRITE);
}

static void *fault_in_thread(void *at)
{
    volatile unsigned long sum = 0;
    thread_page = at;
    for (volatile int i = 0; i < ROUNDS; i++) {
        mprotect((void *)thread_page, PAGE, PROT_NONE);
        if (sigsetjmp(thread_back, 1) == 0)
            store(thread_page);
        sum += block[((size_t)i * 104729) % (96 * MIB / PAGE) * PAGE + 1];
    }
    CHECK(sum == (unsigned long)ROUNDS * 3);
    return (void *)(uintptr_t)handled;
}

static void threads_all(void)
{
    pthread_t threads[THREADS];
    unsigned long total = 0;
    memset(block, 3, 96 * MIB);
    page = mmap(NULL, THREADS * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(page != MAP_FAILED);
    set_handler(SIGSEGV, on_thread, 0);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, fault_in_thread, (void *)(page + i * PAGE)) == 0);
    for (int i = 0; i < THREADS; i++) {
        void *result;
        CHECK(pthread_join(threads[i], &result) == 0);
        total += (uintptr_t)result;
    }
    printf("handled %lu\n", total);
}

/* ---- small ---- */

#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif

#define USABLE ((size_t)3072) /* beside the frame that the kernel makes: the traps' own path is to need 2 KiB of it */
#define PAINT  0xa5

static volatile uintptr_t handler_top;

static void on_small(int number)
{
    char here;
    (void)number;
    handler_top = (uintptr_t)&here;
}

/* What does not compress goes to the disk; every eighth page does, a little. */
static uint64_t word_of(size_t index, size_t word)
{
    return index % 8 || word % 4 ? mix64(index * 512 + word + 1) : index;
}

static void write_pages(size_t count)
{
    for (size_t i = 0; i < count; i++)
        for (size_t word = 0; word < PAGE / 8; word++)
            ((uint64_t *)(void *)(block + i * PAGE))[word] = word_of(i, word);
}

/* Reads pages in steps: 1 makes a stream. Every third is written to as well. */
static size_t wrong_pages(size_t count, size_t by)
{
    size_t wrong = 0;
    for (size_t i = 0, at = 0; i < count; i++, at = (at + by) % count) {
        volatile uint64_t *words = (volatile uint64_t *)(void *)(block + at * PAGE);
        wrong += words[at % 512] != word_of(at, at % 512);
        if (at % 3 == 0)
            words[7] = word_of(at, 7);
    }
    return wrong;
}

static volatile bool sending;

static void on_sent(int number, siginfo_t *info, void *context)
{
    volatile unsigned char frame[1500]; /* over what another handler has there, if it is */
    (void)number, (void)info, (void)context;
    memset((unsigned char *)frame, 0, sizeof frame);
}

static void *send_signals(void *to)
{
    while (sending) {
        pthread_kill(*(const pthread_t *)to, SIGSEGV);
        usleep(50);
    }
    return NULL;
}

/* The signals of our own traps, sent by somebody at any moment. */
static size_t wrong_when_sent(size_t count)
{
    const stack_t own = {.ss_sp = own_stack, .ss_size = sizeof own_stack};
    pthread_t self = pthread_self(), sender;
    CHECK(sigaltstack(&own, NULL) == 0);
    set_handler(SIGSEGV, on_sent, SA_ONSTACK);
    sending = true;
    CHECK(pthread_create(&sender, NULL, send_signals, &self) == 0);
    const size_t wrong = wrong_pages(count, 7919);
    sending = false;
    CHECK(pthread_join(sender, NULL) == 0);
    return wrong;
}

static void small(bool tells)
{
    const unsigned long known = getauxval(AT_MINSIGSTKSZ);
    const size_t frame = known ? known : 4096, size = frame + USABLE, room = (size + PAGE - 1) / PAGE * PAGE;
    const size_t count = 96 * MIB / PAGE;
    unsigned char *below = mmap(NULL, PAGE + room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(below != MAP_FAILED && mprotect(below, PAGE, PROT_NONE) == 0);
    unsigned char *stack = below + PAGE; /* what is deeper than its room dies */
    const stack_t alternate = {.ss_sp = stack, .ss_size = size};
    const struct sigaction action = {.sa_handler = on_small, .sa_flags = SA_ONSTACK};
    memset(stack, PAINT, room);
    write_pages(count);
    CHECK(sigaltstack(&alternate, NULL) == 0 && sigaction(SIGUSR1, &action, NULL) == 0 && raise(SIGUSR1) == 0);
    printf("single: %zu wrong\n", wrong_pages(count, 7919));
    printf("streams: %zu wrong\n", wrong_pages(count, 1));
    size_t untouched = 0;
    while (stack[untouched] == PAINT)
        untouched++;
    printf("sent: %zu wrong\n", wrong_when_sent(count));
    if (tells)
        printf("below the frame: %td bytes\n", (ptrdiff_t)(handler_top - (uintptr_t)(stack + untouched)));
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";
    block = aligned_alloc(64 * 1024, 96 * MIB);
    CHECK(block && in_arena(block) != 0);
    page = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(page != MAP_FAILED);
    void *warm[2];
    CHECK(backtrace(warm, 2) > 0); /* loads a library */
    if (strcmp(mode, "where") == 0)
        where_all(NULL);
    else if (strcmp(mode, "state") == 0)
        state_all();
    else if (strcmp(mode, "masks") == 0)
        masks_all();
    else if (strcmp(mode, "overflow") == 0)
        overflow_all();
    else if (strcmp(mode, "arena") == 0)
        arena_all();
    else if (strcmp(mode, "threads") == 0)
        threads_all();
    else if (strcmp(mode, "small") == 0)
        small(argc > 2);
    else
        return 2;
    return 0;
}
