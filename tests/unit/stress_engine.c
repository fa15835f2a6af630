/*
 * Threads that use, free and pin memory on the fake machine while another one evicts all the time. A plain program, so
 * that it can run under ThreadSanitizer:
 *     clang -fsanitize=thread ... && setarch -R ./stress_engine 10
 *
 * Each thread has pages of its own, whose content it knows, and reads and writes words of a shared block that only
 * grow.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../shim/pager/pager.h"
#include "../../shim/tier/pool.h"
#include "../../shim/tier/spill.h"
#include "fake_platform.h"

#ifndef LOGICAL_PAGE
#define LOGICAL_PAGE 4096
#endif

enum { PAGE = LOGICAL_PAGE, ARENA = 32 << 20, THREADS = 3, OWN_PAGES = 192, SHARED_PAGES = 64, BUDGET = 3 << 20 };

#define REQUIRE(condition)                                                     \
    do {                                                                       \
        if (!(condition)) {                                                    \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);    \
            abort();                                                           \
        }                                                                      \
    } while (0)

static struct fake fake;
static struct arena arena;
static struct engine engine;
static uintptr_t common;
static bool stop;
static struct tier *pool, *spill;

static uint64_t random_number(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    return z ^ z >> 29;
}

static uintptr_t block(size_t size)
{
    uint64_t got;
    uintptr_t start = arena_alloc(&arena, size, 1, true, &got);
    REQUIRE(start);
    return start;
}

static void free_block(uintptr_t start)
{
    struct extent extent;
    REQUIRE(arena_detach(&arena, start, &extent));
    engine_forget(&engine, &extent);
    arena_return(&arena, &extent, false);
}

/* Half of the pages compress, some are one word. */
static void make_page(uint64_t *page, uint64_t seed)
{
    uint64_t state = seed;
    for (size_t i = 0; i < PAGE / 8; i++)
        page[i] = seed % 4 == 0 ? seed : seed % 4 < 3 ? seed + i / 64 : random_number(&state);
}

struct worker {
    pthread_t thread;
    uint64_t random, accesses;
    uint64_t seeds[OWN_PAGES]; /* 0: never written */
    uintptr_t start;
};

static void check_page(struct worker *self, size_t i)
{
    uint64_t seen[PAGE / 8], expected[PAGE / 8] = {0};
    if (self->seeds[i])
        make_page(expected, self->seeds[i]);
    REQUIRE(fake_read(&engine, self->start + i * PAGE, seen, PAGE) == FAULT_HEALED);
    REQUIRE(memcmp(seen, expected, PAGE) == 0);
}

static void write_page(struct worker *self, size_t i)
{
    uint64_t page[PAGE / 8];
    self->seeds[i] = random_number(&self->random) | 1 << 20;
    make_page(page, self->seeds[i]);
    REQUIRE(fake_write(&engine, self->start + i * PAGE, page, PAGE) == FAULT_HEALED);
}

static void pin_page(struct worker *self, size_t i)
{
    bool write = random_number(&self->random) % 2;
    REQUIRE(engine_pin(&engine, self->start + i * PAGE, PAGE, write));
    for (int k = 0; k < 3; k++)
        REQUIRE(fake_kernel_access(&fake, self->start + i * PAGE, write));
    engine_unpin(&engine, self->start + i * PAGE, PAGE);
}

/* A word of the shared block that this thread writes: it never goes back. */
static void count_up(struct worker *self, size_t index)
{
    uint64_t value;
    uintptr_t at = common + (random_number(&self->random) % SHARED_PAGES) * PAGE + 8 * index;
    REQUIRE(fake_read(&engine, at, &value, sizeof value) == FAULT_HEALED);
    value++;
    REQUIRE(fake_write(&engine, at, &value, sizeof value) == FAULT_HEALED);
    self->accesses++;
}

static void start_over(struct worker *self)
{
    free_block(self->start);
    self->start = block(OWN_PAGES * PAGE);
    memset(self->seeds, 0, sizeof self->seeds);
}

static struct worker workers[THREADS];

static void *work(void *argument)
{
    struct worker *self = argument;
    size_t index = (size_t) (self - workers);
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        size_t i = random_number(&self->random) % OWN_PAGES;
        switch (random_number(&self->random) % 8) {
        case 0: case 1: case 2: check_page(self, i); break;
        case 3: case 4: write_page(self, i); break;
        case 5: pin_page(self, i); break;
        default: count_up(self, index); break;
        }
        if (random_number(&self->random) % 4096 == 0)
            start_over(self);
    }
    return NULL;
}

