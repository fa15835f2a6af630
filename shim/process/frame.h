/*
 * frame.h: a signal's frame on the stack that the program expects it on.
 *
 * Our handler runs on the alternate stack. One of the program's that has not asked for that belongs on the stack of the code
 * that was interrupted. The frame is written there as the kernel would have, and our
 * own return leads into the program's handler: from then on nothing of ours is under way, and it may return, jump out,
 * unwind, or ask where it is.
 */
#ifndef VP_PROCESS_FRAME_H
#define VP_PROCESS_FRAME_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <ucontext.h>

struct frame_order {
    int number;
    const siginfo_t *info;
    uintptr_t handler;
    uint64_t mask;   /* the kernel's, during the handler */
    uintptr_t outer; /* is handed to signals_handler_is_back() */
};

/** `context` is our handler's, which must return at once when this has succeeded. Returns 0, and where the frame is;
 *  -EFAULT where nothing can be written there (the kernel then kills by SIGSEGV); -ENOSYS where this machine's frames are
 *  not known. */
int frame_move(ucontext_t *context, const struct frame_order *order, uintptr_t *frame);

/** Whether `context` is a fault of frame_move()'s own writing, which is told so when our handler returns. */
bool frame_failed(ucontext_t *context);

#endif
