/* The compressed tier against a model, and what cleaning promises. */
#include <pthread.h>
#include <stdatomic.h>

#include "../../shim/tier/pool.h"
#include "tier_model.h"

#ifndef LOGICAL_PAGE
#define LOGICAL_PAGE 4096
#endif

enum { ITEMS = 8192, PAGE = LOGICAL_PAGE, SEGMENT = 262144 };

/* Room for so many times 256 pages: a MiB of small ones. */
#define ROOM(n) ((uint64_t)(n) * 256 * PAGE)

static struct tier *make_pool(uint64_t reserve, uint64_t capacity, size_t page_size)
{
    struct tier *tier = NULL;
    struct pool_config config = {.reserve = reserve, .capacity = capacity, .page_size = page_size};
    cr_assert_eq(pool_new(&tier, &config), 0);
    return tier;
}

static void check_counts(const struct model *model)
{
    struct tier_stats stats = model_stats(model);
    cr_assert_eq(stats.records, model_records(model));
    cr_assert_geq(stats.held_bytes, stats.bytes);
    cr_assert_leq(stats.held_bytes, stats.capacity);
    cr_assert_eq(stats.errors, 0);
}

Test(pool, configuration_is_checked)
{
    struct tier *tier = NULL;
    cr_assert_eq(pool_new(&tier, &(struct pool_config){.reserve = 1 << 20, .page_size = 5000}), -EINVAL);
    cr_assert_eq(pool_new(&tier, &(struct pool_config){.reserve = 1 << 20, .page_size = 1 << 17}), -EINVAL);
    cr_assert_eq(pool_new(&tier, &(struct pool_config){.reserve = 1000, .page_size = PAGE}), -EINVAL);
    pool_free(NULL);
}

Test(pool, keeps_records_of_every_size_at_every_page_size)
{
    static const size_t sizes[] = {4096, 16384, 65536};
    for (int s = 0; s < 3; s++) {
        struct tier *tier = make_pool(16 << 20, 16 << 20, sizes[s]);
        struct model model;
        model_init(&model, tier, 100, sizes[s], 4096, ITEMS);
        for (int i = 0; i < 50; i++)
            cr_assert_eq(model_store(&model, 10), 10);
        model_verify_all(&model);
        check_counts(&model);
        model_fini(&model);
        pool_free(tier);
    }
}

Test(pool, loads_in_place)
{
    struct tier *tier = make_pool(ROOM(1), ROOM(1), PAGE);
    tier_handle handle;
    struct record out[2], record = {.page = 5, .bytes = "hello", .size = 5, .codec = 2};
    cr_assert_eq(tier->ops->store(tier, &record, 1, &handle), 1);
    cr_assert_eq(tier->ops->load(tier, 5, handle, NULL, &out[0]), 0);
    cr_assert_eq(tier->ops->load(tier, 5, handle, NULL, &out[1]), 0);
    cr_assert_eq(out[0].bytes, out[1].bytes);
    cr_assert_eq(memcmp(out[0].bytes, "hello", 5), 0);
    pool_free(tier);
}

Test(pool, a_dead_or_foreign_handle_is_refused)
{
    struct tier *tier = make_pool(ROOM(1), ROOM(1), PAGE);
    struct record out, record = {.page = 5, .bytes = "hello", .size = 5, .codec = 2};
    tier_handle handle, other;
    cr_assert_eq(tier->ops->store(tier, &record, 1, &handle), 1);
    cr_assert_eq(tier->ops->store(tier, &record, 1, &other), 1);
    cr_assert_eq(tier->ops->load(tier, 6, handle, NULL, &out), -EBADMSG);
    cr_assert_eq(tier->ops->load(tier, 5, 0, NULL, &out), -EBADMSG);
    cr_assert_eq(tier->ops->load(tier, 5, handle + 1, NULL, &out), -EBADMSG);
    cr_assert_eq(tier->ops->load(tier, 5, 1u << 20, NULL, &out), -EBADMSG);
    cr_assert_eq(tier->ops->load(tier, 5, UINT64_MAX, NULL, &out), -EBADMSG);
    tier->ops->release(tier, handle);
    cr_assert_eq(tier->ops->load(tier, 5, handle, NULL, &out), -EBADMSG);
    tier->ops->release(tier, handle); /* the owner's mistake costs nobody else anything */
    cr_assert_eq(tier->ops->load(tier, 5, other, NULL, &out), 0);
    struct tier_stats stats;
    tier->ops->stats(tier, &stats);
    cr_assert_eq(stats.records, 1);
    cr_assert_eq(stats.errors, 7);
    pool_free(tier);
}