static uint64_t resident_bytes(void) { return __atomic_load_n(&engine.resident, __ATOMIC_RELAXED) * PAGE; }

/* The pager, and on top of it what no budget asks for: as much motion as can be had. */
static void *evict(void *unused)
{
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        pager_step(&engine);
        lock_acquire(&engine.evict_lock);
        evict_pages(&engine, 64);
        lock_release(&engine.evict_lock);
    }
    return unused;
}

static void check_sums(void)
{
    uint64_t sums[THREADS] = {0}, value;
    for (size_t page = 0; page < SHARED_PAGES; page++)
        for (size_t i = 0; i < THREADS; i++) {
            REQUIRE(fake_read(&engine, common + page * PAGE + 8 * i, &value, sizeof value) == FAULT_HEALED);
            sums[i] += value;
        }
    for (size_t i = 0; i < THREADS; i++)
        REQUIRE(sums[i] == workers[i].accesses);
}

static void check_accounts(void)
{
    struct tier_stats in_pool, in_spill;
    uint64_t present = 0, copies = 0;
    for (size_t page = 0; page < engine.page_count; page++) {
        page_word word = page_load(&engine.pages[page]);
        present += page_state(word) == PAGE_RESIDENT;
        copies += page_place(word) == PLACE_POOL || page_place(word) == PLACE_SPILL;
    }
    pool->ops->stats(pool, &in_pool);
    spill->ops->stats(spill, &in_spill);
    REQUIRE(present == engine.resident);
    REQUIRE(present == fake_present(&fake, fake.pf.base, ARENA));
    REQUIRE(copies == in_pool.records + in_spill.records);
}

static void run(const struct fake_config *config, unsigned seconds)
{
    fake_init(&fake, config);
    fake.races = true;
    REQUIRE(arena_init(&arena, &fake.pf) == 0 && engine_init(&engine, &fake.pf, &arena) == 0);
    arena.ready = true;
    engine.take_only = config->take_only;
    REQUIRE(pool_new(&pool, &(struct pool_config){.reserve = 8 << 20, .capacity = 1 << 20, .page_size = PAGE}) == 0);
    REQUIRE(spill_new(&spill, &(struct spill_config){
        .directory = "/var/tmp", .max_bytes = 64 << 20, .page_size = PAGE}) == 0);
    engine.pager.config.no_thread = true;
    REQUIRE(engine_arm(&engine) == 0 && engine_start_paging(&engine, pool, spill) == 0);
    pager_start(&engine, &(struct pager_config){.budget = BUDGET, .resident = resident_bytes, .no_thread = true});

    common = block(SHARED_PAGES * PAGE);
    memset(workers, 0, sizeof workers);
    stop = false;
    pthread_t evictor;
    for (size_t i = 0; i < THREADS; i++) {
        workers[i].random = i + 1;
        workers[i].start = block(OWN_PAGES * PAGE);
        REQUIRE(pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0);
    }
    REQUIRE(pthread_create(&evictor, NULL, evict, NULL) == 0);
    nanosleep(&(struct timespec){.tv_sec = seconds}, NULL);
    __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(workers[i].thread, NULL);
    pthread_join(evictor, NULL);
    for (size_t i = 0; i < THREADS; i++)
        for (size_t page = 0; page < OWN_PAGES; page++)
            check_page(&workers[i], page);
    check_sums();
    check_accounts();
    printf("faults %lu, evictions %lu, refills %lu, rescues %lu\n", engine.counters.faults, engine.counters.evictions,
           engine.counters.refills, engine.counters.rescues);
    engine_fini(&engine);
    ranges_fini(&arena.ranges);
    pool_free(pool);
    spill_free(spill);
    fake_fini(&fake);
}

int main(int argc, char **argv)
{
    unsigned seconds = argc > 1 ? (unsigned) atoi(argv[1]) : 2;
    static const struct fake_config configs[] = {
        {.size = ARENA, .page = PAGE, .protects = true},
        {.size = ARENA, .page = PAGE, .protects = true, .takes = true},
        {.size = ARENA, .page = PAGE, .protects = true, .takes = true, .take_only = true},
        {.size = ARENA, .page = PAGE},
    };
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++)
        run(&configs[i], seconds);
    return 0;
}
