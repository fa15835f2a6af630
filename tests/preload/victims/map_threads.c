/*
 * map_threads MODE: mappings that change while other threads use theirs.
 *
 *   grow      threads that each fill and grow a buffer of their own by mremap(); nothing is shared
 *   replace   a thread reads memory that another one replaces, at the same address, by a file and back
 *   close     memory is filled and made inaccessible, more of it than the budget, opened again and compared
 *   advise    memory of libc's mmap() is given up by the instruction
 *   hints     who insists on an address by a hint gets it, for shared memory there; who does not, any
 *   vast      far more accessible memory than there is, nearly untouched, costs nearly nothing
 *   wipe      what children shall not have, stored or in memory, they find empty, and nothing else
 *   marks     what madvise() and mprotect() have done to a place is gone when the memory is
 */
#include <fcntl.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "victim.h"

static char *map(size_t size)
{
    char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(p != MAP_FAILED && in_arena(p) != 0);
    return p;
}

static uint64_t *word_of(char *buffer, size_t page)
{
    return (uint64_t *)(buffer + page * PAGE);
}

/* ---- grow ---- */

static void *grow(void *number)
{
    uint64_t seed = (uintptr_t)number * 7919 + 1, sizes = seed;
    for (int round = 0; round < 12; round++) {
        size_t pages = 256, filled = 0;
        char *buffer = map(pages * PAGE);
        while (pages < 1500) {
            for (; filled < pages; filled++)
                *word_of(buffer, filled) = mix64(seed + filled);
            const size_t more = pages + 64 + random_next(&sizes) % 256;
            buffer = mremap(buffer, pages * PAGE, more * PAGE, MREMAP_MAYMOVE);
            CHECK(buffer != MAP_FAILED);
            pages = more;
            for (size_t page = 0; page < pages; page++)
                CHECK(*word_of(buffer, page) == (page < filled ? mix64(seed + page) : 0));
        }
        CHECK(munmap(buffer, pages * PAGE) == 0);
        seed += 1000003;
    }
    return NULL;
}

static void run_grow(void)
{
    pthread_t threads[4];
    for (uintptr_t i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], NULL, grow, (void *)i) == 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
}

/* ---- replace ---- */

static char *volatile place;
static volatile bool stop;

static void *read_all(void *unused)
{
    (void)unused;
    while (!stop)
        for (size_t at = 0; at < MIB; at += 16 * PAGE)
            CHECK(((volatile char *)place)[at] == 0);
    return NULL;
}

static void run_replace(void)
{
    FILE *file = tmpfile();
    CHECK(file && ftruncate(fileno(file), MIB) == 0);
    place = map(4 * MIB);
    pthread_t reader;
    CHECK(pthread_create(&reader, NULL, read_all, NULL) == 0);
    for (int i = 0; i < 3000; i++) {
        const int kind = i % 2 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
        CHECK(mmap(place, MIB, PROT_READ | PROT_WRITE, kind | MAP_FIXED, i % 2 ? -1 : fileno(file), 0) == place);
    }
    stop = true;
    pthread_join(reader, NULL);
    fclose(file);
}

/* ---- close ---- */

static void run_close(void)
{
    const size_t part = 8 * MIB, parts = 12;
    char *buffer = map(parts * part);
    for (size_t i = 0; i < parts; i++) {
        for (size_t page = 0; page < part / PAGE; page++)
            *word_of(buffer + i * part, page) = mix64(i * part + page);
        CHECK(mprotect(buffer + i * part, part, i % 2 ? PROT_READ : PROT_NONE) == 0);
    }
    CHECK(mprotect(buffer, parts * part, PROT_READ) == 0);
    for (size_t i = 0; i < parts; i++)
        for (size_t page = 0; page < part / PAGE; page++)
            CHECK(*word_of(buffer + i * part, page) == mix64(i * part + page));
    CHECK(munmap(buffer, parts * part) == 0);
}

/* ---- advise ---- */

