/*
 * histogram.h: durations in buckets an eighth of an octave wide: a quantile is right within 9 %.
 * Any thread may add; async-signal-safe.
 */
#ifndef VP_BASE_HISTOGRAM_H
#define VP_BASE_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_STEPS 8
#define HISTOGRAM_BUCKETS (40 * HISTOGRAM_STEPS)

struct histogram {
    uint64_t buckets[HISTOGRAM_BUCKETS];
    uint64_t max;
};

void histogram_add(struct histogram *histogram, uint64_t value);

/** The value below which `percent` of those added lie (upper edge of its bucket); 0 when there are none. */
uint64_t histogram_quantile(const struct histogram *histogram, unsigned percent);

#endif
