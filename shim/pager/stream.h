/*
 * stream.h: which faults follow each other, so that what comes next can be brought in with them.
 */
#ifndef VP_PAGER_STREAM_H
#define VP_PAGER_STREAM_H

#include <stddef.h>
#include <stdint.h>

/* Sequences that are known at a time, and faults that may yet begin one. */
#define STREAMS_KNOWN  8
#define STREAMS_RECENT 8

/* Pages [first, end) came in one after the other, `length` in all; 0: none. Hints: read and written by any thread without
 * order, and wrong now and then. */
struct stream_entry {
    size_t first, end, length;
};

struct streams {
    struct stream_entry known[STREAMS_KNOWN], recent[STREAMS_RECENT];
    uint32_t next_known, next_recent; /* which to replace */
};

/* What a fault belongs to. */
struct stream {
    int direction; /* 1 up, -1 down, 0 none */
    size_t length; /* pages that have come before this one */
};

/** A fault at `page` is going to bring it in. Async-signal-safe; any thread. */
struct stream stream_find(const struct streams *streams, size_t page);

/** It came with its neighbours: pages [first, end). Async-signal-safe; any thread. */
void stream_note(struct streams *streams, size_t page, size_t first, size_t end);

#endif
