/*
 * memory_root.h: the inside of memory.c that tests drive with a made-up machine.
 */
#ifndef VP_PROCESS_MEMORY_ROOT_H
#define VP_PROCESS_MEMORY_ROOT_H

#include "memory.h"

/** As memory_limits(), reading `root`/proc and the cgroup mounts it names below `root` ("" is the real machine). */
void memory_limits_at(const char *root, struct memory_limits *out);

/** min(ram, cgroup_limit). */
uint64_t memory_hundred_percent_of(const struct memory_limits *limits);

/** 80 % of the smaller of `available` and what the cgroup has left. */
uint64_t memory_default_budget_of(const struct memory_limits *limits);

/** As memory_use(), reading `root`/proc/self/status. */
void memory_use_at(const char *root, struct memory_use *out);

#endif
