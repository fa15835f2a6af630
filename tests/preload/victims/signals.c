/*
 * signals MODE: what the program says about signals, and what it is told.
 *   exact        handlers get siginfo, context, mask and flags as they asked for
 *   interfaces   the older interfaces do what sigaction() and sigprocmask() do
 *   sent         SIGSEGV that somebody sends is kept while it is blocked, and is waited for like any other
 *   waits        a handler that comes while a call has its own mask, with all but that signal blocked, meets absent memory
 *   deaths       a fault that nobody handles ends the program with its signal, core and address
 */
#include "../victim.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>

#define STEP (1 * MIB)

static unsigned char *block;
static volatile size_t next_page;

/* The first touch of memory that nobody has touched. */
static void touch(void)
{
    block[(next_page += STEP) % (60 * MIB)] = 1;
}

static volatile unsigned char *page; /* the program's own trap */

/* "SEGV BUS SYS USR1 USR2 TERM", those of the set. */
static void print_set(const char *when, const sigset_t *set)
{
    static const struct {
        int number;
        const char *name;
    } names[] = {{SIGSEGV, "SEGV"}, {SIGBUS, "BUS"},   {SIGSYS, "SYS"},
                 {SIGUSR1, "USR1"}, {SIGUSR2, "USR2"}, {SIGTERM, "TERM"}};
    printf("%s:", when);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (sigismember(set, names[i].number) == 1)
            printf(" %s", names[i].name);
    putchar('\n');
}

static sigset_t set_of(int a, int b)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, a);
    if (b)
        sigaddset(&set, b);
    return set;
}

static void print_mask(const char *when)
{
    sigset_t now;
    sigprocmask(SIG_BLOCK, NULL, &now);
    print_set(when, &now);
}

/* ---- exact ---- */

static volatile uintptr_t seen_stack;
static volatile int handled;

