/*
 * segment.h: the memory that all processes under one vprun share: how it is made, handed on and found.
 *
 * A memfd: memory with a descriptor and no name, gone with the last process that has it, however that ends. Nothing is
 * left behind by anybody, and vprun need not stay to clean up. Its size is sealed, so that nobody can make a touch of it
 * a SIGBUS, and only its owner may open it.
 *
 * A forked child has the mapping. A new program finds the descriptor: it stays open over exec, at a high number that the
 * environment tells, and hidden from close() as all of ours are. Where it was closed all the same (between two programs
 * by one that is not shimmed, inside libc), another process of the tree has it at the same number, and its /proc/PID/fd
 * leads there. Where nobody has it, the process is alone.
 */
#ifndef VP_PROCESS_SEGMENT_H
#define VP_PROCESS_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>

/* Says where it is: "DESCRIPTOR INODE". */
#define SEGMENT_VARIABLE "VP_TREE"
#define SEGMENT_TEXT_MAX 48

/** Makes a zeroed segment, its descriptor open over exec. `text` receives the variable's value.
 *  Returns the descriptor or a negative errno. */
int segment_make(size_t size, char text[SEGMENT_TEXT_MAX]);

/** The segment that the variable's value tells of, by a descriptor that stays open over exec and is ours. Returns the
 *  descriptor or a negative errno: -ENOENT when there is no such segment, or it is not as segment_make() makes them. */
int segment_find(const char *text, size_t size);

/** Maps it. Returns NULL when refused. */
void *segment_map(int fd, size_t size);

#endif
