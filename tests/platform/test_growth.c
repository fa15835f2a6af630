/* Healing and evicting in random order never uses up the mappings that a process may have. */
#include "contract.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define UNIT         KIB(64)
#define MAPPINGS_MAX 32000

static size_t units;
static uint32_t *order;
static unsigned char *healed;

/* Backends that need no granules pay for each page in memory: their range is smaller. */
static void start_random(void)
{
    start(GIB(64));
    units = (pf.page == UNIT ? GIB(16) : GIB(4)) / UNIT;
    CHECK_EQ(OP(open, pf.base, units * UNIT), 0);
    CHECK_EQ(OP(arm, &(struct extent){pf.base, units * UNIT}, 1), 0);
    order = malloc(units * sizeof *order);
    healed = calloc(units, 1);
    srandom(1);
    for (size_t i = 0; i < units; i++) {
        size_t j = (size_t) random() % (i + 1);
        order[i] = order[j];
        order[j] = (uint32_t) i;
    }
}

static void check_mappings(size_t i)
{
    if (i % 4096 == 0)
        CHECK(count_mappings() < MAPPINGS_MAX);
}

static void check_rest_of_process(void)
{
    void *plain = mmap(NULL, MIB(1), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(plain != MAP_FAILED);
    CHECK_EQ(mprotect(plain, KIB(64), PROT_READ), 0);
    void *block = malloc(MIB(1));
    CHECK(block);
    CHECK(count_mappings() < MAPPINGS_MAX);
}

/* The granule around a unit, as the engine heals it: what of it is absent. */
static void heal_granule(size_t unit)
{
    size_t granule = pf.ops->granule(&pf), count = granule < UNIT ? 1 : granule / UNIT;
    size_t first = unit & ~(count - 1), end = first + count < units ? first + count : units;
    for (size_t i = first, run; i < end; i += run) {
        for (run = 1; i + run < end && healed[i + run] == healed[i];)
            run++;
        if (healed[i])
            continue;
        memset(healed + i, 1, run);
        size_t length = pf.page < UNIT ? pf.page : run * UNIT;
        CHECK_EQ(OP(place, pf.base + i * UNIT, length, NULL, true), length);
    }
}

static void heal_all(void)
{
    for (size_t i = 0; i < units; i++) {
        if (!healed[order[i]])
            heal_granule(order[i]);
        store(pf.base + order[i] * UNIT, order[i] + 1u);
        check_mappings(i);
    }
}

static void random_healing_spares_mappings(void)
{
    start_random();
    heal_all();
    CHECK_EQ(trap_count(), 0);
    for (size_t i = 0; i < units; i += 97)
        CHECK_EQ(load(pf.base + i * UNIT), i + 1);
    check_rest_of_process();
}

static void evict_granule(size_t unit)
{
    size_t granule = pf.ops->granule(&pf), count = granule < UNIT ? 1 : granule / UNIT;
    size_t first = unit & ~(count - 1);
    if (!healed[unit] || first + count > units)
        return;
    uintptr_t at = pf.base + first * UNIT;
    CHECK_EQ(OP(protect, at, count * UNIT), 0);
    CHECK_EQ(OP(drop, &(struct extent){at, count * UNIT}, 1), 0);
    memset(healed + first, 0, count);
}

/* Takes all out in random order; then brings back one in two. */
static void evict_all_heal_half(void)
{
    for (size_t i = 0; i < units; i++) {
        evict_granule(order[i]);
        check_mappings(i);
    }
    for (size_t i = 0; i < units; i += 2) {
        if (!healed[order[i]])
            heal_granule(order[i]);
        check_mappings(i);
    }
}

static void random_eviction_spares_mappings(void)
{
    start_random();
    heal_all();
    evict_all_heal_half();
    check_rest_of_process();
}

/* A child's mappings of the time of the fork join no more, whatever becomes of them: their pages have histories. */
static void random_eviction_after_fork_spares_mappings(void)
{
    start_random();
    for (size_t i = 0; i < units; i += 8)
        if (!healed[order[i]])
            heal_granule(order[i]);
    pid_t child = fork_arena();
    if (child == 0) {
        heal_all();
        evict_all_heal_half();
        check_rest_of_process();
        _exit(0);
    }
    check_child(child);
}

int main(int argc, char **argv)
{
    static const struct contract_case cases[] = {
        CASE(random_healing_spares_mappings),
        CASE(random_eviction_spares_mappings),
        CASE(random_eviction_after_fork_spares_mappings),
        CASES_END,
    };
    return contract_main(argc, argv, cases);
}
