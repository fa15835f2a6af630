/*
 * syscalls FILE: what system calls cost. For every line on stdin it makes a number of calls of each kind and prints the
 * nanoseconds that one took, in the order of `measures`. FILE has at least 1 MiB. See syscalls.py.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { LARGE = 1 << 20 };

static int zero, file;
static unsigned char ordinary[LARGE], *arena;

static long ask_parent(void)
{
    return syscall(SYS_getppid);
}

static long byte_to_ordinary(void)
{
    return read(zero, ordinary, 1);
}

static long byte_to_arena(void)
{
    return read(zero, arena, 1);
}

static long large_to_ordinary(void)
{
    return pread(file, ordinary, LARGE, 0);
}

static long large_to_arena(void)
{
    return pread(file, arena, LARGE, 0);
}

static const struct {
    long (*call)(void);
    unsigned times;
    long result; /* 0: any */
} measures[] = {
    {ask_parent, 20000, 0},         {byte_to_ordinary, 10000, 1}, {byte_to_arena, 10000, 1},
    {large_to_ordinary, 30, LARGE}, {large_to_arena, 30, LARGE},
};

static double nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static void measure(size_t i)
{
    const double start = nanoseconds();
    for (unsigned n = 0; n < measures[i].times; n++) {
        const long result = measures[i].call();
        if (measures[i].result && result != measures[i].result) {
            fprintf(stderr, "measure %zu: %ld\n", i, result);
            exit(1);
        }
    }
    printf("%.1f ", (nanoseconds() - start) / measures[i].times);
}

int main(int argc, char **argv)
{
    char line[16];
    zero = open("/dev/zero", O_RDONLY);
    file = argc > 1 ? open(argv[1], O_RDONLY) : -1;
    arena = malloc(4 * LARGE);
    if (zero < 0 || file < 0 || !arena)
        return fprintf(stderr, "usage: syscalls FILE\n"), 1;
    memset(arena, 1, 4 * LARGE); /* present: this is about calls, not about faults */
    while (fgets(line, sizeof line, stdin)) {
        for (size_t i = 0; i < sizeof measures / sizeof *measures; i++)
            measure(i);
        putchar('\n');
        fflush(stdout);
    }
    return 0;
}
