#include "signals.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <sys/syscall.h>

#include "../../platform/lock.h"
#include "../../platform/os.h"
#include "../interpose/hooks.h"
#include "frame.h"

const int signals_list[SIGNALS_OURS] = {SIGBUS, SIGSEGV, SIGSYS};

static struct {
    signal_server server;
    struct sigaction program[SIGNALS_OURS]; /* what the program has set; guarded by a sequence count for the handler's sake */
    uint32_t changes;               /* odd while `program` is being written */
    uint32_t owner;                 /* the process whose dispositions these are; 0 until installed */
} state;

/* What the thread believes to have blocked, and what came meanwhile. */
static __thread __attribute__((tls_model("initial-exec"))) struct {
    uint8_t believed, held; /* a bit each */
    siginfo_t infos[SIGNALS_OURS];
} mine;

/* Its place in the list, or SIGNALS_OURS. */
static size_t slot_of(int number)
{
    size_t slot = 0;
    while (slot < SIGNALS_OURS && signals_list[slot] != number)
        slot++;
    return slot;
}

/* Not before we have taken over, and not in a child of vfork(), which shares this memory but not its signals. */
bool signals_claimed(int number)
{
    return slot_of(number) < SIGNALS_OURS && state.owner && state.owner == os_process_id();
}

void signals_after_fork_child(void)
{
    if (state.owner)
        state.owner = os_process_id();
    mine.held = 0;
}

void signals_strip(sigset_t *set)
{
    for (size_t i = 0; i < SIGNALS_OURS; i++)
        sigdelset(set, signals_list[i]);
}

uint8_t signals_ours_in(const sigset_t *set)
{
    uint8_t bits = 0;
    for (size_t i = 0; i < SIGNALS_OURS; i++)
        bits |= (uint8_t) ((sigismember(set, signals_list[i]) == 1) << i);
    return bits;
}

void signals_add(sigset_t *set, uint8_t bits)
{
    for (size_t i = 0; i < SIGNALS_OURS; i++)
        if (bits & 1u << i)
            sigaddset(set, signals_list[i]);
}

/* ---- what the thread believes to have blocked ---- */

uint8_t signals_believed(void) { return mine.believed; }

uint8_t signals_held(void) { return mine.held; }

/* As the kernel has it, of each the first. */
static void hold(const siginfo_t *info)
{
    size_t slot = slot_of(info->si_signo);
    if (!(mine.held & 1u << slot))
        mine.infos[slot] = *info;
    mine.held |= (uint8_t) (1u << slot);
}

int signals_take_held(uint8_t bits, siginfo_t *info)
{
    size_t slot = 0;
    while (slot < SIGNALS_OURS && !(mine.held & bits & 1u << slot))
        slot++;
    if (slot == SIGNALS_OURS)
        return 0;
    *info = mine.infos[slot];
    mine.held &= (uint8_t) ~(1u << slot);
    return info->si_signo;
}

static void send_again(int number, siginfo_t *info)
{
    syscall(SYS_rt_tgsigqueueinfo, getpid(), os_thread_id(), number, info);
}

static void let_in(uint8_t bits)
{
    siginfo_t info;
    for (int number; (number = signals_take_held(bits, &info)) != 0;)
        send_again(number, &info);
}

void signals_believe(uint8_t bits)
{
    mine.believed = bits;
    if (__builtin_expect(mine.held & ~bits, 0))
        let_in((uint8_t) ~bits);
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
    return (uintptr_t) ((const ucontext_t *) context)->uc_mcontext.gregs[REG_RSP];
#else
    return (uintptr_t) ((const ucontext_t *) context)->uc_mcontext.sp;
#endif
}

/* Brought about by an instruction, not by kill() and the like. */
static bool is_fault(const siginfo_t *info) { return info->si_code > 0 && info->si_code != SI_KERNEL; }

/* A memory error that the hardware found: nothing that bringing a page in could mend. */
static bool is_hardware(const siginfo_t *info)
{
    return info->si_signo == SIGBUS && (info->si_code == BUS_MCEERR_AR || info->si_code == BUS_MCEERR_AO);
}

/* A faulting instruction faults again as soon as we return, with the same siginfo and a core that shows it. A system call
 * that a filter of the program's has stopped is past. */
static bool comes_again(const siginfo_t *info) { return is_fault(info) && info->si_signo != SIGSYS; }

/* Lets the signal do what it does without any handler: by itself, or sent once more. */
static void die(int number, siginfo_t *info, bool again)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = SIG_DFL;
    next.sigaction(number, &action, NULL);
    if (again)
        send_again(number, info);
}

/*
 * While a handler runs without SA_NODEFER its signal is blocked, and a fault then kills. Ours stay open, so this remembers
 * the handler's frame: a fault below it is inside the handler, unless that has been jumped out of. What tells is a signal
 * that stands in for ours in the mask meanwhile: who jumps out puts the mask back, in whatever way. Nobody sends it.
 */
