/*
 * target.h: programs that dyld will not load the shim into. It ignores DYLD_INSERT_LIBRARIES where the program is
 * protected, and ends the process where the library named there has no code for it: both are to be known before.
 */
#ifndef VP_PROCESS_DARWIN_TARGET_H
#define VP_PROCESS_DARWIN_TARGET_H

#include <stdbool.h>
#include <stddef.h>

/**
 * Returns why the file at `path` cannot be shimmed, as the end of a sentence; NULL if it can, or cannot be read. A
 * script is run by another file: its path is in interpreter[0..size) then, else that is "". Any thread, no allocation.
 */
const char *target_obstacle(const char *path, char *interpreter, size_t size);

/** The same for what is run in the end, scripts followed. */
bool target_reachable(const char *path);

#define TARGET_SCRIPTS 5 /* interpreters that are scripts themselves */

#endif
