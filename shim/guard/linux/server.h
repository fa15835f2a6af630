/*
 * server.h: the thread that lets stopped system calls go on when what they use is held.
 */
#ifndef VP_GUARD_SERVER_H
#define VP_GUARD_SERVER_H

/**
 * Starts the thread on a listener (filter.h), which then belongs to it. Returns when calls that were under way before
 * the filter was there, and that still wait in the kernel, hold their memory too. Without a listener (-1) these are all
 * that it has to do. Returns 0, or a negative errno when refused: the listener is closed then.
 */
int server_start(int listener);

/** The calling thread is in the program's own code, or in ours on its behalf: no stopped call of its own is under way any
 *  more. Async-signal-safe. */
void server_thread_is_back(void);

/** In a forked child: the thread is gone, the listener is the parent's. */
void server_after_fork_child(void);

#endif
