/* Several threads: what one does to a page, another one sees whole or not at all. */
#include "contract.h"

#include <pthread.h>
#include <stdlib.h>

#define TORTURE_MS 3000

static volatile bool stop;

/* ---- filling is atomic ---- */

#define TORN_PAGES 4

/* Words of a page written in rising order and read in rising order may only rise: each page is full of one generation,
 * and generations rise. Half a page of zeros or of an older generation is a fall. */
static void scan_page(uintptr_t page, uint64_t *newest)
{
    uint64_t seen = *newest;
    for (size_t at = 0; at < pf.page; at += 8) {
        uint64_t word = *(volatile uint64_t *) (page + at);
        if (word < seen)
            check_failed(__FILE__, __LINE__, "a torn page", (long long) word, (long long) seen);
        seen = word;
    }
    *newest = seen;
}

static void *reader(void *unused)
{
    uint64_t newest[TORN_PAGES] = {0};
    (void) unused;
    for (size_t i = 0; i < TORN_PAGES; i++)
        newest[i] = 1;
    for (size_t i = 0; !stop; i = (i + 1) % TORN_PAGES)
        scan_page(page_at(i), &newest[i]);
    return NULL;
}

static uint64_t *generation_content(uint64_t generation)
{
    static uint64_t content[TORN_PAGES * KIB(64) / 8];
    for (size_t i = 0; i < TORN_PAGES * pf.page / 8; i++)
        content[i] = generation;
    return content;
}

static void drop_and_place(uint64_t generation, bool writable)
{
    const uint64_t *content = generation_content(generation);
    CHECK_EQ(pf.ops->protect(&pf, page_at(0), TORN_PAGES * pf.page), 0);
    CHECK_EQ(pf.ops->drop(&pf, &(struct extent){page_at(0), TORN_PAGES * pf.page}, 1), 0);
    if (generation % 4 == 0)
        os_yield();
    if (generation % 2) {
        CHECK_EQ(pf.ops->place(&pf, page_at(0), TORN_PAGES * pf.page, content, writable),
                 TORN_PAGES * pf.page);
        return;
    }
    for (size_t i = 0; i < TORN_PAGES; i++)
        CHECK_EQ(pf.ops->place(&pf, page_at(i), pf.page, content, writable), pf.page);
}

static void torture_with_readers(bool writable)
{
    pthread_t threads[3];
    start_armed(TORN_PAGES);
    CHECK_EQ(pf.ops->place(&pf, page_at(0), TORN_PAGES * pf.page, generation_content(1), true), TORN_PAGES * pf.page);
    heal_with(heal_again);
    for (size_t i = 0; i < 3; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, reader, NULL), 0);
    uint64_t generation = 2, end = milliseconds() + TORTURE_MS;
    for (; milliseconds() < end; generation++)
        drop_and_place(generation, writable);
    stop = true;
    for (size_t i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    printf("  %llu generations, %u traps\n", (unsigned long long) generation, trap_count());
    CHECK(generation > 100 && trap_count() > 100);
}

static void a_page_is_filled_in_one_step(void) { torture_with_readers(true); }

static void a_protected_page_is_filled_in_one_step(void)
{
    if (!pf.caps.protects)
        skip("protection stops readers too");
    torture_with_readers(false);
}

/* ---- taking is atomic ---- */

static void a_page_is_taken_and_put_back_in_one_step(void)
{
    pthread_t threads[2];
    if (!pf.caps.takes)
        skip("cannot take pages");
    start_armed(TORN_PAGES);
    CHECK_EQ(pf.ops->place(&pf, page_at(0), TORN_PAGES * pf.page, generation_content(1), true), TORN_PAGES * pf.page);
    heal_with(heal_again);
    for (size_t i = 0; i < 2; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, reader, NULL), 0);
    uint64_t rounds = 0, end = milliseconds() + TORTURE_MS / 3;
    for (; milliseconds() < end; rounds++) {
        CHECK_EQ(pf.ops->take(&pf, page_at(0), TORN_PAGES * pf.page, 0), TORN_PAGES * pf.page);
        CHECK_EQ(*(volatile uint64_t *) pf.staging, 1);
        CHECK_EQ(pf.ops->place(&pf, page_at(0), TORN_PAGES * pf.page, pf.staging, true),
                 TORN_PAGES * pf.page);
    }
    stop = true;
    for (size_t i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    CHECK(rounds > 100);
}

/* ---- protection holds from its return on ---- */

static bool gate_closed;
static uint32_t gate_lock; /* no heal may be half-way through while the gate closes */

static void lock_gate(void)
{
    while (__atomic_exchange_n(&gate_lock, 1, __ATOMIC_ACQUIRE))
        os_yield();
}

static void unlock_gate(void) { __atomic_store_n(&gate_lock, 0, __ATOMIC_RELEASE); }