static uintptr_t pc_of(const void *context)
{
#if defined(__x86_64__)
    return (uintptr_t)((const ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
#else
    return (uintptr_t)((const ucontext_t *)context)->uc_mcontext.pc;
#endif
}

__attribute__((noinline, section("faulting"))) static void store(volatile unsigned char *at)
{
    *at = 1;
}
extern const char __start_faulting[], __stop_faulting[];

static void on_exact(int number, siginfo_t *info, void *context)
{
    char here;
    const uintptr_t pc = pc_of(context);
    seen_stack = (uintptr_t)&here;
    handled = handled + 1;
    touch();
    printf("  signal %d code %d, address %s, at %s\n", number, info->si_code,
           info->si_addr == (void *)(page + 123) ? "right" : "WRONG",
           pc >= (uintptr_t)__start_faulting && pc < (uintptr_t)__stop_faulting ? "the store" : "WRONG");
    print_mask("  in the handler");
    print_set("  interrupted", &((ucontext_t *)context)->uc_sigmask);
    mprotect((void *)page, PAGE, PROT_READ | PROT_WRITE);
}

static unsigned char own_stack[128 << 10];

static bool on_own_stack(void)
{
    return seen_stack - (uintptr_t)own_stack < sizeof own_stack;
}

static void try_flags(int flags)
{
    struct sigaction action = {.sa_sigaction = on_exact, .sa_flags = SA_SIGINFO | flags, .sa_mask = set_of(SIGUSR1, SIGTERM)};
    struct sigaction back;
    CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
    printf("flags %x\n", (unsigned)flags);
    handled = 0;
    CHECK(mprotect((void *)page, PAGE, PROT_NONE) == 0);
    store(page + 123);
    CHECK(sigaction(SIGSEGV, NULL, &back) == 0);
    printf("  handled %d, own stack %d, handler %s, flags %x\n", handled, on_own_stack(),
           back.sa_handler == SIG_DFL ? "gone" : "kept", (unsigned)back.sa_flags & ~0x4000000u);
    print_set("  sa_mask", &back.sa_mask);
    print_mask("  afterwards");
}

static void exact(void)
{
    sigset_t usr2 = set_of(SIGUSR2, 0);
    const stack_t alternate = {.ss_sp = own_stack, .ss_size = sizeof own_stack};
    sigprocmask(SIG_SETMASK, &usr2, NULL);
    try_flags(0);
    try_flags(SA_NODEFER);
    try_flags(SA_RESETHAND);
    CHECK(sigaltstack(&alternate, NULL) == 0);
    try_flags(SA_ONSTACK);
    try_flags(0);
    try_flags(SA_ONSTACK | SA_RESETHAND | SA_NODEFER | SA_RESTART);
}

/* ---- interfaces ---- */

static void on_count(int number)
{
    (void)number;
    handled = handled + 1;
    touch();
    mprotect((void *)page, PAGE, PROT_READ | PROT_WRITE);
}

static const char *name_of(void (*handler)(int))
{
    return handler == SIG_DFL   ? "default"
           : handler == SIG_IGN ? "ignored"
           : handler == SIG_ERR ? "error"
           : handler == on_count ? "ours"
           : handler == SIG_HOLD ? "held"
                                 : "other";
}

static void fault_once(const char *when)
{
    handled = 0;
    CHECK(mprotect((void *)page, PAGE, PROT_NONE) == 0);
    touch();
    page[1] = 1;
    printf("%s: handled %d\n", when, handled);
}

#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

static void interfaces(void)
{
    static const int numbers[] = {SIGSEGV, SIGBUS, SIGUSR1};
    for (int i = 0; i < 3; i++) {
        const int n = numbers[i];
        struct sigaction back;
        printf("%d: sigset %s", n, name_of(sigset(n, on_count)));
        printf(" %s", name_of(sigset(n, on_count)));
        if (n == SIGSEGV)
            fault_once("\nsigset");
        printf(" sighold %d", sighold(n));
        print_mask("\nheld");
        printf(" sigset %s", name_of(sigset(n, SIG_HOLD)));
        printf(" %s", name_of(sigset(n, on_count)));
        printf(" sigrelse %d", sigrelse(n));
        print_mask("\nopen");
        CHECK(siginterrupt(n, 0) == 0 && sigaction(n, NULL, &back) == 0);
        printf("restarts %d", (back.sa_flags & SA_RESTART) != 0);
        CHECK(siginterrupt(n, 1) == 0 && sigaction(n, NULL, &back) == 0);
        printf(" %d", (back.sa_flags & SA_RESTART) != 0);
        if (n == SIGSEGV)
            fault_once("\nsiginterrupt");
        printf(" bsd %s", name_of(ssignal(n, on_count)));
        printf(" sysv %s", name_of(sysv_signal(n, on_count)));
        printf(" sigignore %d", sigignore(n));
        printf(" signal %s\n", name_of(signal(n, on_count)));
        if (n == SIGSEGV)
            fault_once("signal");
        signal(n, SIG_DFL);
    }
    printf("sigset of nothing: %s\n", name_of(sigset(0, on_count)));
    CHECK(signal(SIGSEGV, on_count) == SIG_DFL);
    const int mask = 1 << (SIGSEGV - 1) | 1 << (SIGUSR2 - 1), before = sigblock(mask);
    touch();
    printf("sigblock %x", (unsigned)before);
    printf(" sigsetmask %x", (unsigned)sigsetmask(1 << (SIGBUS - 1)));
    touch();
    printf(" siggetmask %x\n", (unsigned)sigblock(0));
    print_mask("sigsetmask");
    sigsetmask(0);
    fault_once("sigsetmask");

    /* A program that is started with signals blocked. */
    fflush(stdout);
    posix_spawnattr_t attributes;
    sigset_t both = set_of(SIGSEGV, SIGUSR2);
    pid_t child;
    char *const arguments[] = {"signals", "mask", NULL};
    int status;
    CHECK(posix_spawnattr_init(&attributes) == 0 && posix_spawnattr_setsigmask(&attributes, &both) == 0);
    CHECK(posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK) == 0);
    CHECK(posix_spawn(&child, "/proc/self/exe", NULL, &attributes, arguments, environ) == 0);
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

/* ---- sent ---- */

static void on_sent(int number, siginfo_t *info, void *context)
{
    (void)context;
    handled = handled + 1;
    touch();
    printf("  handler: %d from %s, code %d\n", number, info->si_pid == getpid() ? "me" : "WRONG", info->si_code);
}

static void on_raise(int number)
{
    handled = handled + 1;
    touch();
    if (handled == 1) {
        raise(number); /* blocked here: comes when we are back */
        puts("  raised in the handler");
    }
}

static void *wait_in_thread(void *set)
{
    int number = 0;
    CHECK(sigwait(set, &number) == 0);
    printf("  sigwait in a thread: %d\n", number);
    return NULL;
}

static void sent(void)
{
    struct sigaction action = {.sa_sigaction = on_sent, .sa_flags = SA_SIGINFO};
    sigset_t ours = set_of(SIGSEGV, SIGBUS), none, pending;
    const struct timespec soon = {0, 1000000};
    sigemptyset(&none);
    CHECK(sigaction(SIGSEGV, &action, NULL) == 0 && sigaction(SIGBUS, &action, NULL) == 0);
    kill(getpid(), SIGSEGV);
    CHECK(sigprocmask(SIG_BLOCK, &ours, NULL) == 0);
    kill(getpid(), SIGSEGV);
    raise(SIGBUS);
    touch();
    printf("handled %d\n", handled);
    CHECK(sigpending(&pending) == 0);
    print_set("pending", &pending);
    siginfo_t info;
    int number = sigtimedwait(&ours, &info, &soon);
    printf("sigtimedwait: %d, code %d\n", number, info.si_code);
    number = 0;
    CHECK(sigwait(&ours, &number) == 0);
    printf("sigwait: %d\n", number);
    printf("sigtimedwait: %d\n", sigtimedwait(&ours, &info, &soon));
    raise(SIGSEGV);
    puts("opening");
    CHECK(sigprocmask(SIG_SETMASK, &none, NULL) == 0);
    CHECK(sigpending(&pending) == 0);
    print_set("pending", &pending);

    pthread_t thread;
    CHECK(pthread_sigmask(SIG_BLOCK, &ours, NULL) == 0);
    CHECK(pthread_create(&thread, NULL, wait_in_thread, &ours) == 0);
    usleep(50000);
    pthread_kill(thread, SIGSEGV);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(pthread_sigmask(SIG_SETMASK, &none, NULL) == 0);

    handled = 0;
    signal(SIGSEGV, on_raise);
    raise(SIGSEGV);
    printf("handled %d\n", handled);
    signal(SIGSEGV, SIG_IGN);
    raise(SIGSEGV);
    kill(getpid(), SIGSEGV);
    puts("ignored");
}

/* ---- waits ---- */

static void on_alarm(int number)
{
    (void)number;
    handled = handled + 1;
    touch();
}

static sigset_t all_but_alarm;
static int events;

static int in_sigsuspend(void)
{
    return sigsuspend(&all_but_alarm);
}

static int in_ppoll(void)
{
    return ppoll(NULL, 0, NULL, &all_but_alarm);
}

static int in_pselect(void)
{
    return pselect(0, NULL, NULL, NULL, NULL, &all_but_alarm);
}

static int in_epoll_pwait(void)
{
    struct epoll_event event;
    return epoll_pwait(events, &event, 1, -1, &all_but_alarm);
}

static int in_epoll_pwait2(void)
{
    struct epoll_event event;
    const int result = epoll_pwait2(events, &event, 1, NULL, &all_but_alarm);
    return result < 0 && errno == ENOSYS ? in_epoll_pwait() : result;
}

static int in_sigtimedwait(void)
{
    sigset_t ours = set_of(SIGUSR2, SIGSEGV);
    return sigtimedwait(&ours, NULL, NULL);
}

static void wait_in(const char *name, int (*call)(void), bool blocked)
{
    const struct itimerval soon = {.it_value.tv_usec = 20000};
    sigset_t alone = set_of(SIGALRM, 0);
    handled = 0;
    sigprocmask(SIG_SETMASK, &all_but_alarm, NULL);
    if (blocked)
        sigprocmask(SIG_BLOCK, &alone, NULL);
    CHECK(setitimer(ITIMER_REAL, &soon, NULL) == 0);
    const int result = call();
    const int error = errno;
    printf("%s: %d %s, handled %d", name, result, strerror(error), handled);
    print_mask("");
}

static void waits(void)
{
    struct sigaction action = {.sa_handler = on_alarm};
    sigfillset(&all_but_alarm);
    sigdelset(&all_but_alarm, SIGALRM);
    action.sa_mask = all_but_alarm;
    CHECK(sigaction(SIGALRM, &action, NULL) == 0 && (events = epoll_create1(0)) >= 0);
    wait_in("sigsuspend", in_sigsuspend, true);
    wait_in("ppoll", in_ppoll, true);
    wait_in("pselect", in_pselect, true);
    wait_in("epoll_pwait", in_epoll_pwait, true);
    wait_in("epoll_pwait2", in_epoll_pwait2, true);
    wait_in("sigtimedwait", in_sigtimedwait, false);

    /* Past libc's functions. */
    uint64_t all = ~UINT64_C(0), none = 0, before = 0;
    CHECK(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, 8) == 0);
    CHECK(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, 8) == 0 && before == 0);
    touch();
    CHECK(syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &before, 8) == 0);
    print_mask("by syscall");
    printf("%llx\n", (unsigned long long)before);

    /* A descriptor for everything gets what is not ours. */
    const int fd = signalfd(-1, &all_but_alarm, SFD_NONBLOCK);
    struct signalfd_siginfo info;
    raise(SIGUSR1);
    touch();
    CHECK(fd >= 0 && read(fd, &info, sizeof info) == sizeof info);
    printf("signalfd: %u\n", info.ssi_signo);
}

