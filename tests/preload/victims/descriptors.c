/*
 * descriptors MODE: the shim's descriptors are not there for a program.
 *   lowest   while memory grows, a thread always gets the lowest free number
 *   loops    loops over all numbers, closefrom() and close_range() close what the program has opened, and no more
 */
#include "../victim.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define SIZE (96 * MIB)

static unsigned char *block;

static void write_all(void)
{
    for (size_t at = 0; at < SIZE; at += PAGE)
        memset(block + at, (int)(at / PAGE % 251), 64);
}

static void check_all(void)
{
    for (size_t at = 0; at < SIZE; at += PAGE)
        CHECK(block[at + 63] == at / PAGE % 251);
}

/* ---- lowest ---- */

static volatile bool ended;
static volatile unsigned other_numbers;

static void *watch(void *unused)
{
    int first = dup(STDOUT_FILENO);
    CHECK(first >= 0 && close(first) == 0);
    while (!ended) {
        int fd = dup(STDOUT_FILENO);
        other_numbers += fd != first;
        close(fd);
    }
    return unused;
}

/* Each step is worth a new look at what is in memory, and most of the blocks move. */
static void grow(void)
{
    for (int i = 0; i < 12; i++) {
        const size_t size = (20 + (size_t)i % 3 * 10) * MIB;
        unsigned char *p = big_malloc(size), *between = big_malloc(2 * MIB);
        memset(p, i, size);
        p = realloc(p, size + 10 * MIB);
        CHECK(p && p[size - 1] == i);
        free(p);
        free(between);
    }
}

static void lowest(void)
{
    pthread_t thread;
    grow();
    CHECK(pthread_create(&thread, NULL, watch, NULL) == 0);
    for (int i = 0; i < 4; i++)
        grow();
    ended = true;
    CHECK(pthread_join(thread, NULL) == 0);
    printf("%u other numbers\n", other_numbers);
}

/* ---- loops ---- */

static int opened;

static void open_some(void)
{
    static const int places[] = {5, 17, 60, 300};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        CHECK(dup2(STDOUT_FILENO, places[i]) == places[i]);
    opened = dup(STDOUT_FILENO);
}

static int count_open(int first)
{
    int open = 0;
    for (int fd = first; fd < 4096; fd++)
        open += fcntl(fd, F_GETFD) >= 0;
    return open;
}

static void by_close(void)
{
    int closed = 0, copy = dup(1010);
    CHECK(copy < 0);
    for (int fd = 3; fd < 4096; fd++)
        closed += close(fd) == 0;
    printf("close: %d\n", closed);
}

static void by_closefrom(void)
{
    closefrom(3);
}

static void by_range(void)
{
    CHECK(close_range(3, ~0u, 0) == 0);
}

static void by_two_ranges(void)
{
    CHECK(close_range(4, 1002, 0) == 0 && close_range(1003, 1u << 20, 0) == 0 && close(3) == 0);
}

static void loop(const char *name, void (*close_all)(void))
{
    open_some();
    CHECK(madvise(block, SIZE, MADV_PAGEOUT) == 0);
    int before = count_open(3);
    close_all();
    check_all();
    write_all();
    int first = dup(STDOUT_FILENO);
    printf("%s: %d open before, %d after, then %d\n", name, before, count_open(3), first);
    close(first);
}

static void loops(void)
{
    closefrom(3); /* what the parent has left */
    loop("close", by_close);
    loop("closefrom", by_closefrom);
    loop("close_range", by_range);
    loop("two ranges", by_two_ranges);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        loop("in a child", by_closefrom);
        fflush(stdout);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    fflush(stdout);
    /* A program without the shim has inherited none, but for what all processes under one vprun have in common. */
    CHECK(system("env -i /bin/ls -l /proc/self/fd | grep -v memfd:hyperion | wc -l") == 0);
    check_all();
}

int main(int argc, char **argv)
{
    block = aligned_alloc(64 * 1024, SIZE);
    CHECK(block && in_arena(block) != 0);
    write_all();
    if (argc > 1 && strcmp(argv[1], "lowest") == 0)
        lowest();
    else
        loops();
    return 0;
}
