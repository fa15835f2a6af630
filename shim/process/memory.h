/*
 * memory.h: how much memory this process may use, and does: /proc and the memory cgroup (v1 and v2).
 */
#ifndef VP_PROCESS_MEMORY_H
#define VP_PROCESS_MEMORY_H

#include <stdint.h>

struct memory_limits {
    uint64_t ram;            /* MemTotal */
    uint64_t available;      /* MemAvailable */
    uint64_t cgroup_limit;   /* smallest limit on the way up the hierarchy; UINT64_MAX when there is none */
    uint64_t cgroup_usage;   /* usage at the level of that limit, without reclaimable page cache; 0 when no limit */
    unsigned cgroup_version; /* of the hierarchy that sets the limit, or would: 1, 2; 0 when there is none */
};

/** Reads them; what cannot be read is UINT64_MAX (usage: 0). No allocation, errno untouched. */
void memory_limits(struct memory_limits *out);

/** What "100 %" in a size option means: min(ram, cgroup_limit). */
uint64_t memory_hundred_percent(void);

/** The default of --ram: 80 % of the smaller of MemAvailable and what the cgroup has left. */
uint64_t memory_default_budget(void);

struct memory_use {
    uint64_t resident;      /* VmRSS */
    uint64_t peak_resident; /* VmHWM */
    uint64_t page_tables;   /* VmPTE */
};

/** This process's use, from /proc/self/status. */
void memory_use(struct memory_use *out);

/** Resident bytes alone, from /proc/self/statm: cheap enough for the pager's loop (async-signal-safe). */
uint64_t memory_resident(void);

/** Bytes of page tables (VmPTE), for the pager's loop. One thread at a time, as memory_resident(). */
uint64_t memory_page_tables(void);

#endif
