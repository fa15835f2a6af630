/*
 * scratch.h: buffers for faults being served. The fault path may use neither malloc nor much stack.
 */
#ifndef VP_PAGER_SCRATCH_H
#define VP_PAGER_SCRATCH_H

#include <stddef.h>

#define SCRATCH_SLOTS 8

struct scratch;

/* What one fault works in. */
struct scratch_slot {
    unsigned char *pages; /* the content of the pages that come in together */
    void *records;        /* what a tier reads into, aligned to 4096 */
    void *lists;          /* SCRATCH_LISTS bytes for arrays that are too large for a stack */
    void *stack_top;      /* of at least SCRATCH_STACK bytes, for what is too deep for the program's (platform/stack.h) */
    unsigned index;
};

#define SCRATCH_LISTS 5120

/* Reading and opening a record takes less than 3 KiB where libsodium uses AVX2, the most that it knows. Below it is a page
 * that nobody can touch. */
#define SCRATCH_STACK ((size_t) 16 << 10)

/** Room for SCRATCH_SLOTS faults at a time, each with `pages_size` and `records_size` bytes. NULL when memory is
 *  refused. */
struct scratch *scratch_new(size_t pages_size, size_t records_size);
struct scratch *scratch_free(struct scratch *scratch);

/** Takes a slot; waits while all are taken. Any thread, async-signal-safe. */
struct scratch_slot scratch_take(struct scratch *scratch);
void scratch_give(struct scratch *scratch, struct scratch_slot slot);

/** In a forked child: threads that held slots are gone. */
void scratch_reset(struct scratch *scratch);

#endif
