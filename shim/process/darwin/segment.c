/*
 * segment.c: segment.h on Darwin, where there is none: each process is alone, with the budget to itself. Memory without a
 * name that is handed on over exec, and whose size nobody can change, is not to be had there.
 */
#include "../segment.h"

#include <errno.h>

int segment_make(size_t size, char text[SEGMENT_TEXT_MAX])
{
    (void) size, (void) text;
    return -ENOTSUP;
}

int segment_find(const char *text, size_t size)
{
    (void) text, (void) size;
    return -ENOENT;
}

void *segment_map(int fd, size_t size)
{
    (void) fd, (void) size;
    return NULL;
}
