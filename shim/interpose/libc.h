/*
 * libc.h: the C library behind the stand-ins. One implementation a system (hooks.c, darwin/libc.c).
 */
#ifndef VP_INTERPOSE_LIBC_H
#define VP_INTERPOSE_LIBC_H

#include <stdbool.h>

/** Finds the originals. Harmless to repeat. May call malloc (dlsym does): hooks_ready() is false meanwhile. */
void hooks_resolve(void);

/** Whether the code at `address` is libc's own, or the loader's. */
bool hooks_in_libc(const void *address);

#endif
