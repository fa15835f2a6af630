/*
 * probe.h: pointers that a stand-in must follow although the kernel would answer EFAULT where they lead nowhere.
 */
#ifndef VP_INTERPOSE_PROBE_H
#define VP_INTERPOSE_PROBE_H

#include <errno.h>
#include <stdbool.h>
#include <sys/syscall.h>

#include "../../platform/linux/syscall.h"
#include "hold.h"

/* Whether the eight bytes at `pointer` can be read. The kernel is asked with a call that reads them and then refuses to do
 * anything: there is no such way of changing the mask. In the arena they are brought in. */
static inline bool can_read(const void *pointer)
{
    if (ours(pointer)) {
        size_t there = guard_pin(pointer, 8, false);
        guard_unpin(pointer, there);
        return there == 8;
    }
    return raw_syscall(SYS_rt_sigprocmask, -1, (long) pointer, 0, 8, 0, 0) == -EINVAL; /* no address: 0 */
}

#endif
