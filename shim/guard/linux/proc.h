/*
 * proc.h: reading directories and long files of /proc without libc: in threads that have no use for it, and in the middle
 * of the program's calls.
 */
#ifndef VP_GUARD_PROC_H
#define VP_GUARD_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct directory {
    int fd; /* negative: could not be opened */
    long filled, at;
    _Alignas(8) char room[2048];
};

void directory_open(struct directory *directory, const char *path);

/** The next name, or NULL at the end. Valid until the next call. */
const char *directory_next(struct directory *directory);

void directory_close(struct directory *directory);

/** A number in decimal or 0x..., after any blanks; moves *text on to what follows. */
uint64_t proc_number(const char **text);

/** How often the file contains `wanted` (at most 32 characters). */
unsigned proc_count(const char *path, const char *wanted);

#endif
