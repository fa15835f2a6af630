/*
 * scratch.h: buffers for faults being served. The fault path may use neither malloc nor much stack.
 */
#ifndef VP_PAGER_SCRATCH_H
#define VP_PAGER_SCRATCH_H

#include <stddef.h>

#define SCRATCH_SLOTS 16

struct scratch;

/* What one fault works in. */
struct scratch_slot {
    void *page;   /* one page's content */
    void *record; /* what a tier reads into, aligned to 4096 */
    unsigned index;
};

/** Room for SCRATCH_SLOTS faults at a time. NULL when memory is refused. */
struct scratch *scratch_new(size_t page_size, size_t record_size);
struct scratch *scratch_free(struct scratch *scratch);

/** Takes a slot; waits while all are taken. Any thread, async-signal-safe. */
struct scratch_slot scratch_take(struct scratch *scratch);
void scratch_give(struct scratch *scratch, struct scratch_slot slot);

/** In a forked child: threads that held slots are gone. */
void scratch_reset(struct scratch *scratch);

#endif
