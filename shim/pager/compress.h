/*
 * compress.h: a batch's contents become records, by the evictor and by those who wait for it.
 */
#ifndef VP_PAGER_COMPRESS_H
#define VP_PAGER_COMPRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../tier/codec.h"

struct engine;

/* How many threads may help at a time: each needs an encoder. */
#define COMPRESS_HELPERS 3

/* What of a batch is still to be compressed (compress.c). Any thread, atomically. */
struct compress_work {
    uint64_t queue;      /* the next job and, in the upper half, behind the last; 0: not open */
    uint32_t unfinished; /* futex: jobs that are not done */
    uint32_t helpers;    /* a bit for each encoder in use */
    uint32_t process;    /* whose threads help: a child of vfork() could be killed alone, and the batch never end */
    struct codec_encoder encoders[COMPRESS_HELPERS];
};

/** Compresses the contents of the victims record_of[0, n) into records[0, n); their bytes are the evictor's, or the content
 *  itself. Returns when all are done. Holder of the evict lock. */
void compress_batch(struct engine *engine, size_t n);

/** Does a part of that while a batch is open. Returns whether there was any to do. Any thread that may wait for the evictor;
 *  async-signal-safe. */
bool compress_help(struct engine *engine);

/** At the start, and in a forked child, where threads that helped are gone. There is an evictor. */
void compress_reset(struct engine *engine);

#endif
