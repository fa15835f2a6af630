/*
 * simulate.c: which pages should leave, and what becomes of the copies of those that came back: tables.
 *
 *     policy_simulate [--pages N] [--misses | --copies | --check] [TRACE.zst]...
 *
 * --check compares the engine's policy with LRU and fails where it is worse than it was found to be.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "oracles.h"
#include "paged.h"

static uint32_t pages = 8192;

static void misses_head(void)
{
    printf("%-16s", "misses, %");
    for (size_t i = 0; oracles[i].name; i++)
        printf(" %10s", oracles[i].name);
    for (size_t i = 0; rules[i].name; i++)
        printf(" %10s", rules[i].name);
    printf("\n");
}

static double percent(uint64_t part, uint64_t whole)
{
    return whole ? 100.0 * (double)part / (double)whole : 0;
}

/* Resident pages only: who misses how often. */
static void misses_row(const struct workload *workload, unsigned times)
{
    uint32_t capacity = workload->distinct / times;
    uint64_t accesses = workload->count - workload->warm;
    printf("%-12s x%u ", workload->name, times);
    for (size_t i = 0; oracles[i].name; i++)
        printf(" %10.2f", percent(oracles[i].misses(workload, capacity), accesses));
    for (size_t i = 0; rules[i].name; i++) {
        struct outcome out = paged_run(workload, &(struct machine){.budget = capacity, .pool_share = 1}, &rules[i]);
        printf(" %10.2f", percent(out.refills, accesses));
    }
    printf("\n");
    fflush(stdout);
}

/* Misses of the engine's policy, at most, in parts of LRU's. A few percent above what was measured. */
static const struct bound {
    const char *name;
    double twice, four_times; /* the memory there is */
} bounds[] = {
    {"uniform", 1.03, 1.03}, {"zipf", 1.00, 0.97},      {"hot", 1.12, 1.12},     {"moving", 1.24, 1.29},
    {"cycle", 0.58, 0.81},   {"scanhot", 0.65, 0.85},   {"chase", 0.68, 0.90},   {"merge", 0.66, 0.88},
    {"tree", 1.05, 1.05},    {"python.zst", 2.0, 1.65}, {"sort.zst", 3.5, 1.35}, {"sqlite.zst", 0.40, 1.05},
};

static bool failed;

static void check_one(const struct workload *workload, unsigned times, double most)
{
    uint32_t capacity = workload->distinct / times;
    uint64_t least = oracles[1].misses(workload, capacity);
    struct outcome out = paged_run(workload, &(struct machine){.budget = capacity, .pool_share = 1}, &rules[0]);
    double ratio = least ? (double)out.refills / (double)least : 0;
    if (ratio > most)
        failed = true;
    printf("%-12s x%u %.3f of LRU's misses, at most %.2f%s\n", workload->name, times, ratio, most,
           ratio > most ? ": FAILED" : "");
}

static void check_rows(const struct workload *workload)
{
    for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++) {
        if (strcmp(bounds[i].name, workload->name) == 0) {
            check_one(workload, 2, bounds[i].twice);
            check_one(workload, 4, bounds[i].four_times);
        }
    }
}

static void copies_row(const struct workload *workload, double times, double compressed)
{
    printf("%-12s x%.1f %.2f", workload->name, times, compressed);
    for (int copies = 0; copies < COPIES; copies++) {
        struct machine machine = {.budget = (uint32_t)(workload->distinct / times),
                                  .compressed = compressed,
                                  .pool_share = 1 - compressed < 0.7 ? 1 - compressed : 0.7,
                                  .ahead = true,
                                  .copies = (enum copies)copies};
        struct outcome out = paged_run(workload, &machine, &rules[0]);
        printf(" %7.2f%7.2f%5.0f%%", outcome_one(&out), outcome_two(&out), percent(out.resident, workload->distinct));
    }
    printf("\n");
    fflush(stdout);
}

static void copies_head(void)
{
    printf("%-20s", "us 1t, 2t, resident");
    for (int copies = 0; copies < COPIES; copies++)
        printf(" %19s", copies_names[copies]);
    printf("\n");
}

static void each(void (*row)(const struct workload *), int count, char **paths)
{
    for (size_t i = 0; workload_names[i]; i++) {
        struct workload made = workload_make(workload_names[i], pages, false);
        row(&made);
        workload_free(&made);
    }
    for (int i = 0; i < count; i++) {
        struct workload read = workload_read(paths[i]);
        row(&read);
        workload_free(&read);
    }
}

static void misses_rows(const struct workload *workload)
{
    misses_row(workload, 2);
    misses_row(workload, 4);
}

static void copies_rows(const struct workload *workload)
{
    copies_row(workload, 1.7, 0.2);
    copies_row(workload, 1.7, 0.35);
    copies_row(workload, 1.7, 0.6);
    copies_row(workload, 2.7, 0.35);
}

int main(int argc, char **argv)
{
    int first = 1;
    bool only_misses = false, only_copies = false, check = false;
    for (; first < argc && strncmp(argv[first], "--", 2) == 0; first++) {
        only_misses |= strcmp(argv[first], "--misses") == 0;
        only_copies |= strcmp(argv[first], "--copies") == 0;
        check |= strcmp(argv[first], "--check") == 0;
        if (strcmp(argv[first], "--pages") == 0 && first + 1 < argc)
            pages = (uint32_t)strtoul(argv[++first], NULL, 10);
    }
    if (check) {
        pages = 4096;
        each(check_rows, argc - first, argv + first);
        return failed;
    }
    if (!only_copies) {
        misses_head();
        each(misses_rows, argc - first, argv + first);
    }
    if (!only_misses) {
        copies_head();
        each(copies_rows, argc - first, argv + first);
    }
    return 0;
}
