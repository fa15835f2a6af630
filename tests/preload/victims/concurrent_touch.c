/*
 * concurrent_touch [ROUNDS [MIB PASSES]]: eight threads touch the same pages at the same time, and no store may be
 * lost. First pages that never had content, a new block each round; then, over and over, a block that does not fit the
 * budget (where there is one), so that faults meet faults and evictions of the same page.
 */
#include "../victim.h"

#include <pthread.h>
#include <stdatomic.h>

#define THREADS     8
#define FRESH_PAGES ((size_t)384)

static pthread_barrier_t barrier;
static unsigned char *block;
static size_t rounds, pages, passes;

/* A counter that all add to, and a byte of each thread's own a cache line apart. */
static void touch(unsigned char *page, size_t thread)
{
    atomic_fetch_add((_Atomic uint64_t *)(void *)page, 1);
    page[64 * (thread + 1)]++;
}

static void verify(const unsigned char *page, size_t times)
{
    uint64_t count;
    memcpy(&count, page, sizeof count);
    if (count != THREADS * times)
        die("page %p: counted to %zu, not %zu", (const void *)page, (size_t)count, THREADS * times);
    for (size_t i = 1; i <= THREADS; i++)
        if (page[64 * i] != (unsigned char)times)
            die("page %p: thread %zu's byte is %u, not %u", (const void *)page, i - 1, page[64 * i],
                (unsigned char)times);
}

static void *run(void *arg)
{
    const size_t thread = (size_t)(uintptr_t)arg;
    for (size_t round = 0; round < rounds; round++) {
        if (thread == 0)
            CHECK((block = calloc(FRESH_PAGES, PAGE)) && in_arena(block) != 0);
        pthread_barrier_wait(&barrier);
        for (size_t i = 0; i < FRESH_PAGES; i++)
            touch(block + i * PAGE, thread);
        pthread_barrier_wait(&barrier);
        if (thread == 0) {
            for (size_t i = 0; i < FRESH_PAGES; i++)
                verify(block + i * PAGE, 1);
            free(block);
        }
    }
    if (thread == 0)
        CHECK((block = calloc(pages, PAGE)) && in_arena(block) != 0);
    for (size_t pass = 0; pass < passes; pass++) {
        pthread_barrier_wait(&barrier);
        for (size_t i = 0; i < pages; i++)
            touch(block + i * PAGE, thread);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    rounds = argument(argc, argv, 1, 150);
    pages = argument(argc, argv, 2, 96) * MIB / PAGE;
    passes = argument(argc, argv, 3, 4);
    pthread_t threads[THREADS];
    pthread_barrier_init(&barrier, NULL, THREADS);
    for (size_t i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, run, (void *)i) == 0);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (size_t i = 0; i < pages; i++)
        verify(block + i * PAGE, passes);
    free(block);
    puts("no store lost");
    return 0;
}
