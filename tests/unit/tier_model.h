/*
 * tier_model.h: an owner of pages, as the pager is one, for tests of tiers.
 *
 * Page content follows from (page, version), so that the model remembers two words a page and can still tell any wrong
 * byte. Page numbers start at 1; a handle of 0 means not stored.
 */
#ifndef TIER_MODEL_H
#define TIER_MODEL_H

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../../shim/tier/tier.h"

struct model_page {
    tier_handle handle;
    uint32_t version;
};

struct model {
    struct tier *tier;
    struct model_page *pages;
    size_t count, page_size;
    uint64_t random;
    void *scratch;
    struct tier_item *items;
    size_t max_items;
    uint64_t live_bytes; /* of records */
    bool raw;            /* nothing compresses */
};

/* splitmix64 (Steele, Lea, Flood, OOPSLA 2014). */
static inline uint64_t model_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static inline uint64_t model_seed(uint64_t page, uint32_t version)
{
    return page * 1000003 + version;
}

static inline uint32_t model_size(const struct model *model, uint64_t page, uint32_t version)
{
    uint64_t state = model_seed(page, version);
    uint64_t draw = model_random(&state);
    if (model->raw || draw % 8 == 0)
        return (uint32_t)model->page_size; /* what does not compress */
    if (draw % 8 == 1)
        return 1 + (uint32_t)(draw >> 8) % 64; /* what hardly needs storing */
    return 1 + (uint32_t)(draw >> 8) % (uint32_t)(model->page_size * 7 / 8);
}

static inline void model_content(uint64_t page, uint32_t version, void *bytes, uint32_t size)
{
    uint64_t state = ~model_seed(page, version);
    for (uint32_t at = 0; at < size; at += 8) {
        uint64_t word = model_random(&state);
        memcpy((char *)bytes + at, &word, size - at < 8 ? size - at : 8);
    }
}

static inline struct record model_record(const struct model *model, uint64_t page, uint32_t version, void *bytes)
{
    struct record record = {
        .page = page, .bytes = bytes, .size = model_size(model, page, version), .codec = (uint8_t)(1 + version % 3)};
    model_content(page, version, bytes, record.size);
    return record;
}

/* Whether `got` is what `page` holds at `version`, to the byte. */
static inline bool model_matches(const struct model *model, uint64_t page, uint32_t version, const struct record *got)
{
    unsigned char expected[65536];
    struct record wanted = model_record(model, page, version, expected);
    return got->page == page && got->size == wanted.size && got->codec == wanted.codec &&
           memcmp(got->bytes, expected, wanted.size) == 0;
}

static inline void model_init(struct model *model, struct tier *tier, size_t count, size_t page_size,
                              size_t scratch_size, size_t max_items)
{
    *model = (struct model){.tier = tier, .count = count, .page_size = page_size, .random = 42, .max_items = max_items};
    model->pages = calloc(count + 1, sizeof(*model->pages));
    model->items = calloc(max_items, sizeof(*model->items));
    model->scratch = aligned_alloc(4096, (scratch_size + 4095) & ~(size_t)4095);
}

static inline void model_fini(struct model *model)
{
    free(model->pages);
    free(model->items);
    free(model->scratch);
}

static inline void model_drop(struct model *model, uint64_t page)
{
    struct model_page *slot = &model->pages[page];
    if (!slot->handle)
        return;
    model->tier->ops->release(model->tier, slot->handle);
    model->live_bytes -= model_size(model, page, slot->version);
    slot->handle = 0;
}

#define MODEL_RUN 64

/* New versions of `n` pages picked at random, each page once; their old ones are released. `bytes`: n pages. */
static inline void model_prepare(struct model *model, struct record *run, size_t n, char *bytes)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t page = 1 + model_random(&model->random) % model->count;
        for (size_t j = 0; j < i; j++) {
            if (run[j].page == page) {
                page = page % model->count + 1;
                j = (size_t)-1;
            }
        }
        model_drop(model, page);
        run[i] = model_record(model, page, ++model->pages[page].version, bytes + i * model->page_size);
    }
}

