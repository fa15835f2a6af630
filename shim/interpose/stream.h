/*
 * stream.h: several operations on a stream as one.
 */
#ifndef VP_INTERPOSE_STREAM_H
#define VP_INTERPOSE_STREAM_H

#include <pthread.h>
#include <stdio.h>

static inline void unlock_stream(void *stream) { funlockfile(stream); }

#define LOCKED(result, stream, call)                       \
    do {                                                   \
        flockfile(stream);                                 \
        CLEANUP_PUSH(unlock_stream, stream);       \
        result = call;                                     \
        CLEANUP_POP;                            \
    } while (0)

#endif
