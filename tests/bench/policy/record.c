/*
 * record.c: reduces `valgrind --tool=lackey --trace-mem=yes` (standard input) to a page trace (standard output).
 *
 *     valgrind --tool=lackey --trace-mem=yes --log-fd=3 PROGRAM 3>&1 >/dev/null | policy_record MEGABYTES | zstd -19 >F
 *
 * Kept are data accesses to mappings that lie outside the stack. What hits one of the 64 pages used last is left out,
 * unless it is the first write among them: caches much larger than that miss exactly as often without
 * (A. J. Smith, "Two Methods for the Efficient Analysis of Memory Address Trace Data", 1977). Pages get consecutive
 * numbers in the order of their addresses' 64-page regions, so that neighbours stay neighbours.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILTER = 64, REGION = 64, REGIONS_MAX = 1 << 16 };

static uint64_t recent[FILTER];
static bool written[FILTER];
static uint64_t regions[REGIONS_MAX];
static size_t region_count;
static uint64_t last;

/* The page is the one used last now. Returns whether the access counts. */
static bool counts(uint64_t page, bool write)
{
    int at = 0;
    while (at < FILTER - 1 && recent[at] != page)
        at++;
    bool hit = recent[at] == page, dirty = hit && written[at];
    memmove(recent + 1, recent, (size_t)at * sizeof *recent);
    memmove(written + 1, written, (size_t)at * sizeof *written);
    recent[0] = page;
    written[0] = dirty || write;
    return !hit || (write && !dirty);
}

/* The page's number: regions are numbered as they appear. */
static uint64_t number_of(uint64_t page)
{
    static size_t at;
    uint64_t region = page / REGION;
    if (at >= region_count || regions[at] != region)
        for (at = 0; at < region_count && regions[at] != region; at++)
            ;
    if (at == region_count) {
        if (region_count == REGIONS_MAX)
            exit(2);
        regions[region_count++] = region;
    }
    return at * REGION + page % REGION;
}

static void emit(uint64_t page, bool write)
{
    int64_t distance = (int64_t)(page - last);
    uint64_t number = ((uint64_t)distance << 1 ^ (uint64_t)(distance >> 63)) << 1 | write;
    last = page;
    for (; number >= 0x80; number >>= 7)
        putchar((int)(number & 0x7f) | 0x80);
    putchar((int)number);
}

int main(int argc, char **argv)
{
    char line[256];
    size_t most = argc > 1 ? strtoul(argv[1], NULL, 10) << 20 : SIZE_MAX, kept = 0;
    while (kept < most && fgets(line, sizeof line, stdin)) {
        if (line[0] != ' ' || (line[1] != 'L' && line[1] != 'S' && line[1] != 'M'))
            continue;
        uint64_t page = strtoull(line + 3, NULL, 16) >> 12;
        bool write = line[1] != 'L';
        if (page >> 12 == 0x1ffe || page >> 12 == 0x1fff || !counts(page, write)) /* the stack, under valgrind */
            continue;
        emit(number_of(page), write);
        kept++;
    }
    return 0;
}
