/*
 * stacks.c: stacks in the arena. The kernel writes the frames of signals there, those of our own traps among them: it
 * cannot wait for a page. So they stay in memory for as long as they are stacks, or their block is there.
 */
#include <stdarg.h>

#include "../guard/resident.h"
#include "../process/altstack.h"
#include "../process/signals.h"
#include "hooks.h"
#include "parts.h"
#include "probe.h"

/* ---- signal stacks: each thread has one at most ---- */

static __thread __attribute__((tls_model("initial-exec"))) char thread_mark;

/* The kernel always has a stack of the thread's: the program's, or ours when it wants none. */
static int set_stack(const stack_t *stack, stack_t *before)
{
    stack_t passed;
    if (stack && stack->ss_flags & SS_DISABLE && altstack_instead(&passed))
        stack = &passed;
    int result = originals()->sigaltstack(stack, before);
    if (result == 0 && altstack_is_ours(before)) {
        memset(before, 0, sizeof *before);
        before->ss_flags = SS_DISABLE;
    }
    return result;
}

VP_EXPORT int sigaltstack(const stack_t *stack, stack_t *old)
{
    if ((stack && !can_read(stack)) || !signals_claimed(SIGSEGV))
        return originals()->sigaltstack(stack, old);
    stack_t wanted, before;
    if (stack)
        wanted = *stack;
    bool set = stack && !(wanted.ss_flags & SS_DISABLE);
    void *start = set ? wanted.ss_sp : NULL;
    /* Held before the kernel knows of it: the next signal may come at once. */
    int result = ALWAYS_HELD(__extension__({
                                 int error = set_stack(stack ? &wanted : NULL, &before);
                                 if (error == 0 && set && ours(start))
                                     resident_add(&thread_mark, start, wanted.ss_size);
                                 error;
                             }),
                             OUT(start, wanted.ss_size));
    if (result != 0)
        return result;
    if (stack && !(set && ours(start)) && resident_any())
        resident_drop(&thread_mark);
    if (old)
        *old = before;
    return 0;
}

/* ---- stacks of threads and contexts: their place is their name, for they are used again ---- */

static void keep_stack(const void *start, size_t size)
{
    if (ours(start))
        resident_add(start, start, size);
}

VP_EXPORT int pthread_attr_setstack(pthread_attr_t *attributes, void *start, size_t size)
{
    int error = originals()->pthread_attr_setstack(attributes, start, size);
    if (error == 0)
        keep_stack(start, size);
    return error;
}

/* More arguments than anybody passes. Those beyond the count are not looked at. */
#define ARGUMENTS_MAX 40
#define FOUR(a, i)    a[i], a[i + 1], a[i + 2], a[i + 3]
#define TWENTY(a, i)  FOUR(a, i), FOUR(a, i + 4), FOUR(a, i + 8), FOUR(a, i + 12), FOUR(a, i + 16)

VP_EXPORT void makecontext(ucontext_t *context, void (*function)(void), int count, ...)
{
    long a[ARGUMENTS_MAX] = {0};
    va_list more;
    va_start(more, count);
    for (int i = 0; i < count && i < ARGUMENTS_MAX; i++)
        a[i] = va_arg(more, long); /* wide enough for the pointers that some pass */
    va_end(more);
    keep_stack(context->uc_stack.ss_sp, context->uc_stack.ss_size);
    keep_stack(context, sizeof *context); /* its mask is read and written by the kernel, where no filter looks */
    originals()->makecontext(context, function, count, TWENTY(a, 0), TWENTY(a, 20));
}
