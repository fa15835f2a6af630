/*
 * signals.c: signals.h on Darwin. Faults come here when no exception port has taken them (platform/darwin/exc.h), and
 * then most are the program's own.
 *
 * What differs from Linux: either signal may mean either thing; si_code says nothing on arm64; the address may carry a
 * tag; and a SIGBUS that is blocked or ignored is raised again and again by the same instruction, for ever. So both
 * stay open and handled, whatever the program asks for. A thread's own words are in libpthread's slots, which are there
 * without malloc.
 */
#include "../signals.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/ucontext.h>
#include <unistd.h>

#include "../../../platform/os.h"

const int signals_list[SIGNALS_OURS] = {SIGSEGV, SIGBUS, SIGSYS};

static struct {
    signal_server server;
    struct sigaction program[SIGNALS_OURS]; /* what the program has set; guarded by a sequence count */
    uint32_t changes;                       /* odd while `program` is being written */
    uint32_t owner;                         /* the process whose dispositions these are; 0 until installed */
    pthread_key_t frames[SIGNALS_OURS];     /* of each thread: the frame of the program's handler, while one runs */
} state;

static size_t slot_of(int number)
{
    size_t slot = 0;
    while (slot < SIGNALS_OURS && signals_list[slot] != number)
        slot++;
    return slot;
}

bool signals_claimed(int number)
{
    return slot_of(number) < SIGNALS_OURS && state.owner && state.owner == os_process_id();
}

void signals_after_fork_child(void)
{
    if (state.owner)
        state.owner = os_process_id();
}

void signals_strip(sigset_t *set)
{
    for (size_t i = 0; i < SIGNALS_OURS; i++)
        sigdelset(set, signals_list[i]);
}

/* ---- what the program has set ---- */

static struct sigaction program_action(int number)
{
    struct sigaction copy;
    uint32_t before;
    do {
        while ((before = __atomic_load_n(&state.changes, __ATOMIC_ACQUIRE)) & 1)
            os_yield();
        copy = state.program[slot_of(number)];
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
    } while (before != __atomic_load_n(&state.changes, __ATOMIC_RELAXED));
    return copy;
}

static void set_program_action(int number, const struct sigaction *action)
{
    struct os_sigmask saved;
    os_signals_block(&saved); /* a handler of this thread must not find the count odd */
    uint32_t even = __atomic_load_n(&state.changes, __ATOMIC_RELAXED) & ~UINT32_C(1);
    while (!__atomic_compare_exchange_n(&state.changes, &even, even + 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
        even &= ~UINT32_C(1);
        os_yield();
    }
    __atomic_thread_fence(__ATOMIC_RELEASE);
    state.program[slot_of(number)] = *action;
    __atomic_store_n(&state.changes, even + 2, __ATOMIC_RELEASE);
    os_signals_restore(&saved);
}

int signals_program_action(int number, const struct sigaction *action, struct sigaction *old)
{
    struct sigaction before = program_action(number);
    if (action) {
        struct sigaction wanted = *action;
        set_program_action(number, &wanted);
    }
    if (old)
        *old = before;
    return 0;
}

/* ---- a fault that is the program's own ---- */

static uintptr_t stack_pointer_of(const void *context)
{
#if defined(__x86_64__)
    return ((const ucontext_t *) context)->uc_mcontext->__ss.__rsp;
#else
    return __darwin_arm_thread_state64_get_sp(((const ucontext_t *) context)->uc_mcontext->__ss);
#endif
}

/* Whether it was a fault or was sent cannot be told: si_pid and si_code are the same for both there. So it is sent once
 * more, and ends the process when we return, with the registers of the faulting instruction. Whoever reports crashes
 * was
 * told by Mach before any signal. */
static void die(int number)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigaction(number, &action, NULL);
    pthread_kill(pthread_self(), number);
}

#define HANDLER_DEPTH ((uintptr_t) 1 << 20)

/* While a handler runs without SA_NODEFER a fault in it kills: below its frame it is inside, above it has jumped out. */
static bool is_inside_handler(int number, const void *context)
{
    uintptr_t frame = (uintptr_t) pthread_getspecific(state.frames[slot_of(number)]), sp = stack_pointer_of(context);
    return frame && sp < frame && frame - sp < HANDLER_DEPTH;
}

static void call_handler(const struct sigaction *action, int number, siginfo_t *info, void *context)
{
    pthread_key_t key = state.frames[slot_of(number)];
    void *outer = pthread_getspecific(key);
    sigset_t mask = ((ucontext_t *) context)->uc_sigmask | action->sa_mask, before;
    signals_strip(&mask);
    if (action->sa_flags & SA_RESETHAND) {
        struct sigaction reset = *action;
        reset.sa_handler = SIG_DFL;
        reset.sa_flags &= ~SA_SIGINFO;
        set_program_action(number, &reset);
    }
    pthread_setspecific(key, action->sa_flags & SA_NODEFER ? NULL : __builtin_frame_address(0));
    pthread_sigmask(SIG_SETMASK, &mask, &before);
    if (action->sa_flags & SA_SIGINFO)
        action->sa_sigaction(number, info, context);
    else
        action->sa_handler(number);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_setspecific(key, outer);
}

/* What is ignored is ignored: a fault is then raised again for ever, as without us. */
static void to_program(int number, siginfo_t *info, void *context)
{
    struct sigaction action = program_action(number);
    if (action.sa_handler == SIG_IGN)
        return;
    if (action.sa_handler == SIG_DFL || is_inside_handler(number, context))
        die(number);
    else
        call_handler(&action, number, info, context);
}

/* Content that is lost is told as the kernel tells a failing disk. */
static void report_lost(const siginfo_t *info, void *context)
{
    siginfo_t lost = *info;
    lost.si_signo = SIGBUS;
    lost.si_code = BUS_ADRERR;
    struct sigaction action = program_action(SIGBUS);
    if (action.sa_handler == SIG_DFL || action.sa_handler == SIG_IGN)
        die(SIGBUS);
    else
        call_handler(&action, SIGBUS, &lost, context);
}

#define ADDRESS_BITS 56

static void handler(int number, siginfo_t *info, void *context)
{
    int saved = errno;
    siginfo_t untagged = *info;
    untagged.si_addr = (void *) ((uintptr_t) info->si_addr & ((UINT64_C(1) << ADDRESS_BITS) - 1));
    enum signal_verdict verdict = state.server(number, &untagged, context);
    errno = saved;
    if (verdict == SIGNAL_PROGRAMS)
        to_program(number, info, context);
    else if (verdict == SIGNAL_LOST)
        report_lost(info, context);
}

void signals_uninstall(void)
{
    for (size_t i = 0; state.owner && i < SIGNALS_OURS; i++)
        sigaction(signals_list[i], &state.program[i], NULL);
    state.owner = 0;
}

int signals_install(signal_server server)
{
    state.server = server;
    for (size_t i = 0; i < SIGNALS_OURS; i++) {
        struct sigaction action = {.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
        action.sa_sigaction = handler;
        /* No handler of the program's may run while a page is in motion: it could touch that page, or longjmp away. */
        sigfillset(&action.sa_mask);
        signals_strip(&action.sa_mask);
        int error = pthread_key_create(&state.frames[i], NULL);
        if (error)
            return -error;
        if (sigaction(signals_list[i], &action, &state.program[i]) < 0)
            return -errno;
    }
    state.owner = os_process_id();
    return -signals_open();
}

int signals_open(void)
{
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < SIGNALS_OURS; i++)
        sigaddset(&set, signals_list[i]);
    return pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}
