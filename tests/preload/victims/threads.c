/*
 * threads MODE: threads come, go, and are cancelled while memory is paged.
 *   many       64 at a time, again and again, detached ones among them
 *   cancelled  in the middle of a fault, and of a call that holds memory
 */
#include "../victim.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

#define THREADS 64
#define SIZE    (96 * MIB)
#define PAGES   (SIZE / PAGE)

static unsigned char *block;

/* All of a page follows from its number. */
static void put(size_t page)
{
    uint64_t *words = (uint64_t *)(void *)(block + page * PAGE);
    for (size_t i = 0; i < PAGE / 8; i++)
        words[i] = mix64(page) + i / 32;
}

static void check(size_t page)
{
    const uint64_t *words = (const uint64_t *)(const void *)(block + page * PAGE);
    for (size_t i = 0; i < PAGE / 8; i += 31)
        if (words[i] != mix64(page) + i / 32)
            die("page %zu word %zu is %016llx", page, i, (unsigned long long)words[i]);
}

static void check_all(void)
{
    for (size_t page = 0; page < PAGES; page++)
        check(page);
}

/* ---- many ---- */

static unsigned finished;

/* Its own part of the block, others' pages in between, and memory of its own. */
static void *work(void *number)
{
    const size_t who = (size_t)(uintptr_t)number;
    uint64_t state = who;
    unsigned char *own = big_malloc(2 * MIB);
    memset(own, (int)who, 2 * MIB);
    for (int i = 0; i < 40; i++) {
        check(random_next(&state) % PAGES);
        put(who + random_next(&state) % (PAGES / THREADS) * THREADS);
    }
    for (size_t at = 0; at < 2 * MIB; at += PAGE)
        CHECK(own[at] == (unsigned char)who);
    free(own);
    __atomic_fetch_add(&finished, 1, __ATOMIC_SEQ_CST);
    return number;
}

static void many(void)
{
    pthread_t threads[THREADS];
    pthread_attr_t detached;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    for (int round = 0; round < 6; round++) {
        finished = 0;
        for (size_t i = 0; i < THREADS; i++)
            CHECK(pthread_create(&threads[i], i % 4 ? NULL : &detached, work, (void *)i) == 0);
        for (size_t i = 0; i < THREADS; i++)
            if (i % 4)
                CHECK(pthread_join(threads[i], NULL) == 0);
        while (__atomic_load_n(&finished, __ATOMIC_SEQ_CST) < THREADS)
            usleep(1000);
    }
    check_all();
    puts("all data right");
}

/* ---- cancelled ---- */

/* Faults all the time, and may be cancelled at any instruction. */
static void *fault_on(void *number)
{
    uint64_t state = (uintptr_t)number;
    int type;
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &type);
    for (volatile uint64_t sum = 0;;)
        sum = sum + block[random_next(&state) % SIZE];
    return NULL;
}

/* A region away from the other threads': nobody else's call holds it. */
static int empty[2];

static void *read_on(void *number)
{
    unsigned char *buffer = block + SIZE / 2 + (uintptr_t)number * MIB;
    while (read(empty[0], buffer, MIB) >= 0)
        continue;
    return NULL;
}

static size_t resident(void)
{
    size_t pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    CHECK(file && fscanf(file, "%*u %zu", &pages) == 1);
    fclose(file);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* Nothing is held by those that are gone: all of it can leave. */
static void check_unpinned(void)
{
    const size_t before = resident();
    madvise(block, SIZE, MADV_PAGEOUT);
    if (in_arena(block) == 1 && getenv("VP_RAM"))
        CHECK(resident() < 24 * MIB || resident() + 8 * MIB < before);
}

static void cancel(void *(*run)(void *), int times)
{
    pthread_t threads[8];
    void *result;
    for (int round = 0; round < times; round++) {
        for (uintptr_t i = 0; i < 8; i++)
            CHECK(pthread_create(&threads[i], NULL, run, (void *)i) == 0);
        usleep((useconds_t)(1000 + round * 1777 % 20000));
        for (int i = 0; i < 8; i++)
            CHECK(pthread_cancel(threads[i]) == 0);
        for (int i = 0; i < 8; i++)
            CHECK(pthread_join(threads[i], &result) == 0 && result == PTHREAD_CANCELED);
    }
}

static void cancelled(void)
{
    CHECK(pipe(empty) == 0);
    cancel(fault_on, 40);
    puts("in faults");
    check_all();
    cancel(read_on, 5);
    puts("in calls");
    check_all();
    check_unpinned();
    check_all();
    puts("all data right");
}

int main(int argc, char **argv)
{
    block = aligned_alloc(64 * 1024, SIZE);
    CHECK(block && in_arena(block) != 0);
    for (size_t page = 0; page < PAGES; page++)
        put(page);
    if (argc > 1 && strcmp(argv[1], "many") == 0)
        many();
    else
        cancelled();
    return 0;
}
