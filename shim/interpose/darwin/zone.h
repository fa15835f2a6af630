/*
 * zone.h: a malloc zone of ours, by which everything that takes a pointer finds out that it is ours: free(),
 * malloc_size(), realloc() and malloc_zone_from_ptr() called from wherever dyld's replacements do not reach,
 * libmalloc's own code above all.
 */
#ifndef VP_INTERPOSE_DARWIN_ZONE_H
#define VP_INTERPOSE_DARWIN_ZONE_H

/** Once, when the arena is ready. */
void zone_register(void);

#endif
