/*
 * spill_full MIB: wants more incompressible memory than budget and spill file hold together. It is refused new blocks
 * with ENOMEM, or gets them above the cap; what it has stays right.
 */
#include "../victim.h"

#define BLOCK      (4 * MIB)
#define BLOCKS_MAX 4096

static uint64_t *blocks[BLOCKS_MAX];

static void verify(size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t random = i;
        for (size_t j = 0; j < BLOCK / 8; j++)
            if (blocks[i][j] != random_next(&random))
                die("block %zu, word %zu has changed", i, j);
    }
}

int main(int argc, char **argv)
{
    const size_t wanted = argument(argc, argv, 1, 256) * MIB / BLOCK;
    CHECK(wanted <= BLOCKS_MAX);
    size_t count = 0;
    for (; count < wanted; count++) {
        errno = 0;
        blocks[count] = malloc(BLOCK);
        if (!blocks[count]) {
            CHECK(errno == ENOMEM);
            break;
        }
        uint64_t random = count;
        for (size_t j = 0; j < BLOCK / 8; j++)
            blocks[count][j] = random_next(&random);
    }
    verify(count);
    fprintf(stderr, "%zu of %zu MiB\n", count * BLOCK / MIB, wanted * BLOCK / MIB);

    /* What is given back can be had again. */
    for (size_t i = count / 2; i < count; i++)
        free(blocks[i]);
    verify(count / 2);
    uint64_t *again = malloc(BLOCK);
    CHECK(again);
    memset(again, 1, BLOCK);
    verify(count / 2);
    free(again);
    puts("nothing lost");
    return 0;
}
