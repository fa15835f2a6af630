/*
 * under_way.h: the stopped calls that were let go on, and the memory that is held for them until they are over.
 *
 * Nobody tells when a call has left the kernel. It is over when its thread makes another stopped call, says itself that it
 * is back, is seen elsewhere in /proc/TID/syscall, or is gone. A thread that runs is seen nowhere ("running"): then the
 * call is over when the thread has used more processor time than it can have taken.
 */
#ifndef VP_GUARD_UNDER_WAY_H
#define VP_GUARD_UNDER_WAY_H

#include <stdbool.h>
#include <stdint.h>

#include "calls.h"

/** Makes the table and the thread that looks. Returns 0, or a negative errno. Once a process. */
int under_way_start(void);

/** Holds what the calls use that wait in the kernel now. Returns when that is done. */
void under_way_adopt(void);

/** A call of `thread`, which is stopped, is about to go on: holds what it uses, and ends what was held for the thread's last
 *  one. Returns whether there was anything to hold. One caller at a time. */
bool under_way_begin(uint32_t thread, const struct call *call, const uint64_t arguments[CALL_ARGUMENTS]);

/** The call that under_way_begin() was told of does not go on. */
void under_way_cancel(uint32_t thread);

/** The calling thread is in no such call. Any thread, async-signal-safe. */
void under_way_thread_is_back(void);

/** In a forked child, which has neither the thread nor the calls. */
void under_way_after_fork_child(void);

#endif
