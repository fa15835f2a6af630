/*
 * manners.c: a program must not be able to tell that its traps are kept open, or that it has a stack for them.
 *
 *     manners masks      handlers, calls and threads with every signal blocked meet absent memory
 *     manners nested     a fault in a handler kills, unless SA_NODEFER; one that is jumped out of does not count
 *     manners forks      processes made by everything but fork() have memory of their own, absent or not
 *     manners strangers  children made by a clone instruction never see wrong data, and do no harm to their parent's
 *     manners merging    once paging is armed the kernel merges no equal pages, whoever asked for it, and when
 *     manners advice     memory that another thread gives up meanwhile can be read into
 *     manners stacks     code on a stack in the arena; sigaltstack() as the program knows it
 */
#include "../victim.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <threads.h>
#include <time.h>

#define STEP (1 * MIB)

static unsigned char *block;
static volatile size_t next_page;

/* The first touch of memory that nobody has touched. */
static void touch(void)
{
    block[(next_page += STEP)] = 1;
}

/* ---- masks ---- */

static void on_signal(int number)
{
    (void)number;
    touch();
}

static void *in_thread(void *unused)
{
    touch();
    return unused;
}

static int in_thrd(void *unused)
{
    touch();
    return unused != NULL;
}

static volatile int notified;

static void on_timer(union sigval value)
{
    touch();
    notified = value.sival_int;
}

static void masks(void)
{
    struct sigaction action = {.sa_handler = on_signal}, back;
    sigset_t full, but_alarm, before;
    sigfillset(&full);
    but_alarm = full;
    sigdelset(&but_alarm, SIGALRM);

    action.sa_mask = full;
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0 && sigaction(SIGALRM, &action, NULL) == 0);
    CHECK(sigaction(SIGUSR1, NULL, &back) == 0);
    printf("sa_mask: SIGSEGV %d SIGBUS %d SIGSYS %d\n", sigismember(&back.sa_mask, SIGSEGV),
           sigismember(&back.sa_mask, SIGBUS), sigismember(&back.sa_mask, SIGSYS));
    raise(SIGUSR1);
    puts("handler");
    alarm(1);
    sigsuspend(&but_alarm);
    puts("sigsuspend");

    CHECK(sigprocmask(SIG_SETMASK, &full, &before) == 0);
    touch();
    CHECK(sigprocmask(SIG_SETMASK, NULL, &full) == 0);
    printf("blocked: SIGSEGV %d SIGUSR1 %d\n", sigismember(&full, SIGSEGV), sigismember(&full, SIGUSR1));

    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    CHECK(pthread_create(&thread, &attributes, in_thread, NULL) == 0 && pthread_join(thread, NULL) == 0);
    pthread_attr_setsigmask_np(&attributes, &full);
    CHECK(pthread_create(&thread, &attributes, in_thread, NULL) == 0 && pthread_join(thread, NULL) == 0);
    thrd_t thrd;
    CHECK(thrd_create(&thrd, in_thrd, NULL) == thrd_success && thrd_join(thrd, NULL) == thrd_success);
    puts("threads");

    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_THREAD, .sigev_notify_function = on_timer, .sigev_value.sival_int = 42};
    struct itimerspec soon = {.it_value.tv_nsec = 1000000};
    CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0 && timer_settime(timer, 0, &soon, NULL) == 0);
    for (int i = 0; i < 500 && !notified; i++)
        usleep(10000);
    printf("timer %d\n", notified);
}

/* ---- nested ---- */

static int *volatile nowhere;
static sigjmp_buf back_to;
static volatile bool fault_again;
static volatile int handled;

static void on_fault(int number)
{
    (void)number;
    handled++;
    touch();
    if (fault_again)
        *nowhere = 1;
    siglongjmp(back_to, 1);
}

static void fault(void)
{
    if (sigsetjmp(back_to, 1) == 0)
        *nowhere = 1;
}

