/*
 * allocator.h: the allocator that --small puts behind malloc(): one that maps its memory, so that small objects lie in
 * mappings, which the arena serves.
 */
#ifndef VP_VPRUN_ALLOCATOR_H
#define VP_VPRUN_ALLOCATOR_H

#include <stdbool.h>
#include <stddef.h>

/** What to do about it when there is none, or why nothing can be done: the end of a sentence. */
extern const char allocator_none[];

/** Finds mimalloc, else jemalloc, in LD_LIBRARY_PATH and where libraries are. Returns whether there is one that is of use
 *  here; `path` is its name then. */
bool allocator_find(char *path, size_t size);

#endif
