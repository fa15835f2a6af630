/*
 * process.h: processes made by the kernel's calls themselves.
 */
#ifndef VP_INTERPOSE_PROCESS_H
#define VP_INTERPOSE_PROCESS_H

/** In parent and child, after a fork before which lifecycle_fork(FORK_BEFORE) was called; `pid` as the kernel returned it,
 *  negative when it failed. Returns `pid`. Keeps errno. */
long process_forked(long pid);

#endif
