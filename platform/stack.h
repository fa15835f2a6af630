/*
 * stack.h: calling a function on another stack.
 */
#ifndef VP_PLATFORM_STACK_H
#define VP_PLATFORM_STACK_H

/**
 * function(argument), on the stack that ends below `top`, which is aligned to 16. Debuggers and unwinders find the way back.
 * Where nobody has written down how (stack_elsewhere.c) it is called on the caller's.
 *
 * No signal may come meanwhile: whoever jumps out of a handler would leave that stack in use, and the kernel, which finds
 * the thread outside its alternate stack, would begin a handler's frame at the top of it, over those of a handler that is
 * still running.
 */
void stack_call(void *top, void (*function)(void *), void *argument) __attribute__((visibility("hidden")));

#endif
