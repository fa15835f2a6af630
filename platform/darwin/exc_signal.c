/*
 * exc_signal.c: traps as signals. The handlers are the shim's, as on every system; this adds what Darwin's memory
 * needs.
 */
#include "../posix/mprotect.h"
#include "exc.h"
#include "vm.h"

int exc_probe(struct platform_caps *caps, char *why, size_t size)
{
    int result = mprotect_probe(caps, why, size);
    caps->move = false;
    return result;
}

int exc_fork(struct platform *pf, enum platform_fork phase)
{
    int result = 0;
    if (phase == FORK_BEFORE)
        result = mprotect_fork(pf, phase);
    vm_fork(phase);
    if (phase != FORK_BEFORE)
        result = mprotect_fork(pf, phase);
    return result;
}

const struct platform_ops platform_exc_signal = {
    .name = "exc-signal",
    .probe = exc_probe,
    .arm = mprotect_arm,
    .fork = exc_fork,
    MPROTECT_PAGES,
};
