/*
 * oracles.h: replacement policies that see every access, for comparison. None of them can be had without access bits.
 */
#ifndef POLICY_ORACLES_H
#define POLICY_ORACLES_H

#include "workload.h"

struct oracle {
    const char *name;
    /** Runs the workload in `capacity` pages. Returns how many accesses after warm->count missed that were not first.
     */
    uint64_t (*misses)(const struct workload *workload, uint32_t capacity);
};

extern const struct oracle oracles[]; /* ends with a NULL name */

#endif
