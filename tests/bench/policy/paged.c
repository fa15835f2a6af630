/* paged.c: see paged.h. */
#include "paged.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../../shim/pager/policy.h"

/* As in the engine. */
enum { REGION = 64, AHEAD = 16, BATCH = 64 };

/* Microseconds (FACTS: 4 KiB pages, userfaultfd by signal, LZ4). */
#define ACCESS_US      0.1
#define FAULT_US       8.0 /* one page from the pool */
#define AHEAD_US       3.1 /* each more that comes along */
#define WRITE_FAULT_US 4.5 /* the first write to a page whose copy was kept */
#define SPILL_US       90.0
#define CLEAN_US       1.0
#define DIRTY_US       6.0
#define REGION_US      2.0 /* a region that has victims: one call blocks them, part of another frees them */

/* ---- rules ---- */

/* What the engine did before: a round of grace, and one more for each return, of which it loses one a round. */
static page_word heat_new(page_word word)
{
    return word | PAGE_YOUNG;
}

static page_word heat_left(page_word word, uint32_t now)
{
    (void)now;
    return word & PAGE_HEAT_MASK;
}

static page_word heat_came_back(page_word word, uint32_t now, uint64_t turn)
{
    (void)now, (void)turn;
    return (page_heat(word) < 3 ? word + (UINT64_C(1) << PAGE_HEAT_SHIFT) : word) | PAGE_YOUNG;
}

static bool heat_age(page_word *word)
{
    if (*word & PAGE_YOUNG)
        *word &= ~PAGE_YOUNG;
    else if (page_heat(*word) > 0)
        *word -= UINT64_C(1) << PAGE_HEAT_SHIFT;
    else
        return true;
    return false;
}

/* The same without the returns. */
static page_word young_came_back(page_word word, uint32_t now, uint64_t turn)
{
    (void)now, (void)turn;
    return word | PAGE_YOUNG;
}

const struct rules rules[] = {
    {"engine", policy_new, policy_left, policy_came_back, policy_age},
    {"YOUNG+heat", heat_new, heat_left, heat_came_back, heat_age},
    {"YOUNG", heat_new, heat_left, young_came_back, heat_age},
    {NULL, NULL, NULL, NULL, NULL},
};

const char *const copies_names[COPIES] = {"keep", "drop", "drop hot", "drop aged", "drop at share"};

/* ---- the machine ---- */

struct run {
    const struct workload *workload;
    const struct machine *machine;
    const struct rules *rules;
    struct outcome out;
    page_word *words;
    uint32_t *queue;  /* the pool's records in the order in which they came: page numbers, some no longer true */
    uint32_t *queued; /* of each page: which turn in the queue is its record's */
    uint64_t queue_in, queue_out, queue_size;
    uint32_t hand, resident, records; /* records: in the pool */
    struct policy_clock clock;
    uint64_t refills; /* warming up included */
    bool counting;
};

static bool is_resident(const struct run *run, uint32_t page)
{
    return page_state(run->words[page]) == PAGE_RESIDENT;
}

static double pool_pages(const struct run *run)
{
    return run->records * run->machine->compressed;
}

static uint32_t limit(const struct run *run)
{
    double pool = pool_pages(run), floor = 2 * BATCH;
    return (uint32_t)(run->machine->budget > pool + floor ? run->machine->budget - pool : floor);
}

static void pool_put(struct run *run, uint32_t page)
{
    run->queued[page] = (uint32_t)run->queue_in;
    run->queue[run->queue_in++ % run->queue_size] = page;
    run->records++;
    run->words[page] = (run->words[page] & ~PAGE_STORE_MASK) | page_store_bits(PLACE_POOL, 1);
}

/* The page's copy goes. */
static void drop_copy(struct run *run, uint32_t page)
{
    run->records -= page_place(run->words[page]) == PLACE_POOL;
    run->words[page] &= ~(PAGE_STORE_MASK | PAGE_PROTECTED);
}

/* The oldest record makes room: to the spill, or away where its page is in memory. */
static void pool_shift(struct run *run)
{
    while (run->queue_out < run->queue_in) {
        uint64_t turn = run->queue_out++;
        uint32_t page = run->queue[turn % run->queue_size];
        if (page_place(run->words[page]) != PLACE_POOL || run->queued[page] != (uint32_t)turn)
            continue;
        if (is_resident(run, page)) {
            drop_copy(run, page);
            return;
        }
        run->records--;
        run->words[page] = (run->words[page] & ~PAGE_PLACE_MASK) | page_store_bits(PLACE_SPILL, 1);
        return;
    }
}

static bool pool_full(const struct run *run)
{
    return pool_pages(run) > run->machine->pool_share * run->machine->budget;
}

static void leave(struct run *run, uint32_t page)
{
    page_word word = run->words[page];
    bool clean = word & PAGE_PROTECTED;
    run->words[page] = PAGE_STORED | (word & PAGE_STORE_MASK) | run->rules->left(word, run->clock.now);
    if (!clean)
        pool_put(run, page);
    run->resident--;
    while (pool_full(run))
        pool_shift(run);
    run->clock = policy_tick(run->clock, 1, limit(run));
    if (!run->counting)
        return;
    run->out.clean += clean;
    run->out.dirty += !clean;
    run->out.evict_us += clean ? CLEAN_US : DIRTY_US;
}