static long madvise_without_libc(void *start, size_t size, int advice)
{
#if defined(__x86_64__)
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(SYS_madvise), "D"(start), "S"(size), "d"((long)advice) : "rcx", "r11", "memory");
    return result;
#else
    return madvise(start, size, advice);
#endif
}

static void run_advise(void)
{
    const size_t size = 64 * MIB;
    char *buffer = map(size);
    for (size_t page = 0; page < size / PAGE; page++)
        *word_of(buffer, page) = mix64(page);
    CHECK(madvise_without_libc(buffer + PAGE, size - 2 * PAGE, MADV_DONTNEED) == 0);
    for (size_t page = 0; page < size / PAGE; page++)
        CHECK(*word_of(buffer, page) == (page == 0 || page == size / PAGE - 1 ? mix64(page) : 0));
}

/* ---- marks ---- */

static void child_uses(char *p, size_t size)
{
    const pid_t child = fork();
    int status;
    if (child == 0) {
        memset(p, 7, size);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static void run_marks(void)
{
    char *p = map(8 * MIB);
    p[0] = 1;
    CHECK(madvise(p, 8 * MIB, MADV_DONTFORK) == 0 && munmap(p, 8 * MIB) == 0);
    p = map(8 * MIB);
    child_uses(p, 8 * MIB);
    CHECK(munmap(p, 8 * MIB) == 0);
    /* A stack with a guard page, as coroutines have them. */
    void *block;
    CHECK(posix_memalign(&block, PAGE, MIB) == 0 && in_arena(block) != 0);
    CHECK(mprotect(block, PAGE, PROT_NONE) == 0);
    free(block);
    block = big_malloc(MIB);
    memset(block, 1, MIB);
    child_uses(block, MIB);
    free(block);
}

/* ---- hints ---- */

/* As ZGC looks for room for its heap: elsewhere is of no use. */
static char *reserve_at(uintptr_t start, size_t size)
{
    for (uintptr_t at = start; at < start + 64 * GIB; at += GIB) {
        char *p = mmap((void *)at, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        CHECK(p != MAP_FAILED);
        if (p == (char *)at)
            return p;
        CHECK(munmap(p, size) == 0);
    }
    die("nothing to be had near %zx", (size_t)start);
}

static void run_hints(void)
{
    const size_t size = 2 * MIB;
    const int file = memfd_create("heap", 0);
    char *views[2], *p;
    CHECK(file >= 0 && ftruncate(file, (off_t)size) == 0);
    /* Content with what it is given, twice in a row. */
    for (int i = 0; i < 2; i++) {
        p = mmap((void *)(UINT64_C(1) << 43), size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        CHECK(p != MAP_FAILED && in_arena(p) != 0);
        CHECK(mprotect(p, size, PROT_READ | PROT_WRITE) == 0);
        memset(p, 1, size);
        CHECK(munmap(p, size) == 0);
    }
    for (int i = 0; i < 2; i++) {
        views[i] = reserve_at(UINT64_C(1) << (42 + i), size);
        CHECK(mmap(views[i], size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0) == views[i]);
    }
    for (size_t page = 0; page < size / PAGE; page++)
        *word_of(views[page % 2], page) = mix64(page);
    for (size_t page = 0; page < size / PAGE; page++)
        CHECK(*word_of(views[(page + 1) % 2], page) == mix64(page));
    p = map(96 * MIB);
    memset(p, 1, 96 * MIB);
}

/* ---- vast ---- */

/* Of this thread alone: others may keep the machine busy. */
static double seconds(void)
{
    struct timespec now;
    CHECK(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now) == 0);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Whether the kernel tells quickly where memory is (6.7). */
static bool kernel_scans(void)
{
    uint64_t scan[12] = {sizeof scan};
    const int fd = open("/proc/self/pagemap", O_RDONLY);
    const bool known = fd >= 0 && (ioctl(fd, _IOWR('f', 16, uint64_t[12]), scan) >= 0 || errno != ENOTTY);
    close(fd);
    return known;
}

static void run_vast(void)
{
    const size_t size = 700 * GIB, step = size / 2560;
    const double start = seconds();
    char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(p != MAP_FAILED && in_arena(p) != 0);
    CHECK(seconds() - start < 2 || !kernel_scans());
    for (size_t at = 0; at < size; at += step)
        *(uint64_t *)(p + at) += mix64(at);
    for (size_t at = 0; at < size; at += step)
        CHECK(*(uint64_t *)(p + at) == mix64(at) && *(uint64_t *)(p + at + step - 8) == 0);
}

/* ---- wipe ---- */

/* Pages [from, to) are empty in a child, the others of [p, p + pages) have their content. */
static void expect_in_child(const char *p, size_t pages, size_t from, size_t to)
{
    const pid_t child = fork();
    int status;
    size_t wrong = 0;
    if (child == 0) {
        for (size_t page = 0; page < pages; page++)
            wrong += *word_of((char *)p, page) != (page >= from && page < to ? 0 : mix64(page));
        if (!wrong && to > from)
            memset((char *)p + from * PAGE, 5, (to - from) * PAGE);
        for (size_t page = from; page < to && !wrong; page++)
            wrong += p[page * PAGE + PAGE - 1] != 5;
        _exit(wrong != 0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(status == 0);
    for (size_t page = 0; page < pages; page++)
        CHECK(*word_of((char *)p, page) == mix64(page));
}

static void fill(char *p, size_t pages)
{
    for (size_t page = 0; page < pages; page++)
        *word_of(p, page) = mix64(page);
}

static void run_wipe(void)
{
    const size_t pages = 48 * MIB / PAGE, quarter = pages / 4;
    char *p = map(pages * PAGE), *q;
    fill(p, pages);
    CHECK(madvise(p + quarter * PAGE, 2 * quarter * PAGE, MADV_WIPEONFORK) == 0);
    expect_in_child(p, pages, quarter, 3 * quarter);
    CHECK(madvise(p, pages * PAGE, MADV_PAGEOUT) == 0);
    expect_in_child(p, pages, quarter, 3 * quarter);
    /* It stays with the memory when that is closed and opened, and when it moves. */
    CHECK(madvise(p + 2 * quarter * PAGE, quarter * PAGE, MADV_KEEPONFORK) == 0);
    CHECK(mprotect(p + quarter * PAGE, quarter * PAGE, PROT_NONE) == 0);
    CHECK(mprotect(p, pages * PAGE, PROT_READ | PROT_WRITE) == 0);
    expect_in_child(p, pages, quarter, 2 * quarter);
    CHECK(madvise(p, quarter * PAGE, MADV_WIPEONFORK) == 0);
    q = map(3 * quarter * PAGE);
    CHECK(mremap(p, 2 * quarter * PAGE, 2 * quarter * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, q) == q);
    expect_in_child(q, 2 * quarter, 0, 2 * quarter);
    /* And goes with it. */
    CHECK(mmap(q, quarter * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == q);
    fill(q, quarter);
    expect_in_child(q, 2 * quarter, quarter, 2 * quarter);
    CHECK(munmap(q, 3 * quarter * PAGE) == 0 && munmap(p + 2 * quarter * PAGE, 2 * quarter * PAGE) == 0);
    p = map(pages * PAGE);
    fill(p, pages);
    expect_in_child(p, pages, 0, 0);
    CHECK(munmap(p + quarter * PAGE, quarter * PAGE) == 0);
    CHECK(madvise(p, pages * PAGE, MADV_WIPEONFORK) < 0 && errno == ENOMEM);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } modes[] = {{"grow", run_grow}, {"replace", run_replace}, {"close", run_close}, {"advise", run_advise},
                 {"hints", run_hints}, {"vast", run_vast}, {"wipe", run_wipe},
                 {"marks", run_marks}};
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        if (argc > 1 && strcmp(argv[1], modes[i].name) == 0) {
            modes[i].run();
            printf("%s: all right\n", argv[1]);
            return 0;
        }
    }
    die("usage: map_threads grow|replace|close|advise|hints|vast|wipe|marks");
}
