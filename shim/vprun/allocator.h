/*
 * allocator.h: the allocator that --small puts behind malloc(): one that maps its memory, so that small objects lie in
 * mappings, which the arena serves.
 */
#ifndef VP_VPRUN_ALLOCATOR_H
#define VP_VPRUN_ALLOCATOR_H

#include <stdbool.h>
#include <stddef.h>

/** Where to get one; for messages. */
#define ALLOCATOR_PACKAGES "libmimalloc2.0 (mimalloc) or libjemalloc2 (jemalloc)"

/** Finds mimalloc, else jemalloc, in LD_LIBRARY_PATH and where libraries are. Returns whether there is one; `path` is its
 *  name then. */
bool allocator_find(char *path, size_t size);

#endif