/* The hand looks at one region. */
static void look(struct run *run)
{
    uint32_t end = run->hand + REGION < run->workload->pages ? run->hand + REGION : run->workload->pages,
             before = run->resident;
    for (uint32_t page = run->hand; page < end; page++) {
        if (!is_resident(run, page))
            continue;
        if (run->rules->age(&run->words[page]))
            leave(run, page);
        else if (run->machine->copies == DROP_AGED && !(run->words[page] & PAGE_YOUNG) && page_age(run->words[page]))
            drop_copy(run, page);
    }
    run->out.evict_us += run->counting && before != run->resident ? REGION_US : 0;
    run->hand = end < run->workload->pages ? end : 0;
}

static void make_way(struct run *run)
{
    if (run->resident < limit(run))
        return;
    for (uint32_t low = run->resident > BATCH ? run->resident - BATCH : 0;
         run->resident > low || run->resident >= limit(run);)
        look(run);
}

static bool copy_stays(const struct run *run, page_word word)
{
    switch (run->machine->copies) {
    case DROP:
        return false;
    case DROP_HOT:
        return page_heat(word) == 0;
    case DROP_SHARE:
        return pool_pages(run) < 0.9 * run->machine->pool_share * run->machine->budget;
    default:
        return true;
    }
}

static void enter(struct run *run, uint32_t page, bool writable, bool target)
{
    page_word word = page_in_state(run->words[page], PAGE_RESIDENT);
    run->out.spill_loads += run->counting && page_place(word) == PLACE_SPILL;
    if (run->counting && page_place(word) == PLACE_SPILL)
        run->out.fault_us += target ? SPILL_US : SPILL_US / AHEAD;
    run->words[page] = run->rules->came_back(word, run->clock.now, run->refills++) | PAGE_PROTECTED;
    if (writable || !copy_stays(run, run->words[page]))
        drop_copy(run, page);
    run->resident++;
    run->out.refills += run->counting;
}

static bool just_came(const struct run *run, uint32_t page)
{
    return page < run->workload->pages && is_resident(run, page) && (run->words[page] & PAGE_YOUNG);
}

/* Two neighbours on one side that have just come in make a stream. */
static int direction(const struct run *run, uint32_t page)
{
    for (int by = 1; by >= -1; by -= 2)
        if (just_came(run, page - (uint32_t)by) && just_came(run, page - 2 * (uint32_t)by))
            return by;
    return 0;
}

static void fault(struct run *run, uint32_t page, bool write)
{
    int by = run->machine->ahead ? direction(run, page) : 0;
    bool writable = write || (by && !(run->words[page - (uint32_t)by] & PAGE_PROTECTED));
    enter(run, page, writable, true);
    double us = FAULT_US;
    for (uint32_t next = page + (uint32_t)by, n = 1;
         by && n < AHEAD && next < run->workload->pages && next / REGION == page / REGION &&
         page_state(run->words[next]) == PAGE_STORED;
         next += (uint32_t)by, n++) {
        enter(run, next, writable, false);
        us += AHEAD_US;
    }
    run->out.faults += run->counting;
    run->out.fault_us += run->counting ? us : 0;
}

static void touch(struct run *run, uint32_t page, bool write)
{
    if (is_resident(run, page)) {
        if (write && (run->words[page] & PAGE_PROTECTED)) {
            drop_copy(run, page);
            run->out.write_faults += run->counting;
            run->out.fault_us += run->counting ? WRITE_FAULT_US : 0;
        }
        return;
    }
    make_way(run);
    if (page_state(run->words[page]) == PAGE_STORED) {
        fault(run, page, write);
        return;
    }
    run->words[page] = run->rules->new (PAGE_RESIDENT);
    run->resident++;
    run->out.first += run->counting;
}

struct outcome paged_run(const struct workload *workload, const struct machine *machine, const struct rules *with)
{
    struct run run = {
        .workload = workload, .machine = machine, .rules = with, .queue_size = 4 * (uint64_t)workload->pages + 64};
    run.words = calloc(workload->pages, sizeof *run.words);
    run.queue = calloc(run.queue_size, sizeof *run.queue);
    run.queued = calloc(workload->pages, sizeof *run.queued);
    if (!run.words || !run.queue || !run.queued)
        exit(2);
    for (size_t i = 0; i < workload->count; i++) {
        run.counting = i >= workload->warm;
        while (run.queue_in - run.queue_out > run.queue_size - 8) { /* old turns: still true ones go on living */
            uint64_t turn = run.queue_out++;
            uint32_t page = run.queue[turn % run.queue_size];
            if (page_place(run.words[page]) == PLACE_POOL && run.queued[page] == (uint32_t)turn) {
                run.queued[page] = (uint32_t)run.queue_in;
                run.queue[run.queue_in++ % run.queue_size] = page;
            }
        }
        touch(&run, access_page(workload->accesses[i]), access_writes(workload->accesses[i]));
    }
    run.out.accesses = workload->count - workload->warm;
    run.out.resident = run.resident;
    free(run.words);
    free(run.queue);
    free(run.queued);
    return run.out;
}

static double per_access(const struct outcome *outcome, double us)
{
    return outcome->accesses ? us / (double)outcome->accesses : 0;
}

double outcome_one(const struct outcome *outcome)
{
    double fault = per_access(outcome, outcome->fault_us) + ACCESS_US, evict = per_access(outcome, outcome->evict_us);
    return fault > evict ? fault : evict;
}

double outcome_two(const struct outcome *outcome)
{
    return (per_access(outcome, outcome->fault_us + outcome->evict_us) + ACCESS_US) / 2;
}
