#include "ranges.h"

#include <errno.h>

#include "../../platform/os.h"

#define SLAB_SIZE (UINT64_C(256) << 10)

static int compare_start(const struct range *a, const struct range *b)
{
    return (a->start > b->start) - (a->start < b->start);
}

static int compare_size(const struct range *a, const struct range *b)
{
    return a->size != b->size ? (a->size > b->size) - (a->size < b->size) : compare_start(a, b);
}

#define UNUSED_STATIC __attribute__((unused)) static
RB_GENERATE_INTERNAL(range_starts, range, by_start, compare_start, UNUSED_STATIC)
RB_GENERATE_INTERNAL(range_sizes, range, by_size, compare_size, UNUSED_STATIC)

static bool is_free(enum range_kind kind) { return kind == RANGE_FREE || kind == RANGE_KEPT; }

/* ---- nodes ---- */

/* Slabs are chained by their first word, so that fini can find them. */
static bool slab_grow(struct ranges *ranges)
{
    char *slab = os_map(SLAB_SIZE);
    if (!slab)
        return false;
    *(char **) slab = ranges->slab_end ? ranges->slab_end - SLAB_SIZE : NULL;
    ranges->slab = slab + sizeof(struct range); /* the first place holds the chain */
    ranges->slab_end = slab + SLAB_SIZE;
    return true;
}

static struct range *node_new(struct ranges *ranges)
{
    struct range *node = ranges->unused;
    if (node) {
        ranges->unused = node->newer;
        return node;
    }
    if ((!ranges->slab || ranges->slab + sizeof *node > ranges->slab_end) && !slab_grow(ranges))
        return NULL;
    node = (struct range *) ranges->slab;
    ranges->slab += sizeof *node;
    return node;
}

static void node_free(struct ranges *ranges, struct range *node)
{
    node->newer = ranges->unused;
    ranges->unused = node;
}

/* ---- what a range is: the size trees, the age list and the counters ---- */

static void kept_link(struct ranges *ranges, struct range *range)
{
    range->newer = NULL;
    range->older = ranges->kept_newest;
    *(ranges->kept_newest ? &ranges->kept_newest->newer : &ranges->kept_oldest) = range;
    ranges->kept_newest = range;
}

static void kept_unlink(struct ranges *ranges, struct range *range)
{
    *(range->newer ? &range->newer->older : &ranges->kept_newest) = range->older;
    *(range->older ? &range->older->newer : &ranges->kept_oldest) = range->newer;
}

static void enter(struct ranges *ranges, struct range *range, enum range_kind kind)
{
    range->kind = kind;
    ranges->bytes[kind] += range->size;
    ranges->count[kind]++;
    if (!is_free(kind) && kind != RANGE_BUSY && range->start + range->size > ranges->high_water)
        ranges->high_water = range->start + range->size;
    if (is_free(kind))
        RB_INSERT(range_sizes, &ranges->sizes[kind], range);
    if (kind == RANGE_KEPT)
        kept_link(ranges, range);
}

static void leave(struct ranges *ranges, struct range *range)
{
    ranges->bytes[range->kind] -= range->size;
    ranges->count[range->kind]--;
    if (is_free(range->kind))
        RB_REMOVE(range_sizes, &ranges->sizes[range->kind], range);
    if (range->kind == RANGE_KEPT)
        kept_unlink(ranges, range);
}

int ranges_init(struct ranges *ranges, uint64_t size)
{
    *ranges = (struct ranges){0};
    struct range *all = node_new(ranges);
    if (!all)
        return -ENOMEM;
    all->start = 0;
    all->size = size;
    RB_INSERT(range_starts, &ranges->starts, all);
    enter(ranges, all, RANGE_FREE);
    return 0;
}

void ranges_fini(struct ranges *ranges)
{
    char *slab = ranges->slab_end ? ranges->slab_end - SLAB_SIZE : NULL;
    while (slab) {
        char *next = *(char **) slab;
        os_unmap(slab, SLAB_SIZE);
        slab = next;
    }
    *ranges = (struct ranges){0};
}

struct range *range_find(struct ranges *ranges, uint64_t offset)
{
    struct range *at = RB_ROOT(&ranges->starts);
    while (at) {
        if (offset < at->start)
            at = RB_LEFT(at, by_start);
        else if (offset - at->start >= at->size)
            at = RB_RIGHT(at, by_start);
        else
            return at;
    }
    return NULL;
}

struct range *range_before(struct range *range) { return RB_PREV(range_starts, , range); }

struct range *range_after(struct range *range) { return RB_NEXT(range_starts, , range); }

/* The first range of the kind with at least `size` bytes. */
static struct range *smallest(struct ranges *ranges, enum range_kind kind, uint64_t size)
{
    struct range key = {.size = size, .start = 0};
    return RB_NFIND(range_sizes, &ranges->sizes[kind], &key);
}

static uint64_t aligned_start(const struct range *range, uint64_t align)
{
    return (range->start + align - 1) & ~(align - 1);
}

static bool fits(const struct range *range, uint64_t size, uint64_t align)
{
    uint64_t skip = aligned_start(range, align) - range->start;
    return skip <= range->size && range->size - skip >= size;
}

/* Best fit under an alignment: a few of the tightest are tried, then the first one that is large enough wherever it
 * starts; so the search stays O(log n) when many ranges are only just too small. */