Test(pool, a_record_that_no_page_could_have_is_refused)
{
    struct tier *tier = make_pool(ROOM(1), ROOM(1), PAGE);
    static char bytes[2 * PAGE];
    tier_handle handles[2];
    struct record run[2] = {{.page = 1, .bytes = bytes, .size = 10, .codec = 1},
                            {.page = 2, .bytes = bytes, .size = PAGE + 1, .codec = 1}};
    cr_assert_eq(tier->ops->store(tier, run, 2, handles), 1);
    cr_assert_eq(tier->ops->store(tier, run + 1, 1, handles), -EINVAL);
    run[1].size = 0;
    cr_assert_eq(tier->ops->store(tier, run + 1, 1, handles), -EINVAL);
    pool_free(tier);
}

Test(pool, full_stores_a_prefix_and_recovers)
{
    struct tier *tier = make_pool(ROOM(4), ROOM(1), PAGE);
    struct model model;
    model_init(&model, tier, 4000, PAGE, 4096, ITEMS);
    int stored;
    while ((stored = model_store(&model, 64)) == 64)
        check_counts(&model);
    while ((stored = model_store(&model, 1)) == 1)
        check_counts(&model);
    cr_assert_eq(stored, -ENOSPC);
    model_verify_all(&model);
    cr_assert_leq(model_stats(&model).held_bytes, ROOM(1));
    pool_set_capacity(tier, ROOM(2));
    cr_assert_eq(model_store(&model, 1), 1);
    for (uint64_t page = 1; page <= model.count; page++)
        model_drop(&model, page);
    for (int i = 0; i < 500; i++) {
        cr_assert_eq(model_store(&model, 4), 4);
        model_verify_all(&model);
        for (uint64_t page = 1; page <= model.count; page++)
            model_drop(&model, page);
    }
    model_fini(&model);
    pool_free(tier);
}

Test(pool, trim_gives_memory_back_and_capacity_can_fall)
{
    struct tier *tier = make_pool(ROOM(64), ROOM(32), PAGE);
    struct model model;
    model_init(&model, tier, 8000, PAGE, 4096, ITEMS);
    for (int i = 0; i < 120; i++)
        cr_assert_eq(model_store(&model, 64), 64);
    uint64_t full = model_stats(&model).held_bytes;
    for (uint64_t page = 1; page <= model.count; page++)
        if (page % 16)
            model_drop(&model, page);
    pool_set_capacity(tier, ROOM(8));
    while (model_clean(&model, PICK_EMPTIEST, 50, true) > 0)
        ;
    tier->ops->trim(tier);
    model_verify_all(&model);
    struct tier_stats stats = model_stats(&model);
    cr_assert_lt(stats.held_bytes, full / 4);
    cr_assert_leq(stats.held_bytes, ROOM(8));
    pool_set_capacity(tier, 0);
    for (uint64_t page = 1; page <= model.count; page++)
        model_drop(&model, page);
    while (model_clean(&model, PICK_OLDEST, 100, true) > 0)
        ;
    cr_assert_eq(model_store(&model, 1), -ENOSPC);
    tier->ops->trim(tier);
    cr_assert_eq(model_stats(&model).held_bytes, 0);
    pool_set_capacity(tier, ROOM(8));
    cr_assert_eq(model_store(&model, 10), 10);
    model_verify_all(&model);
    model_fini(&model);
    pool_free(tier);
}

Test(pool, a_picked_segment_stays_readable_until_pick_done)
{
    struct tier *tier = make_pool(ROOM(4), ROOM(4), PAGE);
    struct model model;
    model_init(&model, tier, 2000, PAGE, 4096, ITEMS);
    while (model_stats(&model).held_bytes < 3 * SEGMENT)
        cr_assert_eq(model_store(&model, 16), 16);
    int n = tier->ops->pick(tier, PICK_OLDEST, 100, model.items, ITEMS);
    cr_assert_gt(n, 0);
    uint64_t pages[ITEMS];
    uint32_t versions[ITEMS];
    for (int i = 0; i < n; i++) {
        pages[i] = model.items[i].record.page;
        versions[i] = model.pages[pages[i]].version;
        cr_assert(model_owns(&model, &model.items[i]), "the dead are left out");
        model_drop(&model, pages[i]);
    }
    tier->ops->trim(tier);
    for (int i = 0; i < 40; i++)
        model_store(&model, 16);
    tier->ops->trim(tier);
    for (int i = 0; i < n; i++)
        cr_assert(model_matches(&model, pages[i], versions[i], &model.items[i].record), "reused while picked");
    tier->ops->pick_done(tier);
    model_verify_all(&model);
    model_fini(&model);
    pool_free(tier);
}

Test(pool, oldest_is_oldest)
{
    struct tier *tier = make_pool(ROOM(4), ROOM(4), PAGE);
    struct model model;
    model_init(&model, tier, 100000, PAGE, 4096, ITEMS);
    uint64_t order[4096];
    size_t n = 0, next = 0;
    static char bytes[3000];
    while (model_stats(&model).held_bytes < 8 * SEGMENT) {
        struct record record = {.page = n + 1, .bytes = bytes, .size = sizeof(bytes), .codec = 1};
        cr_assert_eq(tier->ops->store(tier, &record, 1, &order[n++]), 1);
    }
    int got;
    while ((got = tier->ops->pick(tier, PICK_OLDEST, 100, model.items, ITEMS)) > 0)
        for (int i = 0; i < got; i++) {
            cr_assert_eq(model.items[i].record.page, ++next, "not in the order of storing");
            tier->ops->release(tier, model.items[i].handle);
        }
    cr_assert_gt(next, 500);
    model_fini(&model);
    pool_free(tier);
}

