/*
 * exc.h: Darwin's two backends. Both take pages away as posix/mprotect.c does; they differ in how a trap arrives.
 *
 *   exc-port    as a message to a Mach port of the faulting thread's (exc_port.c). No signal mask and no handler of the
 *               program's is in its way; what is not ours is answered KERN_FAILURE and goes on as if there were no port.
 *   exc-signal  as SIGBUS (pages that are protected) or SIGSEGV (pages that are not there). The fallback, and what serves
 *               threads whose port somebody else has. A SIGBUS that is blocked or ignored spins for ever in the kernel:
 *               the shim keeps both signals open (shim/process/signals.h).
 */
#ifndef VP_DARWIN_EXC_H
#define VP_DARWIN_EXC_H

#include "../platform.h"

int exc_probe(struct platform_caps *caps, char *why, size_t size);

/** The arena's part of fork(). */
int exc_fork(struct platform *pf, enum platform_fork phase);

#endif
