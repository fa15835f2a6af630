/*
 * How long single accesses take: a clock that costs little, and histograms of what it says.
 */
#pragma once

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

/* Buckets grow by 1/16 (as in HdrHistogram). */
enum {
    HISTOGRAM_STEPS = 16,
    HISTOGRAM_BUCKETS = 64 * HISTOGRAM_STEPS,
};

struct histogram {
    uint64_t counts[HISTOGRAM_BUCKETS];
};

static inline uint64_t nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* What comes before it has happened before. The unit is the machine's: compare two clocks to know it. */
static inline uint64_t ticks(void)
{
#if defined(__x86_64__)
    _mm_lfence();
    const uint64_t now = __rdtsc();
    _mm_lfence();
    return now;
#else
    return nanoseconds();
#endif
}

static inline size_t histogram_bucket(uint64_t value)
{
    if (value < HISTOGRAM_STEPS)
        return value;
    const unsigned exponent = 63 - (unsigned)__builtin_clzll(value) - 4;
    return (exponent + 1) * HISTOGRAM_STEPS + (value >> exponent) % HISTOGRAM_STEPS;
}

/* The middle of a bucket. */
static inline double histogram_value(size_t bucket)
{
    if (bucket < HISTOGRAM_STEPS)
        return (double)bucket;
    const double first = (double)(HISTOGRAM_STEPS + bucket % HISTOGRAM_STEPS);
    return ldexp(first + 0.5, (int)(bucket / HISTOGRAM_STEPS) - 1);
}

/* One that lasted from start to end, in ticks. (The clocks of two processors may differ.) */
static inline void histogram_add(struct histogram *h, uint64_t start, uint64_t end)
{
    h->counts[histogram_bucket(end > start ? end - start : 0)]++;
}

static inline void histogram_merge(struct histogram *h, const struct histogram *more)
{
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        h->counts[i] += more->counts[i];
}

/* Prints the percentiles of those that took `least` nanoseconds or more, as a member of a JSON object. */
static inline void histogram_print(const char *name, const struct histogram *h, double least, double ns_per_tick)
{
    static const struct {
        const char *name;
        double part;
    } wanted[] = {{"p50", .5}, {"p99", .99}, {"p999", .999}, {"max", 1}};
    size_t bucket = histogram_bucket((uint64_t)(least / ns_per_tick));
    uint64_t count = 0, seen = 0;
    for (size_t i = bucket; i < HISTOGRAM_BUCKETS; i++)
        count += h->counts[i];
    printf("\"%s\": {\"count\": %llu", name, (unsigned long long)count);
    for (size_t i = 0; count && i < sizeof wanted / sizeof *wanted; i++) {
        while ((double)(seen + h->counts[bucket]) < wanted[i].part * (double)count)
            seen += h->counts[bucket++];
        printf(", \"%s\": %.0f", wanted[i].name, histogram_value(bucket) * ns_per_tick);
    }
    putchar('}');
}
