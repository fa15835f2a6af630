/*
 * many_ranges [COUNT]: tens of thousands of live blocks, freed and allocated again in random order, each marked at its
 * ends.
 */
#include "../victim.h"

#define COUNT_MAX 100000

static unsigned char *blocks[COUNT_MAX];
static size_t sizes[COUNT_MAX], marks[COUNT_MAX];

static void make(size_t i, uint64_t *random)
{
    const uint64_t r = random_next(random);
    sizes[i] = MIB + (r & 1 ? 0 : r >> 8 & 0xffff) + (r >> 32 & 63 ? 0 : 16 * MIB);
    blocks[i] = malloc(sizes[i]);
    if (!blocks[i])
        die("block %zu of %zu bytes: %s", i, sizes[i], strerror(errno));
    marks[i] = r;
    /* Only one mark in eight blocks: each costs a page. */
    if (i % 8 == 0) {
        memcpy(blocks[i], &marks[i], sizeof marks[i]);
        memcpy(blocks[i] + sizes[i] - 8, &marks[i], 8);
    }
}

static void check_and_free(size_t i)
{
    if (i % 8 == 0)
        if (memcmp(blocks[i], &marks[i], 8) != 0 || memcmp(blocks[i] + sizes[i] - 8, &marks[i], 8) != 0)
            die("block %zu at %p has lost its marks", i, (void *)blocks[i]);
    free(blocks[i]);
}

int main(int argc, char **argv)
{
    const size_t count = argument(argc, argv, 1, 20000);
    CHECK(count <= COUNT_MAX);
    uint64_t random = 42;
    for (size_t i = 0; i < count; i++)
        make(i, &random);
    CHECK(in_arena(blocks[0]) != 0 && in_arena(blocks[count - 1]) != 0);
    for (size_t step = 0; step < 4 * count; step++) {
        const size_t i = random_next(&random) % count;
        check_and_free(i);
        make(i, &random);
    }
    for (size_t i = count - 1; i > 0; i--) { /* Fisher and Yates */
        const size_t j = random_next(&random) % (i + 1);
        unsigned char *const p = blocks[i];
        const size_t size = sizes[i], mark = marks[i];
        if (i % 8 == j % 8) { /* marked ones change places with marked ones */
            blocks[i] = blocks[j], sizes[i] = sizes[j], marks[i] = marks[j];
            blocks[j] = p, sizes[j] = size, marks[j] = mark;
        }
    }
    for (size_t i = 0; i < count; i++)
        check_and_free(i);
    printf("%zu blocks\n", count);
    return 0;
}
