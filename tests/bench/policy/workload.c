/* workload.c: see workload.h. */
#include "workload.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

/* How many accesses a made-up workload has for each of its pages; half of them warm up. */
#define ROUNDS 80

uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void *need(void *memory)
{
    if (!memory) {
        perror("policy");
        exit(2);
    }
    return memory;
}

/* What the generators share. */
struct maker {
    struct workload *made;
    size_t room;
    uint64_t seed;
    bool writes;
};

static bool put(struct maker *maker, uint32_t page, bool write)
{
    struct workload *made = maker->made;
    if (made->count == maker->room)
        return false;
    made->accesses[made->count++] = page << 1 | write;
    return true;
}

static uint32_t below(struct maker *maker, uint32_t n)
{
    return (uint32_t)(random_next(&maker->seed) % n);
}

static void uniform(struct maker *maker, uint32_t n)
{
    while (put(maker, below(maker, n), maker->writes))
        ;
}

/* Exponent 0.99; popular pages lie anywhere. The inverse of the integral approximates the distribution. */
static void zipf(struct maker *maker, uint32_t n)
{
    const double s = 0.99;
    for (bool more = true; more;) {
        double u = (double)(random_next(&maker->seed) >> 11) * 0x1p-53;
        double rank = pow((pow(n, 1 - s) - 1) * u + 1, 1 / (1 - s)) - 1;
        uint32_t at = rank < n ? (uint32_t)rank : n - 1;
        more = put(maker, (uint32_t)(at * UINT64_C(2654435761) % n), maker->writes);
    }
}

/* Nine of ten accesses go to every tenth page. */
static void hot(struct maker *maker, uint32_t n)
{
    while (put(maker, below(maker, 10) ? below(maker, n / 10) * 10 : below(maker, n), maker->writes))
        ;
}

/* The same, but the hot tenth is in one piece, and moves on a few times. */
static void moving(struct maker *maker, uint32_t n)
{
    for (bool more = true; more;) {
        uint32_t start = (uint32_t)(maker->made->count * 6 / maker->room) * (n / 6);
        uint32_t page = below(maker, 10) ? (start + below(maker, n / 10)) % n : below(maker, n);
        more = put(maker, page, maker->writes);
    }
}

/* Round and round. */
static void cycle(struct maker *maker, uint32_t n)
{
    for (uint32_t page = 0; put(maker, page, maker->writes);)
        page = (page + 1) % n;
}

/* A twentieth of the pages is used at random; between two of these accesses the rest is scanned by one page. */
static void scanhot(struct maker *maker, uint32_t n)
{
    uint32_t few = n / 20, at = 0;
    while (put(maker, below(maker, few), maker->writes) && put(maker, few + at, maker->writes))
        at = (at + 1) % (n - few);
}

/* One cycle through all pages in random order, again and again (Sattolo 1986). */
static void chase(struct maker *maker, uint32_t n)
{
    uint32_t *next = need(malloc(n * sizeof *next)), page = 0;
    for (uint32_t i = 0; i < n; i++)
        next[i] = i;
    for (uint32_t i = n - 1; i > 0; i--) {
        uint32_t j = below(maker, i), t = next[i];
        next[i] = next[j], next[j] = t;
    }
    while (put(maker, page, maker->writes))
        page = next[page];
    free(next);
}

/* Merge sort: each pass reads runs, two at a time, and writes the other half of the memory. */
static void merge(struct maker *maker, uint32_t n)
{
    uint32_t half = n / 2, from = 0;
    for (bool more = true; more; from = half - from)
        for (uint32_t run = 16; more && run < half; run *= 2)
            for (uint32_t at = 0; more && at < half; at++) {
                uint32_t within = at % (2 * run), side = within & 1 ? run : 0, pair = at - within;
                uint32_t source = pair + side + within / 2;
                more = put(maker, from + (source < half ? source : at), false) && put(maker, half - from + at, true);
            }
}

