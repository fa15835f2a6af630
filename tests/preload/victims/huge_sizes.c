/*
 * huge_sizes: blocks of more than 4 GiB, where 32-bit arithmetic on sizes, offsets or page numbers goes wrong.
 */
#include "../victim.h"

#include <malloc.h>

/* Offsets worth a look: around each multiple of 64 MiB, hence around 4 GiB and 8 GiB too. */
#define STRIDE (64 * MIB)

static uint64_t value(size_t at)
{
    return mix64(at + 1);
}

static void put(unsigned char *p, size_t from, size_t to)
{
    for (size_t at = from; at + 8 <= to; at += STRIDE) {
        const uint64_t v = value(at), w = value(at + STRIDE - 8);
        memcpy(p + at, &v, 8);
        if (at + STRIDE <= to)
            memcpy(p + at + STRIDE - 8, &w, 8);
    }
}

static void check(const unsigned char *p, size_t to)
{
    for (size_t at = 0; at + 8 <= to; at += STRIDE) {
        uint64_t v, w = value(at + STRIDE - 8);
        memcpy(&v, p + at, 8);
        if (at + STRIDE <= to)
            memcpy(&w, p + at + STRIDE - 8, 8);
        if (v != value(at) || w != value(at + STRIDE - 8))
            die("content lost near offset %zu", at);
    }
}

int main(void)
{
    unsigned char *p = big_malloc(5 * GIB), *q = big_malloc(9 * GIB + 4097);
    CHECK(malloc_usable_size(p) >= 5 * GIB);
    CHECK(malloc_usable_size(q) >= 9 * GIB + 4097);
    CHECK((size_t)(p < q ? q - p : p - q) >= 5 * GIB);
    put(p, 0, 5 * GIB);
    put(q, 0, 9 * GIB + 4097);
    q[9 * GIB + 4096] = 0x77;
    check(p, 5 * GIB);
    check(q, 9 * GIB + 4097);
    CHECK(q[9 * GIB + 4096] == 0x77);
    free(p);
    check(q, 9 * GIB + 4097);
    free(q);
    puts("ends ok");

    p = NULL;
    size_t old = 0; /* growth across 4 GiB and 8 GiB, and back below both */
    const size_t steps[] = {3 * GIB, 6 * GIB, 4 * GIB + 4096, 12 * GIB, 8 * GIB, 4 * GIB - 64, 2 * MIB};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        p = realloc(p, steps[i]);
        CHECK(p && in_arena(p) != 0);
        CHECK(malloc_usable_size(p) >= steps[i]);
        check(p, old < steps[i] ? old : steps[i]);
        if (steps[i] > old)
            put(p, 0, steps[i]);
        old = steps[i] / STRIDE * STRIDE;
        void *neighbour = big_malloc(2 * MIB); /* in the way of growth in place, sometimes */
        if (i % 2)
            free(neighbour);
    }
    free(p);
    puts("realloc ok");

    p = calloc(5, GIB);
    CHECK(p);
    for (size_t at = 0; at < 5 * GIB; at += STRIDE / 2)
        CHECK(p[at] == 0 && p[at + 4095] == 0);
    free(p);
    puts("calloc ok");
    return 0;
}
