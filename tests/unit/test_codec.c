/* Codecs: what goes in comes out, and nothing malformed gets further than -EBADMSG. Run under ASan. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../shim/tier/codec.h"

static const size_t page_sizes[] = {4096, 16384, 65536};
static const enum codec_id codecs[] = {CODEC_RAW, CODEC_LZ4, CODEC_ZSTD};
enum content { RANDOM, TEXT, ZERO, FLOATS, CONTENTS };

static struct codec_encoder encoder;

static void start(void)
{
    cr_assert_eq(codec_encoder_init(&encoder), 0);
}
static void stop(void)
{
    codec_encoder_fini(&encoder);
}
TestSuite(codec, .init = start, .fini = stop);

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    return *state ^= *state << 17;
}

static void fill(enum content content, void *page, size_t size, uint64_t seed)
{
    static const char *words[] = {"page ", "fault ", "evict ", "the ", "segment\n", "spill ", "of ", "arena "};
    uint64_t state = seed * 2 + 1;
    memset(page, 0, size);
    if (content == RANDOM)
        for (size_t i = 0; i < size / 8; i++)
            ((uint64_t *)page)[i] = next_random(&state);
    if (content == FLOATS)
        for (size_t i = 0; i < size / 8; i++)
            ((double *)page)[i] = (double)(i + seed) * 0.25;
    if (content == TEXT)
        for (size_t at = 0; at < size;) {
            const char *word = words[next_random(&state) % 8];
            size_t length = strlen(word) < size - at ? strlen(word) : size - at;
            memcpy((char *)page + at, word, length);
            at += length;
        }
}

/* Exact allocations, so that ASan sees one byte too many. */
struct buffers {
    char *page, *out, *back;
    void *workspace;
};

static struct buffers buffers_new(size_t size)
{
    return (struct buffers){malloc(size), malloc(codec_limit(size)), malloc(size),
                            aligned_alloc(64, (codec_workspace_size(CODEC_ZSTD) + 63) & ~(size_t)63)};
}

static void buffers_free(struct buffers *b)
{
    free(b->page);
    free(b->out);
    free(b->back);
    free(b->workspace);
}

Test(codec, round_trips)
{
    for (size_t s = 0; s < 3; s++)
        for (int content = 0; content < CONTENTS; content++)
            for (size_t c = 0; c < 3; c++)
                for (uint64_t seed = 1; seed <= 20; seed++) {
                    size_t size = page_sizes[s];
                    struct buffers b = buffers_new(size);
                    struct record record = {.page = 7};
                    fill((enum content)content, b.page, size, seed);
                    codec_encode(&encoder, codecs[c], b.page, size, b.out, &record);
                    cr_assert_eq(record.page, 7);
                    cr_assert_eq(codec_decode(&record, b.back, size, b.workspace), 0);
                    cr_assert_eq(memcmp(b.page, b.back, size), 0);
                    buffers_free(&b);
                }
}

Test(codec, what_does_not_shrink_by_an_eighth_stays_raw_in_place)
{
    for (size_t c = 0; c < 3; c++) {
        struct buffers b = buffers_new(4096);
        struct record record = {0};
        fill(RANDOM, b.page, 4096, 1);
        memset(b.page, 0, 300); /* shrinks, but by too little */
        codec_encode(&encoder, codecs[c], b.page, 4096, b.out, &record);
        cr_assert_eq(record.codec, CODEC_RAW);
        cr_assert_eq(record.bytes, b.page);
        cr_assert_eq(record.size, 4096);
        buffers_free(&b);
    }
}

Test(codec, text_shrinks)
{
    struct buffers b = buffers_new(4096);
    struct record lz4 = {0}, zstd = {0};
    fill(TEXT, b.page, 4096, 1);
    codec_encode(&encoder, CODEC_LZ4, b.page, 4096, b.out, &lz4);
    codec_encode(&encoder, CODEC_ZSTD, b.page, 4096, b.out, &zstd);
    cr_assert_eq(lz4.codec, CODEC_LZ4);
    cr_assert_eq(zstd.codec, CODEC_ZSTD);
    cr_assert_eq(zstd.bytes, b.out);
    cr_assert_lt(lz4.size, 3000);
    cr_assert_lt(zstd.size, lz4.size);
    buffers_free(&b);
}

