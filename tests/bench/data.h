/*
 * The kinds of data that the benchmark works on. Every 8-byte word follows from (seed, page, word), so that any word
 * that is read can be verified at once, and a word that is stale, zero, torn or another page's is told from the right
 * one.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum {
    DATA_PAGE = 4096,
    DATA_WORDS = DATA_PAGE / sizeof(uint64_t),
};

struct data {
    const char *name;
    uint64_t (*word)(uint64_t seed, size_t page, size_t word);
    void (*fill)(uint64_t seed, size_t page, uint64_t *to); /* all words of a page */
};

/* All kinds; the last has no name. */
extern const struct data data_kinds[];

/* Before any other use. */
void data_init(void);

/* A number that follows from x and looks like a random one (the finaliser of splitmix64: Steele, Lea, Flood, 2014). */
static inline uint64_t data_hash(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}
