/*
 * held_call.h: a call by its number, with what the guard's table says that it uses held.
 */
#ifndef VP_INTERPOSE_HELD_CALL_H
#define VP_INTERPOSE_HELD_CALL_H

#include "../guard/linux/calls.h"

/** Makes the call past the filter; answers as libc does, with errno. Not a cancellation point. */
long held_call(const struct call *call, const uint64_t arguments[CALL_ARGUMENTS]);

#endif
