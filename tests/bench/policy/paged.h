/*
 * paged.h: the engine's way of evicting, without the engine: state words, a hand that goes round regions, kept copies,
 * a pool and a spill inside one budget.
 */
#ifndef POLICY_PAGED_H
#define POLICY_PAGED_H

#include "../../../shim/pager/page.h"
#include "workload.h"

/* What a policy does to words. */
struct rules {
    const char *name;
    page_word (*new)(page_word word);
    page_word (*left)(page_word word, uint32_t now);
    page_word (*came_back)(page_word word, uint32_t now, uint64_t turn);
    bool (*age)(page_word *word);
};

extern const struct rules rules[]; /* ends with a NULL name; the first is the engine's (policy.h) */

/* When a page that came back by a read gives up its stored copy. */
enum copies { KEEP, DROP, DROP_HOT, DROP_AGED, DROP_SHARE, COPIES };
extern const char *const copies_names[COPIES];

struct machine {
    uint32_t budget;   /* pages: resident ones and the pool */
    double compressed; /* a record's size, in pages; 0: the pool costs nothing, `budget` is all for resident pages */
    double pool_share; /* the most of the budget that the pool may be; the rest goes to the spill */
    bool ahead;        /* faults in a stream bring more pages in */
    enum copies copies;
};

/* What happened after warming up. Times in microseconds. */
struct outcome {
    uint64_t accesses, first, refills, faults, write_faults, spill_loads;
    uint64_t clean, dirty; /* evictions */
    double fault_us, evict_us;
    uint32_t resident; /* at the end */
};

struct outcome paged_run(const struct workload *workload, const struct machine *machine, const struct rules *rules);

/** Time per access with one thread (the evictor runs beside it) and with two (all processors busy). */
double outcome_one(const struct outcome *outcome);
double outcome_two(const struct outcome *outcome);

#endif
