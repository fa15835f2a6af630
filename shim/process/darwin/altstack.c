/*
 * altstack.c: Darwin's threads get no stack of ours. A trap is a message to a port there, which needs none; where it
 * comes as a signal, a stack in the arena is out of reach (README, limits).
 */
#include "../altstack.h"

void altstack_take(void) {}

void altstack_drop(void) {}

bool altstack_is_ours(const stack_t *stack)
{
    (void) stack;
    return false;
}

bool altstack_instead(stack_t *out)
{
    (void) out;
    return false;
}
