/*
 * sparse_touch [GIB]: one page in every 64 KiB of a huge block, in random order. A shim that changes the protection of
 * single pages runs out of mappings on the way (vm.max_map_count), and then even a plain malloc fails.
 */
#include "../victim.h"

#define STEP         ((size_t)64 << 10)
#define MAPPINGS_MAX 32000
#define SMALL        100000

static size_t count_mappings(void)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps);
    size_t lines = 0;
    for (int c; (c = getc(maps)) != EOF;)
        lines += c == '\n';
    fclose(maps);
    return lines;
}

/* The page of step `i`, somewhere in its 64 KiB; a bijection of the steps, because the factor is odd. */
static size_t place(size_t i, size_t steps, size_t factor)
{
    const size_t step = i * factor % steps;
    return step * STEP + (mix64(step) % (STEP / PAGE)) * PAGE;
}

int main(int argc, char **argv)
{
    const size_t gib = argument(argc, argv, 1, 16), steps = gib * GIB / STEP;
    unsigned char *p = big_malloc(gib * GIB);

    for (size_t i = 0; i < steps; i++) {
        const size_t at = place(i, steps, 0x9e3779b1);
        memcpy(p + at + at / STEP % (PAGE - 8), &at, sizeof at);
    }
    const size_t mappings = count_mappings();
    if (mappings >= MAPPINGS_MAX)
        die("%zu mappings", mappings);

    static void *small[SMALL];
    for (size_t i = 0; i < SMALL; i++) {
        CHECK((small[i] = malloc(1 + i % 64)));
        memset(small[i], (int)i, 1 + i % 64);
    }
    for (size_t i = 0; i < SMALL; i++) {
        CHECK(*(unsigned char *)small[i] == (unsigned char)i);
        free(small[i]);
    }

    for (size_t i = 0; i < steps; i++) { /* in another order */
        const size_t at = place(i, steps, 0x85ebca6b);
        size_t found;
        memcpy(&found, p + at + at / STEP % (PAGE - 8), sizeof found);
        if (found != at)
            die("at offset %zu: %zu", at, found);
    }
    free(p);
    printf("%zu pages of %zu GiB, few mappings\n", steps, gib);
    return 0;
}
