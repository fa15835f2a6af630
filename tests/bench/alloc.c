/*
 * alloc: what the large allocations themselves cost, without any paging, as a line of JSON:
 *
 *   pair_ns      malloc and free of a block, one byte of it written, by size: 1 MiB to 1 GiB
 *   touched_ns   the same, every page written, for 1 MiB
 *   growth_ms    realloc from 1 MiB to 1 GiB in steps of 1 MiB, each written once
 */
#include "data.h"
#include "timing.h"

#include <stdlib.h>
#include <string.h>

#define MIB ((size_t)1 << 20)

static _Noreturn void fail(void)
{
    fputs("alloc: no memory\n", stderr);
    exit(1);
}

/* Nanoseconds of one malloc and free, with a byte written every `stride`. */
static double pair(size_t size, size_t stride, unsigned times)
{
    const uint64_t start = nanoseconds();
    for (unsigned i = 0; i < times; i++) {
        volatile unsigned char *const p = malloc(size);
        if (!p)
            fail();
        for (size_t at = 0; at < size; at += stride)
            p[at] = 1;
        free((void *)p);
    }
    return (double)(nanoseconds() - start) / times;
}

static double growth(void)
{
    const uint64_t start = nanoseconds();
    unsigned char *p = NULL;
    for (size_t size = MIB; size <= 1024 * MIB; size += MIB) {
        p = realloc(p, size);
        if (!p)
            fail();
        memset(p + size - MIB, (int)(size / MIB % 251), MIB);
    }
    for (size_t i = 0; i < 1024; i++)
        if (p[i * MIB] != (i + 1) % 251)
            exit((fputs("alloc: WRONG DATA after realloc\n", stderr), 1));
    free(p);
    return (double)(nanoseconds() - start) / 1e6;
}

int main(void)
{
    printf("{\"pair_ns\": {");
    for (size_t mib = 1; mib <= 1024; mib *= 4)
        printf("%s\"%zuM\": %.0f", mib > 1 ? ", " : "", mib, pair(mib * MIB, mib * MIB, 500));
    printf("}, \"touched_ns\": %.0f", pair(MIB, DATA_PAGE, 200));
    printf(", \"growth_ms\": %.2f}\n", growth());
    return 0;
}