static struct range *best_fit(struct ranges *ranges, enum range_kind kind, uint64_t size, uint64_t align)
{
    struct range *at = smallest(ranges, kind, size);
    for (int tries = 0; at && tries < 16; tries++) {
        if (fits(at, size, align))
            return at;
        at = RB_NEXT(range_sizes, , at);
    }
    if (size > UINT64_MAX - align)
        return NULL;
    at = smallest(ranges, kind, size + align);
    return at && fits(at, size, align) ? at : NULL;
}

/* Cuts `range` at `size`; the rest is entered as `kind`. The caller has taken `range` out of the books. */
static struct range *cut(struct ranges *ranges, struct range *range, uint64_t size, enum range_kind kind)
{
    struct range *rest = node_new(ranges);
    if (!rest)
        return NULL;
    rest->protection = range->protection;
    rest->start = range->start + size;
    rest->size = range->size - size;
    range->size = size;
    RB_INSERT(range_starts, &ranges->starts, rest);
    enter(ranges, rest, kind);
    return rest;
}

struct range *range_carve(struct ranges *ranges, struct range *range, uint64_t start, uint64_t size)
{
    enum range_kind kind = range->kind;
    struct range *piece = range;
    leave(ranges, range);
    if (start > range->start) {
        piece = cut(ranges, range, start - range->start, RANGE_BUSY);
        enter(ranges, range, kind);
        if (!piece)
            return NULL;
        leave(ranges, piece);
    }
    bool whole = piece->size == size || cut(ranges, piece, size, kind);
    enter(ranges, piece, RANGE_BUSY);
    if (!whole) {
        range_become(ranges, piece, kind);
        return NULL;
    }
    piece->protection = 0;
    return piece;
}

struct range *range_take(struct ranges *ranges, enum range_kind kind, uint64_t size, uint64_t align)
{
    struct range *range = best_fit(ranges, kind, size, align);
    struct range *piece = range ? range_carve(ranges, range, aligned_start(range, align), size) : NULL;
    return piece ? range_become(ranges, piece, RANGE_LIVE) : NULL;
}

/* `second` follows `first`; neither is in the books. `first` stays. */
static struct range *join(struct ranges *ranges, struct range *first, struct range *second)
{
    RB_REMOVE(range_starts, &ranges->starts, second);
    first->size += second->size;
    node_free(ranges, second);
    return first;
}

struct range *range_become(struct ranges *ranges, struct range *range, enum range_kind kind)
{
    leave(ranges, range);
    if (kind != RANGE_MAPPED)
        range->protection = 0;
    if (kind != RANGE_LIVE && kind != RANGE_BUSY) {
        struct range *before = range_before(range), *after = range_after(range);
        if (after && after->kind == kind && after->protection == range->protection) {
            leave(ranges, after);
            join(ranges, range, after);
        }
        if (before && before->kind == kind && before->protection == range->protection) {
            leave(ranges, before);
            range = join(ranges, before, range);
        }
    }
    enter(ranges, range, kind);
    return range;
}

struct range *range_split(struct ranges *ranges, struct range *range, uint64_t size)
{
    enum range_kind kind = range->kind;
    leave(ranges, range);
    struct range *rest = cut(ranges, range, size, kind);
    enter(ranges, range, kind);
    return rest;
}

bool range_extend(struct ranges *ranges, struct range *range, uint64_t size)
{
    struct range *after = range_after(range);
    if (!after || after->kind != RANGE_FREE || after->size < size)
        return false;
    leave(ranges, range);
    leave(ranges, after);
    range->size += size;
    if (after->size == size) {
        RB_REMOVE(range_starts, &ranges->starts, after);
        node_free(ranges, after);
    } else {
        after->start += size; /* keeps its place in the order of starts */
        after->size -= size;
        enter(ranges, after, RANGE_FREE);
    }
    enter(ranges, range, RANGE_LIVE);
    return true;
}

const char *ranges_check(struct ranges *ranges, uint64_t size)
{
    uint64_t at = 0, bytes[RANGE_KINDS] = {0}, count[RANGE_KINDS] = {0}, kept = 0;
    struct range *range, *before = NULL;
    RB_FOREACH (range, range_starts, &ranges->starts) {
        if (range->start != at)
            return "a gap or an overlap";
        if (range->size == 0 || range->size % RANGE_STEP)
            return "an odd size";
        if (before && range->kind != RANGE_LIVE && range->kind != RANGE_BUSY && range->kind == before->kind &&
            range->protection == before->protection)
            return "neighbours that were not merged";
        if (is_free(range->kind) && RB_FIND(range_sizes, &ranges->sizes[range->kind], range) != range)
            return "a free range that its size tree does not know";
        bytes[range->kind] += range->size;
        count[range->kind]++;
        at += range->size;
        before = range;
    }
    if (at != size)
        return "the ranges do not cover the space";
    for (int kind = 0; kind < RANGE_KINDS; kind++)
        if (bytes[kind] != ranges->bytes[kind] || count[kind] != ranges->count[kind])
            return "the counters are wrong";
    for (range = ranges->kept_oldest; range; range = range->newer, kept++)
        if (range->kind != RANGE_KEPT)
            return "the list of kept ranges holds another kind";
    return kept == count[RANGE_KEPT] ? NULL : "the list of kept ranges is incomplete";
}
