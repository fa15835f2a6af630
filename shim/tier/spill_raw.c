/* spill_raw.c: see spill_raw.h. */
#include <errno.h>

#include "../../platform/os.h"
#include "spill_raw.h"

/* 32 MiB of the file or more, with 48 KiB of headers or more: whole system pages. */
#define CHUNK_SEGMENTS 128u

static size_t chunk_size(const struct spill_raw *raw)
{
    return CHUNK_SEGMENTS * raw->per_segment * sizeof(struct raw_header);
}

static void unmap_chunk(struct spill_raw *raw, uint32_t chunk)
{
    if (raw->chunks[chunk])
        os_unmap(raw->chunks[chunk], chunk_size(raw));
    raw->chunks[chunk] = NULL;
}

int spill_raw_init(struct spill_raw *raw, uint32_t segments, uint32_t per_segment)
{
    *raw = (struct spill_raw){.per_segment = per_segment, .count = (segments - 1) / CHUNK_SEGMENTS + 1};
    raw->chunks = os_map(raw->count * sizeof(*raw->chunks));
    return raw->chunks ? 0 : -ENOMEM;
}

void spill_raw_fini(struct spill_raw *raw)
{
    if (!raw->chunks)
        return;
    for (uint32_t i = 0; i < raw->count; i++)
        unmap_chunk(raw, i);
    os_unmap(raw->chunks, raw->count * sizeof(*raw->chunks));
    raw->chunks = NULL;
}

int spill_raw_prepare(struct spill_raw *raw, uint32_t index)
{
    struct raw_header **chunk = &raw->chunks[index / CHUNK_SEGMENTS];
    if (!*chunk)
        *chunk = os_map(chunk_size(raw));
    return *chunk ? 0 : -ENOMEM;
}

struct raw_header *spill_raw_header(const struct spill_raw *raw, uint32_t index, uint32_t place)
{
    struct raw_header *chunk = raw->chunks[index / CHUNK_SEGMENTS];
    return chunk ? chunk + index % CHUNK_SEGMENTS * raw->per_segment + place : NULL;
}

static bool is_needed(const struct spill_space *space, uint32_t chunk)
{
    uint32_t first = chunk * CHUNK_SEGMENTS;
    for (uint32_t i = first; i < first + CHUNK_SEGMENTS && i < space->limit; i++)
        if (spill_space_is_needed(space, i))
            return true;
    return false;
}

void spill_raw_trim(struct spill_raw *raw, const struct spill_space *space)
{
    for (uint32_t i = 0; i < raw->count; i++)
        if (raw->chunks[i] && !is_needed(space, i))
            unmap_chunk(raw, i);
}