/* ---- deaths ---- */

static void die_null(void)
{
    *(volatile int *)page = 1;
}

static void die_wild(void)
{
    store((volatile unsigned char *)(uintptr_t)0x123456789000 + 5);
}

static void die_read_only(void)
{
    mprotect((void *)page, PAGE, PROT_READ);
    store(page + 7);
}

static void die_bus(void)
{
    FILE *file = tmpfile();
    volatile unsigned char *beyond = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fileno(file), 0);
    store(beyond);
}

static void die_raise(void)
{
    raise(SIGSEGV);
}

static void die_kill(void)
{
    kill(getpid(), SIGBUS);
}

static void die_ignored(void)
{
    signal(SIGSEGV, SIG_IGN);
    store(page);
}

static void die_reset(void)
{
    struct sigaction action = {.sa_handler = on_raise, .sa_flags = SA_RESETHAND};
    sigaction(SIGSEGV, &action, NULL);
    store(page);
}

static void die_abort(void)
{
    abort();
}

static int recurse(volatile char *above, int depth)
{
    volatile char frame[4096];
    frame[0] = above[0] = (char)depth;
    return depth > 0 ? recurse(frame, depth + 1) + frame[0] : 0;
}

static void die_stack(void)
{
    volatile char first[1];
    exit(recurse(first, 1));
}

