/*
 * spill_format.h: what the spill's segments look like.
 *
 * segment = extent*; extent = summary, slot*, padding to SPILL_BLOCK, raw page*, and starts at a multiple of
 * SPILL_BLOCK. Summary and slots start at multiples of SLOT_UNIT and are sealed, the tag last; nothing of it is plain.
 *
 * A raw page, a record as large as a page of memory, is ciphertext only and lies in whole blocks: with its header and
 * tag around it, reading it back would take one block more. They stay in memory instead (spill_raw.h), where nobody
 * changes them, so what is read must be what was written under that header. The page's number is kept there and not
 * authenticated with the content, because who moved a page's record to another page asks for it without its number.
 */
#ifndef VP_TIER_SPILL_FORMAT_H
#define VP_TIER_SPILL_FORMAT_H

#include "seal.h"
#include "spill_file.h"
#include "tier.h"

enum {
    SLOT_UNIT = 64,
    SLOT_UNITS_BITS = 11, /* of a handle: slots under 128 KiB; what is left holds offsets up to 2 TiB */
    SUMMARY_SIZE = 512,
    SUMMARY_RECORDS = (SUMMARY_SIZE - SEAL_TAG_SIZE - 2 * sizeof(uint32_t)) / sizeof(uint16_t),
};

#define SPILL_MAX_BYTES ((uint64_t)SLOT_UNIT << (TIER_HANDLE_BITS - SLOT_UNITS_BITS))

/* Leads an extent. */
struct summary {
    uint32_t size;                   /* of the extent, bytes */
    uint32_t count;                  /* of slots */
    uint16_t units[SUMMARY_RECORDS]; /* each slot's length in SLOT_UNIT */
    uint8_t tag[SEAL_TAG_SIZE];
};
_Static_assert(sizeof(struct summary) == SUMMARY_SIZE, "a summary is a whole number of units");

/* Leads a slot; the record's bytes, zeros and the tag follow. */
struct slot_header {
    uint64_t page;
    uint32_t size;
    uint8_t codec;
    uint8_t zero[3];
};
_Static_assert(sizeof(struct slot_header) == 16, "no padding: every byte is written");

#define RAW_PAGE_BITS 56

/* What a raw page has in memory instead of in a slot. */
struct raw_header {
    uint64_t page : RAW_PAGE_BITS, codec : 8;
    uint8_t tag[SEAL_TAG_SIZE];
};
_Static_assert(sizeof(struct raw_header) == 24, "memory for each page on the disk");

/* Bytes of the slot for a record of `size` bytes. `page_size` bytes are a raw page and nothing else: the few sizes
 * whose slot would be as long have it a unit longer (codecs gain more than that, or leave the page raw). */
static inline uint32_t slot_size(uint32_t size, uint32_t page_size)
{
    if (size == page_size)
        return page_size;
    uint32_t bytes = (uint32_t)sizeof(struct slot_header) + size + SEAL_TAG_SIZE;
    uint32_t units = (bytes + SLOT_UNIT - 1) / SLOT_UNIT;
    return units * SLOT_UNIT == page_size ? page_size + SLOT_UNIT : units * SLOT_UNIT;
}

/* A handle is where in the file, in units, and how many units: a load knows what to read without looking anything up.
 */
static inline tier_handle slot_handle(uint64_t position, uint32_t size)
{
    return position / SLOT_UNIT << SLOT_UNITS_BITS | size / SLOT_UNIT;
}

static inline uint64_t slot_position(tier_handle handle)
{
    return (handle >> SLOT_UNITS_BITS) * SLOT_UNIT;
}

static inline uint32_t slot_length(tier_handle handle)
{
    return (uint32_t)(handle & ((1u << SLOT_UNITS_BITS) - 1)) * SLOT_UNIT;
}

static inline uint64_t block_floor(uint64_t offset)
{
    return offset & ~(uint64_t)(SPILL_BLOCK - 1);
}

static inline uint64_t block_ceil(uint64_t offset)
{
    return block_floor(offset + SPILL_BLOCK - 1);
}

#endif
