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
        pthread_cleanup_push(unlock_stream, stream);       \
        result = call;                                     \
        pthread_cleanup_pop(1);                            \
    } while (0)

#endif
