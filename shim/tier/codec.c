/* codec.c: see codec.h. LZ4: Collet, block format of liblz4. zstd: RFC 8878. */
#define ZSTD_STATIC_LINKING_ONLY /* static contexts: zstd without malloc */
#include <errno.h>
#include <lz4.h>
#include <string.h>
#include <zstd.h>

#include "../../platform/os.h"
#include "codec.h"

enum { LZ4_ACCELERATION = 1, ZSTD_LEVEL = 1, ZSTD_MAGIC_SIZE = 4 };

_Static_assert(sizeof(((struct codec_encoder *)0)->lz4) >= sizeof(LZ4_stream_t), "LZ4's state outgrew its place");

int codec_encoder_init(struct codec_encoder *encoder)
{
    encoder->zstd_size = ZSTD_estimateCCtxSize(ZSTD_LEVEL);
    encoder->zstd_memory = os_map(encoder->zstd_size);
    if (!encoder->zstd_memory)
        return -ENOMEM;
    encoder->zstd = ZSTD_initStaticCCtx(encoder->zstd_memory, encoder->zstd_size);
    return encoder->zstd ? 0 : -ENOMEM;
}

void codec_encoder_fini(struct codec_encoder *encoder)
{
    if (encoder->zstd_memory)
        os_unmap(encoder->zstd_memory, encoder->zstd_size);
    encoder->zstd_memory = NULL;
}

/* Both return the encoded size, 0 when it would exceed `limit`: they stop early on what does not compress. */
static size_t encode_lz4(struct codec_encoder *encoder, const void *page, size_t page_size, void *out, size_t limit)
{
    int size = LZ4_compress_fast_extState(encoder->lz4, page, out, (int)page_size, (int)limit, LZ4_ACCELERATION);
    return size > 0 ? (size_t)size : 0;
}

static size_t encode_zstd(struct codec_encoder *encoder, const void *page, size_t page_size, void *out, size_t limit)
{
    size_t size = ZSTD_compressCCtx(encoder->zstd, out, limit, page, page_size, ZSTD_LEVEL);
    return ZSTD_isError(size) ? 0 : size;
}

void codec_encode(struct codec_encoder *encoder, enum codec_id codec, const void *page, size_t page_size, void *out,
                  struct record *record)
{
    size_t limit = codec_limit(page_size), size = 0;
    if (codec == CODEC_LZ4)
        size = encode_lz4(encoder, page, page_size, out, limit);
    else if (codec == CODEC_ZSTD)
        size = encode_zstd(encoder, page, page_size, out, limit);
    record->bytes = size ? out : page;
    record->size = (uint32_t)(size ? size : page_size);
    record->codec = (uint8_t)(size ? codec : CODEC_RAW);
}

size_t codec_workspace_size(enum codec_id codec)
{
    return codec == CODEC_ZSTD ? ZSTD_estimateDCtxSize() : 0;
}

static int decode_raw(const struct record *record, void *page, size_t page_size)
{
    if (record->size != page_size)
        return -EBADMSG;
    memcpy(page, record->bytes, page_size);
    return 0;
}

static int decode_lz4(const struct record *record, void *page, size_t page_size)
{
    int size = LZ4_decompress_safe(record->bytes, page, (int)record->size, (int)page_size);
    return size == (int)page_size ? 0 : -EBADMSG;
}

/* zstd reads several frames in a row, and old formats with malloc: only one frame of today's format gets that far. */
static bool is_one_zstd_frame(const struct record *record, size_t page_size)
{
    static const uint8_t magic[ZSTD_MAGIC_SIZE] = {0x28, 0xb5, 0x2f, 0xfd};
    return record->size > ZSTD_MAGIC_SIZE && memcmp(record->bytes, magic, ZSTD_MAGIC_SIZE) == 0 &&
           ZSTD_getFrameContentSize(record->bytes, record->size) == page_size &&
           ZSTD_findFrameCompressedSize(record->bytes, record->size) == record->size;
}

static int decode_zstd(const struct record *record, void *page, size_t page_size, void *workspace)
{
    if (!workspace || !is_one_zstd_frame(record, page_size))
        return -EBADMSG;
    ZSTD_DCtx *context = ZSTD_initStaticDCtx(workspace, ZSTD_estimateDCtxSize());
    if (!context)
        return -EBADMSG;
    return ZSTD_decompressDCtx(context, page, page_size, record->bytes, record->size) == page_size ? 0 : -EBADMSG;
}

int codec_decode(const struct record *record, void *page, size_t page_size, void *workspace)
{
    if (record->size == 0 || record->size > page_size)
        return -EBADMSG;
    switch (record->codec) {
    case CODEC_RAW:
        return decode_raw(record, page, page_size);
    case CODEC_LZ4:
        return decode_lz4(record, page, page_size);
    case CODEC_ZSTD:
        return decode_zstd(record, page, page_size, workspace);
    default:
        return -EBADMSG;
    }
}

bool codec_same_filled(const void *page, size_t page_size, uint64_t *word)
{
    const uint64_t *words = page;
    *word = words[0];
    /* The last word first: pages that begin with zeros are common, pages that also end as they begin are not. */
    return words[page_size / sizeof(*words) - 1] == *word && words[1] == *word &&
           memcmp(words, words + 1, page_size - sizeof(*words)) == 0;
}
