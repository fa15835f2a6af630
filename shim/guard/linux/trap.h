/*
 * trap.h: the net where there is no listener: the thread that makes the call serves it itself, in SIGSYS.
 */
#ifndef VP_GUARD_TRAP_H
#define VP_GUARD_TRAP_H

#include <signal.h>
#include <stdbool.h>

/** Handles a SIGSYS. Returns false when it is not from our filter. */
bool trap_serve(const siginfo_t *info, void *context);

#endif
