/*
 * server.h: the thread that lets stopped system calls go on when what they use is held.
 */
#ifndef VP_GUARD_SERVER_H
#define VP_GUARD_SERVER_H

#include <stdbool.h>

/** Makes the thread, before there is a listener for it: once there is, calls wait for it. Returns 0, or a negative errno. */
int server_prepare(void);

/** Gives it the listener (filter.h), which then belongs to it, or -1: it ends. */
void server_serve(int listener);

/** In a forked child: the thread is gone, the listener is the parent's. */
void server_after_fork_child(void);

/** What the server calls, as its last act, when the listener has been taken away from it. */
void guard_lost_listener(void);

/** Whether the thread is this process's: not so in a child that shares its memory (vfork). Any thread. */
bool server_is_here(void);

#endif