/* Random look-ups in a tree of fan-out 64: the upper levels are hot, the leaves are not. */
static void tree(struct maker *maker, uint32_t n)
{
    uint32_t inner = n / 64, top = inner / 64;
    for (bool more = true; more;) {
        uint32_t leaf = below(maker, n - inner - top);
        more = put(maker, leaf % (top ? top : 1), false) && put(maker, top + leaf / 64, false) &&
               put(maker, top + inner + leaf, maker->writes);
    }
}

const char *const workload_names[] = {"uniform", "zipf",  "hot",   "moving", "cycle",
                                      "scanhot", "chase", "merge", "tree",   NULL};
static void (*const makers[])(struct maker *, uint32_t) = {uniform, zipf,  hot,   moving, cycle,
                                                           scanhot, chase, merge, tree};

static void count_distinct(struct workload *made)
{
    bool *seen = need(calloc(made->pages, 1));
    for (size_t i = 0; i < made->count; i++) {
        uint32_t page = access_page(made->accesses[i]);
        made->distinct += !seen[page];
        seen[page] = true;
    }
    free(seen);
}

struct workload workload_make(const char *name, uint32_t pages, bool writes)
{
    struct workload made = {.name = name, .pages = pages};
    struct maker maker = {.made = &made, .room = (size_t)pages * (ROUNDS + 1), .seed = 12345, .writes = writes};
    made.accesses = need(malloc(maker.room * sizeof *made.accesses));
    for (uint32_t page = 0; page < pages; page++) /* the program fills its memory first */
        put(&maker, page, true);
    for (size_t i = 0; workload_names[i]; i++)
        if (strcmp(name, workload_names[i]) == 0)
            makers[i](&maker, pages);
    if (made.count < maker.room) {
        fprintf(stderr, "policy: no workload %s\n", name);
        exit(2);
    }
    made.warm = made.count / 2;
    count_distinct(&made);
    return made;
}

/* ---- recorded ---- */

static unsigned char *read_file(const char *path, size_t *size)
{
    FILE *file = need(fopen(path, "rb"));
    unsigned char *bytes = need(malloc((size_t)16 << 20));
    *size = fread(bytes, 1, (size_t)16 << 20, file);
    fclose(file);
    return bytes;
}

/* Each access is a number, seven bits a byte: zigzag of the distance to the page before << 1 | whether it writes. */
static void decode(struct workload *made, const unsigned char *bytes, size_t size)
{
    int64_t page = 0;
    uint64_t number = 0;
    unsigned shift = 0;
    for (size_t i = 0; i < size; i++) {
        number |= (uint64_t)(bytes[i] & 0x7f) << shift;
        shift += 7;
        if (bytes[i] & 0x80)
            continue;
        uint64_t zigzag = number >> 1;
        page += (int64_t)(zigzag >> 1) ^ -(int64_t)(zigzag & 1);
        made->accesses[made->count++] = (page_access)page << 1 | (number & 1);
        if (page >= made->pages)
            made->pages = (uint32_t)page + 1;
        number = shift = 0;
    }
}

struct workload workload_read(const char *path)
{
    size_t packed_size;
    unsigned char *packed = read_file(path, &packed_size);
    size_t size = (size_t)ZSTD_getFrameContentSize(packed, packed_size);
    if (size > (size_t)1 << 30) {
        fprintf(stderr, "policy: %s is no trace\n", path);
        exit(2);
    }
    unsigned char *bytes = need(malloc(size + 1));
    if (ZSTD_decompress(bytes, size, packed, packed_size) != size) {
        fprintf(stderr, "policy: %s is damaged\n", path);
        exit(2);
    }
    struct workload made = {.accesses = need(malloc((size + 1) * sizeof *made.accesses))};
    const char *slash = strrchr(path, '/');
    made.name = slash ? slash + 1 : path;
    decode(&made, bytes, size);
    count_distinct(&made); /* first touches are counted apart: nothing need warm up */
    free(bytes);
    free(packed);
    return made;
}

void workload_free(struct workload *workload)
{
    free(workload->accesses);
    *workload = (struct workload){0};
}
