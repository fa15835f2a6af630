/*
 * program.h: finding the program to launch, whether a preloaded library can reach it, and what preloads it here.
 */
#ifndef VP_VPRUN_PROGRAM_H
#define VP_VPRUN_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>

extern const char program_library[];    /* the shim's file name */
extern const char program_preload[];    /* the variable that names libraries to load first */
extern const char program_separators[]; /* what may stand between them, and never in a path there */

/**
 * Finds `name` as execvp(3) does: as it stands when it has a slash in it, else in the directories of PATH.
 * Returns 0 and its path in path[0..size); or ENOENT, EACCES (found, but not executable) or another errno value.
 */
int program_find(const char *name, char *path, size_t size);

/**
 * Whether the dynamic loader will load the shim into the program at `path`; the interpreter decides for a script.
 * Returns true; or false with the end of a sentence that starts with the program's name in why[0..size).
 * What cannot be read is taken for reachable: the kernel has the last word.
 */
bool program_reachable(const char *path, char *why, size_t size);

#endif
