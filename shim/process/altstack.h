/*
 * altstack.h: a stack for our handlers in every thread. Without it the kernel would write a trap's frame below the stack
 * pointer, and cannot where the stack itself is paged (coroutines, threads on stacks of the program's).
 *
 * A thread whose program has set one of its own keeps that one. The program does not see ours.
 */
#ifndef VP_PROCESS_ALTSTACK_H
#define VP_PROCESS_ALTSTACK_H

#include <signal.h>
#include <stdbool.h>

/** Gives the calling thread a stack unless it has one. */
void altstack_take(void);

/** Takes it back, at the thread's end. */
void altstack_drop(void);

/** Whether the kernel's answer names ours. The calling thread's only. */
bool altstack_is_ours(const stack_t *stack);

/** What the kernel is to be told instead when the program disables its own; false: there is none, disable it. */
bool altstack_instead(stack_t *out);

#endif
