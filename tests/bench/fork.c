/*
 * fork [MIB ROUNDS]: what a fork of a process with MIB of its memory written takes, and what it costs it in faults.
 * Without the shim, nothing of it is absent: a plain fork. Prints one line: microseconds that fork() took in the parent,
 * until the child ran, and page-ins (faults that brought a page back) in the parent and in the child over all rounds.
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../shim/vp.h"

#define MIB  ((size_t) 1 << 20)
#define PAGE 4096

struct round {
    double at_child;
    uint64_t faults; /* of the child */
};

static double now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double) now.tv_sec * 1e6 + (double) now.tv_nsec / 1e3;
}

/* The shim's figures; zeros without it. */
static struct vp_stats stats(void)
{
    int (*vp)(struct vp_stats *, size_t);
    struct vp_stats out = {0};
    void *symbol = dlsym(RTLD_DEFAULT, "vp_stats");
    memcpy(&vp, &symbol, sizeof vp);
    if (symbol)
        vp(&out, sizeof out);
    return out;
}

static int compare(const void *a, const void *b)
{
    double left = *(const double *) a, right = *(const double *) b;
    return (left > right) - (left < right);
}

static double median(double *values, size_t n)
{
    qsort(values, n, sizeof *values, compare);
    return values[n / 2];
}

/* A page compresses to about a third. */
static void fill(uint64_t *page, uint64_t seed)
{
    for (size_t i = 0; i < PAGE / 8; i++)
        page[i] = i % 4 ? seed : (seed = seed * 6364136223846793005 + 1442695040888963407);
}

int main(int argc, char **argv)
{
    size_t size = (argc > 1 ? strtoull(argv[1], NULL, 10) : 4096) * MIB;
    size_t rounds = argc > 2 ? strtoull(argv[2], NULL, 10) : 15;
    char *block = malloc(size);
    struct round *round = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    double *forks = malloc(rounds * sizeof *forks), *children = malloc(rounds * sizeof *children);
    if (!block || round == MAP_FAILED || !forks || !children)
        return 2;
    for (size_t at = 0; at < size; at += PAGE)
        fill((uint64_t *) (block + at), at + 1);
    sleep(1); /* what is in motion comes to rest */
    uint64_t before = stats().faults, in_children = 0;
    for (size_t i = 0; i < rounds; i++) {
        double start = now_us();
        pid_t child = fork();
        if (child < 0)
            return 2;
        if (child == 0) {
            round->at_child = now_us();
            round->faults = stats().faults;
            _exit(0);
        }
        forks[i] = now_us() - start;
        waitpid(child, NULL, 0);
        children[i] = round->at_child - start;
        in_children += round->faults - before;
    }
    struct vp_stats after = stats();
    printf("%.0f %.0f %llu %llu %llu\n", median(forks, rounds), median(children, rounds),
           (unsigned long long) (after.faults - before), (unsigned long long) in_children,
           (unsigned long long) after.resident_bytes / MIB);
    return 0;
}
