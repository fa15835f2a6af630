/*
 * own_fds.h: which descriptors are the shim's own, for os.c of every system. os.h has the questions.
 *
 * Thread-safe, async-signal-safe.
 */
#ifndef VP_POSIX_OWN_FDS_H
#define VP_POSIX_OWN_FDS_H

void own_fds_add(int fd);

/** Harmless for one that is not ours. */
void own_fds_remove(int fd);

#endif
