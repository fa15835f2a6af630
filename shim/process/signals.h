/*
 * signals.h: SIGSEGV, SIGBUS and SIGSYS (guard/linux/trap.c) are ours, and the program does not notice.
 *
 * Our handlers stay installed whatever the program installs; what it asks for is remembered, reported back to it, and
 * honoured when a fault is not about the arena. How faithfully, flag by flag:
 *   SA_SIGINFO, sa_mask, SA_RESETHAND, SA_NODEFER   kept; without SA_NODEFER a fault in the handler itself kills
 *   SA_ONSTACK    kept, but that who asks for an alternate stack and has set none gets ours; without it the handler runs on the
 *                 stack that was interrupted (frame.h; on arm64 on the alternate stack, if there is one)
 *   SA_RESTART    no meaning for these when they are faults; kept for the record
 *   SIG_DFL       the original death: signal, core dump, si_addr
 *   SIG_IGN       a real fault kills, as the kernel has it; one that was sent is ignored
 *
 * Nor are they ever blocked, whatever the program asks for: each thread believes to have them blocked, and is told so. One
 * that somebody sends meanwhile is held for the thread that it came to, until that opens it, waits for it, or its handler
 * returns. What a signalfd would have read of them is not. (Darwin holds none: what is sent is delivered at once. The
 * functions from signals_ours_in() on are not there.)
 */
#ifndef VP_PROCESS_SIGNALS_H
#define VP_PROCESS_SIGNALS_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

/* What our handler asks about a fault: FAULT_FOREIGN and FAULT_POISONED go to the program. */
enum signal_verdict { SIGNAL_SERVED, SIGNAL_PROGRAMS, SIGNAL_LOST };
typedef enum signal_verdict (*signal_server)(int number, const siginfo_t *info, void *context);

#define SIGNALS_OURS 3
extern const int signals_list[SIGNALS_OURS]; /* the lowest first: of several that are held it is the next */

/** Takes over the signals and unblocks them in the calling thread. Returns 0 or a negative errno. Once, at start-up. */
int signals_install(signal_server server);

/** Whether what the program says about `number` is ours to answer now. */
bool signals_claimed(int number);

/** Gives the signals back to the program, as it had set them. When start-up fails. */
void signals_uninstall(void);

/** In a forked child. */
void signals_after_fork_child(void);

/** What sigaction(2) does for one of them, as the program sees it. Returns 0. */
int signals_program_action(int number, const struct sigaction *action, struct sigaction *old);

/** Opens them in the calling thread. Returns 0 or an errno value. */
int signals_open(void);

/** Takes them out of a set that is about to be blocked. */
void signals_strip(sigset_t *set);

/** Those in the set, a bit each in the order of the list; and those of the bits into the set. */
uint8_t signals_ours_in(const sigset_t *set);
void signals_add(sigset_t *set, uint8_t bits);

/** Which of them the calling thread believes to have blocked. Opening one lets in what was held of it, at once. */
uint8_t signals_believed(void);
void signals_believe(uint8_t bits);

/** What the kernel says is blocked, as the program has it. */
void signals_show(sigset_t *mask);

/** A change of the mask, by what the program wants, which may be in a handler of one of ours: first what more the kernel must
 *  be `passed`, then what the thread believes, given the kernel's mask `before`. */
void signals_mark(const sigset_t *wanted, sigset_t *passed);
void signals_changed(int how, const sigset_t *wanted, const sigset_t *before);

/** A handler of the program's has returned (frame.h). */
void signals_handler_is_back(int number, uintptr_t outer);

/** Those that are held for the calling thread. */
uint8_t signals_held(void);

/** Takes one of `bits` that is held for the calling thread. Returns its number, or 0. */
int signals_take_held(uint8_t bits, siginfo_t *info);

#endif
