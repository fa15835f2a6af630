#include "histogram.h"

#include <stdbool.h>

static unsigned bucket_of(uint64_t value)
{
    if (value < HISTOGRAM_STEPS)
        return (unsigned) value;
    unsigned octave = 63 - (unsigned) __builtin_clzll(value);
    unsigned step = (unsigned) (value >> (octave - 3)) & (HISTOGRAM_STEPS - 1);
    unsigned bucket = (octave - 2) * HISTOGRAM_STEPS + step;
    return bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1;
}

static uint64_t upper_edge(unsigned bucket)
{
    if (bucket < HISTOGRAM_STEPS)
        return bucket;
    unsigned octave = bucket / HISTOGRAM_STEPS + 2, step = bucket % HISTOGRAM_STEPS;
    return ((UINT64_C(1) << octave) + ((uint64_t) (step + 1) << (octave - 3))) - 1;
}

void histogram_add(struct histogram *histogram, uint64_t value)
{
    __atomic_fetch_add(&histogram->buckets[bucket_of(value)], 1, __ATOMIC_RELAXED);
    uint64_t max = __atomic_load_n(&histogram->max, __ATOMIC_RELAXED);
    while (value > max && !__atomic_compare_exchange_n(&histogram->max, &max, value, true, __ATOMIC_RELAXED,
                                                       __ATOMIC_RELAXED))
        ;
}

uint64_t histogram_quantile(const struct histogram *histogram, unsigned percent)
{
    uint64_t total = 0, seen = 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        total += __atomic_load_n(&histogram->buckets[i], __ATOMIC_RELAXED);
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS && total; i++) {
        seen += __atomic_load_n(&histogram->buckets[i], __ATOMIC_RELAXED);
        if (seen * 100 >= total * percent) {
            uint64_t edge = upper_edge(i);
            return edge < histogram->max ? edge : histogram->max;
        }
    }
    return 0;
}