static void die_not_an_address(void)
{
#ifdef __x86_64__
    store((volatile unsigned char *)(uintptr_t)0x8000000000000000); /* not canonical: SI_KERNEL */
#else
    raise(SIGSEGV);
#endif
}

/* Runs `end` under a tracer's eyes: what the last signal was, that it dies of it, and whether there is a core. */
static void watch_death(const char *name, void (*end)(void))
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        struct rlimit core = {1 << 20, RLIM_INFINITY};
        setrlimit(RLIMIT_CORE, &core);
        core.rlim_cur = 1 << 20;
        setrlimit(RLIMIT_STACK, &core);
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        touch();
        end();
        _exit(0);
    }
    siginfo_t info = {0};
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    while (WIFSTOPPED(status)) {
        ptrace(PTRACE_GETSIGINFO, child, 0, &info);
        ptrace(PTRACE_CONT, child, 0, WSTOPSIG(status));
        CHECK(waitpid(child, &status, 0) == child);
    }
    const bool fault = info.si_code > 0 && info.si_code != SI_KERNEL;
    const bool known = fault && end != die_stack;
    printf("%s: %s %d core %d, code %d address %zx\n", name, WIFSIGNALED(status) ? "signal" : "exit",
           WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), WIFSIGNALED(status) && WCOREDUMP(status),
           info.si_code, known ? (size_t)info.si_addr % PAGE : 0);
    unlink("core");
}

static void deaths(void)
{
    watch_death("store", die_null);
    watch_death("wild", die_wild);
    watch_death("read only", die_read_only);
    watch_death("beyond a file", die_bus);
    watch_death("raise", die_raise);
    watch_death("kill", die_kill);
    watch_death("ignored", die_ignored);
    watch_death("reset", die_reset);
    watch_death("abort", die_abort);
    watch_death("no address", die_not_an_address);
    watch_death("stack", die_stack);
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";
    block = aligned_alloc(64 * 1024, 64 * MIB);
    CHECK(block && in_arena(block) != 0);
    page = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(page != MAP_FAILED);
    if (strcmp(mode, "exact") == 0)
        exact();
    else if (strcmp(mode, "interfaces") == 0)
        interfaces();
    else if (strcmp(mode, "sent") == 0)
        sent();
    else if (strcmp(mode, "waits") == 0)
        waits();
    else if (strcmp(mode, "deaths") == 0)
        deaths();
    else if (strcmp(mode, "mask") == 0)
        print_mask("started with");
    else
        return 2;
    return 0;
}