/* Flipped, cut and extended: an answer, never an overrun (ASan), and only a whole page counts as success. */
Test(codec, corrupted_input_is_refused_or_decodes_to_a_page)
{
    uint64_t random = 99;
    for (size_t c = 1; c < 3; c++)
        for (int round = 0; round < 3000; round++) {
            struct buffers b = buffers_new(4096);
            struct record record = {0};
            fill(round % 2 ? TEXT : FLOATS, b.page, 4096, (uint64_t)round);
            codec_encode(&encoder, codecs[c], b.page, 4096, b.out, &record);
            cr_assert_eq(record.codec, codecs[c]);
            uint32_t size = record.size;
            if (round % 3 == 0)
                size = 1 + (uint32_t)(next_random(&random) % record.size);
            char *exact = malloc(size);
            memcpy(exact, record.bytes, size);
            for (uint64_t flips = next_random(&random) % 4; flips-- > 0;)
                exact[next_random(&random) % size] ^= (char)(1 << next_random(&random) % 8);
            record.bytes = exact;
            record.size = size;
            int result = codec_decode(&record, b.back, 4096, b.workspace);
            cr_assert(result == 0 || result == -EBADMSG);
            free(exact);
            buffers_free(&b);
        }
}

Test(codec, wrong_sizes_and_codecs_are_malformed)
{
    struct buffers b = buffers_new(65536);
    struct record good = {0};
    fill(TEXT, b.page, 65536, 3);
    for (size_t c = 1; c < 3; c++) {
        codec_encode(&encoder, codecs[c], b.page, 4096, b.out, &good);
        struct record bad = good;
        bad.size = 0;
        cr_assert_eq(codec_decode(&bad, b.back, 4096, b.workspace), -EBADMSG);
        bad.size = good.size - 1;
        cr_assert_eq(codec_decode(&bad, b.back, 4096, b.workspace), -EBADMSG);
        bad.size = 4097;
        cr_assert_eq(codec_decode(&bad, b.back, 4096, b.workspace), -EBADMSG);
        cr_assert_eq(codec_decode(&good, b.back, 2048, b.workspace), -EBADMSG, "page smaller than the content");
        cr_assert_eq(codec_decode(&good, b.back, 8192, b.workspace), -EBADMSG, "page larger than the content");
    }
    struct record raw = {.bytes = b.page, .size = 4095, .codec = CODEC_RAW};
    cr_assert_eq(codec_decode(&raw, b.back, 4096, NULL), -EBADMSG);
    raw.size = 4096;
    raw.codec = 0;
    cr_assert_eq(codec_decode(&raw, b.back, 4096, NULL), -EBADMSG);
    raw.codec = 200;
    cr_assert_eq(codec_decode(&raw, b.back, 4096, NULL), -EBADMSG);
    cr_assert_eq(codec_decode(&good, b.back, 4096, NULL), -EBADMSG, "zstd without workspace");
    buffers_free(&b);
}

/* zstd would go on with a second frame, or into its decoders for old formats, which allocate. */
Test(codec, zstd_frames_come_alone)
{
    struct buffers b = buffers_new(4096);
    struct record record = {0};
    fill(TEXT, b.page, 4096, 3);
    codec_encode(&encoder, CODEC_ZSTD, b.page, 4096, b.out, &record);
    char *twice = malloc(record.size + 8);
    memcpy(twice, record.bytes, record.size);
    memcpy(twice + record.size, "\x50\x2a\x4d\x18\0\0\0\0", 8); /* a skippable frame */
    record.bytes = twice;
    record.size += 8;
    cr_assert_eq(codec_decode(&record, b.back, 4096, b.workspace), -EBADMSG);
    record.size -= 8;
    cr_assert_eq(codec_decode(&record, b.back, 4096, b.workspace), 0);
    twice[0] = 0x25; /* format 0.5 */
    cr_assert_eq(codec_decode(&record, b.back, 4096, b.workspace), -EBADMSG);
    free(twice);
    buffers_free(&b);
}

Test(codec, same_filled)
{
    uint64_t page[8192], word;
    for (size_t s = 0; s < 3; s++) {
        size_t words = page_sizes[s] / 8;
        for (size_t i = 0; i < words; i++)
            page[i] = 0x0123456789abcdef;
        cr_assert(codec_same_filled(page, page_sizes[s], &word));
        cr_assert_eq(word, 0x0123456789abcdef);
        for (size_t i = 0; i < words; i++) {
            ((char *)&page[i])[i % 8] ^= 1;
            cr_assert_not(codec_same_filled(page, page_sizes[s], &word), "word %zu differs", i);
            ((char *)&page[i])[i % 8] ^= 1;
        }
    }
    memset(page, 0, sizeof(page));
    cr_assert(codec_same_filled(page, 4096, &word));
    cr_assert_eq(word, 0);
}
