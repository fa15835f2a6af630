/*
 * The kinds and what LZ4 makes of a page of each (measured, 4 KiB pages): text 3:1, float 2:1, heap 3:1; of `zero`
 * three pages in four are nothing but zeros and the others nearly so; `random` does not compress. No page is like
 * another, so that compressing several together gains nothing that it would not gain on a program's own data.
 */
#include "data.h"

#include <string.h>

enum {
    PHRASES = 76, /* how many decides how well text compresses */
    PHRASE = 16,  /* bytes */
};

static char phrases[PHRASES][PHRASE];

static const char *const vocabulary[] = {
    "the",   "of",     "memory", "and",  "page",   "that",  "which", "a",    "program", "in",    "to",
    "is",    "under",  "large",  "it",   "number", "would", "first", "with", "between", "water", "as",
    "light", "little", "for",    "work", "said",   "place", "was",   "on",   "another", "great", "by",
};

/* One stream of words, cut without regard to them. */
void data_init(void)
{
    char *const text = phrases[0];
    size_t length = 0;
    for (uint64_t i = 0; length < sizeof phrases; i++) {
        const char *const word = vocabulary[data_hash(i) % (sizeof vocabulary / sizeof *vocabulary)];
        for (const char *c = word; *c && length < sizeof phrases; c++)
            text[length++] = *c;
        if (length < sizeof phrases)
            text[length++] = ' ';
    }
}

static inline uint64_t chance(uint64_t seed, size_t page, size_t word)
{
    return data_hash(seed + (uint64_t)page * DATA_WORDS + word);
}

/* Common phrases and rare ones: the product of two even chances is small more often than large. */
static inline uint64_t text_word(uint64_t seed, size_t page, size_t word)
{
    const uint64_t r = chance(seed, page, word / 2);
    const uint64_t phrase = ((r & 0xffff) * (r >> 48) * PHRASES) >> 32;
    uint64_t value;
    memcpy(&value, phrases[phrase] + word % 2 * sizeof value, sizeof value);
    return value;
}

/* What an instrument has measured: two decimals, around a mean that differs from page to page. Hundredths are no binary
 * fractions: all bits of the mantissas are in use. */
static inline uint64_t float_word(uint64_t seed, size_t page, size_t word)
{
    const uint64_t r = chance(seed, page, word), mean = data_hash(seed ^ page) % 1000000;
    const double measured = (double)(mean + (r & 31) + (r >> 8 & 31)) / 100;
    uint64_t value;
    memcpy(&value, &measured, sizeof value);
    return value;
}

/* Objects of 32 bytes as CPython's: references, type, a pointer into a heap of 1 GiB, a length. */
static inline uint64_t heap_word(uint64_t seed, size_t page, size_t word)
{
    const uint64_t r = chance(seed, page, word), types = 0x00005581c0a3e000u, heap = 0x00007f3a40000000u;
    switch (word % 4) {
    case 0:
        return 1 + (r % 8 == 0);
    case 1:
        return types + r % 8 * 416;
    case 2:
        return heap + ((uint64_t)page * DATA_PAGE & 0x3fffffff) + r % 1024 * 16;
    default:
        return r % 24;
    }
}

static inline uint64_t zero_word(uint64_t seed, size_t page, size_t word)
{
    if (data_hash(seed ^ page) % 4)
        return 0;
    const uint64_t r = chance(seed, page, word);
    return r % 32 ? 0 : r;
}

static inline uint64_t random_word(uint64_t seed, size_t page, size_t word)
{
    return chance(seed, page, word);
}

#define FILL(kind)                                                                                                     \
    static void kind##_fill(uint64_t seed, size_t page, uint64_t *to)                                                  \
    {                                                                                                                  \
        for (size_t i = 0; i < DATA_WORDS; i++)                                                                        \
            to[i] = kind##_word(seed, page, i);                                                                        \
    }

FILL(text)
FILL(float)
FILL(heap)
FILL(zero)
FILL(random)

const struct data data_kinds[] = {
    {"text", text_word, text_fill}, {"float", float_word, float_fill},    {"heap", heap_word, heap_fill},
    {"zero", zero_word, zero_fill}, {"random", random_word, random_fill}, {0},
};
