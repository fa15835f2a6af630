/*
 * guard.c: Darwin has no net under the stand-ins: no filter of ours can stop a system call there. What reaches the
 * kernel past the stand-ins (interpose/darwin/) with memory that is away gets EFAULT. Nor are there rings that the
 * kernel fills.
 */
#include "../guard.h"

struct guard guard;

const char *guard_name(void) { return "off"; }

void guard_start(const char *wanted) { (void) wanted; }

bool guard_finds_rings(void) { return false; }

bool guard_finds_devices(void) { return false; }

void guard_thread_is_back(void) {}

bool guard_serve_signal(const siginfo_t *info, void *context)
{
    (void) info, (void) context;
    return false;
}

void guard_after_fork_child(void) {}

void guard_before_exec(void) {}

bool guard_is_elsewhere(uintptr_t start)
{
    (void) start;
    return false;
}
