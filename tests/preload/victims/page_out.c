/*
 * page_out.c: fills a large block once, gives it up with MADV_PAGEOUT, reads it back.
 *
 *     page_out MIB
 *
 * Half of each page is noise, so that the compressed tier grows while the block is being filled: the sum of both is what
 * the budget is about.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE 4096u

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void make_page(uint64_t number, uint64_t *words)
{
    uint64_t state = number * 0x9e3779b97f4a7c15u + 1;
    for (unsigned i = 0; i < PAGE / 8; i++)
        words[i] = i % 2 ? number : next_random(&state);
}

int main(int argc, char **argv)
{
    size_t size = (size_t) (argc > 1 ? atol(argv[1]) : 64) << 20, wrong = 0;
    unsigned char *block = aligned_alloc(PAGE, size);
    uint64_t expected[PAGE / 8];
    if (!block)
        return perror("aligned_alloc"), 1;
    for (size_t at = 0; at < size; at += PAGE)
        make_page(at / PAGE, (uint64_t *) (block + at));
    if (madvise(block, size, MADV_PAGEOUT) != 0)
        return perror("madvise"), 1;
    for (size_t at = 0; at < size; at += PAGE) {
        make_page(at / PAGE, expected);
        wrong += memcmp(block + at, expected, PAGE) != 0;
    }
    printf("%zu pages wrong\n", wrong);
    return wrong != 0;
}
