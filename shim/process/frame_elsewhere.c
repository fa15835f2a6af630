#include "frame.h"

#include <errno.h>

int frame_move(ucontext_t *context, const struct frame_order *order, uintptr_t *frame)
{
    (void) context;
    (void) order;
    (void) frame;
    return -ENOSYS;
}

bool frame_failed(ucontext_t *context)
{
    (void) context;
    return false;
}
