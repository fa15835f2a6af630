/*
 * signal_own_segv MODE: faults that are the program's own business.
 *   handler  its SIGSEGV handler opens its own protected page, and the store is repeated; on an alternate stack too
 *   bus      its SIGBUS handler is told of a mapping beyond the end of its file
 *   null     without a handler, a load through NULL kills with SIGSEGV
 *   raise    and so does raise(SIGSEGV)
 *   default  a handler set back to SIG_DFL no longer runs
 *   signal   handlers set by signal() and its older relatives get the program's faults, and no others
 */
#include "../victim.h"

#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>

static volatile unsigned char *page;
static unsigned char *memory;
static volatile sig_atomic_t calls, last_code;
static sigjmp_buf back;

static void on_segv(int number, siginfo_t *info, void *context)
{
    (void)context;
    errno = 0;
    CHECK(number == SIGSEGV && info->si_signo == SIGSEGV);
    CHECK(info->si_addr == (void *)(page + 123));
    memory[calls % 32 * MIB]++; /* touches paged memory while it serves its own fault */
    calls = calls + 1;
    last_code = info->si_code;
    mprotect((void *)page, PAGE, PROT_READ | PROT_WRITE);
}

static void on_bus(int number, siginfo_t *info, void *context)
{
    (void)context;
    CHECK(number == SIGBUS && info->si_code == BUS_ADRERR);
    CHECK(info->si_addr == (void *)(page + 123));
    calls = calls + 1;
    siglongjmp(back, 1);
}

static void set_handler(int number, void (*handler)(int, siginfo_t *, void *), int flags)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags};
    sigemptyset(&action.sa_mask);
    CHECK(sigaction(number, &action, NULL) == 0);
    struct sigaction now;
    CHECK(sigaction(number, NULL, &now) == 0);
    CHECK(now.sa_sigaction == handler); /* the program reads back what it set */
    CHECK((now.sa_flags & SA_ONSTACK) == (flags & SA_ONSTACK));
}

static void faults(int times)
{
    for (int i = 0; i < times; i++) {
        CHECK(mprotect((void *)page, PAGE, i % 2 ? PROT_NONE : PROT_READ) == 0);
        const int before = calls;
        page[123] = (unsigned char)i;
        CHECK(page[123] == (unsigned char)i && calls == before + 1);
    }
}

static void handler_mode(void)
{
    set_handler(SIGSEGV, on_segv, 0);
    faults(200);
    CHECK(last_code == SEGV_ACCERR);
    static unsigned char stack[64 << 10];
    const stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack}, none = {.ss_flags = SS_DISABLE};
    CHECK(sigaltstack(&alternate, NULL) == 0);
    set_handler(SIGSEGV, on_segv, SA_ONSTACK);
    faults(200);
    CHECK(sigaltstack(&none, NULL) == 0);
    faults(200);
    printf("%d calls\n", (int)calls);
}

static void bus_mode(void)
{
    FILE *file = tmpfile();
    CHECK(file);
    page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fileno(file), 0);
    CHECK(page != MAP_FAILED);
    set_handler(SIGBUS, on_bus, 0);
    for (volatile int i = 0; i < 10; i++)
        if (sigsetjmp(back, 1) == 0)
            page[123] = 1;
    printf("%d calls\n", (int)calls);
}

static void on_simple(int number)
{
    CHECK(number == SIGSEGV);
    calls = calls + 1;
    mprotect((void *)page, PAGE, PROT_READ | PROT_WRITE);
}

static void signal_mode(void)
{
    typedef void (*handler)(int);
    handler (*const interfaces[])(int, handler) = {signal, sysv_signal, ssignal};
    for (int i = 0; i < 3; i++) {
        const int before = calls;
        CHECK(interfaces[i](SIGSEGV, on_simple) != SIG_ERR);
        unsigned char *fresh = big_malloc(4 * MIB); /* absent, perhaps, as parts of the rest are */
        memset(fresh, 1, 4 * MIB);
        for (size_t at = 0; at < 96 * MIB; at += PAGE)
            CHECK(memory[at] == 1);
        free(fresh);
        CHECK(calls == before);
        mprotect((void *)page, PAGE, PROT_NONE);
        page[123] = 1;
        CHECK(calls == before + 1);
        /* sysv_signal()'s handler is good for one call. */
        CHECK(signal(SIGSEGV, SIG_DFL) == (interfaces[i] == sysv_signal ? SIG_DFL : on_simple));
    }
    printf("%d calls\n", (int)calls);
}

int main(int argc, char **argv)
{
    void *volatile nowhere = NULL;
    const char *mode = argc > 1 ? argv[1] : "handler";
    memory = big_malloc(96 * MIB); /* more than the small budgets, so that paging is at work */
    memset(memory, 1, 96 * MIB);
    page = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(page != MAP_FAILED);
    printf("%s\n", mode);
    fflush(stdout);

    if (strcmp(mode, "handler") == 0)
        handler_mode();
    else if (strcmp(mode, "bus") == 0)
        bus_mode();
    else if (strcmp(mode, "signal") == 0)
        signal_mode();
    else if (strcmp(mode, "null") == 0)
        *(volatile int *)nowhere = 1;
    else if (strcmp(mode, "raise") == 0)
        raise(SIGSEGV);
    else if (strcmp(mode, "default") == 0) {
        set_handler(SIGSEGV, on_segv, 0);
        faults(1);
        signal(SIGSEGV, SIG_DFL);
        mprotect((void *)page, PAGE, PROT_NONE);
        page[123] = 1;
    }
    for (size_t i = 32; i < 96; i++) /* the handler's counters are below */
        CHECK(memory[i * MIB] == 1);
    puts("end");
    return 0;
}
