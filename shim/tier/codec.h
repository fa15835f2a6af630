/*
 * codec.h: one page's content as bytes, and back.
 *
 * Encoding runs on the evictor's side and needs a codec_encoder; decoding needs no state that outlives the call, so
 * that any number of faults decode at once. Neither allocates, takes a lock, or touches errno or thread-local storage.
 */
#ifndef VP_TIER_CODEC_H
#define VP_TIER_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tier.h"

#define CODEC_PAGE_MAX 65536

/* Never 0, so that a record read out of zeroed memory is malformed. */
enum codec_id {
    CODEC_RAW = 1, /* the page itself */
    CODEC_LZ4,     /* an LZ4 block: 4-9 us to write, 1-2 us to read a 4 KiB page */
    CODEC_ZSTD,    /* a zstd frame, level 1: a quarter smaller, several times slower; for what stays cold */
};

/* What encoding needs besides its arguments; one thread at a time. Too large for a stack. */
struct codec_encoder {
    uint64_t lz4[2052];
    void *zstd_memory;
    size_t zstd_size;
    void *zstd;
};

/** Prepares an encoder. Returns 0 or -ENOMEM. Not for the fault path. */
int codec_encoder_init(struct codec_encoder *encoder);

void codec_encoder_fini(struct codec_encoder *encoder);

/**
 * Bytes that codec_encode() may write for a page of `page_size` bytes: 7/8 of it.
 * A page that does not shrink by an eighth stays raw: the gain would be lost in a tier's headers and rounding, and a
 * raw page is read back with one copy (0.1 us instead of 1.8).
 */
static inline size_t codec_limit(size_t page_size)
{
    return page_size - page_size / 8;
}

/**
 * Encodes the page at `page` (`page_size` bytes: a power of two up to CODEC_PAGE_MAX) as `codec`, or as CODEC_RAW where
 * that gains too little.
 * `out` is codec_limit(page_size) bytes. record->bytes, size and codec are set; bytes is `out`, or `page` when raw:
 * the record is valid only as long as both are. record->page is left alone.
 * The page must not change meanwhile.
 */
void codec_encode(struct codec_encoder *encoder, enum codec_id codec, const void *page, size_t page_size, void *out,
                  struct record *record);

/** Bytes of workspace, aligned to 64, that codec_decode() needs for `codec`: 0 for all but CODEC_ZSTD (160 KiB, of
 *  which a 4 KiB page touches about a third). */
size_t codec_workspace_size(enum codec_id codec);

/**
 * Decodes a record into `page`, exactly `page_size` bytes.
 * `workspace`: codec_workspace_size(record->codec) bytes aligned to 64, its content irrelevant before and after; may be
 * NULL where that is 0, and a zstd record is then refused.
 * Returns 0; -EBADMSG when the record is malformed (the page's content is then undefined, but nothing beside it is
 * written). Async-signal-safe, thread-safe.
 */
int codec_decode(const struct record *record, void *page, size_t page_size, void *workspace);

/** Whether the page is one 8-byte word over and over; *word receives it. Most pages that are not cost two reads. */
bool codec_same_filled(const void *page, size_t page_size, uint64_t *word);

#endif
