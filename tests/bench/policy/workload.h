/*
 * workload.h: sequences of page accesses, made up or recorded.
 *
 * Everything is deterministic: the same name gives the same sequence on every machine.
 */
#ifndef POLICY_WORKLOAD_H
#define POLICY_WORKLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One access: page << 1 | whether it writes. */
typedef uint32_t page_access;

struct workload {
    const char *name;
    uint32_t pages;     /* numbers are below this */
    uint32_t distinct;  /* how many of them occur */
    size_t count, warm; /* accesses; how many come before counting starts */
    page_access *accesses;
};

static inline uint32_t access_page(page_access access)
{
    return access >> 1;
}
static inline bool access_writes(page_access access)
{
    return access & 1;
}

extern const char *const workload_names[]; /* the made-up ones; ends with NULL */

/** Makes the workload of that name over `pages` pages. Exits when there is none. */
struct workload workload_make(const char *name, uint32_t pages, bool writes);

/** Reads a recorded trace (record.c). Exits when it cannot. */
struct workload workload_read(const char *path);

void workload_free(struct workload *workload);

/** xorshift64: the same everywhere. */
uint64_t random_next(uint64_t *state);

#endif