static __thread __attribute__((tls_model("initial-exec"))) uintptr_t handler_frames[SIGNALS_OURS];
static __thread __attribute__((tls_model("initial-exec"))) bool mark_is_programs; /* it had that signal blocked itself */
#define HANDLER_DEPTH ((uintptr_t) 1 << 20)
#define MARK          SIGSTKFLT

static bool any_frame(void)
{
    uintptr_t any = 0;
    for (size_t i = 0; i < SIGNALS_OURS; i++)
        any |= handler_frames[i];
    return any;
}

static bool is_below(size_t slot, uintptr_t sp)
{
    uintptr_t frame = handler_frames[slot];
    return sp < frame && frame - sp < HANDLER_DEPTH;
}

/* Where the mark says nothing, a handler reaches down from its frame. */
static bool is_inside(size_t slot, uintptr_t sp)
{
    return handler_frames[slot] && (!mark_is_programs || is_below(slot, sp));
}

/* Those whose handlers the thread is in, with that mask and stack pointer. */
static uint8_t inside(const sigset_t *mask, uintptr_t sp)
{
    uint8_t bits = 0;
    for (size_t i = 0; i < SIGNALS_OURS && sigismember(mask, MARK) == 1; i++)
        bits |= (uint8_t) (is_inside(i, sp) << i);
    return bits;
}

static bool is_inside_handler(int number, const void *context)
{
    return inside(&((const ucontext_t *) context)->uc_sigmask, stack_pointer_of(context)) & 1u << slot_of(number);
}

void signals_show(sigset_t *mask)
{
    uint8_t bits = inside(mask, (uintptr_t) __builtin_frame_address(0));
    signals_add(mask, mine.believed | bits);
    if (bits && !mark_is_programs)
        sigdelset(mask, MARK);
}

/* The same for a change of the mask: who opens them in a handler may close them there again. What has been jumped out of,
 * with no mark left, is forgotten. */
static uint8_t within(const sigset_t *mask, uintptr_t sp)
{
    uint8_t bits = inside(mask, sp);
    for (size_t i = 0; i < SIGNALS_OURS; i++)
        if (is_below(i, sp))
            bits |= (uint8_t) (1u << i);
        else if (sigismember(mask, MARK) != 1)
            handler_frames[i] = 0;
    return bits;
}

void signals_mark(const sigset_t *wanted, sigset_t *passed)
{
    sigset_t now;
    uint8_t bits = signals_ours_in(wanted);
    if (!bits || !any_frame() || next.pthread_sigmask(SIG_BLOCK, NULL, &now) != 0)
        return;
    if (bits & within(&now, (uintptr_t) __builtin_frame_address(0)))
        sigaddset(passed, MARK);
}

void signals_changed(int how, const sigset_t *wanted, const sigset_t *before)
{
    uint8_t bits = signals_ours_in(wanted), handled = within(before, (uintptr_t) __builtin_frame_address(0));
    mark_is_programs |= how != SIG_UNBLOCK && sigismember(wanted, MARK) == 1;
    if (how != SIG_UNBLOCK) /* in its handler a signal is blocked for the time */
        bits &= (uint8_t) ~handled;
    signals_believe((uint8_t) (how == SIG_SETMASK ? bits : how == SIG_BLOCK ? mine.believed | bits : mine.believed & ~bits));
}

/* Whether the handler belongs on the interrupted code's stack, and we are on another. Who asks for an alternate stack gets
 * ours where the thread has set none: Go, by a system call of its own, finds it and takes it for one that it must use. */
static bool belongs_elsewhere(const struct sigaction *action, const ucontext_t *context)
{
    const stack_t *stack = &context->uc_stack;
    uintptr_t low = (uintptr_t) stack->ss_sp, here = (uintptr_t) __builtin_frame_address(0);
    bool switched = here - low <= stack->ss_size && stack_pointer_of(context) - low > stack->ss_size;
    return switched && !(action->sa_flags & SA_ONSTACK);
}

void signals_handler_is_back(int number, uintptr_t outer)
{
    size_t slot = slot_of(number);
    handler_frames[slot] = outer;
    if (!outer)
        let_in((uint8_t) (1u << slot & ~mine.believed));
}

static void call_here(const struct sigaction *action, int number, siginfo_t *info, void *context, const sigset_t *mask)
{
    uintptr_t *frame = &handler_frames[slot_of(number)], outer = *frame;
    sigset_t before;
    *frame = action->sa_flags & SA_NODEFER ? 0 : (uintptr_t) __builtin_frame_address(0);
    next.pthread_sigmask(SIG_SETMASK, mask, &before);
    if (action->sa_flags & SA_SIGINFO)
        action->sa_sigaction(number, info, context);
    else
        action->sa_handler(number);
    next.pthread_sigmask(SIG_SETMASK, &before, NULL);
    signals_handler_is_back(number, outer);
}

static int call_elsewhere(const struct sigaction *action, int number, siginfo_t *info, void *context, const sigset_t *mask)
{
    uintptr_t *frame = &handler_frames[slot_of(number)], at = 0;
    struct frame_order order = {.number = number, .info = info, .handler = (uintptr_t) action->sa_handler, .outer = *frame};
    memcpy(&order.mask, mask, sizeof order.mask);
    int result = frame_move(context, &order, &at);
    if (result == 0)
        *frame = action->sa_flags & SA_NODEFER ? 0 : at;
    return result;
}

