/*
 * same.h: pages that are one 8-byte word over and over. Zero, all ones, a float constant: they store nothing but the
 * number of their word in this table.
 *
 * Words are never taken out again: a program has few of them. When the table is full, further words are stored like
 * any content.
 */
#ifndef VP_PAGER_SAME_H
#define VP_PAGER_SAME_H

#include <stddef.h>
#include <stdint.h>

#include "../tier/tier.h"

#define SAME_WORDS 4096

struct same {
    uint64_t words[SAME_WORDS]; /* open addressing; [0] is zero, 0 elsewhere is an empty place */
};

/** The handle of the word (never 0), or 0 when the table is full. Holder of the evict lock. */
tier_handle same_handle(struct same *same, uint64_t word);

/** The word behind a handle. Any thread. */
uint64_t same_word(const struct same *same, tier_handle handle);

/** Fills a page with the word. */
void same_fill(void *page, size_t size, uint64_t word);

#endif
