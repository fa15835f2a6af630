/*
 * signal.c: what the program says about signals, as far as it concerns those that are ours (process/signals.h).
 */
#include <errno.h>
#include <stdint.h>

#include "../../process/signals.h"
#include "hooks.h"

/* Which of ours the program wants blocked during its handler of each signal, a bit each: there too they stay open. */
static uint8_t wanted_masked[NSIG];

/* What each thread believes to have blocked of ours, a bit each. A slot of libpthread's is there without malloc. */
static pthread_key_t believed_key;
static bool keeps_beliefs; /* constant after start-up; constructors run in no certain order */

__attribute__((constructor)) static void make_key(void) { keeps_beliefs = pthread_key_create(&believed_key, NULL) == 0; }

static uint8_t ours_in(const sigset_t *set)
{
    uint8_t bits = 0;
    for (size_t i = 0; i < SIGNALS_OURS; i++)
        bits |= (uint8_t) ((sigismember(set, signals_list[i]) == 1) << i);
    return bits;
}

static void add_ours(sigset_t *set, uint8_t bits)
{
    for (size_t i = 0; i < SIGNALS_OURS; i++)
        if (bits & 1u << i)
            sigaddset(set, signals_list[i]);
}

/* A handler for a signal that is not ours. */
static int set_action(int number, const struct sigaction *action, struct sigaction *old)
{
    struct sigaction open;
    if (!signals_claimed(SIGSEGV) || number <= 0 || number >= NSIG)
        return sigaction(number, action, old);
    uint8_t before = __atomic_load_n(&wanted_masked[number], __ATOMIC_RELAXED), wanted = 0;
    if (action) {
        open = *action;
        wanted = ours_in(&open.sa_mask);
        signals_strip(&open.sa_mask);
    }
    int result = sigaction(number, action ? &open : NULL, old);
    if (result == 0 && old)
        add_ours(&old->sa_mask, before);
    if (result == 0 && action)
        __atomic_store_n(&wanted_masked[number], wanted, __ATOMIC_RELAXED);
    return result;
}

int hooked_sigaction(int number, const struct sigaction *action, struct sigaction *old)
{
    return signals_claimed(number) ? signals_program_action(number, action, old) : set_action(number, action, old);
}

/* BSD semantics: the handler stays, calls are restarted. */
signal_handler hooked_signal(int number, signal_handler handler)
{
    if (!signals_claimed(number))
        return signal(number, handler);
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART}, old;
    if (handler == SIG_ERR) {
        errno = EINVAL;
        return SIG_ERR;
    }
    sigaddset(&action.sa_mask, number);
    signals_program_action(number, &action, &old);
    return old.sa_handler;
}

static uint8_t believed(void) { return (uint8_t) (uintptr_t) pthread_getspecific(believed_key); }

static void believe(int how, const sigset_t *set)
{
    unsigned bits = ours_in(set), now = believed();
    now = how == SIG_SETMASK ? bits : how == SIG_BLOCK ? now | bits : now & ~bits;
    pthread_setspecific(believed_key, (void *) (uintptr_t) now);
}

/* The program's sets are only touched here, in user mode: in the kernel their memory might be absent. */
static int change_mask(int (*original)(int, const sigset_t *, sigset_t *), int how, const sigset_t *set, sigset_t *old)
{
    if (!keeps_beliefs || !signals_claimed(SIGSEGV))
        return original(how, set, old);
    sigset_t wanted = 0, real = 0, before;
    if (set) {
        real = wanted = *set;
        if (how != SIG_UNBLOCK)
            signals_strip(&real);
    }
    int result = original(how, set ? &real : NULL, &before);
    if (result != 0)
        return result;
    add_ours(&before, believed());
    if (set)
        believe(how, &wanted);
    if (old)
        *old = before;
    return 0;
}

int hooked_sigprocmask(int how, const sigset_t *set, sigset_t *old) { return change_mask(sigprocmask, how, set, old); }

int hooked_pthread_sigmask(int how, const sigset_t *set, sigset_t *old)
{
    return change_mask(pthread_sigmask, how, set, old);
}
