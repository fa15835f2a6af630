/*
 * evictor.h: the batch that is on its way out, for the files that work on it: evict.c and block.c.
 */
#ifndef VP_PAGER_EVICTOR_H
#define VP_PAGER_EVICTOR_H

#include "../tier/codec.h"
#include "../tier/spill.h"
#include "compress.h"
#include "engine.h"
#include "same.h"

#define BATCH_BYTES ((size_t) 1 << 20)
#define BATCH_MAX   (BATCH_BYTES / 4096)

/* Victims this near each other are blocked together: some regions, which lie in it whole. */
#define SPAN_PAGES (4 * REGION_PAGES)

enum how {
    CLEAN, /* its copy is still true */
    TAKEN, /* the content is in staging */
    HELD,  /* the content is in place, writers blocked */
    GONE,  /* no longer this batch's: rescued, or given back */
};

struct victim {
    size_t page;
    page_word was;
    page_word stored; /* place and handle of its copy; 0: not stored */
    const void *content;
    enum how how;
};

/* Pages [first, end). */
struct span {
    size_t first, end;
};

struct evictor {
    size_t hand; /* the region to look at next */
    struct victim victims[BATCH_MAX];
    size_t count, capacity;
    bool refused; /* some content of this batch found no room */
    page_word bystanders[SPAN_PAGES]; /* block.c: what lies between victims, as it was */
    struct span spans[BATCH_MAX / 2]; /* block.c: where that was protected */
    size_t span_count;
    struct extent extents[BATCH_MAX];
    struct record records[BATCH_MAX]; /* on their way to a tier */
    size_t record_of[BATCH_MAX];      /* which victim records[i] is */
    tier_handle handles[SPILL_SEGMENT_RECORDS];
    struct record moving[SPILL_SEGMENT_RECORDS];
    struct tier_item items[SPILL_SEGMENT_RECORDS];
    struct codec_encoder encoder;
    struct same same;
    struct compress_work work;
    unsigned char encoded[BATCH_BYTES - BATCH_BYTES / 8]; /* codec_limit() for each page of a batch */
    unsigned char contents[BATCH_BYTES] __attribute__((aligned(4096))); /* what peek() copies out */
};

/** Blocks the victims' writers: each is TAKEN, or HELD (and can be rescued), or GONE. Clean ones are left as they are. */
void evictor_block(struct engine *engine);

/** The victims have left or stay: what was protected only because it lies between them can be written to again. */
void evictor_unblock(struct engine *engine);

/* How long a page stays that could not be taken or stored. */
#define RESIST_ROUNDS 3

/** A victim stays for so many rounds of the hand. It is LEAVING. `unprotect`: writers were blocked already. */
void evictor_give_back(struct engine *engine, struct victim *victim, bool unprotect, unsigned rounds);

#endif