static bool heal_behind_gate(const struct trap *trap)
{
    lock_gate();
    bool healed = gate_closed || heal_unprotect(trap);
    unlock_gate();
    os_yield();
    return healed;
}

static void close_gate(void)
{
    lock_gate();
    gate_closed = true;
    CHECK_EQ(pf.ops->protect(&pf, page_at(0), pf.page), 0);
    unlock_gate();
}

static void open_gate(void)
{
    lock_gate();
    gate_closed = false;
    unlock_gate();
}

static void *writer(void *page)
{
    for (uint64_t i = 0; !stop; i++)
        *(volatile uint64_t *) ((uintptr_t) page + i % 512 * 8) = i;
    return NULL;
}

/* A while, or less when the writer has run into the protection. */
static bool wait_for_a_trap(void)
{
    unsigned before = trap_count();
    for (int i = 0; i < 2000 && trap_count() == before; i++)
        i % 100 ? os_relax() : os_yield();
    return trap_count() != before;
}

static void no_write_comes_after_protect_returns(void)
{
    static unsigned char scratch[KIB(64)], before[KIB(64)];
    pthread_t thread;
    start_armed(1);
    fill_page(page_at(0), 1, true);
    heal_with(heal_behind_gate);
    CHECK_EQ(pthread_create(&thread, NULL, writer, (void *) page_at(0)), 0);
    unsigned caught = 0;
    for (int i = 0; i < 1000; i++) {
        close_gate();
        memcpy(before, pf.ops->peek(&pf, page_at(0), scratch), pf.page);
        caught += wait_for_a_trap();
        CHECK(memcmp(before, pf.ops->peek(&pf, page_at(0), scratch), pf.page) == 0);
        open_gate();
        wait_for_a_trap();
    }
    stop = true;
    pthread_join(thread, NULL);
    CHECK(caught > 100);
}

/* ---- operations on different pages ---- */

#define WORKERS      3
#define WORKER_PAGES 16

struct worker {
    pthread_t thread;
    size_t number;
    uint64_t rounds;
};

/* Pages of different workers are neighbours. */
static uintptr_t worker_page(const struct worker *worker, size_t i) { return page_at(i * WORKERS + worker->number); }

static void check_peek(uintptr_t page, uint64_t seed, void *scratch)
{
    const void *content = pf.ops->peek(&pf, page, scratch);
    CHECK(content && pattern_is(content, pf.page, seed));
}

static void work_on(uintptr_t page, uint64_t seed, void *content, void *scratch)
{
    pattern_fill(content, pf.page, seed);
    CHECK_EQ(pf.ops->place(&pf, page, pf.page, content, true), pf.page);
    CHECK(pattern_is((void *) page, pf.page, seed));
    CHECK_EQ(pf.ops->protect(&pf, page, pf.page), 0);
    check_peek(page, seed, scratch);
    CHECK_EQ(pf.ops->unprotect(&pf, page, pf.page), 0);
    CHECK(pattern_is((void *) page, pf.page, seed));
    *(volatile uint64_t *) page = 1;
    CHECK_EQ(pf.ops->protect(&pf, page, pf.page), 0);
    CHECK_EQ(pf.ops->drop(&pf, &(struct extent){page, pf.page}, 1), 0);
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    void *content = malloc(pf.page), *scratch = malloc(pf.page);
    for (; !stop; worker->rounds++)
        work_on(worker_page(worker, worker->rounds % WORKER_PAGES), worker->rounds * WORKERS + worker->number, content,
                scratch);
    free(content);
    free(scratch);
    return NULL;
}

static void threads_work_on_different_pages(void)
{
    static struct worker workers[WORKERS];
    start_armed(WORKERS * WORKER_PAGES);
    for (size_t i = 0; i < WORKERS; i++) {
        workers[i].number = i;
        CHECK_EQ(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    /* Meanwhile the address space changes: some calls of the kernel have to be tried again. */
    for (uint64_t end = milliseconds() + TORTURE_MS / 2, i = 0; milliseconds() < end; i++) {
        CHECK_EQ(pf.ops->open(&pf, pf.base + GIB(8) + i % 64 * MIB(1), MIB(1)), 0);
        CHECK_EQ(pf.ops->close(&pf, pf.base + GIB(8) + i % 64 * MIB(1), MIB(1)), 0);
    }
    stop = true;
    for (size_t i = 0; i < WORKERS; i++) {
        pthread_join(workers[i].thread, NULL);
        CHECK(workers[i].rounds > 50);
    }
    CHECK_EQ(trap_count(), 0);
}

int main(int argc, char **argv)
{
    static const struct contract_case cases[] = {
        CASE(a_page_is_filled_in_one_step),
        CASE(a_protected_page_is_filled_in_one_step),
        CASE(a_page_is_taken_and_put_back_in_one_step),
        CASE(no_write_comes_after_protect_returns),
        CASE(threads_work_on_different_pages),
        CASES_END,
    };
    return contract_main(argc, argv, cases);
}