static void call_handler(const struct sigaction *action, int number, siginfo_t *info, void *context)
{
    siginfo_t no_room = {.si_signo = SIGSEGV, .si_code = SI_KERNEL};
    const sigset_t *interrupted = &((const ucontext_t *) context)->uc_sigmask;
    sigset_t mask = *interrupted;
    for (int i = 1; i < NSIG; i++)
        if (sigismember(&action->sa_mask, i) == 1)
            sigaddset(&mask, i);
    signals_strip(&mask);
    if (sigismember(interrupted, MARK) != 1) /* all others have been jumped out of */
        memset(handler_frames, 0, sizeof handler_frames);
    if (!inside(interrupted, stack_pointer_of(context)))
        mark_is_programs = sigismember(&mask, MARK) == 1;
    if (!(action->sa_flags & SA_NODEFER))
        sigaddset(&mask, MARK);
    if (action->sa_flags & SA_RESETHAND) {
        struct sigaction reset = *action;
        reset.sa_handler = SIG_DFL;
        set_program_action(number, &reset);
    }
    int moved = belongs_elsewhere(action, context) ? call_elsewhere(action, number, info, context, &mask) : -ENOSYS;
    if (moved == -ENOSYS)
        call_here(action, number, info, context, &mask);
    else if (moved < 0)
        die(SIGSEGV, &no_room, true);
}

/* Whether the kernel, if it knew what the thread believes, would keep the signal for later. */
static bool is_for_later(int number, const siginfo_t *info, const void *context)
{
    return !is_fault(info) && info->si_code != SI_KERNEL &&
           (mine.believed & 1u << slot_of(number) || is_inside_handler(number, context));
}

static void to_program(int number, siginfo_t *info, void *context)
{
    struct sigaction action = program_action(number);
    if (is_for_later(number, info, context)) {
        hold(info);
        return;
    }
    if (action.sa_handler == SIG_IGN && !is_fault(info) && info->si_code != SI_KERNEL)
        return;
    if (action.sa_handler == SIG_DFL || action.sa_handler == SIG_IGN ||
        (is_fault(info) && is_inside_handler(number, context)))
        die(number, info, !comes_again(info));
    else
        call_handler(&action, number, info, context);
}

/* Content that is lost: the kernel's own answer to an unreadable page. */
static void report_lost(const siginfo_t *info, void *context)
{
    siginfo_t lost;
    memset(&lost, 0, sizeof lost);
    lost.si_signo = SIGBUS;
    lost.si_code = BUS_ADRERR;
    lost.si_addr = info->si_addr;
    struct sigaction action = program_action(SIGBUS);
    if (action.sa_handler == SIG_DFL || action.sa_handler == SIG_IGN)
        die(SIGBUS, &lost, true);
    else
        call_handler(&action, SIGBUS, &lost, context);
}

static void handler(int number, siginfo_t *info, void *context)
{
    int saved = errno;
    enum signal_verdict verdict = is_fault(info) && !is_hardware(info) ? state.server(number, info, context) : SIGNAL_PROGRAMS;
    errno = saved;
    if (verdict != SIGNAL_SERVED && frame_failed(context))
        return;
    if (verdict == SIGNAL_PROGRAMS)
        to_program(number, info, context);
    else if (verdict == SIGNAL_LOST)
        report_lost(info, context);
}

void signals_uninstall(void)
{
    for (size_t i = 0; state.owner && i < SIGNALS_OURS; i++)
        next.sigaction(signals_list[i], &state.program[i], NULL);
    sigset_t blocked;
    sigemptyset(&blocked);
    signals_add(&blocked, mine.believed);
    next.pthread_sigmask(SIG_BLOCK, &blocked, NULL);
    state.owner = 0;
}

int signals_install(signal_server server)
{
    state.server = server;
    for (size_t i = 0; i < SIGNALS_OURS; i++) {
        struct sigaction action;
        memset(&action, 0, sizeof action);
        action.sa_sigaction = handler;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
        /* No handler of the program's may run while a page is in motion: it could touch that page, or longjmp away. Nor
         * one of libc's, by which a thread is cancelled: sigfillset() would leave that out. */
        memset(&action.sa_mask, 0xff, sizeof action.sa_mask);
        signals_strip(&action.sa_mask);
        if (next.sigaction(signals_list[i], &action, &state.program[i]) < 0)
            return -errno;
    }
    state.owner = os_process_id();
    /* A parent may have left them blocked, which would turn every fault into death. */
    sigset_t before;
    if (next.pthread_sigmask(SIG_SETMASK, NULL, &before) == 0)
        mine.believed = signals_ours_in(&before);
    return -signals_open();
}

int signals_open(void)
{
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < SIGNALS_OURS; i++)
        sigaddset(&set, signals_list[i]);
    return next.pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}
