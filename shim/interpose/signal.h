/*
 * signal.h: the mask as programs change it past libc's functions for that.
 */
#ifndef VP_INTERPOSE_SIGNAL_H
#define VP_INTERPOSE_SIGNAL_H

#include "../guard/linux/calls.h"

/** rt_sigprocmask by libc's syscall(). Some only ask with it whether an address can be read. */
long signal_mask_call(const uint64_t arguments[CALL_ARGUMENTS]);

#endif