static void try_nested(int flags, bool again)
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        struct sigaction action = {.sa_handler = on_fault, .sa_flags = flags};
        CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
        for (int i = 0; i < 3; i++)
            fault();
        fault_again = again;
        alarm(10);
        fault();
        printf("handled %d\n", handled);
        fflush(stdout);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    printf("flags %x again %d: %s %d\n", (unsigned)flags, again, WIFSIGNALED(status) ? "signal" : "exit",
           WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

static void nested(void)
{
    try_nested(0, false);
    try_nested(0, true);
    try_nested(SA_RESTART, false);
    try_nested(SA_RESETHAND, false);
}

/* ---- forks ---- */

#define PAGES ((48 * MIB) / PAGE)

static void write_all(unsigned char salt)
{
    for (size_t i = 0; i < PAGES; i++)
        memset(block + i * PAGE, (unsigned char)(i * 7 + salt), 64);
}

static size_t count_wrong(unsigned char salt)
{
    size_t wrong = 0;
    for (size_t i = 0; i < PAGES; i++)
        wrong += block[i * PAGE + 63] != (unsigned char)(i * 7 + salt);
    return wrong;
}

/* In the child: its parent's content, then its own. */
static int as_child(void *unused)
{
    (void)unused;
    size_t wrong = count_wrong(1);
    write_all(2);
    _exit(wrong || count_wrong(2));
}

static void page_out_all(void)
{
    CHECK(madvise(block, PAGES * PAGE, MADV_PAGEOUT) == 0);
}

static void reap(const char *name, pid_t child)
{
    int status;
    if (child == 0)
        as_child(NULL);
    CHECK(child > 0);
    CHECK(waitpid(child, &status, 0) == child);
    printf("%s: child %d, %zu wrong\n", name, status, count_wrong(1));
    write_all(1);
    page_out_all();
}

static void forks(void)
{
    static unsigned char stack[64 * 1024] __attribute__((aligned(16)));
    write_all(1);
    page_out_all();
    reap("_Fork", _Fork());
    reap("clone", clone(as_child, stack + sizeof stack, SIGCHLD, NULL));
#ifdef SYS_fork
    reap("syscall fork", (pid_t)syscall(SYS_fork));
#endif
    reap("syscall clone", (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL));
    reap("fork", fork());
}

/* ---- strangers ---- */

static pid_t fork_by_instruction(void)
{
    long result;
#if defined(__x86_64__)
    register long fourth __asm__("r10") = 0;
    register long fifth __asm__("r8") = 0;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "0"(SYS_clone), "D"((long)SIGCHLD), "S"(0L), "d"(0L), "r"(fourth), "r"(fifth)
                     : "rcx", "r11", "memory");
#elif defined(__aarch64__)
    register long number __asm__("x8") = SYS_clone;
    register long first __asm__("x0") = SIGCHLD;
    register long second __asm__("x1") = 0;
    register long third __asm__("x2") = 0;
    register long fourth __asm__("x3") = 0;
    register long fifth __asm__("x4") = 0;
    __asm__ volatile("svc 0" : "+r"(first) : "r"(number), "r"(second), "r"(third), "r"(fourth), "r"(fifth) : "memory");
    result = first;
#endif
    return (pid_t)result;
}

static void read_all(void)
{
    _exit(count_wrong(1) != 0);
}

/* Whatever could reach the parent's pages by way of what the child has inherited. */
static void write_and_free(void)
{
    int ends[2];
    CHECK(pipe(ends) == 0);
    for (size_t i = 0; i < PAGES; i++) {
        if (write(ends[1], block + i * PAGE, PAGE) == (ssize_t)PAGE && read(ends[0], block + i * PAGE, PAGE) < 0)
            _exit(0);
    }
    unsigned char *own = malloc(4 * MIB);
    memset(own, 3, 4 * MIB);
    free(own);
    free(block);
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    waitpid(child, NULL, 0);
    own = malloc(48 * MIB);
    memset(own, 4, 48 * MIB);
    _exit(0);
}

static void meet(const char *name, void (*run)(void))
{
    int status;
    page_out_all();
    pid_t child = fork_by_instruction();
    if (child == 0)
        run();
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    bool traps = WIFSIGNALED(status) && (WTERMSIG(status) == SIGSEGV || WTERMSIG(status) == SIGBUS);
    printf("%s: child %s, %zu wrong\n", name, status == 0 || traps ? "well" : "WRONG", count_wrong(1));
    write_all(1);
}

static void strangers(void)
{
    write_all(1);
    meet("reads", read_all);
    meet("does", write_and_free);
    page_out_all();
    reap("fork", fork());
}

/* ---- stacks ---- */

static volatile int depth;

static void descend(int n)
{
    volatile unsigned char frame[3000];
    memset((unsigned char *)frame, n, sizeof frame);
    if (n > 0)
        descend(n - 1);
    depth += frame[5] == (unsigned char)n;
}

static void descend_all(void)
{
    descend(250);
}

static void show_stack(const char *when)
{
    stack_t stack;
    CHECK(sigaltstack(NULL, &stack) == 0);
    printf("%s: flags %d, %s, %zu\n", when, stack.ss_flags, stack.ss_sp ? "there" : "none", stack.ss_size);
}

static void *in_other(void *unused)
{
    show_stack("thread");
    return unused;
}

static void stacks(void)
{
#ifdef __x86_64__
    unsigned char *top = block + 4 * MIB;
    __asm__ volatile("mov %%rsp, %%r12\n mov %0, %%rsp\n call *%1\n mov %%r12, %%rsp\n"
                     :
                     : "r"(top), "r"(descend_all)
                     : "r12", "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory", "cc");
    printf("depth %d\n", depth);
#endif
    show_stack("main");
    stack_t mine = {.ss_sp = block + 8 * MIB, .ss_size = 64 * 1024}, off = {.ss_flags = SS_DISABLE}, small = {.ss_sp = &mine, .ss_size = 1};
    CHECK(sigaltstack(&mine, NULL) == 0);
    show_stack("set");
    printf("too small: %d\n", sigaltstack(&small, NULL));
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};
    CHECK(sigaction(SIGUSR2, &action, NULL) == 0);
    raise(SIGUSR2);
    CHECK(sigaltstack(&off, NULL) == 0);
    show_stack("off");
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, in_other, NULL) == 0 && pthread_join(thread, NULL) == 0);
}

