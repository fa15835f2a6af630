/*
 * direct_race [SECONDS]: O_DIRECT transfers into memory that is being evicted meanwhile.
 *
 * The device writes to the pages that the kernel had looked up when the call began. A page that is taken away before
 * the device has written is read back without what was to come: a silent loss that only looking at every byte shows.
 * Two threads read pieces of a file that says at each word where it belongs, into memory whose content is known before;
 * one gives that memory up all the time with MADV_PAGEOUT, another touches more than fits.
 */
#include "../victim.h"

#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <sys/mman.h>
#include <time.h>

enum { READERS = 2, LARGEST = 1 << 20 };
#define FILE_SIZE (32 * MIB)
#define PRESSURE  (96 * MIB)

static int direct;
static unsigned char *targets[READERS], *pressure;
static bool over;
static uint64_t transfers[READERS];

static uint64_t word_at(uint64_t offset)
{
    return mix64(offset) | 1;
}

static void make_file(void)
{
    const char name[] = "direct-race-file";
    uint64_t *const content = big_malloc(LARGEST);
    const int fd = open(name, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    CHECK(fd >= 0);
    for (uint64_t at = 0; at < FILE_SIZE; at += LARGEST) {
        for (uint64_t i = 0; i < LARGEST / 8; i++)
            content[i] = word_at(at + i * 8);
        CHECK(write(fd, content, LARGEST) == LARGEST);
    }
    CHECK(fsync(fd) == 0 && close(fd) == 0);
    free(content);
    direct = open(name, O_RDONLY | O_DIRECT);
    unlink(name);
}

static void check(const uint64_t *words, size_t size, uint64_t offset)
{
    for (size_t i = 0; i < size / 8; i++)
        if (words[i] != word_at(offset + i * 8))
            die("read of %zu at %llu: word %zu holds %016llx, not %016llx", size, (unsigned long long)offset, i,
                (unsigned long long)words[i], (unsigned long long)word_at(offset + i * 8));
}

/* Read anywhere in the target; what is beside it keeps its old value. */
static void transfer(unsigned char *target, uint64_t *state)
{
    const size_t size = (random_next(state) % (LARGEST / PAGE) + 1) * PAGE, place = random_next(state) % 16 * PAGE;
    const uint64_t offset = random_next(state) % ((FILE_SIZE - LARGEST) / PAGE) * PAGE;
    unsigned char *const end = target + place + size;
    memset(target + place, 0, size);
    memset(end, 0x77, PAGE);
    const ssize_t n = pread(direct, target + place, size, (off_t)offset);
    if (n != (ssize_t)size)
        die("read of %zu at %llu: %zd (%s)", size, (unsigned long long)offset, n, n < 0 ? strerror(errno) : "short");
    check((const uint64_t *)(const void *)(target + place), size, offset);
    for (size_t i = 0; i < PAGE; i++)
        CHECK(end[i] == 0x77);
}

static void *reader(void *arg)
{
    const size_t number = (size_t)(uintptr_t)arg;
    uint64_t state = number;
    while (!__atomic_load_n(&over, __ATOMIC_RELAXED)) {
        transfer(targets[number], &state);
        transfers[number]++;
    }
    return NULL;
}

static void *evictor(void *arg)
{
    for (uint64_t state = 9; !__atomic_load_n(&over, __ATOMIC_RELAXED);) {
        const size_t at = random_next(&state) % (LARGEST / PAGE) * PAGE;
        for (size_t i = 0; i < READERS; i++)
            CHECK(madvise(targets[i] + at, LARGEST + 64 * PAGE - at, MADV_PAGEOUT) == 0);
    }
    return arg;
}

static void *toucher(void *arg)
{
    for (uint64_t state = 10; !__atomic_load_n(&over, __ATOMIC_RELAXED);)
        ((volatile uint64_t *)(void *)pressure)[random_next(&state) % (PRESSURE / 8)] = state;
    return arg;
}

int main(int argc, char **argv)
{
    pthread_t threads[READERS + 2];
    const size_t seconds = argument(argc, argv, 1, 10);
    make_file();
    if (direct < 0) {
        printf("no O_DIRECT here\n");
        return 0;
    }
    pressure = big_malloc(PRESSURE);
    for (size_t i = 0; i < READERS; i++) {
        targets[i] = memalign(PAGE, LARGEST + 64 * PAGE);
        CHECK(targets[i] && in_arena(targets[i]) != 0);
        CHECK(pthread_create(&threads[i], NULL, reader, (void *)(uintptr_t)i) == 0);
    }
    CHECK(pthread_create(&threads[READERS], NULL, evictor, NULL) == 0);
    CHECK(pthread_create(&threads[READERS + 1], NULL, toucher, NULL) == 0);
    nanosleep(&(struct timespec){(time_t)seconds, 0}, NULL);
    __atomic_store_n(&over, true, __ATOMIC_RELAXED);
    for (size_t i = 0; i < READERS + 2; i++)
        pthread_join(threads[i], NULL);
    for (size_t i = 0; i < READERS; i++)
        CHECK(transfers[i] > 0);
    printf("every byte right\n");
    return 0;
}