static inline int model_store_run(struct model *model, const struct record *run, size_t n)
{
    tier_handle handles[MODEL_RUN];
    int stored = model->tier->ops->store(model->tier, run, n, handles);
    for (int i = 0; i < stored; i++) {
        model->pages[run[i].page].handle = handles[i];
        model->live_bytes += run[i].size;
    }
    return stored;
}

/* Stores new versions of `n` pages picked at random; returns what store() returned. */
static inline int model_store(struct model *model, size_t n)
{
    struct record run[MODEL_RUN];
    char *bytes = malloc(n * model->page_size);
    model_prepare(model, run, n, bytes);
    int stored = model_store_run(model, run, n);
    free(bytes);
    return stored;
}

static inline void model_verify(struct model *model, uint64_t page)
{
    struct model_page *slot = &model->pages[page];
    struct record got;
    if (!slot->handle)
        return;
    cr_assert_eq(model->tier->ops->load(model->tier, page, slot->handle, model->scratch, &got), 0, "page %llu lost",
                 (unsigned long long)page);
    cr_assert(model_matches(model, page, slot->version, &got), "page %llu has wrong bytes", (unsigned long long)page);
}

static inline void model_verify_all(struct model *model)
{
    for (uint64_t page = 1; page <= model->count; page++)
        model_verify(model, page);
}

/* Whether the owner still holds this very record. */
static inline bool model_owns(const struct model *model, const struct tier_item *item)
{
    uint64_t page = item->record.page;
    return page >= 1 && page <= model->count && model->pages[page].handle == item->handle;
}

/* Stores what the owner still holds of `n` picked items again, by one call: then there is always room. */
static inline void model_move(struct model *model, const struct tier_item *items, size_t n)
{
    struct record *run = calloc(n + 1, sizeof(*run));
    tier_handle *moved = calloc(n + 1, sizeof(*moved));
    size_t live = 0;
    for (size_t i = 0; i < n; i++) {
        if (model_owns(model, &items[i]))
            run[live++] = items[i].record;
    }
    int stored = live ? model->tier->ops->store(model->tier, run, live, moved) : 0;
    cr_assert_eq(stored, (int)live, "no room to clean");
    for (size_t i = 0; i < live; i++) {
        model->tier->ops->release(model->tier, model->pages[run[i].page].handle);
        model->pages[run[i].page].handle = moved[i];
    }
    free(run);
    free(moved);
}

/* One pick: live records are stored again in the tier, or given up when `demote`. Returns what pick() returned. */
static inline int model_clean(struct model *model, enum tier_pick which, unsigned percent, bool demote)
{
    const struct tier_ops *ops = model->tier->ops;
    int n = ops->pick(model->tier, which, percent, model->items, model->max_items);
    for (int i = 0; i < n; i++) {
        uint64_t page = model->items[i].record.page;
        if (!model_owns(model, &model->items[i]))
            continue;
        cr_assert(model_matches(model, page, model->pages[page].version, &model->items[i].record), "wrong bytes");
        if (demote)
            model_drop(model, page);
    }
    if (n > 0)
        model_move(model, model->items, (size_t)n);
    ops->pick_done(model->tier);
    return n;
}

/* As model_store(), and cleans until all of it is stored. */
static inline void model_store_cleaning(struct model *model, size_t n)
{
    struct record run[MODEL_RUN];
    char *bytes = malloc(n * model->page_size);
    model_prepare(model, run, n, bytes);
    for (size_t done = 0, tries = 0; done < n; tries++) {
        int stored = model_store_run(model, run + done, n - done);
        done += stored > 0 ? (size_t)stored : 0;
        if (done == n)
            break;
        cr_assert(stored > 0 || stored == -ENOSPC);
        cr_assert_lt(tries, 1000, "cleaning makes no room");
        cr_assert_gt(model_clean(model, PICK_EMPTIEST, 99, false), 0, "nothing to clean");
    }
    free(bytes);
}

static inline struct tier_stats model_stats(const struct model *model)
{
    struct tier_stats stats;
    model->tier->ops->stats(model->tier, &stats);
    return stats;
}

static inline uint64_t model_records(const struct model *model)
{
    uint64_t records = 0;
    for (uint64_t page = 1; page <= model->count; page++)
        records += model->pages[page].handle != 0;
    return records;
}

#endif