/* ---- advice ---- */

#define SHARED (256 * 1024)
#define PIECE  (SHARED / 16)

static volatile bool reading;

static void *give_up(void *unused)
{
    while (reading)
        CHECK(madvise(block, SHARED, MADV_DONTNEED) == 0);
    return unused;
}

static void advice(void)
{
    pthread_t thread;
    int failed = 0;
    FILE *zeros = fopen("/dev/zero", "r");
    CHECK(zeros);
    memset(block, 1, 64 * MIB);
    reading = true;
    CHECK(pthread_create(&thread, NULL, give_up, NULL) == 0);
    for (size_t i = 0; i < 20000; i++)
        failed += read(fileno(zeros), block + i % 16 * PIECE, PIECE) != PIECE;
    reading = false;
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(madvise(block, SHARED, MADV_DONTNEED) == 0);
    int left = 0;
    for (size_t i = 0; i < SHARED; i++)
        left += block[i] != 0;
    printf("failed: %d, left: %d\n", failed, left);
}

/* ---- merging ---- */

#ifndef PR_SET_MEMORY_MERGE
#define PR_SET_MEMORY_MERGE 67
#endif

/* A system call that nobody stands in for. */
static long by_instruction(long number, long a, long b, long c)
{
    long result;
#if defined(__x86_64__)
    register long fourth __asm__("r10") = 0;
    register long fifth __asm__("r8") = 0;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "0"(number), "D"(a), "S"(b), "d"(c), "r"(fourth), "r"(fifth)
                     : "rcx", "r11", "memory");
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = number;
    register long first __asm__("x0") = a;
    register long second __asm__("x1") = b;
    register long third __asm__("x2") = c;
    register long fourth __asm__("x3") = 0;
    register long fifth __asm__("x4") = 0;
    __asm__ volatile("svc 0" : "+r"(first) : "r"(x8), "r"(second), "r"(third), "r"(fourth), "r"(fifth) : "memory");
    result = first;
#endif
    return result;
}

/* Mappings that the kernel may merge (mg) though somebody watches writes to them (uw), or though they are the block's. */
static int watched_and_merged(void)
{
    char line[512];
    int found = 0;
    bool ours = false;
    FILE *maps = fopen("/proc/self/smaps", "r");
    CHECK(maps);
    while (fgets(line, sizeof line, maps)) {
        uintptr_t start, end;
        if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
            ours = (uintptr_t)block - start < end - start;
        else if (strncmp(line, "VmFlags:", 8) == 0 && strstr(line, " mg") && (ours || strstr(line, " uw")))
            found++;
    }
    fclose(maps);
    return found;
}

static const char *answer_of(long result)
{
    return result == 0 ? "done" : result == -EINVAL || (result == -1 && errno == EINVAL) ? "EINVAL" : "other";
}

static void merging(bool raw)
{
    memset(block, 1, 64 * MIB);
    printf("watched and merged: %d\n", watched_and_merged());
    printf("prctl %s\n", answer_of(prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0)));
    printf("syscall %s\n", answer_of(syscall(SYS_prctl, PR_SET_MEMORY_MERGE, 1, 0, 0, 0)));
    printf("madvise %s\n", answer_of(madvise(block, MIB, MADV_MERGEABLE)));
    printf("syscall %s\n", answer_of(syscall(SYS_madvise, block, MIB, MADV_MERGEABLE)));
    if (raw) {
        printf("instruction %s\n", answer_of(by_instruction(SYS_prctl, PR_SET_MEMORY_MERGE, 1, 0)));
        printf("instruction %s\n", answer_of(by_instruction(SYS_madvise, (long)block, MIB, MADV_MERGEABLE)));
    }
    printf("watched and merged: %d\n", watched_and_merged());
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "", *how = argc > 2 ? argv[2] : "";
    if (strstr(how, "before"))
        prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0); /* before paging arms; not every kernel can */
    block = aligned_alloc(64 * 1024, 64 * MIB);
    CHECK(block);
    if (strcmp(what, "masks") == 0)
        masks();
    else if (strcmp(what, "nested") == 0)
        nested();
    else if (strcmp(what, "forks") == 0)
        forks();
    else if (strcmp(what, "strangers") == 0)
        strangers();
    else if (strcmp(what, "stacks") == 0)
        stacks();
    else if (strcmp(what, "advice") == 0)
        advice();
    else if (strcmp(what, "merging") == 0)
        merging(strstr(how, "raw"));
    else
        return 2;
    return 0;
}