/* 120,000 stores at 80 % of the capacity live: with cleaning that never runs dry, and nothing is ever lost. */
Test(pool, random_overwriting_with_cleaning_stays_within_capacity, .timeout = 60)
{
    uint64_t capacity = ROOM(8);
    struct tier *tier = make_pool(ROOM(32), capacity, PAGE);
    struct model model;
    model_init(&model, tier, 3500, PAGE, 4096, ITEMS);
    for (int step = 0; step < 15000; step++) {
        model_store_cleaning(&model, 8);
        if (step % 16 == 0)
            tier->ops->trim(tier);
        for (int i = 0; i < 8; i++)
            model_verify(&model, 1 + model_random(&model.random) % model.count);
        if (step % 1000 == 0) {
            model_verify_all(&model);
            check_counts(&model);
        }
    }
    cr_assert_gt(model_stats(&model).bytes, capacity * 70 / 100, "the test is to be a tight one");
    model_verify_all(&model);
    check_counts(&model);
    model_fini(&model);
    pool_free(tier);
}

/* ---- threads: one storer, loaders that also release, as faults do ---- */

enum { THREADS = 3, SHARED_PAGES = 600, STORES = 8000 };

struct shared_page {
    _Atomic uint32_t busy; /* the page state word's part: who holds it may use the handle */
    tier_handle handle;
    uint32_t version;
};

static struct shared_page shared[SHARED_PAGES + 1];
static struct model shared_model;
static _Atomic bool finished;

static bool grab(struct shared_page *page)
{
    return !atomic_exchange_explicit(&page->busy, 1, memory_order_acquire);
}
static void put(struct shared_page *page)
{
    atomic_store_explicit(&page->busy, 0, memory_order_release);
}

static void *fault_loop(void *arg)
{
    uint64_t random = (uint64_t)(uintptr_t)arg;
    struct tier *tier = shared_model.tier;
    while (!atomic_load(&finished)) {
        uint64_t number = 1 + model_random(&random) % SHARED_PAGES;
        struct shared_page *page = &shared[number];
        struct record got;
        if (!grab(page))
            continue;
        if (page->handle) {
            cr_assert_eq(tier->ops->load(tier, number, page->handle, NULL, &got), 0);
            cr_assert(model_matches(&shared_model, number, page->version, &got));
            if (model_random(&random) % 2) {
                tier->ops->release(tier, page->handle);
                page->handle = 0;
            }
        }
        put(page);
    }
    return NULL;
}

static void move_item(struct tier *tier, const struct tier_item *item)
{
    struct shared_page *page = &shared[item->record.page];
    while (!grab(page))
        ;
    tier_handle moved;
    if (page->handle == item->handle && tier->ops->store(tier, &item->record, 1, &moved) == 1) {
        tier->ops->release(tier, page->handle);
        page->handle = moved;
    }
    put(page);
}

Test(pool, loads_and_releases_race_with_stores_and_cleaning, .timeout = 60)
{
    struct tier *tier = make_pool(ROOM(16), ROOM(1), PAGE);
    model_init(&shared_model, tier, SHARED_PAGES, PAGE, 4096, ITEMS);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, fault_loop, (void *)(uintptr_t)(i + 1));
    uint64_t random = 77, stored = 0;
    for (int round = 0; stored < STORES; round++) {
        uint64_t number = 1 + model_random(&random) % SHARED_PAGES;
        struct shared_page *page = &shared[number];
        char bytes[PAGE];
        if (grab(page)) {
            if (!page->handle) {
                struct record record = model_record(&shared_model, number, ++page->version, bytes);
                stored += tier->ops->store(tier, &record, 1, &page->handle) == 1;
            }
            put(page);
        }
        if (round % 64 == 0) {
            int n = tier->ops->pick(tier, PICK_EMPTIEST, 90, shared_model.items, ITEMS);
            for (int i = 0; i < n; i++)
                move_item(tier, &shared_model.items[i]);
            tier->ops->pick_done(tier);
            tier->ops->trim(tier);
        }
    }
    atomic_store(&finished, true);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (uint64_t number = 1; number <= SHARED_PAGES; number++)
        if (shared[number].handle)
            tier->ops->release(tier, shared[number].handle);
    cr_assert_eq(model_stats(&shared_model).records, 0);
    cr_assert_eq(model_stats(&shared_model).bytes, 0);
    cr_assert_eq(model_stats(&shared_model).errors, 0);
    model_fini(&shared_model);
    pool_free(tier);
}
