/* The range allocator against a model that knows nothing but an array of units. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../shim/arena/ranges.h"

enum { UNITS = 2048, OPERATIONS = 250000 };

#define SPACE (UNITS * RANGE_UNIT)

/* One entry a unit: what it is, and where its range starts (of those that merge, ranges are whatever is adjacent). */
static struct {
    enum range_kind kind[UNITS];
    int protection[UNITS];
    int start[UNITS];
} model;

static struct ranges ranges;
static uint64_t random_state = 12345;

/* splitmix64 (Steele, Lea, Flood, OOPSLA 2014). */
static uint64_t random_number(void)
{
    uint64_t z = random_state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static int below(int n) { return (int) (random_number() % (uint64_t) n); }

static bool is_free(enum range_kind kind) { return kind == RANGE_FREE || kind == RANGE_KEPT; }

static bool merges(enum range_kind kind) { return kind != RANGE_LIVE && kind != RANGE_BUSY; }

static bool same_range(int a, int b)
{
    return model.kind[a] == model.kind[b] && (merges(model.kind[a]) ? model.protection[a] == model.protection[b]
                                                                    : model.start[a] == model.start[b]);
}

static int model_end(int at)
{
    int end = at + 1;
    while (end < UNITS && same_range(end, at))
        end++;
    return end;
}

static int model_start(int at)
{
    while (at > 0 && same_range(at - 1, at))
        at--;
    return at;
}

static void model_set_protected(int from, int to, enum range_kind kind, int protection)
{
    for (int i = from; i < to; i++) {
        model.kind[i] = kind;
        model.protection[i] = protection;
        model.start[i] = from;
    }
}

static void model_set(int from, int to, enum range_kind kind) { model_set_protected(from, to, kind, 0); }

/* Where the smallest fitting range puts the block, the lowest of equals; -1: nowhere. */
static int model_fit(enum range_kind kind, int size, int align, int *shortest)
{
    int best = -1;
    *shortest = UNITS + 1;
    for (int at = 0, end; at < UNITS; at = end) {
        end = model_end(at);
        int start = (at + align - 1) / align * align;
        if (model.kind[at] == kind && start + size <= end && end - at < *shortest) {
            *shortest = end - at;
            best = start;
        }
    }
    return best;
}

/* Alignments beyond the unit are only tried in a few of the tightest ranges; then a looser one may be taken, or none
 * although one would do, but never where a range with room for size + alignment exists. */
static void take(enum range_kind kind)
{
    int size = 1 + below(below(4) ? 16 : 400), align = below(3) ? 1 : 1 << below(7), shortest, with_room;
    int expected = model_fit(kind, size, align, &shortest);
    int roomy = model_fit(kind, size + align, 1, &with_room);
    struct range *range = range_take(&ranges, kind, (uint64_t) size * RANGE_UNIT, (uint64_t) align * RANGE_UNIT);
    if (!range) {
        cr_assert(align == 1 ? expected < 0 : roomy < 0, "there was room for %d at %d", size, align);
        return;
    }
    int start = (int) (range->start / RANGE_UNIT);
    cr_assert_eq(range->kind, RANGE_LIVE);
    cr_assert_eq(range->size, (uint64_t) size * RANGE_UNIT);
    cr_assert_eq(start % align, 0);
    if (align == 1)
        cr_assert_eq(start, expected, "not the best fit: %d instead of %d", start, expected);
    for (int i = start; i < start + size; i++)
        cr_assert_eq(model.kind[i], kind);
    model_set(start, start + size, RANGE_LIVE);
}

/* A random range that is in somebody's hands. */
static struct range *pick(int *from, int *to)
{
    for (int tries = 0; tries < 20; tries++) {
        int at = below(UNITS);
        if (is_free(model.kind[at]))
            continue;
        *from = model_start(at);
        *to = model_end(*from);
        struct range *range = range_find(&ranges, (uint64_t) at * RANGE_UNIT);
        cr_assert_eq(range->start, (uint64_t) *from * RANGE_UNIT);
        cr_assert_eq(range->size, (uint64_t) (*to - *from) * RANGE_UNIT);
        cr_assert_eq(range->kind, model.kind[at]);
        return range;
    }
    return NULL;
}

static void become(enum range_kind kind)
{
    int from, to;
    struct range *range = pick(&from, &to);
    if (!range)
        return;
    range = range_become(&ranges, range, kind);
    model_set(from, to, kind);
    cr_assert_eq(range->kind, kind);
    cr_assert_leq(range->start, (uint64_t) from * RANGE_UNIT);
    cr_assert_geq(range->start + range->size, (uint64_t) to * RANGE_UNIT);
}

static void split(void)
{
    int from, to;
    struct range *range = pick(&from, &to);
    if (!range || to - from < 2 || merges(range->kind))
        return;
    int size = 1 + below(to - from - 1);
    struct range *rest = range_split(&ranges, range, (uint64_t) size * RANGE_UNIT);
    cr_assert_eq(rest->start, (uint64_t) (from + size) * RANGE_UNIT);
    cr_assert_eq(rest->kind, range->kind);
    model_set(from + size, to, model.kind[from]);
}

/* Part of any range but a LIVE one becomes something else. */
static void carve(void)
{
    static const enum range_kind kinds[] = {RANGE_FREE, RANGE_MAPPED, RANGE_RESERVED, RANGE_FOREIGN, RANGE_BUSY};
    int at = below(UNITS), end = model_end(at), size = 1 + below(end - at);
    struct range *range = range_find(&ranges, (uint64_t) at * RANGE_UNIT);
    if (range->kind == RANGE_LIVE)
        return;
    range = range_carve(&ranges, range, (uint64_t) at * RANGE_UNIT, (uint64_t) size * RANGE_UNIT);
    cr_assert_eq(range->kind, RANGE_BUSY);
    cr_assert_eq(range->start, (uint64_t) at * RANGE_UNIT);
    cr_assert_eq(range->size, (uint64_t) size * RANGE_UNIT);
    if (model.kind[at] == RANGE_BUSY && end > at + size)
        for (int i = at + size; i < end; i++)
            model.start[i] = at + size;
    enum range_kind kind = kinds[below(5)];
    int protection = kind == RANGE_MAPPED ? below(4) : 0;
    model_set_protected(at, at + size, kind, protection);
    if (kind == RANGE_BUSY)
        return;
    range->protection = protection;
    range_become(&ranges, range, kind);
}

static void extend(void)
{
    int from, to;
    struct range *range = pick(&from, &to);
    if (!range || range->kind != RANGE_LIVE)
        return;
    int more = 1 + below(8);
    bool possible = to < UNITS && model.kind[to] == RANGE_FREE && model_end(to) - to >= more;
    cr_assert_eq(range_extend(&ranges, range, (uint64_t) more * RANGE_UNIT), possible);
    if (possible)
        model_set(from, to + more, RANGE_LIVE);
}

/* All of the space, range by range. */
static void compare(void)
{
    uint64_t bytes[RANGE_KINDS] = {0};
    struct range *range = range_find(&ranges, 0);
    for (int at = 0, end; at < UNITS; at = end, range = range_after(range)) {
        end = model_end(at);
        cr_assert_eq(range->start, (uint64_t) at * RANGE_UNIT);
        cr_assert_eq(range->size, (uint64_t) (end - at) * RANGE_UNIT);
        cr_assert_eq(range->kind, model.kind[at]);
        cr_assert_eq(range->protection, model.protection[at]);
        bytes[range->kind] += range->size;
    }
    cr_assert_null(range);
    for (int kind = 0; kind < RANGE_KINDS; kind++)
        cr_assert_eq(bytes[kind], ranges.bytes[kind]);
    const char *wrong = ranges_check(&ranges, SPACE);
    cr_assert_null(wrong, "%s", wrong);
}

Test(ranges, agree_with_a_model, .timeout = 110)
{
    cr_assert_eq(ranges_init(&ranges, SPACE), 0);
    model_set(0, UNITS, RANGE_FREE);
    for (int i = 0; i < OPERATIONS; i++) {
        switch (below(12)) {
        case 0: case 1: case 2: take(RANGE_FREE); break;
        case 3: take(RANGE_KEPT); break;
        case 4: case 5: become(RANGE_FREE); break;
        case 6: become(RANGE_KEPT); break;
        case 7: become(below(2) ? RANGE_BUSY : RANGE_LIVE); break;
        case 8: split(); break;
        case 9: extend(); break;
        case 10: case 11: carve(); break;
        }
        if (i % 500 == 0)
            compare();
    }
    compare();
    ranges_fini(&ranges);
}

static struct range *taken(uint64_t units, uint64_t align)
{
    struct range *range = range_take(&ranges, RANGE_FREE, units * RANGE_UNIT, align * RANGE_UNIT);
    cr_assert_not_null(range);
    return range;
}

Test(ranges, the_smallest_hole_is_taken_and_the_lowest_of_equals)
{
    ranges_init(&ranges, SPACE);
    struct range *holes[4];
    static const uint64_t sizes[] = {5, 3, 4, 3};
    for (int i = 0; i < 4; i++) {
        holes[i] = taken(sizes[i], 1);
        taken(1, 1); /* keeps them apart */
    }
    uint64_t starts[4];
    for (int i = 0; i < 4; i++) {
        starts[i] = holes[i]->start;
        range_become(&ranges, holes[i], RANGE_FREE);
    }
    cr_assert_eq(taken(3, 1)->start, starts[1]);
    cr_assert_eq(taken(3, 1)->start, starts[3]);
    cr_assert_eq(taken(3, 1)->start, starts[2]);
    cr_assert_eq(taken(3, 1)->start, starts[0]);
    ranges_fini(&ranges);
}

Test(ranges, neighbours_merge_only_with_their_kind)
{
    ranges_init(&ranges, 4 * RANGE_UNIT);
    struct range *range[4];
    for (int i = 0; i < 4; i++)
        range[i] = taken(1, 1);
    range_become(&ranges, range[0], RANGE_FREE);
    range_become(&ranges, range[2], RANGE_KEPT);
    cr_assert_eq(range_become(&ranges, range[1], RANGE_FREE)->size, 2 * RANGE_UNIT);
    cr_assert_eq(range_become(&ranges, range[3], RANGE_KEPT)->size, 2 * RANGE_UNIT);
    cr_assert_eq(range_become(&ranges, range_find(&ranges, 2 * RANGE_UNIT), RANGE_FREE)->size, 4 * RANGE_UNIT);
    cr_assert_null(ranges_check(&ranges, 4 * RANGE_UNIT));
    ranges_fini(&ranges);
}

Test(ranges, alignment_leaves_both_ends_free)
{
    ranges_init(&ranges, SPACE);
    taken(1, 1);
    struct range *range = taken(2, 32);
    cr_assert_eq(range->start, 32 * RANGE_UNIT);
    cr_assert_eq(range_before(range)->kind, RANGE_FREE);
    cr_assert_eq(range_after(range)->kind, RANGE_FREE);
    cr_assert_eq(ranges.high_water, 34 * RANGE_UNIT);
    cr_assert_null(range_take(&ranges, RANGE_FREE, UINT64_MAX - 1, 64 * RANGE_UNIT));
    ranges_fini(&ranges);
}

/* A list instead of a tree would take hours. */
Test(ranges, a_million_live_ranges_stay_fast, .timeout = 100)
{
    enum { MILLION = 1000000 };
    struct range **live = malloc(MILLION * sizeof *live);
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    ranges_init(&ranges, UINT64_C(1) << 40);
    for (int i = 0; i < MILLION; i++)
        live[i] = taken(1 + i % 3, 1);
    for (int i = 0; i < 2 * MILLION; i++) {
        int k = below(MILLION);
        range_become(&ranges, live[k], RANGE_FREE);
        live[k] = taken((uint64_t) (1 + below(3)), 1);
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    cr_assert_null(ranges_check(&ranges, UINT64_C(1) << 40));
    cr_assert_eq(ranges.count[RANGE_LIVE], MILLION);
    cr_assert_lt(end.tv_sec - start.tv_sec, 20);
    ranges_fini(&ranges);
    free(live);
}
